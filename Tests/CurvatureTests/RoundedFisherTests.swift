// A Fisher pass whose products are in bf16 beside the same pass in fp32: how far rounding may lead.
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

/// Operands keep eight bits, so a product's sum is off by half a percent of its typical term, either way. Of sums of
/// squares over sequences a few percent may be left at single numbers, next to nothing in the trace. Mistakes: squares
/// that are rounded before they are added up, sums that are kept in bf16, a stale rounded copy of a weight.
@Suite(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here")) struct RoundedFisherTests {
  /// Large enough that the products of forward and backward passes and of most squares are in bf16.
  private func model(tied: Bool, on backend: CPUBackend) throws -> Transformer {
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: 200, hiddenSize: 96, intermediateSize: 256, layers: 2, heads: 4,
      keyHeads: 2, contextLength: 64, epsilon: 1e-5, ropeTheta: 10000, tiesHead: tied)
    c.initializerRange = 0.1
    return try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
  }
  /// Three batches of eight sequences of 30 to 60 tokens.
  private var batches: [Batch] {
    var random = RandomStream(seed: 8)
    return (0..<3).map { _ in
      let lengths = (0..<8).map { _ in 30 + random.integer(below: 31) }
      let tokens = (0..<lengths.reduce(0, +)).map { _ in Int32(random.integer(below: 200)) }
      return Batch(tokens: tokens, targets: tokens.map { ($0 * 7 + 3) % 200 }, lengths: lengths)
    }
  }
  private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

  @Test(arguments: [FisherRecipe.Unit.sequence, .position], [true, false]) func diagonalsAgree(
    unit: FisherRecipe.Unit, tied: Bool
  ) throws {
    func fisher(_ precision: Precision) throws -> (values: [Double], names: [String], ranges: [Range<Int>]) {
      let backend = CPUBackend(threads: 2, precision: precision)
      let model = try model(tied: tied, on: backend)
      let estimate = try DiagonalFisher.estimate(
        model, over: batches, recipe: FisherRecipe(labels: .observed, unit: unit, examples: 100),
        random: RandomStream(seed: 1), on: backend)
      let parameters = model.parameters.parameters
      return (estimate.values.toArray().map { Double($0) }, parameters.map(\.name), parameters.map(\.range))
    }
    let (exact, rounded) = (try fisher(.fp32), try fisher(.bf16))
    #expect(exact.values != rounded.values, "nothing was rounded")
    let traces = [exact, rounded].map { $0.values.reduce(0, +) }
    #expect(abs(traces[1] / traces[0] - 1) < 0.02, "traces \(traces)")
    // Tensor by tensor, too: attention's Fisher is small beside the rest.
    for (name, range) in zip(exact.names, exact.ranges) {
      let parts = [exact, rounded].map { $0.values[range].reduce(0, +) }
      #expect(abs(parts[1] / parts[0] - 1) < 0.05, "\(name): \(parts)")
    }
    let difference = zip(rounded.values, exact.values).map { $0.0 - $0.1 }
    #expect(length(difference) < 0.05 * length(exact.values))
    let order = try #require(RankCorrelation.spearman(exact.values, rounded.values))
    #expect(order > 0.995, "rank correlation \(order)")
  }

  /// tr(A ⊗ G) = tr A · tr G of every layer.
  @Test func factorsAgree() throws {
    func traces(_ precision: Precision) throws -> [(name: String, trace: Double)] {
      let backend = CPUBackend(threads: 2, precision: precision)
      let model = try model(tied: true, on: backend)
      let sink = KroneckerFactors(model.parameters, on: backend)
      let seen = try FisherPass.run(
        model, over: batches, labels: .observed, examples: 100, random: RandomStream(seed: 1), into: sink, on: backend)
      return try sink.finish(seen).curvature.blocks.map { block -> (name: String, trace: Double) in
        let sides = [block.left.values, block.right.values].map { factor in
          (0..<factor.rows).reduce(0.0) { $0 + Double(factor.buffer[$1 * factor.columns + $1]) }
        }
        return (block.parameter.name, sides[0] * sides[1])
      }
    }
    let (exact, rounded) = (try traces(.fp32), try traces(.bf16))
    try #require(exact.count == 14 && rounded.count == 14)
    for (a, b) in zip(exact, rounded) {
      #expect(a.name == b.name && abs(b.trace / a.trace - 1) < 0.05, "\(a.name): \(b.trace) for \(a.trace)")
    }
    #expect(zip(exact, rounded).contains { $0.0.trace != $0.1.trace }, "nothing was rounded")
  }
}
