// The generated Unicode tables, unpacked once per process into forms that scanners can index.
// Kept apart from the generated files so that those stay pure data.

/// Bits of `UnicodeTables.classes`.
enum UnicodeClass {
  static let letter: UInt16 = 1 << 0
  static let number: UInt16 = 1 << 1
  static let space: UInt16 = 1 << 2
  static let numeric: UInt16 = 1 << 3
  static let word: UInt16 = 1 << 4
  static let punctuation: UInt16 = 1 << 5
  static let control: UInt16 = 1 << 6
  static let mark: UInt16 = 1 << 7
  static let nonspacing: UInt16 = 1 << 8
  static let ideograph: UInt16 = 1 << 9
}

enum UnicodeTables {
  static let scalarCount = 0x110000

  /// The class bits of every code point, `scalarCount` of them.
  // Allocated once and never written again or freed: safe to read from every thread.
  nonisolated(unsafe) static let classes: UnsafePointer<UInt16> = {
    let table = UnsafeMutablePointer<UInt16>.allocate(capacity: scalarCount)
    table.initialize(repeating: 0, count: scalarCount)
    let sets: [(StaticString, UInt16)] = [
      (UnicodeCategories.letters, UnicodeClass.letter), (UnicodeCategories.numbers, UnicodeClass.number),
      (UnicodeCategories.spaces, UnicodeClass.space), (UnicodeCategories.numerics, UnicodeClass.numeric),
      (UnicodeCategories.words, UnicodeClass.word),
      (UnicodeCategories.punctuation, UnicodeClass.punctuation),
      (UnicodeCategories.controls, UnicodeClass.control), (UnicodeCategories.marks, UnicodeClass.mark),
      (UnicodeCategories.nonspacing, UnicodeClass.nonspacing),
      (UnicodeCategories.ideographs, UnicodeClass.ideograph),
    ]
    for (text, bit) in sets {
      for entry in entries(text) {
        let start = Int(entry[0])
        let count = entry.count > 1 ? Int(entry[1]) : 1
        for point in start..<min(start + count, scalarCount) { table[point] |= bit }
      }
    }
    return UnsafePointer(table)
  }()

  /// Full canonical decompositions, Hangul excepted.
  static let decompositions: [UInt32: [UInt32]] = {
    var table: [UInt32: [UInt32]] = [:]
    for entry in entries(UnicodeDecompositions.full) { table[entry[0]] = Array(entry.dropFirst()) }
    return table
  }()
  /// Composites by `first << 32 | second`, Hangul excepted.
  static let compositions: [UInt64: UInt32] = {
    var table: [UInt64: UInt32] = [:]
    for entry in entries(UnicodeDecompositions.pairs) where entry.count == 3 {
      table[UInt64(entry[0]) << 32 | UInt64(entry[1])] = entry[2]
    }
    return table
  }()
  /// Lower-case partners of single scalars.
  static let lowercase: [UInt32: UInt32] = {
    var table: [UInt32: UInt32] = [:]
    for (text, entry) in zip(
      fields(UnicodeDecompositions.lowercase), entries(UnicodeDecompositions.lowercase))
    where entry.count == 4 {
      let negative = text.contains(UInt8(ascii: "-"))
      for index in 0..<entry[1] {
        let point = entry[0] + index * entry[2]
        table[point] = negative ? point &- entry[3] : point &+ entry[3]
      }
    }
    return table
  }()

  /// Points at and above this one are inert: class 0, no decomposition, no part in a composition.
  static let activeLimit = 0x30000
  static let activeBit: UInt16 = 0x100
  /// Combining class in the low byte; `activeBit` where NFC or NFD may change the point or join it leftward.
  static let combining: [UInt16] = {
    var table = [UInt16](repeating: 0, count: activeLimit)
    for entry in entries(UnicodeDecompositions.classes) where entry.count == 3 {
      for point in entry[0]..<(entry[0] + entry[1]) where point < activeLimit {
        table[Int(point)] = UInt16(truncatingIfNeeded: entry[2]) | activeBit
      }
    }
    for point in decompositions.keys where point < activeLimit { table[Int(point)] |= activeBit }
    for pair in compositions.keys where pair & 0xFFFF_FFFF < activeLimit {
      table[Int(pair & 0xFFFF_FFFF)] |= activeBit
    }
    for point in 0xAC00..<0xD7A4 { table[point] |= activeBit }
    for point in 0x1161..<0x11C3 { table[point] |= activeBit }
    return table
  }()

