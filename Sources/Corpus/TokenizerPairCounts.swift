// The two tables of BPE training: how often each word occurs, and how often each pair of symbols does.
// Pairs know the words they occur in, so a merge visits those words only.

/// Different words with their numbers of occurrence, in order of first occurrence.
struct TokenizerWordCounts {
  private var keys: [UInt8] = []
  private var starts: [Int] = [0]
  private var hashes: [UInt64] = []
  private(set) var counts: [Int] = []
  private var slots = [UInt32](repeating: 0, count: 1 << 16)

  mutating func add(_ word: UnsafeBufferPointer<UInt8>) {
    let hash = tokenizerHash(word)
    var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
    while slots[slot] != 0 {
      let index = Int(slots[slot]) - 1
      if hashes[index] == hash, starts[index + 1] - starts[index] == word.count,
        keys[starts[index]..<starts[index + 1]].elementsEqual(word)
      {
        counts[index] += 1
        return
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    keys += word
    starts.append(keys.count)
    hashes.append(hash)
    counts.append(1)
    slots[slot] = UInt32(counts.count)
    if counts.count * 2 > slots.count { grow() }
  }
  func bytes(_ index: Int) -> ArraySlice<UInt8> { keys[starts[index]..<starts[index + 1]] }

  private mutating func grow() {
    slots = Array(repeating: 0, count: slots.count * 2)
    for (index, hash) in hashes.enumerated() {
      var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
      while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
      slots[slot] = UInt32(index + 1)
    }
  }
}

struct TokenizerPairCounts {
  private struct Word {
    var start: Int
    var count: Int
    let occurrences: Int
  }
  private struct Candidate {
    let count: Int
    let pair: UInt64
    /// More frequent first, then lower ids.
    func precedes(_ other: Candidate) -> Bool {
      count == other.count ? pair < other.pair : count > other.count
    }
  }
  private var words: [Word] = []
  private var symbols: [Int32] = []
  /// Index of a pair in the tables below.
  private var indices: [UInt64: Int] = [:]
  private var pairs: [UInt64] = []
  private var counts: [Int] = []
  private var places: [[Int32]] = []
  private var heap: [Candidate] = []
  /// Pairs that a merge has made more frequent, and the merge that last did.
  private var touched: [Int] = []
  private var stamps: [Int] = []
  private var stamp = 0

  init(_ source: TokenizerWordCounts, atoms: [Int32]) {
    words.reserveCapacity(source.counts.count)
    for (index, occurrences) in source.counts.enumerated() {
      let bytes = source.bytes(index)
      words.append(Word(start: symbols.count, count: bytes.count, occurrences: occurrences))
      for byte in bytes { symbols.append(atoms[Int(byte)]) }
    }
    for index in words.indices {
      let word = words[index]
      for place in word.start..<max(word.start, word.start + word.count - 1) {
        change(symbols[place], symbols[place + 1], by: word.occurrences, in: index)
      }
    }
    pushTouched()
  }

  /// The most frequent pair, unless it is rarer than `least`.
  mutating func best(atLeast least: Int) -> (left: Int32, right: Int32)? {
    while let top = heap.first {
      let index = indices[top.pair] ?? 0
      // An entry made before the pair became rarer goes back with its count of today.
      if counts[index] != top.count {
        removeTop()
        if counts[index] >= least { push(Candidate(count: counts[index], pair: top.pair)) }
        continue
      }
      guard top.count >= least else { return nil }
      removeTop()
      return (Int32(truncatingIfNeeded: top.pair >> 32), Int32(truncatingIfNeeded: top.pair & 0xFFFF_FFFF))
    }
    return nil
  }

  /// Replaces the pair in every word.
  mutating func merge(_ left: Int32, _ right: Int32, into id: Int32) {
    guard let merged = indices[Self.key(left, right)] else { return }
    let visited = places[merged]
    places[merged] = []
    for index in visited {
      let word = words[Int(index)]
      let end = word.start + word.count
      var read = word.start
      var write = word.start
      while read < end {
        guard read + 1 < end, symbols[read] == left, symbols[read + 1] == right else {
          symbols[write] = symbols[read]
          write += 1
          read += 1
          continue
        }
        if write > word.start {
          change(symbols[write - 1], left, by: -word.occurrences, in: Int(index))
          change(symbols[write - 1], id, by: word.occurrences, in: Int(index))
        }
        if read + 2 < end {
          change(right, symbols[read + 2], by: -word.occurrences, in: Int(index))
          change(id, symbols[read + 2], by: word.occurrences, in: Int(index))
        }
        symbols[write] = id
        write += 1
        read += 2
      }
      words[Int(index)].count = write - word.start
    }
    counts[merged] = 0
    pushTouched()
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }
  private mutating func change(_ left: Int32, _ right: Int32, by amount: Int, in word: Int) {
    let key = Self.key(left, right)
    let index: Int
    if let known = indices[key] {
      index = known
    } else {
      index = pairs.count
      indices[key] = index
      pairs.append(key)
      counts.append(0)
      places.append([])
      stamps.append(-1)
    }
    counts[index] += amount
    guard amount > 0 else { return }
    if places[index].last != Int32(word) { places[index].append(Int32(word)) }
    if stamps[index] != stamp {
      stamps[index] = stamp
      touched.append(index)
    }
  }

  private mutating func pushTouched() {
    for index in touched where counts[index] > 0 { push(Candidate(count: counts[index], pair: pairs[index])) }
    touched.removeAll(keepingCapacity: true)
    stamp += 1
  }
  private mutating func push(_ candidate: Candidate) {
    heap.append(candidate)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].precedes(heap[parent]) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }
  private mutating func removeTop() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    var parent = 0
    while true {
      var child = parent * 2 + 1
      guard child < heap.count else { return }
      if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
      guard heap[child].precedes(heap[parent]) else { return }
      heap.swapAt(child, parent)
      parent = child
    }
  }
}
