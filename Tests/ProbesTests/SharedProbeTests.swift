// Probes on real models against losses computed elsewhere in float64, and on the published probe files.
import Corpus
import Foundation
import Layers
import Models
import Probes
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.serialized) struct SharedProbeTests {
  let backend = CPUBackend(threads: 2)

  @Test(
    .enabled(if: SharedData.path("models/stories260k") != nil),
    arguments: ["stories260k", "babyllama-105", "stories260k-bf16-sharded"], ["reference", "cpu"])
  func textsHaveTheirReferenceLosses(name: String, on kind: String) throws {
    // The reference sums in double; single products round logits up to 20 in size in steps of 2e-6.
    let backend: any Backend = kind == "cpu" ? backend : ReferenceBackend()
    let tolerance = kind == "cpu" ? 4e-5 : 1e-5
    guard let folder = SharedData.path("models/\(name)") else { return print("\(name) is absent: skipped") }
    let model = try LoadedModel.load(folder, on: backend)
    let tokenizer = try #require(model.tokenizer)
    let data = try #require(FileManager.default.contents(atPath: folder + "/reference.json"))
    for reference in try #require(try JSON.parse(Array(data))["texts"]?.array) {
      let text = try #require(reference["text"]?.string)
      let ids = try #require(reference["ids"]?.array).compactMap { $0.int.map(Int32.init) }
      let wanted = try #require(reference["nll"]?.array).compactMap(\.double)
      let mean = try #require(reference["mean_nll"]?.double)
      #expect([try #require(model.prefixToken)] + tokenizer.encode(text) == ids)
      let losses = SequenceScorer.losses(
        of: [ScoredSequence(tokens: ids, firstScored: 1)], network: model.transformer,
        window: model.configuration.contextLength, batchTokens: 4096, on: backend)[0]
      #expect(losses.count == wanted.count)
      let worst = zip(losses, wanted).map { abs(Double($0) - $1) }.max() ?? .infinity
      #expect(worst < tolerance, "largest difference \(worst)")
      let row = JSON.object([JSON.Member("text", .string(text))]).compact
      let found = try withRows(row) { path in
        try PreparedProbe(ProbeDefinition(name: "text", paths: [path]), model: model)
          .measure(model.transformer, on: backend)
      }
      #expect(isClose(found[1].numerators[0] / found[1].denominators[0], mean, 1e-6))
      #expect(abs(found[1].value - (try #require(reference["perplexity"]?.double))) < 2e-5 * found[1].value)
      #expect(isClose(found[0].value, mean * Double(ids.count - 1) / log(2) / Double(text.utf8.count), 1e-6))
    }
  }

  @Test(.enabled(if: SharedData.path("models/stories260k") != nil && SharedData.path("data/probes") != nil))
  func publishedProbesRun() throws {
    let model = try LoadedModel.load(try #require(SharedData.path("models/stories260k")), on: backend)
    for (file, kind, count) in [
      ("blimp/blimp_mini.jsonl", ProbeKind.minimalPairs, nil), ("arc_easy/test.jsonl", .multipleChoice, 100),
      ("hellaswag/val.jsonl", .multipleChoice, 40), ("piqa/val.jsonl", .multipleChoice, 100),
      ("winogrande/val.jsonl", .multipleChoice, 200), ("pubmedqa/test.jsonl", .multipleChoice, 20),
      ("medqa_usmle/test.jsonl", .multipleChoice, 20), ("mmlu_legal/test.jsonl", .multipleChoice, 100),
      ("lambada/test.jsonl", .text, 100),
    ] {
      guard let path = SharedData.path("data/probes/" + file) else { continue }
      var definition = ProbeDefinition(name: "probe", paths: [path])
      definition.limit = count
      let probe = try PreparedProbe(definition, model: model)
      #expect(probe.kind == kind && (count == nil || probe.items == count))
      let start = Date()
      let found = try probe.measure(model.transformer, on: backend)
      let seconds = Date().timeIntervalSince(start)
      let values = found.map { "\($0.metric) \($0.value) ± \($0.stderr ?? .nan)" }.joined(separator: ", ")
      print("\(file): \(values); \(Double(probe.items) / seconds) items/s; \(probe.notes)")
      #expect(found.allSatisfy { $0.value.isFinite })
    }
  }

  @Test(.enabled(if: SharedData.path("models/stories260k") != nil && SharedData.path("data/probes") != nil))
  func minimalPairsAgreeWithOneSentenceAtATime() throws {
    let model = try LoadedModel.load(try #require(SharedData.path("models/stories260k")), on: backend)
    let path = try #require(SharedData.path("data/probes/blimp/blimp_mini.jsonl"))
    var definition = ProbeDefinition(name: "blimp", paths: [path])
    definition.limit = 200
    let found = try PreparedProbe(definition, model: model).measure(model.transformer, on: backend)[0]
    let wanted = try DataReader.read(paths: [path]).prefix(200).map { row -> Double in
      guard case .minimalPair(let good, let bad) = row.sample else { return .nan }
      let losses = try [good, bad].map { sentence -> Double in
        let tokens = [1] + (try #require(model.tokenizer)).encode(sentence)
        let batch = Batch(
          tokens: tokens.dropLast(), targets: Array(tokens.dropFirst()), lengths: [tokens.count - 1])
        return model.transformer.negativeLogLikelihoods(batch, on: backend).reduce(0) { $0 + Double($1) }
      }
      return losses[0] < losses[1] ? 1 : 0
    }
    #expect(found.numerators == wanted)
  }
}
