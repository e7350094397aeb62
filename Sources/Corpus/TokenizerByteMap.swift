// A map from byte strings to token ids with flat storage, and the hash that it shares with the word cache.
// Bytes, because canonically equal strings are different tokens; flat, because a vocabulary has 10^5 entries.

/// A fast hash of bytes; not for untrusted keys in unbounded tables.
@inline(__always) func tokenizerHash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
  let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
  var hash = UInt64(truncatingIfNeeded: bytes.count) &* multiplier
  let raw = UnsafeRawBufferPointer(bytes)
  var offset = 0
  while offset + 8 <= raw.count {
    hash = (hash ^ raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* multiplier
    hash ^= hash >> 29
    offset += 8
  }
  var tail: UInt64 = 0
  while offset < raw.count {
    tail = tail << 8 | UInt64(raw[offset])
    offset += 1
  }
  hash = (hash ^ tail) &* multiplier
  return hash ^ hash >> 32
}

struct TokenizerByteMap: Sendable {
  private var storage: [UInt8] = []
  private var starts: [Int] = [0]
  private var values: [Int32] = []
  /// Index of an entry plus one; 0 is free.
  private var slots: [UInt32]

  init(minimumCapacity: Int) {
    var capacity = 16
    while capacity < minimumCapacity * 2 { capacity *= 2 }
    slots = Array(repeating: 0, count: capacity)
    values.reserveCapacity(minimumCapacity)
  }
  var count: Int { values.count }
  /// The longest key in bytes.
  private(set) var longest = 0

  /// False, and no change, where the key is present.
  mutating func insert(_ key: UnsafeBufferPointer<UInt8>, _ value: Int32) -> Bool {
    if find(key) != nil { return false }
    if (values.count + 1) * 2 > slots.count { grow() }
    storage += key
    starts.append(storage.count)
    values.append(value)
    longest = max(longest, key.count)
    place(values.count - 1, hash: tokenizerHash(key))
    return true
  }
  mutating func insert(_ key: [UInt8], _ value: Int32) -> Bool {
    key.withUnsafeBufferPointer { insert($0, value) }
  }

  @inline(__always) func find(_ key: UnsafeBufferPointer<UInt8>) -> Int32? {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: tokenizerHash(key)) & mask
    while slots[slot] != 0 {
      let entry = Int(slots[slot]) - 1
      let start = starts[entry]
      if starts[entry + 1] - start == key.count, matches(key, at: start) { return values[entry] }
      slot = (slot + 1) & mask
    }
    return nil
  }
  func find(_ key: [UInt8]) -> Int32? { key.withUnsafeBufferPointer { find($0) } }
  func find(_ key: String) -> Int32? {
    var key = key
    return key.withUTF8 { find($0) }
  }

  @inline(__always) private func matches(_ key: UnsafeBufferPointer<UInt8>, at start: Int) -> Bool {
    for offset in 0..<key.count where storage[start + offset] != key[offset] { return false }
    return true
  }
  private mutating func place(_ entry: Int, hash: UInt64) {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] != 0 { slot = (slot + 1) & mask }
    slots[slot] = UInt32(entry + 1)
  }
  private mutating func grow() {
    slots = Array(repeating: 0, count: slots.count * 2)
    for entry in values.indices {
      let hash = storage.withUnsafeBufferPointer {
        tokenizerHash(UnsafeBufferPointer(rebasing: $0[starts[entry]..<starts[entry + 1]]))
      }
      place(entry, hash: hash)
    }
  }
}
