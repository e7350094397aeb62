// Small trained checkpoints of other people against float64 reference numbers; skipped where they are absent.
import Foundation
import Layers
import Models
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.enabled(if: SharedData.isPresent, "the shared models are absent")) struct SharedReferenceTests {
  static let names = ["stories260k", "stories260k-bf16-sharded", "babyllama-105", "names-en", "names-tr", "sort-abc"]
  let backend = CPUBackend(threads: 2)

  private func open(_ name: String) throws -> (LoadedModel, JSON) {
    let folder = try #require(SharedData.path("models/\(name)"))
    let data = try #require(FileManager.default.contents(atPath: folder + "/reference.json"))
    return (try LoadedModel.load(folder, on: backend), try JSON.parse(Array(data)))
  }
  private func batch(_ ids: [Int32]) -> Batch {
    Batch(tokens: ids, targets: Array(ids.dropFirst()) + [-1], lengths: [ids.count])
  }
  private func ids(_ json: JSON) -> [Int32] { json["ids"]?.array?.compactMap { $0.int.map(Int32.init) } ?? [] }

  @Test(arguments: names) func lossesOfEveryToken(name: String) throws {
    let (model, reference) = try open(name)
    let texts = try #require(reference["texts"]?.array)
    for text in texts {
      let losses = model.transformer.negativeLogLikelihoods(batch(ids(text)), on: backend)
      let wanted = numbers(text["nll"])
      #expect(losses.count == wanted.count)
      // A loss moves with its logits, which are within 1e-4.
      for (found, value) in zip(losses, wanted) { #expect(abs(Double(found) - value) < 1e-4) }
      let mean = losses.reduce(0) { $0 + Double($1) } / Double(losses.count)
      let wantedMean = try #require(text["mean_nll"]?.double)
      #expect(abs(mean - wantedMean) < 1e-5)
    }
  }

  @Test(arguments: names) func lastLogitsAndGreedyText(name: String) throws {
    let (model, reference) = try open(name)
    let prompt = try #require(reference["prompt"])
    let start = ids(prompt)
    let logits = model.transformer.logits(batch(start), on: backend)
    let last = logits.rows(logits.rows - 1..<logits.rows).toArray()
    for (found, wanted) in zip(last, numbers(prompt["last_logits"])) { #expect(abs(Double(found) - wanted) < 1e-4) }
    var tokens = start
    for wanted in numbers(prompt["greedy_ids"]) where tokens.count < model.configuration.contextLength {
      let logits = model.transformer.logits(batch(tokens), on: backend)
      let row = logits.rows(logits.rows - 1..<logits.rows).toArray()
      let best = row.indices.max { row[$0] < row[$1] } ?? -1
      #expect(best == Int(wanted))
      tokens.append(Int32(best))
    }
  }

  /// Directions: the weights themselves, and cos(0), cos(1), … over the flattened tensor.
  @Test(arguments: names) func directionalDerivatives(name: String) throws {
    let (model, reference) = try open(name)
    let text = try #require(reference["texts"]?[0])
    let accumulator = Accumulator(model.transformer.parameters, on: backend)
    let batch = batch(ids(text))
    _ = model.transformer.backward(
      batch, seed: CrossEntropySeed(scale: 1 / Float(batch.scored)), sink: accumulator, on: backend)
    let tensors = try #require(reference["gradcheck"]?["tensors"]?.members)
    #expect(!tensors.isEmpty)
    for member in tensors {
      let parameter = try #require(model.transformer.parameters[member.key], "\(member.key)")
      let gradient = parameter.view(of: accumulator.gradient).toArray().map(Double.init)
      let weights = parameter.value.toArray().map(Double.init)
      let directions = ["w": weights, "c": weights.indices.map { cos(Double($0)) }]
      for (key, direction) in directions {
        let found = zip(gradient, direction).reduce(0) { $0 + $1.0 * $1.1 }
        let wanted = try #require(member.value[key]?.double)
        let norms = sqrt(gradient.reduce(0) { $0 + $1 * $1 }) * sqrt(direction.reduce(0) { $0 + $1 * $1 })
        #expect(abs(found - wanted) <= 1e-3 * abs(wanted) + 1e-5 * norms, "\(member.key) along \(key)")
      }
    }
  }

  @Test func logitsOfTheSourceProject() throws {
    let (model, _) = try open("sort-abc")
    let path = try #require(SharedData.path("models/sort-abc/external_logits.json"))
    let data = try #require(FileManager.default.contents(atPath: path))
    let json = try JSON.parse(Array(data))
    for (row, logits) in zip(json["ids"]?.array ?? [], json["logits"]?.array ?? []) {
      let tokens = numbers(row).map { Int32($0) }
      let found = model.transformer.logits(batch(tokens), on: backend).toArray()
      for (a, b) in zip(found, numbers(logits)) { #expect(abs(Double(a) - b) < 1e-4) }
    }
  }
}
