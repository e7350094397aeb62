// Which examples stand in which row of an epoch: a pure function of lengths, weights, seed and epoch.
// A resume computes the plan again and goes on at its row; nothing of it needs to be saved.

/// The rows of one epoch, as lists of example indices.
public struct EpochPlan: Sendable, Equatable {
  /// Examples per row, in the order of training.
  public let rows: [[Int]]
  public let sequenceLength: Int

  /// Plans an epoch.
  ///
  /// The examples are shuffled; with `packing`, windows of the shuffled order are put, longest first, into the
  /// fullest row that still has room (best fit); then the rows are shuffled. Without packing every example is a row.
  ///
  /// - Parameters:
  ///   - lengths: input tokens per example; one longer than `sequenceLength` gets a row of its own.
  ///   - weights: how often an example occurs per epoch (nil: once). Of examples with a fractional weight w = k + f,
  ///     each occurs k times, and over the epochs a share f of them once more, in turn, so that after 1/f epochs
  ///     each has had its extra turn. Weights that are negative or not finite count as 0.
  /// - Cost: O(n log n).
  public init(
    lengths: [Int], weights: [Double]? = nil, sequenceLength: Int, packing: Bool, seed: UInt64, epoch: Int
  ) {
    self.sequenceLength = sequenceLength
    var order = Self.occurrences(count: lengths.count, weights: weights, seed: seed, epoch: epoch)
    var generator = ShuffleGenerator(seed: seed, stream: 1, position: UInt64(truncatingIfNeeded: epoch))
    generator.shuffle(&order)
    var rows = packing ? Self.packed(order, lengths, sequenceLength) : order.map { [$0] }
    // Unpacked rows are in random order already; packed ones came out by fullness.
    if packing { generator.shuffle(&rows) }
    self.rows = rows
  }

  /// Input tokens planned ÷ (rows × sequence length): 1 means that no row has room left.
  public func fill(lengths: [Int]) -> Double {
    guard !rows.isEmpty, sequenceLength > 0 else { return 0 }
    let tokens = rows.reduce(0) { $0 + $1.reduce(0) { $0 + lengths[$1] } }
    return Double(tokens) / (Double(rows.count) * Double(sequenceLength))
  }

  private static func occurrences(count: Int, weights: [Double]?, seed: UInt64, epoch: Int) -> [Int] {
    guard let weights, weights.count == count else { return Array(0..<count) }
    // A cursor from a damaged file may name any epoch; no product below may overflow.
    let epoch = Double(min(max(0, epoch), 1 << 30))
    var order: [Int] = []
    var groups: [Double: [Int]] = [:]
    for (index, weight) in weights.enumerated() where weight.isFinite && weight > 0 {
      // A weight is a small number; the bound only keeps a mistyped one from filling the memory.
      let whole = Int(min(weight, 10_000))
      order.append(contentsOf: repeatElement(index, count: whole))
      if weight < 10_000, weight > Double(whole) { groups[weight - Double(whole), default: []].append(index) }
    }
    for (fraction, members) in groups.sorted(by: { $0.key < $1.key }) {
      // One fixed order per group; every epoch takes the next stretch of it, round and round.
      var generator = ShuffleGenerator(seed: seed, stream: 2, position: fraction.bitPattern)
      let turn = generator.permutation(members.count)
      let perEpoch = fraction * Double(members.count)
      let start = Int((epoch * perEpoch).rounded(.down))
      let end = Int(((epoch + 1) * perEpoch).rounded(.down))
      // A group too small for its fraction still takes one, so that an epoch is never empty.
      for place in start..<max(end, start + 1) { order.append(members[turn[place % members.count]]) }
    }
    return order
  }

  private static let window = 4096
  private static let openRows = 512

  private static func packed(_ order: [Int], _ lengths: [Int], _ capacity: Int) -> [[Int]] {
    var closed: [[Int]] = []
    var open = OpenRows()
    for start in stride(from: 0, to: order.count, by: window) {
      let places = start..<min(start + window, order.count)
      let longestFirst = places.sorted {
        let (a, b) = (lengths[order[$0]], lengths[order[$1]])
        return a != b ? a > b : $0 < $1
      }
      for place in longestFirst {
        let example = order[place]
        let length = max(0, lengths[example])
        if length >= capacity { closed.append([example]) } else { open.place(example, length, capacity) }
      }
      open.close(keeping: openRows, into: &closed)
    }
    open.close(keeping: 0, into: &closed)
    return closed
  }
}

/// Rows with room left, fullest first.
private struct OpenRows {
  private var room: [Int] = []
  private var rows: [[Int]] = []

  /// Index of the first row with at least `length` room: the best fit.
  private func bestFit(_ length: Int) -> Int {
    var (low, high) = (0, room.count)
    while low < high {
      let middle = (low + high) / 2
      if room[middle] < length { low = middle + 1 } else { high = middle }
    }
    return low
  }

  mutating func place(_ example: Int, _ length: Int, _ capacity: Int) {
    let fit = bestFit(length)
    var row = [example]
    var left = capacity - length
    if fit < room.count {
      row = rows.remove(at: fit) + row
      left = room.remove(at: fit) - length
    }
    let target = bestFit(left)
    room.insert(left, at: target)
    rows.insert(row, at: target)
  }

  mutating func close(keeping count: Int, into closed: inout [[Int]]) {
    let surplus = max(0, rows.count - count)
    closed.append(contentsOf: rows[..<surplus])
    rows.removeFirst(surplus)
    room.removeFirst(surplus)
  }
}
