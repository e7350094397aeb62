// Expected diagonals, Kronecker factors and squared gradients against BackPACK, on a tiny classifier.
// The numbers come from Tests/Fixtures/scripts/curvature_fixtures.py (float64).
import Curvature
import Foundation
import Layers
import Models
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

/// The classifier of Tests/Fixtures/curvature/mlp.json and what BackPACK found there.
///
/// Its rows stand in sequences of several positions, which a perceptron does not mix.
private struct BackPACKFixture {
  let model: MLP
  let found: JSON
  let sequences: Segments
  private let features: [Float]
  private let labels: [Int32]
  private let backend: any Backend

  init(on backend: any Backend) throws {
    self.backend = backend
    let data = try #require(FileManager.default.contents(atPath: Fixtures.path("curvature/mlp.json")))
    let json = try JSON.parse(Array(data))
    let inputs = try #require(json["inputs"]?.int)
    let hidden = try #require(json["hidden"]?.int)
    let classes = try #require(json["classes"]?.int)
    found = json
    sequences = Segments(lengths: integers(json["lengths"]))
    features = numbers(json["features"]).map { Float($0) }
    labels = integers(json["labels"]).map { Int32($0) }
    model = MLP(
      MLPConfiguration(inputs: inputs, hiddenSizes: [hidden], classes: [classes]), random: RandomStream(seed: 1),
      on: backend)
    for parameter in model.parameters.parameters {
      parameter.value.assign(numbers(json["parameters"]?[parameter.name]).map { Float($0) })
    }
  }

  /// Some sequences, with other labels for the rows of all of them where given.
  func batch(_ chosen: [Int], labels given: [Int32]? = nil) -> Batch {
    let (targets, width) = (given ?? labels, model.configuration.inputs)
    let rows: [Int] = chosen.flatMap { Array(sequences[$0]) }
    // A perceptron reads the features alone; with the tokens come the sequences' lengths.
    var batch = Batch(
      tokens: rows.map { Int32($0) }, targets: rows.map { targets[$0] }, lengths: chosen.map { sequences[$0].count })
    let values: [Float] = rows.flatMap { Array(features[$0 * width..<($0 + 1) * width]) }
    batch.features = backend.tensor(values, rows.count, width)
    return batch
  }
  var whole: Batch { batch(Array(0..<sequences.count)) }
}

private func numbers(_ json: JSON?) -> [Double] { (json?.array ?? []).compactMap(\.double) }
private func integers(_ json: JSON?) -> [Int] { (json?.array ?? []).compactMap(\.int) }

@Suite struct BackPACKTests {
  static let backends = ["cpu", "reference"]
  private func backend(_ name: String) -> any Backend { name == "cpu" ? CPUBackend(threads: 2) : ReferenceBackend() }

  /// Where signs cancel, the error of a sum follows its largest terms.
  private static let tolerance = Tolerance(relative: 1e-5, ofLargest: 1e-6)

  private func expect(_ found: [Float], times scale: Double = 1, equals wanted: [Double], _ name: String) {
    #expect(found.count == wanted.count && !wanted.isEmpty, "\(name): \(found.count) numbers for \(wanted.count)")
    let largest = wanted.map { abs($0) }.max() ?? 0
    for (value, reference) in zip(found, wanted) {
      let scaled = Double(value) * scale
      #expect(Self.tolerance.accepts(scaled, reference, largest: largest), "\(name): \(scaled), BackPACK \(reference)")
    }
  }
  /// Compares a vector in the parameters' layout with one list of numbers a parameter.
  private func expect(
    _ vector: Tensor, times scale: Double = 1, equals wanted: JSON?, of store: ParameterStore
  ) {
    for parameter in store.parameters {
      expect(
        parameter.view(of: vector).toArray(), times: scale, equals: numbers(wanted?[parameter.name]), parameter.name)
    }
  }
  private func estimate(
    _ fixture: BackPACKFixture, _ batches: [Batch], _ labels: FisherRecipe.Labels, _ unit: FisherRecipe.Unit,
    on backend: any Backend
  ) throws -> Tensor {
    try DiagonalFisher.estimate(
      fixture.model, over: batches, recipe: FisherRecipe(labels: labels, unit: unit, examples: 100),
      random: RandomStream(seed: 1), on: backend
    ).values
  }
  private func factors(
    _ fixture: BackPACKFixture, _ batches: [Batch], _ labels: FisherRecipe.Labels, on backend: any Backend
  ) throws -> (curvature: KroneckerCurvature, diagonal: Tensor) {
    let sink = KroneckerFactors(fixture.model.parameters, on: backend)
    let seen = try FisherPass.run(
      fixture.model, over: batches, labels: labels, examples: 100, random: RandomStream(seed: 1), into: sink,
      on: backend)
    return try sink.finish(seen)
  }
  /// A weight [O, I] has the output gradients' factor at its left and the inputs' at its right.
  private func expect(_ curvature: KroneckerCurvature, equals wanted: JSON?) throws {
    #expect(curvature.blocks.map(\.parameter.name).sorted() == ["heads.0.weight", "layers.0.weight"])
    for block in curvature.blocks {
      let name = block.parameter.name
      let both = try #require(wanted?[name], "\(name)")
      expect(block.left.values.toArray(), equals: numbers(both["output"]), name + ", G")
      expect(block.right.values.toArray(), equals: numbers(both["input"]), name + ", A")
    }
  }

