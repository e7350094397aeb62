// Remembers the ids of words already met: text repeats its words, so most of encoding is this lookup.
// Bounded: when it is full it starts afresh, which never changes an id.

struct TokenizerWordCache {
  private struct Entry {
    var hash: UInt64
    var keyStart: Int32
    var keyCount: Int16
    var idCount: Int16
    /// The id itself where there is one, else the place of the ids.
    var value: Int32
  }
  static let longestWord = 128
  private static let slotCount = 1 << 17
  private static let entryLimit = 1 << 16
  private var slots: [UInt32] = []
  private var entries: [Entry] = []
  private var keys: [UInt8] = []
  private var ids: [Int32] = []

  /// Appends the ids of a known word; false where the word is not known.
  @inline(__always)
  func appendIds(of word: UnsafeBufferPointer<UInt8>, hash: UInt64, to out: inout [Int32]) -> Bool {
    guard !slots.isEmpty else { return false }
    let mask = Self.slotCount - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] != 0 {
      let entry = entries[Int(slots[slot]) - 1]
      if entry.hash == hash, Int(entry.keyCount) == word.count, matches(word, at: Int(entry.keyStart)) {
        if entry.idCount == 1 {
          out.append(entry.value)
        } else {
          for index in 0..<Int(entry.idCount) { out.append(ids[Int(entry.value) + index]) }
        }
        return true
      }
      slot = (slot + 1) & mask
    }
    return false
  }

  /// Remembers a word of at most `longestWord` bytes that is not known yet.
  mutating func insert(_ word: UnsafeBufferPointer<UInt8>, hash: UInt64, ids new: ArraySlice<Int32>) {
    if slots.isEmpty || entries.count == Self.entryLimit {
      slots = Array(repeating: 0, count: Self.slotCount)
      entries.removeAll(keepingCapacity: true)
      keys.removeAll(keepingCapacity: true)
      ids.removeAll(keepingCapacity: true)
    }
    var entry = Entry(
      hash: hash, keyStart: Int32(keys.count), keyCount: Int16(word.count), idCount: Int16(new.count),
      value: new.first ?? 0)
    keys += word
    if new.count != 1 {
      entry.value = Int32(ids.count)
      ids += new
    }
    entries.append(entry)
    let mask = Self.slotCount - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] != 0 { slot = (slot + 1) & mask }
    slots[slot] = UInt32(entries.count)
  }

  @inline(__always) private func matches(_ word: UnsafeBufferPointer<UInt8>, at start: Int) -> Bool {
    keys.withUnsafeBufferPointer { keys in
      for offset in 0..<word.count where keys[start + offset] != word[offset] { return false }
      return true
    }
  }
}
