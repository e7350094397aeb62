// One training sequence, ready to run: what batches are packed from and what rehearsal keeps.
import Layers

/// A sequence with its targets.
public struct Exemplar: Sendable, Equatable {
  public var inputs: [Int32]
  /// What should follow each input; below 0 where no loss is taken.
  public var targets: [Int32]
  public init(inputs: [Int32], targets: [Int32]) {
    self.inputs = inputs
    self.targets = targets
  }
  public var scored: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
}

extension Batch {
  /// Lays sequences end to end.
  public init(_ exemplars: [Exemplar]) {
    self.init(
      tokens: exemplars.flatMap(\.inputs), targets: exemplars.flatMap(\.targets),
      lengths: exemplars.map(\.inputs.count))
  }
}
