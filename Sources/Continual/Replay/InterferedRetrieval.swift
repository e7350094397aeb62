// Retrieval by interference: what the stage's next step would spoil most is rehearsed beside it.
import Layers
import TensorCore
import Training

/// Of the next candidates of the shuffled order those whose mean loss rises most from θ to θ′ (MIR).
///
/// θ′ is where the optimizer itself would go from θ, moments, clipping and weight decay included, along the gradient of
/// the plain loss on the micro-batch's own sequences; pulls and what other methods add have no part in it. Losses are
/// those of tokens, also where rehearsed sequences are learned by distillation.
/// - Cost: where anything is drawn a forward and a backward pass over the micro-batch and two forward passes over the
///   candidates, and a pass over memory for θ′; 8 bytes a parameter
/// - Trap: what is drawn depends on the micro-batch, so the same rows in other micro-batches rehearse other sequences
/// - Source: Aljundi et al. 2019, arXiv:1908.04742
final class InterferedRetrieval {
  /// How many times as many tokens as are owed are looked at.
  private let factor: Int
  private var gradient: Accumulator?
  /// Sequences and the sum of their rises, of what was drawn in this stage and of all candidates.
  private var drawn = (count: 0, rise: 0.0)
  private var seen = (count: 0, rise: 0.0)

  init(factor: Int) { self.factor = factor }

  /// A new stage.
  func begin() { (drawn, seen) = ((0, 0), (0, 0)) }

  /// Sequences of the past for a micro-batch.
  ///
  /// - Precondition: the composition can preview the stage's step
  func draw(from rehearsal: Rehearsal, for batch: Composition) -> [Exemplar] {
    var rises: [Double] = []
    var ranked: [Int] = []
    let exemplars = rehearsal.draw(stageTokens: batch.stageTokens, among: factor) { candidates in
      rises = self.rises(of: candidates, batch)
      ranked = rises.indices.sorted { (-rises[$0], $0) < (-rises[$1], $1) }
      return ranked
    }
    // A step that is no number would leave its mark on the facts of the whole stage.
    guard rises.allSatisfy(\.isFinite) else { return exemplars }
    seen.count += rises.count
    seen.rise += rises.reduce(0, +)
    drawn.count += exemplars.count
    for index in exemplars.indices { drawn.rise += rises[ranked[index % ranked.count]] }
    return exemplars
  }

  /// Mean loss of each sequence after the virtual step, less that before it.
  private func rises(of candidates: [Exemplar], _ batch: Composition) -> [Double] {
    guard let preview = batch.preview else { preconditionFailure("nobody says where the stage's step would lead") }
    let (network, backend) = (batch.network, batch.backend)
    let gradient = self.gradient ?? Accumulator(network.parameters, on: backend)
    self.gradient = gradient
    gradient.reset()
    let stage = batch.makeBatches(batch.stage)
    let seed = CrossEntropySeed(scale: 1 / Float(max(1, stage.reduce(0) { $0 + $1.scored })))
    for part in stage { _ = network.backward(part, seed: seed, sink: gradient, on: backend) }
    let moved = backend.empty(1, network.parameters.count)
    preview(gradient, moved)
    // One step changes a loss by less than bf16 products round it.
    let outer = backend.precision
    backend.precision = .fp32
    defer { backend.precision = outer }
    func losses() -> [Double] {
      network.meanLosses(
        of: candidates, batchTokens: batch.batchTokens, makeBatches: batch.makeBatches, on: backend)
    }
    let before = losses()
    return zip(network.parameters.with(moved, losses), before).map { $0 - $1 }
  }

  /// How much more the drawn sequences would have lost than the candidates on average, in nats a token.
  var facts: [(name: String, value: Double)] {
    [
      ("retrieval_candidates", Double(seen.count)),
      ("retrieval_rise", drawn.count > 0 ? drawn.rise / Double(drawn.count) - seen.rise / Double(seen.count) : 0),
    ]
  }

  func write(to writer: any StateWriter) {
    writer.integers("retrieved", [drawn.count, seen.count], description: "sequences drawn, and all candidates")
    writer.doubles("rises", [drawn.rise, seen.rise], description: "sums of the virtual step's rises of their losses")
  }
  func restore(from reader: any StateReader) throws {
    let (counts, rises) = (try reader.integers("retrieved"), try reader.doubles("rises"))
    guard counts.count == 2, rises.count == 2 else {
      throw StateError(description: "the retrieval's sums have another form")
    }
    drawn = (counts[0], rises[0])
    seen = (counts[1], rises[1])
  }
}