  /// DiagGGNExact of the mean loss is (1/n) Σ diag JᵀHJ over all n rows, and Retain divides by its scored tokens: n, too.
  /// For softmax the Gauss–Newton matrix is the expected Fisher; positions do not mix, so both units have the same one.
  @Test(arguments: [FisherRecipe.Unit.sequence, .position], backends)
  func expectedDiagonal(unit: FisherRecipe.Unit, on kind: String) throws {
    let backend = backend(kind)
    let fixture = try BackPACKFixture(on: backend)
    let values = try estimate(fixture, [fixture.whole], .expected, unit, on: backend)
    expect(values, equals: fixture.found["expected_diagonal_of_mean"], of: fixture.model.parameters)
  }

  /// KFLR of the mean loss has (1/n) Σ x xᵀ and, the mean's 1/n all in this factor, (1/n) Σ Σ_y p(y) d dᵀ: Retain's A a
  /// row and G a scored token. Biases have no factors here, but the diagonal Fisher.
  @Test(arguments: backends) func expectedFactors(on kind: String) throws {
    let backend = backend(kind)
    let fixture = try BackPACKFixture(on: backend)
    let (curvature, diagonal) = try factors(fixture, [fixture.whole], .expected, on: backend)
    try expect(curvature, equals: fixture.found["expected_factors_of_mean"])
    for parameter in fixture.model.parameters.parameters {
      let values = parameter.view(of: diagonal).toArray()
      if parameter.shape.count == 2 {
        #expect(values.allSatisfy { $0 == 0 }, "\(parameter.name)")
      } else {
        let wanted = numbers(fixture.found["expected_diagonal_of_mean"]?[parameter.name])
        expect(values, equals: wanted, parameter.name)
      }
    }
  }

  /// KFAC of the mean loss averages over n rows and m draws. Given its draws as observed labels, every draw is a batch of
  /// its own, so Retain counts n·m scored tokens.
  @Test(arguments: backends) func factorsOfDrawnLabels(on kind: String) throws {
    let backend = backend(kind)
    let fixture = try BackPACKFixture(on: backend)
    let draws = try #require(fixture.found["drawn_labels"]?.array)
    #expect(draws.count > 1)
    let batches = draws.map { draw in
      fixture.batch(Array(0..<fixture.sequences.count), labels: integers(draw).map { Int32($0) })
    }
    let (curvature, _) = try factors(fixture, batches, .observed, on: backend)
    try expect(curvature, equals: fixture.found["drawn_factors_of_mean"])
  }

  /// SumGradSquared of the summed loss is Σ g² over its samples, not divided: rows of [n, I] or sequences of [s, T, I].
  /// Retain divides either by scored tokens, which is taken back here.
  @Test(arguments: [FisherRecipe.Unit.sequence, .position], backends)
  func observedSquares(unit: FisherRecipe.Unit, on kind: String) throws {
    let backend = backend(kind)
    let fixture = try BackPACKFixture(on: backend)
    let (batch, store) = (fixture.whole, fixture.model.parameters)
    let values = try estimate(fixture, [batch], .observed, unit, on: backend)
    let key = unit == .sequence ? "squares_per_sequence_sum" : "squares_per_position_sum"
    expect(values, times: Double(batch.scored), equals: fixture.found[key], of: store)
  }

  /// BatchGrad's rows, averaged over each batch's own, squared, averaged over batches: unit batch divides by nothing else.
  @Test(arguments: backends) func observedSquaresOfBatchMeans(on kind: String) throws {
    let backend = backend(kind)
    let fixture = try BackPACKFixture(on: backend)
    let groups = try #require(fixture.found["sequences_of_batches"]?.array)
    let batches = groups.map { fixture.batch(integers($0)) }
    let values = try estimate(fixture, batches, .observed, .batch, on: backend)
    expect(values, equals: fixture.found["squared_batch_means_mean"], of: fixture.model.parameters)
  }
}
