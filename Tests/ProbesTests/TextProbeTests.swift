// Perplexity and bits per byte against a model whose probabilities are known,
// and against single forward passes.
import Corpus
import Foundation
import Layers
import Models
import Probes
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct TextProbeTests {
  let backend = CPUBackend(threads: 2)
  static let texts = [
    "abc", "a longer text that does not fit the window of sixteen tokens at all", "zz top", "q",
  ]

  func prepared(
    _ model: LoadedModel, _ texts: [String] = texts, _ change: (inout ProbeDefinition) -> Void = { _ in }
  )
    throws -> PreparedProbe
  {
    try withRows(texts.joined(separator: "\n"), name: "rows.txt") { path in
      var definition = ProbeDefinition(name: "general", paths: [path], documents: .line)
      change(&definition)
      return try PreparedProbe(definition, model: model)
    }
  }

  @Test(arguments: [1, 2, 5, 16]) func everyTokenOnceInAnyWindow(window: Int) throws {
    let bigram = try BigramModel(on: backend)
    let probe = try prepared(bigram.model)
    #expect(probe.kind == .text && probe.items == 4 && probe.notes.isEmpty)
    #expect(probe.metrics.map(\.name) == ["bits_per_byte", "perplexity"])
    let found = try probe.measure(bigram.model.transformer, window: window, on: backend)
    let nats = try Self.texts.map { try bigram.nats($0) }
    let tokens = try Self.texts.map { text in try #require(bigram.model.tokenizer).encode(text).count }
    for (document, wanted) in nats.enumerated() {
      #expect(isClose(found[0].numerators[document], wanted / log(2)))
      #expect(isClose(found[1].numerators[document], wanted))
    }
    #expect(found[0].denominators == Self.texts.map { Double($0.utf8.count) })
    #expect(found[1].denominators == tokens.map(Double.init))
    #expect(isClose(found[1].value, exp(nats.reduce(0, +) / Double(tokens.reduce(0, +)))))
    #expect(found[0].tokens == tokens.reduce(0, +) && found[0].window == window && !found[0].higherIsBetter)
  }

  @Test func modelsWithoutPrefixSkipTheFirstTokenAndItsBytes() throws {
    let bigram = try BigramModel(hasPrefix: false, on: backend)
    let probe = try prepared(bigram.model, ["abc", "z a", "q"])
    #expect(probe.notes.count == 1)
    let found = try probe.measure(bigram.model.transformer, on: backend)
    // "z " is one token of two bytes; "q" has nothing left.
    #expect(found[0].denominators == [2, 1, 0])
    #expect(found[1].denominators == [2, 1, 0])
    for (index, text) in ["abc", "z a", "q"].enumerated() {
      #expect(isClose(found[1].numerators[index], try bigram.nats(text, hasPrefix: false)))
    }
  }

  @Test func pairsScoreTheirCompletion() throws {
    let bigram = try BigramModel(on: backend)
    let row = #"{"prompt": "what is it: ", "completion": "a bee"}"#
    let found = try withRows(row) { path in
      try PreparedProbe(ProbeDefinition(name: "p", paths: [path]), model: bigram.model)
        .measure(bigram.model.transformer, on: backend)
    }
    #expect(isClose(found[1].numerators[0], try bigram.nats("what is it: a bee", from: 12)))
    #expect(found[0].bytes == 5 && found[0].tokens == 5)
  }

  @Test func limitsItemsAndMetrics() throws {
    let bigram = try BigramModel(on: backend)
    let probe = try prepared(bigram.model) {
      $0.limit = 3
      $0.metrics = ["perplexity"]
    }
    #expect(probe.items == 3)
    let all = try probe.measure(bigram.model.transformer, on: backend)
    let two = try probe.measure(bigram.model.transformer, items: 2, on: backend)
    #expect(all.map(\.metric) == ["perplexity"] && two[0].numerators.count == 2)
    #expect(isClose(two[0].numerators[1], all[0].numerators[1], 1e-6))
  }

  @Test func wrongDefinitionsAreErrors() throws {
    let bigram = try BigramModel(on: backend)
    #expect(throws: ProbeError.self) { try prepared(bigram.model) { $0.metrics = ["acc"] } }
    #expect(throws: ProbeError.self) { try prepared(bigram.model) { $0.prompt = "{question}" } }
    #expect(throws: ProbeError.self) { try prepared(bigram.model) { $0.paths = [] } }
    #expect(throws: DataError.self) { try prepared(bigram.model) { $0.paths = ["/nowhere.txt"] } }
    #expect(throws: DataError.self) { try prepared(bigram.model) { $0.kind = .multipleChoice } }
    let probe = try prepared(bigram.model)
    for window in [0, -1, 17] {
      #expect(throws: ProbeError.self) {
        try probe.measure(bigram.model.transformer, window: window, on: backend)
      }
    }
    let bare = LoadedModel(transformer: bigram.model.transformer, tokenizer: nil, path: "")
    #expect(throws: ProbeError.self) { try prepared(bare) }
  }

  // MARK: Real attention

  static let fixtures = ["llama-tied-gqa", "llama-untied", "gpt2-tied", "gpt2-untied-noprefix"]

  func sequences(_ model: LoadedModel, _ lengths: [Int]) -> [ScoredSequence] {
    var random = RandomStream(seed: 5)
    let size = model.configuration.vocabularySize
    return lengths.map { length in
      ScoredSequence(
        tokens: (0..<length).map { _ in Int32(random.integer(below: size)) }, firstScored: length / 3)
    }
  }

  @Test(arguments: fixtures) func batchSizeChangesNothing(name: String) throws {
    let model = try LoadedModel.load(Fixtures.path("models/\(name)"), on: backend)
    let window = min(8, model.configuration.contextLength)
    let asked = sequences(model, [3, 1, 30, 8, 9, 10, 17, 2, 0, 25])
    func losses(_ batchTokens: Int, threads: Int = 2) -> [[Float]] {
      SequenceScorer.losses(
        of: asked, network: model.transformer, window: window, batchTokens: batchTokens,
        on: CPUBackend(threads: threads))
    }
    let whole = losses(4096)
    #expect(whole.map(\.count) == asked.map(\.scored))
    #expect(losses(4096, threads: 1) == whole)
    for size in [1, 13, 40] {
      for (a, b) in zip(losses(size), whole) {
        #expect(zip(a, b).allSatisfy { abs($0 - $1) < 1e-6 * max(1, abs($1)) })
      }
    }
  }

  @Test(arguments: fixtures) func windowsAreConditionedOnOneTokenBefore(name: String) throws {
    let model = try LoadedModel.load(Fixtures.path("models/\(name)"), on: backend)
    let tokens = sequences(model, [23])[0].tokens
    let window = 5
    let found = SequenceScorer.losses(
      of: [ScoredSequence(tokens: tokens, firstScored: 1)], network: model.transformer, window: window,
      batchTokens: 64, on: backend)[0]
    // One forward pass per token: the inputs from the start of its window up to the token before it.
    for target in 1..<tokens.count {
      let start = (target - 1) / window * window
      let inputs = Array(tokens[start..<target])
      let logits = model.transformer.logits(
        Batch(tokens: inputs, targets: inputs.map { _ in -1 }, lengths: [inputs.count]), on: backend)
      let row = logits.rows(logits.rows - 1..<logits.rows).toArray().map(Double.init)
      let largest = row.max() ?? 0
      let wanted = largest + log(row.reduce(0) { $0 + exp($1 - largest) }) - row[Int(tokens[target])]
      #expect(isClose(Double(found[target - 1]), wanted))
    }
  }

  @Test func longSequencesLoseTheirLeftFirst() {
    let tokens = [Int32](0..<20)
    #expect(ScoredSequence(tokens: tokens, firstScored: 17).windows(30) == [0..<19])
    #expect(ScoredSequence(tokens: tokens, firstScored: 17).windows(6) == [13..<19])
    #expect(ScoredSequence(tokens: tokens, firstScored: 10).windows(6) == [9..<15, 15..<19])
    #expect(ScoredSequence(tokens: tokens, firstScored: 1).windows(8) == [0..<8, 8..<16, 16..<19])
    #expect(ScoredSequence(tokens: tokens, firstScored: 20).windows(8) == [])
    #expect(ScoredSequence(tokens: [], firstScored: 0).windows(8) == [])
  }
}
