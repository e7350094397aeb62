// The Fisher diagonal against what it must be: closed forms, divergences, and a loop over single sequences.
import Curvature
import Foundation
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct FisherTests {
  let backend = CPUBackend(threads: 2)
  let slow = ReferenceBackend()

  private func recipe(_ labels: FisherRecipe.Labels, _ unit: FisherRecipe.Unit = .sequence) -> FisherRecipe {
    FisherRecipe(labels: labels, unit: unit, examples: 1000)
  }
  private func estimate(_ network: any Network, _ batches: [Batch], _ recipe: FisherRecipe, seed: UInt64 = 1) throws
    -> FisherEstimate
  {
    try DiagonalFisher.estimate(network, over: batches, recipe: recipe, random: RandomStream(seed: seed), on: backend)
  }

  @Test(arguments: [true, false]) func sinkEqualsLoopOverSingleSequences(tied: Bool) throws {
    let model = try TinyLlama.model(tied: tied, on: backend)
    let all = try estimate(model, [TinyLlama.batch([0, 1, 2, 3])], recipe(.observed))
    var sum = [Double](repeating: 0, count: model.parameters.count)
    for index in TinyLlama.sequences.indices {
      let accumulator = Accumulator(model.parameters, on: backend)
      _ = model.backward(TinyLlama.batch([index]), seed: CrossEntropySeed(scale: 1), sink: accumulator, on: backend)
      for (i, g) in accumulator.gradient.toArray().enumerated() { sum[i] += Double(g) * Double(g) }
    }
    let scored = Double(TinyLlama.batch([0, 1, 2, 3]).scored)
    let largest = sum.max() ?? 0
    for (found, wanted) in zip(all.values.toArray(), sum) {
      #expect(abs(Double(found) * scored - wanted) <= 1e-5 * wanted + 1e-9 * largest)
    }
  }

  @Test func batchOrderAndSizeDoNotMatter() throws {
    let model = try TinyLlama.model(on: backend)
    for labels in [FisherRecipe.Labels.observed, .expected] {
      let once = try estimate(model, [TinyLlama.batch([0, 1, 2, 3])], recipe(labels)).values.toArray()
      let cut = try estimate(
        model, [TinyLlama.batch([3, 1]), TinyLlama.batch([2]), TinyLlama.batch([0])], recipe(labels)
      ).values.toArray()
      for (a, b) in zip(once, cut) { #expect(abs(a - b) <= 2e-5 * abs(a) + 1e-9) }
    }
    // Drawn labels belong to the sequence's number, not to the batch.
    let once = try estimate(model, [TinyLlama.batch([0, 1, 2, 3])], recipe(.sampled(count: 2))).values.toArray()
    let cut = try estimate(
      model, [TinyLlama.batch([0]), TinyLlama.batch([1, 2]), TinyLlama.batch([3])], recipe(.sampled(count: 2))
    ).values.toArray()
    for (a, b) in zip(once, cut) { #expect(abs(a - b) <= 2e-5 * abs(a) + 1e-9) }
  }

  @Test func frozenParametersHaveNone() throws {
    let model = try TinyLlama.model(on: backend)
    #expect(model.parameters.freeze(["model.layers.0.*", "no.such.name"]) == ["no.such.name"])
    let f = try estimate(model, [TinyLlama.batch([0, 3])], recipe(.observed))
    for parameter in model.parameters.parameters {
      let values = parameter.view(of: f.values).toArray()
      #expect(values.allSatisfy { $0 >= 0 })
      #expect(values.contains { $0 > 0 } == parameter.isTrainable, "\(parameter.name)")
    }
  }

  /// KL(p_θ ‖ p_{θ±εe}) ≈ ½ε²F, per scored token, for the expected Fisher.
  @Test func isTheCurvatureOfTheDivergence() throws {
    let model = try TinyLlama.model(on: slow)
    let batch = TinyLlama.batch([0, 1, 3])
    let f = try DiagonalFisher.estimate(
      model, over: [batch], recipe: recipe(.expected), random: RandomStream(seed: 1), on: slow
    ).values.toArray()
    let values = model.parameters.values.buffer
    func logProbabilities() -> [[Double]] {
      let logits = model.logits(batch, on: slow)
      return (0..<logits.rows).filter { batch.targets[$0] >= 0 }.map { row in
        let x = logits.rows(row..<row + 1).toArray().map(Double.init)
        let top = x.max() ?? 0
        let norm = top + log(x.reduce(0) { $0 + exp($1 - top) })
        return x.map { $0 - norm }
      }
    }
    let base = logProbabilities()
    func divergence() -> Double {
      zip(base, logProbabilities()).reduce(0) { sum, pair in
        sum + zip(pair.0, pair.1).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
      } / Double(base.count)
    }
    var random = RandomStream(seed: 3)
    let mean = f.reduce(0) { $0 + Double($1) } / Double(f.count)
    var checked = 0
    while checked < 24 {
      let i = random.integer(below: f.count)
      guard Double(f[i]) > 0.2 * mean else { continue }
      checked += 1
      let original = values[i]
      // Large enough for float32 logits, small enough for the quadratic term to rule; odd terms cancel.
      let epsilon = Float(0.02 / Double(f[i]).squareRoot())
      values[i] = original + epsilon
      let (up, above) = (divergence(), Double(values[i] - original))
      values[i] = original - epsilon
      let (down, below) = (divergence(), Double(original - values[i]))
      values[i] = original
      let found = up / (above * above) + down / (below * below)
      #expect(abs(found - Double(f[i])) < 0.03 * Double(f[i]), "coordinate \(i): \(found) against \(f[i])")
    }
  }

  /// Softmax regression: F of weight (c, i) is the mean of x_i² p_c (1 − p_c).
  @Test func softmaxRegressionHasAClosedForm() throws {
    let (n, inputs, classes) = (7, 5, 4)
    let model = MLP(
      MLPConfiguration(inputs: inputs, hiddenSizes: [], classes: [classes]), random: RandomStream(seed: 2), on: backend)
    var random = RandomStream(seed: 9)
    let x = (0..<n * inputs).map { _ in Float(random.normal()) }
    let batch = Batch(features: backend.tensor(x, n, inputs), labels: (0..<Int32(n)).map { $0 % Int32(classes) })
    let hidden = model.forward(batch, recording: false, on: backend).hidden
    let logits = model.head(0).linear.forward(hidden, on: backend)
    let p = backend.empty(n, classes)
    backend.softmax(logits, into: p)
    let probabilities = p.toArray().map(Double.init)
    let exact = try estimate(model, [batch], recipe(.expected))
    let weight = try #require(model.parameters["heads.0.weight"])
    let found = weight.view(of: exact.values).toArray()
    for c in 0..<classes {
      for i in 0..<inputs {
        let wanted =
          (0..<n).reduce(0.0) {
            let pc = probabilities[$1 * classes + c]
            return $0 + Double(x[$1 * inputs + i]) * Double(x[$1 * inputs + i]) * pc * (1 - pc)
          } / Double(n)
        #expect(abs(Double(found[c * inputs + i]) - wanted) < 1e-5 * wanted + 1e-8)
      }
    }
    // Rows are sequences of one position: both units agree.
    let byPosition = try estimate(model, [batch], recipe(.expected, .position)).values.toArray()
    for (a, b) in zip(exact.values.toArray(), byPosition) { #expect(abs(a - b) <= 1e-5 * abs(a) + 1e-8) }
  }

  @Test func sampledApproachesExpected() throws {
    let model = try TinyLlama.model(on: backend)
    let exact = try estimate(model, [TinyLlama.batch([0, 1, 3])], recipe(.expected)).values.toArray().map(Double.init)
    func error(_ count: Int, _ seed: UInt64) throws -> Double {
      let found = try estimate(model, [TinyLlama.batch([0, 1, 3])], recipe(.sampled(count: count)), seed: seed).values
        .toArray()
      let distance = zip(found, exact).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
      return (distance / exact.reduce(0) { $0 + $1 * $1 }).squareRoot()
    }
    // The error falls as 1/√count: 256 times the draws, a sixteenth of the error, within sampling noise.
    let few = try (1...8).map { try error(4, UInt64($0)) }.reduce(0, +) / 8
    let many = try (1...2).map { try error(1024, UInt64($0)) }.reduce(0, +) / 2
    #expect(many < few / 8 && many > few / 32, "4 draws: \(few), 1024 draws: \(many)")
  }

  @Test func expectedIsRefusedWithItsCost() throws {
    let model = try TinyLlama.model(on: backend)
    let long = Batch(
      tokens: [Int32](repeating: 1, count: 16 * 100), targets: [Int32](repeating: 2, count: 1600),
      lengths: [Int](repeating: 16, count: 100))
    _ = try estimate(model, [Batch(tokens: [1], targets: [2], lengths: [1])], recipe(.expected))
    #expect(long.segments.longest * 11 < FisherPass.expectedPassLimit)
    let wide = MLP(
      MLPConfiguration(inputs: 2, hiddenSizes: [], classes: [FisherPass.expectedPassLimit + 1]),
      random: RandomStream(seed: 1), on: backend)
    #expect(throws: FisherError.self) {
      try estimate(wide, [Batch(features: backend.tensor([1, 2], 1, 2), labels: [0])], recipe(.expected))
    }
  }

  /// By position: what every place adds to a weight's gradient, squared; tied uses are summed first.
  @Test func positionUnitMatchesItsDefinition() throws {
    let model = try TinyLlama.model(on: backend)
    let batch = TinyLlama.batch([0, 3])
    let found = try estimate(model, [batch], recipe(.observed, .position)).values.toArray().map {
      Double($0) * Double(batch.scored)
    }
    // One place at a time: the same backward pass, every product with the rows of the other places cleared.
    let recorder = Recorder()
    _ = model.backward(batch, seed: CrossEntropySeed(scale: 1), sink: recorder, on: backend)
    var wanted = [Double](repeating: 0, count: found.count)
    for place in 0..<Int32(batch.count) {
      var gradient = [Double](repeating: 0, count: found.count)
      for (range, part) in recorder.parts(place) { for (i, g) in zip(range, part) { gradient[i] += g } }
      for i in gradient.indices { wanted[i] += gradient[i] * gradient[i] }
    }
    let largest = wanted.max() ?? 0
    for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 1e-4 * b + 1e-7 * largest) }
  }

  /// Keeps every product, so that a test can ask what one place contributed.
  private final class Recorder: GradientSink {
    let needsWholeSegments = false
    private var contributions: [(place: Int32, range: Range<Int>, values: [Double])] = []
    func parts(_ place: Int32) -> [(Range<Int>, [Double])] {
      contributions.filter { $0.place == place }.map { ($0.range, $0.values) }
    }
    func begin(_ batch: Batch) {}
    private func row(_ x: Tensor, _ r: Int) -> [Double] { x.rows(r..<r + 1).toArray().map(Double.init) }
    func linear(_ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap) {
      for r in 0..<input.rows {
        let (x, dy) = (row(input, r), row(outputGradient, r))
        let outer =
          layout == .outputByInput ? dy.flatMap { d in x.map { d * $0 } } : x.flatMap { v in dy.map { v * $0 } }
        contributions.append((rows.places?[r] ?? Int32(r), weight.range, outer))
      }
    }
    func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
      for (r, token) in tokens.enumerated() {
        let first = table.range.lowerBound + Int(token) * outputGradient.columns
        contributions.append((Int32(r), first..<first + outputGradient.columns, row(outputGradient, r)))
      }
    }
    func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
      for r in 0..<terms.rows { contributions.append((Int32(r), vector.range, row(terms, r))) }
    }
  }

  /// Looking ends when the sum scatters little enough, not before four batches, and never without a tolerance.
  @Test func toleranceStopsEarly() throws {
    let model = try TinyLlama.model(on: backend)
    let batches = (0..<60).map { TinyLlama.batch([[0, 3, 1, 2][$0 % 4]]) }
    func seen(_ tolerance: Double) throws -> Int {
      try DiagonalFisher.estimate(
        model, over: batches,
        recipe: FisherRecipe(labels: .observed, unit: .sequence, examples: 1000, tolerance: tolerance),
        random: RandomStream(seed: 1), on: backend
      ).sequences
    }
    let (loose, middle, tight) = (try seen(0.9), try seen(0.15), try seen(1e-6))
    #expect(loose == 4 && middle > 4 && middle < 60 && tight == 60)
    #expect(try seen(0) == 60)
  }

  @Test func rankCorrelationsByHand() throws {
    #expect(RankCorrelation.ranks([3, 1, 3, 2]) == [3.5, 1, 3.5, 2])
    #expect(RankCorrelation.ranks([7, 7, 7]) == [2, 2, 2])
    let cases: [(x: [Double], y: [Double], wanted: Double)] = [
      ([1, 2, 3, 4], [10, 200, 201, 1e9], 1), ([1, 2, 3], [0, -1, -2], -1),
      // Without ties 1 − 6Σd²/(n(n² − 1)), here Σd² = 4.
      ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
      // Ranks 1, 2½, 2½, 4 against 1 … 4: 4½/√(4½ · 5).
      ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / 22.5.squareRoot()),
      // Ranks 1½, 1½, 3½, 3½ against 1, 3, 3, 3: 2/√(4 · 3).
      ([1, 1, 2, 2], [0, 5, 5, 5], 2 / 12.0.squareRoot()),
    ]
    for (x, y, wanted) in cases {
      let found = try #require(RankCorrelation.spearman(x, y))
      #expect(abs(found - wanted) < 1e-12, "\(x) against \(y): \(found)")
    }
    #expect(RankCorrelation.spearman([1, 2], [3, 3]) == nil && RankCorrelation.spearman([], []) == nil)
  }

  /// Looking ends when halves agree on the order of the diagonal, at 4, 8, 16 … batches; either rule ends it.
  @Test func rankAgreementStopsEarly() throws {
    let model = try TinyLlama.model(on: backend)
    // Even batches hold other sequences than odd ones: their orders never agree in full.
    let batches = (0..<60).map { TinyLlama.batch([[0, 3, 1, 2][$0 % 4]]) }
    func seen(
      _ agreement: Double, tolerance: Double = 0, labels: FisherRecipe.Labels = .observed, _ network: any Network,
      _ batches: [Batch]
    ) throws -> Int {
      try DiagonalFisher.estimate(
        network, over: batches,
        recipe: FisherRecipe(
          labels: labels, unit: .sequence, examples: 1000, tolerance: tolerance, rankAgreement: agreement),
        random: RandomStream(seed: 1), on: backend
      ).sequences
    }
    #expect(try seen(0.05, model, batches) == 4 && seen(0.99999, model, batches) == 60)
    #expect(try seen(0.05, tolerance: 1e-6, model, batches) == 4)
    #expect(try seen(0.99999, tolerance: 0.9, model, batches) == 4)
    // The higher the wanted agreement, the later.
    let ends = try [0.5, 0.7, 0.8, 0.9, 0.95, 0.98].map {
      try seen($0, labels: .sampled(count: 1), model, batches)
    }
    #expect(ends == ends.sorted() && ends.allSatisfy([4, 8, 16, 32, 60].contains), "\(ends)")
    // Equal halves agree; of many coordinates some are chosen.
    #expect(try seen(0.999, model, (0..<60).map { _ in TinyLlama.batch([0]) }) == 4)
    let wide = MLP(
      MLPConfiguration(inputs: 300, hiddenSizes: [300], classes: [3]), random: RandomStream(seed: 2), on: backend)
    var random = RandomStream(seed: 4)
    let row = backend.tensor((0..<300).map { _ in Float(random.normal()) }, 1, 300)
    #expect(try seen(0.999, wide, (0..<20).map { _ in Batch(features: row, labels: [1]) }) == 4)
  }

  // MARK: Magnitudes

  /// ‖z‖² of all scored places.
  private struct SquaredNorm: HeadSeed {
    mutating func seed(
      _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
    ) {
      backend.fill(losses, 0)
      backend.scale(logits, by: 2)
    }
  }

  /// Σ over sequences of |g|, for the loss and for the squared norm of the logits.
  @Test(arguments: [true, false]) func magnitudesEqualLoopOverSingleSequences(tied: Bool) throws {
    let model = try TinyLlama.model(tied: tied, on: backend)
    func check(_ seed: some HeadSeed) {
      let sink = PerSequenceMoments(model.parameters, .magnitudes, on: backend)
      _ = model.backward(TinyLlama.batch([0, 1, 2, 3]), seed: seed, sink: sink, on: backend)
      let zeros = [Double](repeating: 0, count: model.parameters.count)
      var (sums, whole) = (zeros, zeros)
      for index in TinyLlama.sequences.indices {
        let accumulator = Accumulator(model.parameters, on: backend)
        _ = model.backward(TinyLlama.batch([index]), seed: seed, sink: accumulator, on: backend)
        for (i, g) in accumulator.gradient.toArray().enumerated() {
          sums[i] += abs(Double(g))
          whole[i] += Double(g)
        }
      }
      let largest = sums.max() ?? 0
      for (found, wanted) in zip(sink.sums.toArray(), sums) {
        #expect(abs(Double(found) - wanted) <= 1e-5 * wanted + 1e-6 * largest)
      }
      // The magnitude of the batch's gradient is another quantity.
      let (apart, together) = (sums.reduce(0, +), whole.reduce(0) { $0 + abs($1) })
      #expect(together < 0.99 * apart)
    }
    check(CrossEntropySeed(scale: 1))
    check(SquaredNorm())
  }

  // MARK: What is not used

  /// Rows of an embedding whose token does not occur have no information, nor has one behind which nothing is scored.
  @Test(arguments: [FisherRecipe.Unit.sequence, .position, .batch]) func absentTokensHaveNone(
    unit: FisherRecipe.Unit
  ) throws {
    let model = try TinyLlama.model(tied: false, on: backend)
    let (table, head) = (
      try #require(model.parameters["model.embed_tokens.weight"]), try #require(model.parameters["lm_head.weight"])
    )
    for labels in [FisherRecipe.Labels.observed, .sampled(count: 2), .topK(count: 2)] {
      let f = try estimate(model, [TinyLlama.batch([0, 1])], recipe(labels, unit)).values
      for token in 0..<11 {
        let row = table.view(of: f).rows(token..<token + 1).toArray()
        // Token 5 stands at the end alone, where there is no target.
        #expect(row.contains { $0 > 0 } == (token < 5), "token \(token)")
        #expect(row.allSatisfy { $0 >= 0 })
        // Every class has a probability, so every row of the head matters.
        let answer = head.view(of: f).rows(token..<token + 1).toArray()
        if labels == .observed { #expect(answer.contains { $0 > 0 }, "class \(token)") }
      }
    }
  }

  /// A head that did not answer has no information.
  @Test(arguments: [FisherRecipe.Unit.sequence, .position, .batch]) func silentHeadsHaveNone(
    unit: FisherRecipe.Unit
  ) throws {
    let model = MLP(
      MLPConfiguration(inputs: 3, hiddenSizes: [4], classes: [2, 3, 2]), random: RandomStream(seed: 6), on: backend)
    var random = RandomStream(seed: 7)
    let x = (0..<15).map { _ in Float(random.normal()) }
    for labels in [FisherRecipe.Labels.observed, .expected] {
      let batch = Batch(features: backend.tensor(x, 5, 3), labels: [0, 1, 2, 1, 0], head: 1)
      let f = try estimate(model, [batch], recipe(labels, unit)).values
      for parameter in model.parameters.parameters {
        let values = parameter.view(of: f).toArray()
        let isSilent = parameter.name.hasPrefix("heads.0.") || parameter.name.hasPrefix("heads.2.")
        #expect(values.contains { $0 != 0 } == !isSilent, "\(parameter.name)")
      }
    }
  }

  // MARK: Stop rules by hand

  /// Two classes at ½ each: a row x has F = ¼x² for both weights of an input and ¼ for both biases.
  private func undecided(inputs: Int) -> MLP {
    let model = MLP(
      MLPConfiguration(inputs: inputs, hiddenSizes: [], classes: [2]), random: RandomStream(seed: 1), on: backend)
    model.parameters.values.assign([Float](repeating: 0, count: model.parameters.count))
    return model
  }

  /// Traces 1, 2 … k scatter by k(k + 1)/12 around (k + 1)/2: a relative standard error of 1/√(3(k + 1)).
  @Test func toleranceIsTheRelativeErrorOfTheTrace() throws {
    let model = undecided(inputs: 1)
    // ½(x² + 1) = t; the third batch has its row twice: what counts is the trace of a scored row.
    let batches = (1...10).map { trace -> Batch in
      let rows = trace == 3 ? 2 : 1
      let x = Float(2 * trace - 1).squareRoot()
      return Batch(
        features: backend.tensor([Float](repeating: x, count: rows), rows, 1),
        labels: [Int32](repeating: 1, count: rows))
    }
    func seen(_ tolerance: Double) throws -> Int {
      let recipe = FisherRecipe(labels: .observed, unit: .sequence, examples: 1000, tolerance: tolerance)
      return try estimate(model, batches, recipe).sequences - 1
    }
    for count in 4...9 {
      let error = 1 / (3 * Double(count + 1)).squareRoot()
      #expect(try seen(1.001 * error) == count)
      #expect(try seen(0.999 * error) == count + 1)
    }
    // Three batches have 0.29, but say too little.
    #expect(try seen(0.9) == 4)
  }

  /// Even and odd batches against each other, coordinates that are 0 in both left out: ρ = 1 − 6Σd²/(n(n² − 1)).
  @Test func agreementIsTheRankCorrelationOfHalves() throws {
    let model = undecided(inputs: 5)
    func row(_ x: [Float]) -> Batch { Batch(features: backend.tensor(x + [0], 1, 5), labels: [0]) }
    let (even, early, late) = (row([2, 3, 4, 5]), row([3, 2, 5, 4]), row([1, 3, 2, 1]))
    let batches = [even, early, even, early] + [even, late, even, late, even, late, even, late]
    // Biases rank first in both halves. After four batches 8, 18, 32, 50 stand against 18, 8, 50, 32: Σd² = 4 of five,
    // and each of them twice changes nothing. After eight 16, 36, 64, 100 stand against 20, 26, 58, 34: Σd² = 2.
    func seen(_ agreement: Double) throws -> Int {
      let recipe = FisherRecipe(labels: .observed, unit: .sequence, examples: 1000, rankAgreement: agreement)
      return try estimate(model, batches, recipe).sequences
    }
    for (agreement, last) in [(0.799, 4), (0.801, 8), (0.899, 8), (0.901, 12)] {
      #expect(try seen(agreement) == last, "ρ ≥ \(agreement)")
    }
  }
}
