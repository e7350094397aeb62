// Rows as the model sees them, and the endless, resumable stream of them that training draws from.
// Segments of a row never see each other: the model gets their lengths and masks accordingly.

/// One training row: inputs, targets, and where the packed segments end.
public struct PackedRow: Sendable, Equatable {
  public var inputs: [Int32]
  /// The token after each input; −1 where it carries no loss.
  public var targets: [Int32]
  /// Inputs per segment, in order; their sum is `inputs.count`.
  public var segmentLengths: [Int]
  /// The example of each segment.
  public var exampleIndices: [Int]
  /// Targets that carry loss.
  public var lossTokens: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
}

/// The row made of the examples with these indices; an index out of range is left out.
public func packRow(_ indices: [Int], from examples: [Example]) -> PackedRow {
  var row = PackedRow(inputs: [], targets: [], segmentLengths: [], exampleIndices: [])
  for index in indices where examples.indices.contains(index) {
    let example = examples[index]
    guard example.length > 0 else { continue }
    row.inputs.append(contentsOf: example.tokens.dropLast())
    for place in 1..<example.tokens.count {
      row.targets.append(place >= example.lossStart ? example.tokens[place] : -1)
    }
    row.segmentLengths.append(example.length)
    row.exampleIndices.append(index)
  }
  return row
}

/// A place in the stream of rows: all that a checkpoint must remember of the data order.
public struct RowCursor: Sendable, Equatable {
  public var epoch: Int
  /// Index in the epoch's plan of the row to come.
  public var row: Int
  public static let start = RowCursor(epoch: 0, row: 0)
  public init(epoch: Int, row: Int) {
    self.epoch = epoch
    self.row = row
  }
}

/// Training rows, epoch after epoch without end, from any cursor on.
public struct RowStream: Sendable, IteratorProtocol {
  public let examples: [Example]
  public let sequenceLength: Int
  public let packing: Bool
  public let seed: UInt64
  /// The place of the row that `next` gives.
  public private(set) var cursor: RowCursor
  /// The plan of the epoch under the cursor.
  public private(set) var plan: EpochPlan
  private let lengths: [Int]
  private let weights: [Double]?

  /// A stream of the examples; the same arguments give the same rows, whatever was drawn before.
  public init(
    examples: [Example], weights: [Double]? = nil, sequenceLength: Int, packing: Bool, seed: UInt64,
    cursor: RowCursor = .start
  ) {
    self.examples = examples
    self.weights = weights
    self.sequenceLength = sequenceLength
    self.packing = packing
    self.seed = seed
    self.cursor = cursor
    lengths = examples.map(\.length)
    plan = EpochPlan(
      lengths: lengths, weights: weights, sequenceLength: sequenceLength, packing: packing, seed: seed,
      epoch: cursor.epoch)
    settle()
  }

  /// The next row; nil only where no example has a weight.
  public mutating func next() -> PackedRow? {
    guard plan.rows.indices.contains(cursor.row) else { return nil }
    let row = packRow(plan.rows[cursor.row], from: examples)
    cursor.row += 1
    settle()
    return row
  }

  /// How many rows each of the first `epochs` epochs has: what schedules need to know.
  public func rowCounts(epochs: Int) -> [Int] {
    (0..<max(0, epochs)).map { planned($0).rows.count }
  }

  /// Moves a cursor that has passed the last row to the next epoch.
  private mutating func settle() {
    guard cursor.row >= plan.rows.count, !plan.rows.isEmpty else { return }
    cursor = RowCursor(epoch: cursor.epoch &+ 1, row: 0)
    plan = planned(cursor.epoch)
  }

  private func planned(_ epoch: Int) -> EpochPlan {
    EpochPlan(
      lengths: lengths, weights: weights, sequenceLength: sequenceLength, packing: packing, seed: seed, epoch: epoch)
  }
}