  /// Words of a table separated by white space.
  private static func fields(_ text: StaticString) -> [ArraySlice<UInt8>] {
    Array(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
      .split { $0 == 0x20 || $0 == 0x0A }
  }
  /// The hexadecimal numbers of every word; any other byte separates them.
  private static func entries(_ text: StaticString) -> [[UInt32]] {
    fields(text).map { field in
      var numbers: [UInt32] = []
      var current: UInt32?
      for byte in field {
        let digit: UInt32
        switch byte {
        case 0x30...0x39: digit = UInt32(byte) - 0x30
        case 0x61...0x66: digit = UInt32(byte) - 0x61 + 10
        default:
          if let number = current { numbers.append(number) }
          current = nil
          continue
        }
        current = (current ?? 0) << 4 | digit
      }
      if let number = current { numbers.append(number) }
      return numbers
    }
  }
}

/// A view of valid UTF-8 that tells code points and their classes.
struct ScalarReader {
  let bytes: UnsafeBufferPointer<UInt8>
  let classes = UnicodeTables.classes

  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  @inline(__always) var count: Int { bytes.count }

  /// The scalar at `offset`, which must be below `count`, and the number of its bytes.
  @inline(__always) func scalar(at offset: Int) -> (value: UInt32, length: Int) {
    let first = UInt32(bytes[offset])
    if first < 0x80 { return (first, 1) }
    // A cut-off or foreign sequence reads as the replacement character; callers pass valid UTF-8.
    let left = bytes.count - offset
    if first < 0xE0 {
      guard left >= 2 else { return (0xFFFD, left) }
      return ((first & 0x1F) << 6 | UInt32(bytes[offset + 1] & 0x3F), 2)
    }
    if first < 0xF0 {
      guard left >= 3 else { return (0xFFFD, left) }
      return (
        (first & 0x0F) << 12 | UInt32(bytes[offset + 1] & 0x3F) << 6 | UInt32(bytes[offset + 2] & 0x3F), 3
      )
    }
    guard left >= 4 else { return (0xFFFD, left) }
    let value =
      (first & 0x07) << 18 | UInt32(bytes[offset + 1] & 0x3F) << 12
      | UInt32(bytes[offset + 2] & 0x3F) << 6 | UInt32(bytes[offset + 3] & 0x3F)
    return (value < 0x110000 ? value : 0xFFFD, 4)
  }
  /// The class bits and the length of the scalar at `offset`.
  @inline(__always) func kind(at offset: Int) -> (bits: UInt16, length: Int) {
    let (value, length) = scalar(at: offset)
    return (classes[Int(value)], length)
  }
  /// The start of the scalar that ends just before `offset` > 0.
  func start(before offset: Int) -> Int {
    var start = offset - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }
}

/// Appends the UTF-8 form of a scalar value.
@inline(__always) func appendUTF8(_ value: UInt32, to bytes: inout [UInt8]) {
  if value < 0x80 {
    bytes.append(UInt8(truncatingIfNeeded: value))
  } else if value < 0x800 {
    bytes.append(UInt8(truncatingIfNeeded: 0xC0 | value >> 6))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
  } else if value < 0x10000 {
    bytes.append(UInt8(truncatingIfNeeded: 0xE0 | value >> 12))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value >> 6 & 0x3F))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
  } else {
    bytes.append(UInt8(truncatingIfNeeded: 0xF0 | value >> 18))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value >> 12 & 0x3F))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value >> 6 & 0x3F))
    bytes.append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
  }
}
