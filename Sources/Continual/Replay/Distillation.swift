// Rehearsed sequences learned from a teacher's distributions instead of from their tokens.
import Layers
import TensorCore
import Training

/// How rehearsed sequences are learned: as tokens, or from the probabilities that a teacher gave.
public struct Distillation: Sendable, Equatable {
  /// Of T²·KL(teacher ‖ model) on rehearsed places; 0 learns their tokens.
  public let weight: Float
  public let temperature: Float
  /// Classes kept at each place; the rest counts as one outcome.
  public let topK: Int

  public init(weight: Double, temperature: Double = 1, topK: Int = 64) {
    self.weight = Float(weight)
    self.temperature = Float(temperature)
    self.topK = topK
  }
  init(_ ingredients: MethodIngredients) {
    let isOn = ingredients.word("learn") == "distill"
    self.init(
      weight: isOn ? ingredients.number("distill_weight") ?? 1 : 0, temperature: ingredients.number("temperature") ?? 1,
      topK: ingredients.integer("top_k") ?? 64)
  }

  /// What is kept of a rehearsed token's distribution.
  static func bytesPerToken(_ options: MethodOptions) -> Int {
    options.word("learn") == "distill" ? 8 * (options.integer("top_k") ?? 0) : 0
  }

  static let options = [
    OptionSchema(
      "learn", .word(["tokens", "distill"], notYet: []), default: .word("tokens"),
      """
      tokens: rehearsed rows are learned like those of the stage; distill: from the probabilities of the model that \
      had just learned (or written) them, kept with the buffer.
      """),
    OptionSchema(
      "distill_weight", .number(minimum: 0, open: true, words: []), default: .number(3),
      onlyWith: .init("learn", ["distill"]), "Weight of the divergence on a rehearsed place; a token's loss has 1."),
    OptionSchema(
      "temperature", .number(minimum: 0, open: true, words: []), default: .number(1),
      onlyWith: .init("learn", ["distill"]), "Softens both distributions; the divergence is multiplied by its square."),
    OptionSchema(
      "top_k", .integer(1...4096, words: []), default: .integer(64), onlyWith: .init("learn", ["distill"]),
      "Classes kept at each place, the likeliest ones; the others count as one outcome. 8 bytes each."),
  ]

  /// A rehearsed sequence as it is learned.
  func taught(_ exemplar: Exemplar) -> Exemplar {
    guard weight > 0, exemplar.soft != nil else { return exemplar }
    var taught = exemplar
    (taught.weight, taught.softWeight) = (0, weight)
    return taught
  }
}

extension Rehearsal {
  /// Keeps what the model says now about the sequences of the past that was just offered.
  func teach(_ distillation: Distillation, _ scope: ConsolidationScope) {
    guard distillation.weight > 0 else { return }
    teach(count: distillation.topK, temperature: distillation.temperature, scope)
  }
  func teach(count: Int, temperature: Float, _ scope: ConsolidationScope) {
    let fresh = buffer.items.indices.filter { buffer.items[$0].exemplar.soft == nil }
    let soft = scope.network.softTargets(
      for: fresh.map { buffer.items[$0].exemplar }, count: count, temperature: temperature,
      batchTokens: scope.batchTokens, makeBatches: scope.makeBatches, on: scope.backend)
    setSoftTargets(soft, at: fresh)
  }
}

extension ConsolidationScope {
  /// Mean loss a scored token of each sequence, by the parameters as they are; 0 for one without.
  func meanLosses(_ sequences: [Exemplar]) -> [Double] {
    network.meanLosses(of: sequences, batchTokens: batchTokens, makeBatches: makeBatches, on: backend)
  }
}

extension Network {
  /// Mean loss a scored token of each sequence, by the parameters as they are; 0 for one without.
  ///
  /// - Parameters:
  ///   - batchTokens: tokens of a pass at most
  ///   - makeBatches: as in `Composition`
  /// - Cost: one forward pass
  func meanLosses(
    of sequences: [Exemplar], batchTokens: Int, makeBatches: ([Exemplar]) -> [Batch], on backend: any Backend
  ) -> [Double] {
    var losses: [Double] = []
    for part in sequences.runs(ofTokens: batchTokens) {
      var means = [Double](repeating: 0, count: part.count)
      for batch in makeBatches(Array(part)) {
        let values = negativeLogLikelihoods(batch, on: backend)
        var first = 0
        for index in 0..<batch.segments.count {
          let scored = batch.segments[index].reduce(0) { $0 + (batch.targets[$1] >= 0 ? 1 : 0) }
          let sum = values[first..<first + scored].reduce(0) { $0 + Double($1) }
          means[batch.source(of: index)] = scored > 0 ? sum / Double(scored) : 0
          first += scored
        }
      }
      losses += means
    }
    return losses
  }
}
