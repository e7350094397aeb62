// What places of a batch are taught beside their targets: distributions of a teacher, other weights.
import TensorCore

/// loss = (Σ hard·(−log p(target)) + Σ soft·D) / counted, D the soft loss of `Backend.blend`; means of their own, each
/// over its places alone, are added.
public struct Objectives: Sendable {
  /// One row for every place of the batch.
  public var rows: SoftRows
  /// Targets over which the sum is averaged; those of rehearsed sequences may be left out.
  public var counted: Int
  /// Rows of each mean that is taken for itself, by who takes it; a step divides by the places of all its batches.
  public var means: [ObjectIdentifier: [Int]] = [:]
  public init(rows: SoftRows, counted: Int) {
    self.rows = rows
    self.counted = counted
  }
}

/// The seed of a batch with objectives; it also keeps the two sums.
public final class ObjectiveSeed: HeadSeed {
  private let objectives: Objectives
  private let scale: Float
  /// Σ hard·(−log p(target)) and Σ soft·D in nats, and Σ hard.
  public private(set) var sums = (hard: 0.0, soft: 0.0, weights: 0.0)

  public init(_ objectives: Objectives, scale: Float) {
    self.objectives = objectives
    self.scale = scale
  }

  public func seed(_ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend) {
    let soft = objectives.rows.rows(rows)
    let softLosses = backend.empty(1, rows.count)
    backend.blend(logits, targets: targets, soft: soft, scale: scale, losses: losses, softLosses: softLosses)
    for (row, loss) in losses.toArray().enumerated() {
      sums.hard += Double(soft.hard[row]) * Double(loss)
      sums.weights += Double(soft.hard[row])
    }
    for (row, loss) in softLosses.toArray().enumerated() { sums.soft += Double(soft.soft[row]) * Double(loss) }
  }
}
