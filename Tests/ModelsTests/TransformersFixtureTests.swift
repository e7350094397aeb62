// Logits, losses, every gradient and squared per-sequence gradients against transformers, on tiny random models.
// The numbers come from Tests/Fixtures/scripts/make_model_fixtures.py (float64).
import Curvature
import Foundation
import Layers
import Models
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

struct FixtureModel {
  static let names = ["llama-tied-gqa", "llama-untied", "gpt2-tied", "gpt2-untied-noprefix"]
  let model: LoadedModel
  let expected: JSON
  let sequences: [[Int32]]

  init(_ name: String, on backend: any Backend) throws {
    let folder = Fixtures.path("models/\(name)")
    model = try LoadedModel.load(folder, on: backend)
    let data = try #require(FileManager.default.contents(atPath: folder + "/expected.json"))
    expected = try JSON.parse(Array(data))
    sequences = try #require(expected["sequences"]?.array).map { $0.array?.compactMap { $0.int.map(Int32.init) } ?? [] }
  }
  var batch: Batch {
    Batch(
      tokens: sequences.flatMap { $0 }, targets: sequences.flatMap { Array($0.dropFirst()) + [-1] },
      lengths: sequences.map(\.count))
  }
}

func numbers(_ json: JSON?) -> [Double] {
  guard let json else { return [] }
  if let values = json.array ?? json["values"]?.array { return values.flatMap { numbers($0) } }
  return json.double.map { [$0] } ?? []
}

/// max |a − b| / max |b|.
func relativeError(_ found: [Float], _ wanted: [Double]) -> Double {
  guard found.count == wanted.count, !wanted.isEmpty else { return .infinity }
  let scale = wanted.map(abs).max() ?? 0
  let worst = zip(found, wanted).map { abs(Double($0) - $1) }.max() ?? 0
  return scale == 0 ? worst : worst / scale
}

@Suite struct TransformersFixtureTests {
  static let backends: [String] = ["cpu", "reference"]
  func backend(_ name: String) -> any Backend { name == "cpu" ? CPUBackend(threads: 2) : ReferenceBackend() }

  @Test(arguments: FixtureModel.names, backends) func logitsAndLosses(name: String, on kind: String) throws {
    let backend = backend(kind)
    let fixture = try FixtureModel(name, on: backend)
    let logits = fixture.model.transformer.logits(fixture.batch, on: backend).toArray()
    let wanted = numbers(fixture.expected["logits"])
    #expect(logits.count == wanted.count)
    let worst = zip(logits, wanted).map { abs(Double($0) - $1) }.max() ?? .infinity
    #expect(worst < 1e-4, "largest difference \(worst)")
    let losses = fixture.model.transformer.negativeLogLikelihoods(fixture.batch, on: backend)
    let sum = losses.reduce(0) { $0 + Double($1) }
    let reference = try #require(fixture.expected["nll_sum"]?.double)
    #expect(abs(sum - reference) < 1e-5 * Double(losses.count))
  }

  @Test(arguments: FixtureModel.names, backends) func everyGradient(name: String, on kind: String) throws {
    let backend = backend(kind)
    let fixture = try FixtureModel(name, on: backend)
    let store = fixture.model.transformer.parameters
    let accumulator = Accumulator(store, on: backend)
    let scored = fixture.batch.scored
    _ = fixture.model.transformer.backward(
      fixture.batch, seed: CrossEntropySeed(scale: 1 / Float(scored)), sink: accumulator, on: backend)
    let wanted = try #require(fixture.expected["gradients_of_nll_mean"]?.members)
    #expect(wanted.count == store.parameters.count)
    for member in wanted {
      let parameter = try #require(store[member.key] ?? store["transformer." + member.key], "\(member.key)")
      let error = relativeError(parameter.view(of: accumulator.gradient).toArray(), numbers(member.value))
      #expect(error < 1e-4, "\(member.key): \(error)")
    }
  }

  @Test(arguments: FixtureModel.names, backends) func squaredGradientsOfSequences(name: String, on kind: String) throws
  {
    let backend = backend(kind)
    let fixture = try FixtureModel(name, on: backend)
    let store = fixture.model.transformer.parameters
    let sink = PerSequenceMoments(store, .squares, on: backend)
    _ = fixture.model.transformer.backward(fixture.batch, seed: CrossEntropySeed(scale: 1), sink: sink, on: backend)
    for member in try #require(fixture.expected["squared_gradients_per_sequence_sum"]?.members) {
      let parameter = try #require(store[member.key] ?? store["transformer." + member.key], "\(member.key)")
      let error = relativeError(parameter.view(of: sink.sums).toArray(), numbers(member.value))
      #expect(error < 1e-4, "\(member.key): \(error)")
    }
  }
}
