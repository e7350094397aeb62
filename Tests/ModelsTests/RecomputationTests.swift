// Blocks that are computed again on the way back: the same bits for less memory.
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct RecomputationTests {
  /// The fixture's sequences, whole, reversed and one alone.
  private func batches(_ fixture: FixtureModel) -> [Batch] {
    [fixture.sequences, fixture.sequences.reversed(), [fixture.sequences[0]]].map { sequences in
      Batch(
        tokens: sequences.flatMap { $0 }, targets: sequences.flatMap { Array($0.dropFirst()) + [-1] },
        lengths: sequences.map(\.count))
    }
  }

  @Test(arguments: FixtureModel.names) func lossesAndGradientsAreTheSameBits(name: String) throws {
    let backend = CPUBackend(threads: 2)
    let fixture = try FixtureModel(name, on: backend)
    let model = fixture.model.transformer
    func pass(recomputing: Bool) -> (losses: [[Float]], gradient: [Float]) {
      model.recomputesBlocks = recomputing
      let accumulator = Accumulator(model.parameters, on: backend)
      let losses = batches(fixture).map {
        model.backward($0, seed: CrossEntropySeed(scale: 0.25), sink: accumulator, on: backend).losses
      }
      return (losses, accumulator.gradient.toArray())
    }
    let (kept, again) = (pass(recomputing: false), pass(recomputing: true))
    #expect(kept.losses == again.losses && kept.gradient == again.gradient)
    #expect(kept.gradient.contains { $0 != 0 })
  }

  /// With two draws the pullback of one forward pass runs twice.
  @Test(arguments: FixtureModel.names) func fisherIsTheSameBits(name: String) throws {
    let backend = CPUBackend(threads: 2)
    let fixture = try FixtureModel(name, on: backend)
    let model = fixture.model.transformer
    let recipe = FisherRecipe(labels: .sampled(count: 2), unit: .sequence, examples: 100)
    func fisher(recomputing: Bool) throws -> [Float] {
      model.recomputesBlocks = recomputing
      return try DiagonalFisher.estimate(
        model, over: batches(fixture), recipe: recipe, random: RandomStream(seed: 3), on: backend
      ).values.toArray()
    }
    let kept = try fisher(recomputing: false)
    #expect(kept.contains { $0 > 0 })
    #expect(try fisher(recomputing: true) == kept)
  }

  /// Eight layers: what is held falls to the blocks' inputs and the work of one block.
  @Test(arguments: ["llama", "gpt2"]) func takesLessMemory(architecture: String) throws {
    func held(recomputing: Bool) throws -> Int {
      let backend = CPUBackend(threads: 1)
      let model = try ModelCatalog.initialize(
        TransformerConfiguration(
          architecture: architecture, vocabularySize: 64, hiddenSize: 64, intermediateSize: 192, layers: 8, heads: 4,
          keyHeads: 4, contextLength: 128, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true),
        random: RandomStream(seed: 1), on: backend)
      model.recomputesBlocks = recomputing
      let tokens = (0..<512).map { Int32($0 % 64) }
      let batch = Batch(tokens: tokens, targets: tokens, lengths: [128, 128, 128, 128])
      let accumulator = Accumulator(model.parameters, on: backend)
      let before = backend.pool.bytesHeld
      _ = model.backward(batch, seed: CrossEntropySeed(scale: 1), sink: accumulator, on: backend)
      return backend.pool.bytesHeld - before
    }
    let (kept, again) = (try held(recomputing: false), try held(recomputing: true))
    #expect(2 * again < kept, "\(again) of \(kept) bytes")
  }
}
