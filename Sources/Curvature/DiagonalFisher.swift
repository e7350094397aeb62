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
  /// - Throws: `FisherError` where the expected Fisher would take too many passes, or F is not finite
  /// - Cost: one forward pass; one backward pass a draw, k + 1 of the k likeliest labels; no optimizer
  public static func estimate(
    _ network: any Network, over batches: some Sequence<Batch>, recipe: FisherRecipe, random: RandomStream,
    on backend: any Backend
  ) throws(FisherError) -> FisherEstimate {
    func pass(_ sink: any GradientSink, sums: Tensor? = nil) throws(FisherError) -> FisherCount {
      let rules = sums.map { stopRules(recipe, $0, random: random, on: backend) } ?? []
      return try FisherPass.run(
        network, over: batches, labels: recipe.labels, examples: recipe.examples, random: random, into: sink,
        // Every rule looks at every batch.
        isEnough: { seen in rules.reduce(false) { $1.isEnough(seen) || $0 } }, on: backend)
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
    try FisherError.check(squares, of: network.parameters, on: backend)
    return FisherEstimate(values: squares, recipe: recipe, sequences: count.sequences, scoredTokens: count.scored)
  }

  private static func stopRules(
    _ recipe: FisherRecipe, _ sums: Tensor, random: RandomStream, on backend: any Backend
  ) -> [any StopRule] {
    var rules: [any StopRule] = []
    if recipe.tolerance > 0 { rules.append(TraceRule(sums, recipe.tolerance, on: backend)) }
    if recipe.rankAgreement > 0 {
      rules.append(RankRule(sums, recipe.rankAgreement, random: random.forked("coordinates")))
    }
    return rules
  }
}
