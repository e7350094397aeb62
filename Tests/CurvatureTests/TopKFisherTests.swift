// The Fisher over the likeliest labels and a draw from the others: against the exact one, and how far it scatters.
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import Testing

@Suite struct TopKFisherTests {
  let backend = CPUBackend(threads: 2)

  private func classifier(hidden: [Int] = [6], classes: Int = 4) -> MLP {
    MLP(
      MLPConfiguration(inputs: 5, hiddenSizes: hidden, classes: [classes]), random: RandomStream(seed: 2), on: backend)
  }
  /// Normal features of deviation 2, row by row.
  private func features(_ count: Int) -> [Float] {
    var random = RandomStream(seed: 9)
    return (0..<count * 5).map { _ in Float(2 * random.normal()) }
  }
  private func examples(_ count: Int) -> Batch {
    Batch(features: backend.tensor(features(count), count, 5), labels: [Int32](repeating: 1, count: count))
  }
  private func estimate(
    _ network: any Network, _ batches: [Batch], _ labels: FisherRecipe.Labels, _ unit: FisherRecipe.Unit = .sequence,
    seed: UInt64 = 1
  ) throws -> [Double] {
    try DiagonalFisher.estimate(
      network, over: batches, recipe: FisherRecipe(labels: labels, unit: unit, examples: 1000),
      random: RandomStream(seed: seed), on: backend
    ).values.toArray().map(Double.init)
  }
  private func expectEqual(_ found: [Double], _ wanted: [Double], floor: Double = 1e-7) {
    #expect(found.count == wanted.count)
    let largest = wanted.map(abs).max() ?? 0
    for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 1e-5 * abs(b) + floor * largest) }
  }

  /// With every class listed nothing is left to chance where a sequence has one scored place.
  @Test(arguments: [4, 64]) func allClassesAreTheExpectation(count: Int) throws {
    let network = classifier()
    let batch = examples(9)
    for unit in [FisherRecipe.Unit.sequence, .position] {
      expectEqual(
        try estimate(network, [batch], .topK(count: count), unit), try estimate(network, [batch], .expected, unit))
    }
    // Unit batch of one example: passes over labels are summed there, too.
    let singles = (0..<9).map { index in
      Batch(features: backend.tensor(Array(features(9)[5 * index..<5 * index + 5]), 1, 5), labels: [1])
    }
    let exact = try estimate(network, singles, .expected)
    expectEqual(try estimate(network, singles, .expected, .batch), exact)
    expectEqual(try estimate(network, singles, .topK(count: count), .batch), exact)
  }

  @Test func kroneckerFactorsOfAllClassesAreTheExpectation() throws {
    let network = classifier()
    func factors(_ labels: FisherRecipe.Labels) throws -> (curvature: KroneckerCurvature, diagonal: Tensor) {
      let sink = KroneckerFactors(network.parameters, on: backend)
      let seen = try FisherPass.run(
        network, over: [examples(9)], labels: labels, examples: 100, random: RandomStream(seed: 1), into: sink,
        on: backend)
      return try sink.finish(seen)
    }
    let (found, wanted) = (try factors(.topK(count: 4)), try factors(.expected))
    #expect(found.curvature.blocks.count == 2 && wanted.curvature.blocks.count == 2)
    for (a, b) in zip(found.curvature.blocks, wanted.curvature.blocks) {
      // Terms of both signs, summed in another order.
      expectEqual(a.left.values.toArray().map(Double.init), b.left.values.toArray().map(Double.init), floor: 1e-6)
      expectEqual(a.right.values.toArray().map(Double.init), b.right.values.toArray().map(Double.init), floor: 1e-6)
    }
    expectEqual(found.diagonal.toArray().map(Double.init), wanted.diagonal.toArray().map(Double.init))
  }

  private func moments(_ x: [Double]) -> (mean: Double, variance: Double) {
    let mean = x.reduce(0, +) / Double(x.count)
    return (mean, x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count - 1))
  }

  /// Softmax regression, where ‖g_y‖² = ‖e_y − p‖²(‖x‖² + 1): ΣF has the exact mean, and only the tail scatters.
  @Test func scatterIsThatOfTheTail() throws {
    let (rows, classes, listed, repeats) = (7, 6, 3, 1000)
    let network = classifier(hidden: [], classes: classes)
    let batch = examples(rows)
    let hidden = network.forward(batch, recording: false, on: backend).hidden
    let p = backend.empty(rows, classes)
    backend.softmax(network.head(0).linear.forward(hidden, on: backend), into: p)
    var (mean, ofTop, ofSampled) = (0.0, 0.0, 0.0)
    for row in 0..<rows {
      let size = features(rows)[5 * row..<5 * row + 5].reduce(1) { $0 + Double($1) * Double($1) }
      let probabilities = p.rows(row..<row + 1).toArray().map(Double.init).sorted(by: >)
      let squares = probabilities.reduce(0) { $0 + $1 * $1 }
      let terms = probabilities.map { ($0, (1 - 2 * $0 + squares) * size) }
      func variance(_ terms: ArraySlice<(Double, Double)>) -> Double {
        let mass = terms.reduce(0) { $0 + $1.0 }
        let mean = terms.reduce(0) { $0 + $1.0 * $1.1 } / mass
        return terms.reduce(0) { $0 + $1.0 * ($1.1 - mean) * ($1.1 - mean) } / mass * mass * mass
      }
      mean += terms.reduce(0) { $0 + $1.0 * $1.1 }
      ofTop += variance(terms[listed...])
      ofSampled += variance(terms[...])
    }
    func sums(_ labels: FisherRecipe.Labels) throws -> [Double] {
      try (1...repeats).map {
        try estimate(network, [batch], labels, seed: UInt64($0)).reduce(0, +) * Double(rows)
      }
    }
    let (top, sampled) = (moments(try sums(.topK(count: listed))), moments(try sums(.sampled(count: 1))))
    #expect(abs(top.mean - mean) < 5 * (ofTop / Double(repeats)).squareRoot() + 1e-5 * mean)
    #expect(abs(top.variance / ofTop - 1) < 0.35, "\(top.variance) against \(ofTop)")
    #expect(abs(sampled.variance / ofSampled - 1) < 0.35, "\(sampled.variance) against \(ofSampled)")
    #expect(top.variance < sampled.variance)
  }

  /// Where sequences have many places the mean over seeds goes to the expectation as 1/√repeats: nothing of the
  /// products of two places is left in it.
  @Test(arguments: [FisherRecipe.Unit.sequence, .position]) func approachesTheExpectation(unit: FisherRecipe.Unit)
    throws
  {
    let model = try TinyLlama.model(on: backend)
    let batch = TinyLlama.batch([0, 1, 3])
    let exact = try estimate(model, [batch], .expected, unit)
    let norm = exact.reduce(0) { $0 + $1 * $1 }
    /// The relative error of a mean over seeds.
    func error(_ seeds: Range<UInt64>, _ labels: FisherRecipe.Labels = .topK(count: 3)) throws -> Double {
      var sums = [Double](repeating: 0, count: exact.count)
      for seed in seeds {
        for (i, value) in try estimate(model, [batch], labels, unit, seed: seed).enumerated() { sums[i] += value }
      }
      let distance = zip(sums, exact).reduce(0) {
        let difference = $1.0 / Double(seeds.count) - $1.1
        return $0 + difference * difference
      }
      return (distance / norm).squareRoot()
    }
    let few = try (0..<8).map { try error($0 * 4..<$0 * 4 + 4) }.reduce(0, +) / 8
    let many = try (0..<2).map { try error(1000 + $0 * 256..<1256 + $0 * 256) }.reduce(0, +) / 2
    #expect(many < few / 4, "4 estimates: \(few), 256 estimates: \(many)")
    // At most the larger of 1/(k + 1) and the tail's mass times the variance of one draw.
    func meanSquare(_ labels: FisherRecipe.Labels) throws -> Double {
      try (0..<200).map { (seed: UInt64) in
        let error = try error(seed..<seed + 1, labels)
        return error * error
      }.reduce(0, +) / 200
    }
    let (top, sampled) = (try meanSquare(.topK(count: 3)), try meanSquare(.sampled(count: 1)))
    #expect(top < 0.7 * sampled, "top_k: \(top), sampled: \(sampled)")
  }

  /// Draws, signs and turns belong to the sequence's number, not to the batch.
  @Test func batchesDoNotMatter() throws {
    let model = try TinyLlama.model(on: backend)
    for unit in [FisherRecipe.Unit.sequence, .position] {
      let once = try estimate(model, [TinyLlama.batch([0, 1, 2, 3])], .topK(count: 3), unit)
      let cut = try estimate(
        model, [TinyLlama.batch([0]), TinyLlama.batch([1, 2]), TinyLlama.batch([3])], .topK(count: 3), unit)
      let largest = once.max() ?? 0
      for (a, b) in zip(once, cut) { #expect(abs(a - b) <= 1e-4 * abs(a) + 1e-6 * largest) }
      let other = try estimate(model, [TinyLlama.batch([0, 1, 2, 3])], .topK(count: 3), unit, seed: 2)
      #expect(zip(once, other).contains { abs($0 - $1) > 0.01 * largest })
    }
  }

  /// A model that is sure leaves a tail without mass, and no number that is none.
  @Test func tailsWithoutMassAreZero() throws {
    let network = classifier()
    backend.scale(network.parameters.values, by: 1e3)
    for count in 1...4 {
      let values = try estimate(network, [examples(9)], .topK(count: count))
      #expect(values.allSatisfy { $0.isFinite && $0 >= 0 })
    }
  }
}
