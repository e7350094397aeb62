// Canonical decomposition and composition (NFD, NFC) over the pinned tables.
// Our own because a vocabulary needs the same result on every system, whatever Unicode it knows.

enum UnicodeNormalization {
  /// The text in NFC (`composes`) or NFD.
  ///
  /// - Cost: linear; runs of inert scalars are copied.
  static func normalized(_ text: [UInt8], composes: Bool) -> [UInt8] {
    guard text.contains(where: { $0 >= 0x80 }) else { return text }
    return text.withUnsafeBufferPointer { bytes in
      let reader = ScalarReader(bytes)
      var out: [UInt8] = []
      out.reserveCapacity(text.count + text.count / 8)
      // `pending` begins at the last inert scalar: nothing before it can change any more.
      var pending: [UInt32] = []
      var hasActive = false
      var offset = 0
      while offset < bytes.count {
        let (value, length) = reader.scalar(at: offset)
        offset += length
        let active =
          value >= 0xC0 && value < UnicodeTables.activeLimit
          && UnicodeTables.combining[Int(value)] & UnicodeTables.activeBit != 0
        if !active {
          flush(&pending, hasActive: hasActive, composes: composes, into: &out)
          hasActive = false
        } else {
          hasActive = true
        }
        pending.append(value)
      }
      flush(&pending, hasActive: hasActive, composes: composes, into: &out)
      return out
    }
  }

  private static func flush(
    _ pending: inout [UInt32], hasActive: Bool, composes: Bool, into out: inout [UInt8]
  ) {
    if hasActive {
      decompose(&pending)
      reorder(&pending)
      if composes { compose(&pending) }
    }
    for value in pending { appendUTF8(value, to: &out) }
    pending.removeAll(keepingCapacity: true)
  }

  static func combiningClass(_ value: UInt32) -> UInt16 {
    value < UnicodeTables.activeLimit ? UnicodeTables.combining[Int(value)] & 0xFF : 0
  }

  private static func decompose(_ scalars: inout [UInt32]) {
    var out: [UInt32] = []
    out.reserveCapacity(scalars.count * 2)
    for value in scalars {
      if (0xAC00..<0xD7A4).contains(value) {
        let index = value - 0xAC00
        out.append(0x1100 + index / 588)
        out.append(0x1161 + index % 588 / 28)
        if index % 28 != 0 { out.append(0x11A7 + index % 28) }
      } else if let parts = UnicodeTables.decompositions[value] {
        out += parts
      } else {
        out.append(value)
      }
    }
    scalars = out
  }

  /// Sorts every run of marks by combining class, keeping the order of equals.
  private static func reorder(_ scalars: inout [UInt32]) {
    var start = 0
    while start < scalars.count {
      guard combiningClass(scalars[start]) != 0 else {
        start += 1
        continue
      }
      var end = start + 1
      while end < scalars.count, combiningClass(scalars[end]) != 0 { end += 1 }
      if end - start > 1 {
        // The offset makes the sort stable, and n log n for texts made of marks only.
        let sorted = scalars[start..<end].enumerated().sorted {
          let (left, right) = (combiningClass($0.element), combiningClass($1.element))
          return left == right ? $0.offset < $1.offset : left < right
        }
        for (index, item) in sorted.enumerated() { scalars[start + index] = item.element }
      }
      start = end
    }
  }

  private static func compose(_ scalars: inout [UInt32]) {
    var out: [UInt32] = []
    out.reserveCapacity(scalars.count)
    var starter = -1
    var lastClass: UInt16 = 0
    for value in scalars {
      let itsClass = combiningClass(value)
      // Blocked when a scalar of the same or a higher class, or a starter, stands between.
      if starter >= 0, starter == out.count - 1 || (lastClass != 0 && lastClass < itsClass),
        let composite = composite(out[starter], value)
      {
        out[starter] = composite
        continue
      }
      if itsClass == 0 { starter = out.count }
      lastClass = itsClass
      out.append(value)
    }
    scalars = out
  }

  private static func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (0x1100..<0x1113).contains(first), (0x1161..<0x1176).contains(second) {
      return 0xAC00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28
    }
    if (0xAC00..<0xD7A4).contains(first), (first - 0xAC00) % 28 == 0, (0x11A8..<0x11C3).contains(second) {
      return first + (second - 0x11A7)
    }
    return UnicodeTables.compositions[UInt64(first) << 32 | UInt64(second)]
  }

  /// Every scalar replaced by its lower case, without regard to its neighbours.
  static func lowercased(_ text: [UInt8]) -> [UInt8] {
    text.withUnsafeBufferPointer { bytes in
      let reader = ScalarReader(bytes)
      var out: [UInt8] = []
      out.reserveCapacity(text.count)
      var offset = 0
      while offset < bytes.count {
        let (value, length) = reader.scalar(at: offset)
        if value < 0x80 {
          let byte = bytes[offset]
          out.append((0x41...0x5A).contains(byte) ? byte | 0x20 : byte)
        } else if value == 0x130 {
          // Dotted capital I: the only letter whose lower case is two scalars.
          out += [0x69, 0xCC, 0x87]
        } else {
          appendUTF8(UnicodeTables.lowercase[value] ?? value, to: &out)
        }
        offset += length
      }
      return out
    }
  }
}
