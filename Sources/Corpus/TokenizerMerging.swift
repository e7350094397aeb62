// Byte-pair merging: the table of merges and the two ways to apply it to a word.
// Short words scan for the best pair; long ones use a heap over a linked list: 100 MB without spaces is fine.

/// Merges by pair of ids: a flat hash table from the pair to its rank and result.
struct TokenizerMergeTable: Sendable {
  static let noRank = UInt32.max
  private static let free = UInt64.max
  private var keys: [UInt64]
  private var ranks: [UInt32]
  private var results: [Int32] = []
  private let mask: Int

  /// - Parameter merges: left id, right id and resulting id, best first; of equal pairs the last counts.
  init(_ merges: [(left: Int32, right: Int32, result: Int32)]) {
    var capacity = 16
    while capacity < merges.count * 2 { capacity *= 2 }
    mask = capacity - 1
    keys = Array(repeating: Self.free, count: capacity)
    ranks = Array(repeating: Self.noRank, count: capacity)
    results.reserveCapacity(merges.count)
    for (rank, merge) in merges.enumerated() {
      let key = Self.key(merge.left, merge.right)
      var slot = Self.hash(key) & mask
      while keys[slot] != Self.free, keys[slot] != key { slot = (slot + 1) & mask }
      keys[slot] = key
      ranks[slot] = UInt32(rank)
      results.append(merge.result)
    }
  }
  var isEmpty: Bool { results.isEmpty }

  @inline(__always) private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }
  @inline(__always) private static func hash(_ key: UInt64) -> Int {
    let product = key &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: product >> 32 ^ product >> 15)
  }
  /// The rank of a pair, `noRank` where it does not merge.
  @inline(__always) func rank(_ left: Int32, _ right: Int32) -> UInt32 {
    let key = Self.key(left, right)
    var slot = Self.hash(key) & mask
    while keys[slot] != key {
      if keys[slot] == Self.free { return Self.noRank }
      slot = (slot + 1) & mask
    }
    return ranks[slot]
  }
  @inline(__always) func result(_ rank: UInt32) -> Int32 { results[Int(rank)] }
}

extension TokenizerMergeTable {
  private static let shortWord = 64
  /// Places fit 32 bits up to here; a longer word is cut.
  private static let longestWord = 1 << 30

  /// Merges the symbols of one word, lowest rank first and leftmost among equals.
  ///
  /// - Cost: n log n; n squared with a small factor up to 64 symbols.
  func apply(to symbols: inout [Int32]) {
    if isEmpty || symbols.count < 2 { return }
    if symbols.count <= Self.shortWord { return applyByScanning(&symbols) }
    if symbols.count <= Self.longestWord { return applyByHeap(&symbols) }
    var merged: [Int32] = []
    for start in stride(from: 0, to: symbols.count, by: Self.longestWord) {
      var part = Array(symbols[start..<min(start + Self.longestWord, symbols.count)])
      applyByHeap(&part)
      merged += part
    }
    symbols = merged
  }

  private func applyByScanning(_ symbols: inout [Int32]) {
    var count = symbols.count
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: count) { pairs in
      symbols.withUnsafeMutableBufferPointer { symbols in
        for index in 0..<(count - 1) {
          pairs.initializeElement(at: index, to: rank(symbols[index], symbols[index + 1]))
        }
        while count > 1 {
          var best = Self.noRank
          var place = 0
          for index in 0..<(count - 1) where pairs[index] < best {
            best = pairs[index]
            place = index
          }
          if best == Self.noRank { break }
          symbols[place] = result(best)
          for index in (place + 1)..<max(count - 1, place + 1) { symbols[index] = symbols[index + 1] }
          count -= 1
          for index in (place + 1)..<max(count - 1, place + 1) { pairs[index] = pairs[index + 1] }
          if place + 1 < count { pairs[place] = rank(symbols[place], symbols[place + 1]) }
          if place > 0 { pairs[place - 1] = rank(symbols[place - 1], symbols[place]) }
        }
      }
    }
    symbols.removeSubrange(count...)
  }

  private func applyByHeap(_ symbols: inout [Int32]) {
    let count = symbols.count
    // `next` and `previous` of a dead symbol are never read; its pair rank is `noRank`.
    var next = (0..<Int32(count)).map { $0 + 1 }
    var previous = (0..<Int32(count)).map { $0 - 1 }
    var pairs = [UInt32](repeating: Self.noRank, count: count)
    var heap = TokenizerRankHeap()
    for index in 0..<(count - 1) {
      pairs[index] = rank(symbols[index], symbols[index + 1])
      if pairs[index] != Self.noRank { heap.stage(pairs[index], index) }
    }
    heap.order()
    while let (best, place) = heap.pop() {
      guard pairs[place] == best else { continue }
      let gone = Int(next[place])
      symbols[place] = result(best)
      next[place] = next[gone]
      pairs[gone] = Self.noRank
      pairs[place] = Self.noRank
      let after = Int(next[place])
      if after < count {
        previous[after] = Int32(place)
        pairs[place] = rank(symbols[place], symbols[after])
        if pairs[place] != Self.noRank { heap.push(pairs[place], place) }
      }
      let before = Int(previous[place])
      if before >= 0 {
        pairs[before] = rank(symbols[before], symbols[place])
        if pairs[before] != Self.noRank { heap.push(pairs[before], before) }
      }
    }
    var kept = 0
    var index = 0
    while index < count {
      symbols[kept] = symbols[index]
      kept += 1
      index = Int(next[index])
    }
    symbols.removeSubrange(kept...)
  }
}

/// A binary heap of (rank, place), smallest first.
private struct TokenizerRankHeap {
  private var items: [UInt64] = []

  mutating func stage(_ rank: UInt32, _ place: Int) {
    items.append(UInt64(rank) << 32 | UInt64(UInt32(truncatingIfNeeded: place)))
  }
  /// Makes a heap of what was staged, in linear time.
  mutating func order() {
    for index in stride(from: items.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }
  mutating func push(_ rank: UInt32, _ place: Int) {
    stage(rank, place)
    var child = items.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard items[child] < items[parent] else { break }
      items.swapAt(child, parent)
      child = parent
    }
  }
  mutating func pop() -> (rank: UInt32, place: Int)? {
    guard let first = items.first else { return nil }
    let last = items.removeLast()
    if !items.isEmpty {
      items[0] = last
      sink(0)
    }
    return (UInt32(truncatingIfNeeded: first >> 32), Int(first & 0xFFFF_FFFF))
  }
  private mutating func sink(_ start: Int) {
    var parent = start
    while true {
      var child = parent * 2 + 1
      guard child < items.count else { return }
      if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
      guard items[child] < items[parent] else { return }
      items.swapAt(child, parent)
      parent = child
    }
  }
}
