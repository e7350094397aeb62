// The diagonal Fisher information: a seed at the output times a sink at the parameters.
import Layers
import TensorCore

/// An estimate with the recipe that made it.
public struct FisherEstimate {
  /// F, per scored token. [1, P]
  public let values: Tensor
  public let recipe: FisherRecipe
  /// Sequences and scored tokens it was made from.
  public let sequences: Int
  public let scoredTokens: Int
}

public enum DiagonalFisher {
  /// Estimates F over batches of whole sequences, in the mode the model is evaluated in.
  ///
  /// F = Σ_s g_s² / scored tokens (unit sequence; see `FisherRecipe` for the others)
  /// - Throws: `FisherError` where the expected Fisher would take too many passes
  /// - Cost: one forward pass; one backward pass a draw, k + 1 of the k likeliest labels; no optimizer
  public static func estimate(
    _ network: any Network, over batches: some Sequence<Batch>, recipe: FisherRecipe, random: RandomStream,
    on backend: any Backend
  ) throws(FisherError) -> FisherEstimate {
    func pass(_ sink: any GradientSink, sums: Tensor? = nil) throws(FisherError) -> FisherCount {
      let rule = sums.flatMap { recipe.tolerance > 0 ? StopRule($0, recipe.tolerance, on: backend) : nil }
      return try FisherPass.run(
        network, over: batches, labels: recipe.labels, examples: recipe.examples, random: random, into: sink,
        isEnough: { rule?.isEnough($0) ?? false }, on: backend)
    }
    let squares: Tensor
    let count: FisherCount
    let divisor: Int
    switch recipe.unit {
    case .sequence:
      let sink = PerSequenceMoments(network.parameters, .squares, on: backend)
      count = try pass(sink, sums: sink.sums)
      (squares, divisor) = (sink.sums, count.scored * count.draws)
    case .position:
      let sink = SquaredPerPosition(network.parameters, on: backend)
      count = try pass(sink, sums: sink.squares)
      (squares, divisor) = (sink.squares, count.scored * count.draws)
    case .batch:
      let sink = SquaredPerBatch(network.parameters, on: backend)
      count = try pass(sink)
      (squares, divisor) = (sink.finish(), count.batches * count.draws)
    }
    backend.scale(squares, by: 1 / Float(max(1, divisor)))
    return FisherEstimate(values: squares, recipe: recipe, sequences: count.sequences, scoredTokens: count.scored)
  }
}

/// Ends an estimate once the sum of its diagonal is known well enough.
private final class StopRule {
  private let sums: Tensor
  private let ones: Tensor
  private let tolerance: Double
  private let backend: any Backend
  private var sum = 0.0
  private var scored = 0
  /// Σ F a scored token of every batch.
  private var traces: [Double] = []

  init(_ sums: Tensor, _ tolerance: Double, on backend: any Backend) {
    self.sums = sums
    self.tolerance = tolerance
    self.backend = backend
    ones = backend.empty(1, sums.count)
    backend.fill(ones, 1)
  }

  func isEnough(_ seen: FisherCount) -> Bool {
    let now = backend.dot(sums, ones)
    traces.append((now - sum) / Double(max(1, seen.scored - scored)))
    (sum, scored) = (now, seen.scored)
    // Fewer say nothing about how they scatter.
    guard traces.count >= 4 else { return false }
    let count = Double(traces.count)
    let mean = traces.reduce(0, +) / count
    let variance = traces.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    return (variance / count).squareRoot() <= tolerance * mean
  }
}
