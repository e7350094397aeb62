// Generation with cached keys and values against full forward passes, and draws against known probabilities.
import Foundation
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct GenerationTests {
  static let fixtures = ["llama-tied-gqa", "llama-untied", "gpt2-tied", "gpt2-untied-noprefix"]

  func logits(_ model: Transformer, _ tokens: [Int32], on backend: any Backend) -> [Float] {
    let all = model.logits(
      Batch(tokens: tokens, targets: tokens.map { _ in -1 }, lengths: [tokens.count]), on: backend)
    return all.rows(all.rows - 1..<all.rows).toArray()
  }

  @Test(arguments: fixtures, ["cpu", "reference"]) func cachedLogitsAreThoseOfTheWholeText(
    name: String, on kind: String
  )
    throws
  {
    let backend: any Backend = kind == "cpu" ? CPUBackend(threads: 2) : ReferenceBackend()
    let model = try LoadedModel.load(Fixtures.path("models/\(name)"), on: backend).transformer
    var random = RandomStream(seed: 3)
    let texts = (0..<3).map { _ in
      (0..<7).map { _ in Int32(random.integer(below: model.configuration.vocabularySize)) }
    }
    let cache = model.cache(sequences: 3, capacity: 7, on: backend)
    var found = model.extend(texts.flatMap { $0.prefix(3) }, cache: cache, on: backend)
    for length in 3...7 {
      for (row, text) in texts.enumerated() {
        let wanted = logits(model, Array(text.prefix(length)), on: backend)
        let worst = zip(found.rows(row..<row + 1).toArray(), wanted).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst < 1e-5, "\(length) tokens: \(worst)")
      }
      if length < 7 { found = model.extend(texts.map { $0[length] }, cache: cache, on: backend) }
    }
  }

  @Test(arguments: fixtures) func greedyTextsFollowTheLikeliestToken(name: String) throws {
    let backend = CPUBackend(threads: 1)
    let model = try LoadedModel.load(Fixtures.path("models/\(name)"), on: backend).transformer
    let context = model.configuration.contextLength
    // Past the context the text goes on from its last half.
    let found = model.generate(prompt: [1, 2], maxTokens: context + 5, sampler: .greedy, on: backend)
    #expect(found.count == context + 5)
    var window: [Int32] = [1, 2]
    for token in found {
      #expect(Sampler.greedy.choose(logits(model, window, on: backend), uniform: 0) == token)
      window = Array((window + [token]).suffix(window.count == context ? max(1, context / 2) : context))
    }
    #expect(
      model.generate(prompt: [1, 2], maxTokens: 9, sampler: .greedy, stop: [found[0]], on: backend) == [])
    #expect(model.generate(prompt: [], maxTokens: 9, on: backend) == [])
  }

  @Test func samplersKeepWhatTheySay() {
    let logits: [Float] = [0, 2, 1, 2, -5]
    #expect(Sampler.greedy.choose(logits, uniform: 0.9) == 1)
    func tokens(_ sampler: Sampler) -> Set<Int32> {
      Set((0..<1000).map { sampler.choose(logits, uniform: Double($0) / 1000) })
    }
    #expect(tokens(Sampler()) == [0, 1, 2, 3])
    #expect(tokens(Sampler(temperature: 4)) == [0, 1, 2, 3, 4])
    #expect(tokens(Sampler(topK: 2)) == [1, 3])
    #expect(tokens(Sampler(topK: 0)) == [1])
    // p: 0.40, 0.40, 0.15, 0.05, 0.0004
    #expect(tokens(Sampler(topP: 0.39)) == [1])
    #expect(tokens(Sampler(topP: 0.5)) == [1, 3])
    #expect(tokens(Sampler(topP: 0.9)) == [1, 2, 3])
    #expect(tokens(Sampler(topK: 9, topP: 1)) == [0, 1, 2, 3])
  }

  /// Draws near 1 fall among tokens that are sorted only then.
  @Test func drawsFromTheTailKeepTheOrderOfLikelihood() {
    var random = RandomStream(seed: 5)
    let logits = (0..<400).map { $0 < 3 ? 9 : Float(3 * random.normal()) }
    let order = logits.indices.sorted { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }
    for (temperature, topK, topP) in [(0.5, nil, nil), (1, 350, nil), (1, nil, 0.9999), (3, nil, nil)]
      as [(Double, Int?, Double?)]
    {
      var kept = Array(order.prefix(topK ?? 400))
      func weight(_ token: Int) -> Double { exp(Double(logits[token] - 9) / temperature) }
      if let topP {
        let wanted = topP * kept.reduce(0) { $0 + weight($1) }
        var sum = 0.0
        kept = Array(
          kept.prefix { token in
            defer { sum += weight(token) }
            return sum < wanted
          })
      }
      let total = kept.reduce(0) { $0 + weight($1) }
      let sampler = Sampler(temperature: temperature, topK: topK, topP: topP)
      for uniform in (0..<300).map({ 1 - exp(-0.05 * (Double($0) + random.uniform())) }) {
        var reached = 0.0
        let wanted = kept.first { token in
          reached += weight(token)
          return reached > uniform * total
        }
        #expect(sampler.choose(logits, uniform: uniform) == Int32(wanted ?? kept[kept.count - 1]))
      }
    }
  }

  @Test func sampledTextsFollowTheModelAndTheSeed() throws {
    let backend = CPUBackend(threads: 2)
    let bigram = try BigramModel(scores: ["<a": 6, "<b": 5, "<c": 5.5], on: backend)
    let model = bigram.model.transformer
    let stream = RandomStream(seed: 11)
    func texts(_ count: Int, _ backend: any Backend) -> [[Int32]] {
      model.sampleSequences(count: count, length: 3, prefix: 0, random: stream, on: backend)
    }
    let found = texts(4000, backend)
    #expect(found.allSatisfy { $0.count == 3 })
    for token in 1...3 {
      let share = Double(found.count { $0[0] == Int32(token) }) / 4000
      let p = exp(bigram.logProbabilities[0][token])
      #expect(abs(share - p) < 4 * (p * (1 - p) / 4000).squareRoot())
    }
    let again = texts(4000, CPUBackend(threads: 1))
    #expect(again == found)
    #expect(texts(70, backend) == Array(found.prefix(70)))
    let stopped = model.sampleSequences(
      count: 200, length: 16, prefix: 0, stop: [1], random: stream, on: backend)
    #expect(
      stopped.allSatisfy { text in text.firstIndex(of: 1).map { $0 == text.count - 1 } ?? (text.count == 16) }
    )
    let one = model.generate(prompt: [0], maxTokens: 40, sampler: Sampler(seed: 4), on: backend)
    #expect(
      one == model.generate(prompt: [0], maxTokens: 40, sampler: Sampler(seed: 4), on: CPUBackend(threads: 1))
    )
    #expect(one != model.generate(prompt: [0], maxTokens: 40, sampler: Sampler(seed: 5), on: backend))
  }

  /// Texts begin with their prompts, cut where nothing could be drawn, and follow the model after them; no text depends
  /// on the others' prompts.
  @Test func promptedTextsGoOnFromTheirPrompts() throws {
    let backend = CPUBackend(threads: 2)
    let bigram = try BigramModel(scores: ["<a": 6, "ba": 5, "bc": 5.5, "cc": 4], on: backend)
    let model = bigram.model.transformer
    let stream = RandomStream(seed: 12)
    func texts(_ prompts: [[Int32]], _ length: Int, stop: Set<Int32> = [], _ backend: any Backend) -> [[Int32]] {
      model.sampleSequences(prompts: prompts, length: length, prefix: 0, stop: stop, random: stream, on: backend)
    }
    let prompts: [[Int32]] = [[2], [3, 1], [], [Int32](repeating: 4, count: 20)]
    let found = texts(prompts, 6, backend)
    for (text, prompt) in zip(found, prompts) {
      #expect(text.count == 6 && text.starts(with: prompt.prefix(5)))
    }
    #expect(found == texts(prompts, 6, CPUBackend(threads: 1)))
    let plain = model.sampleSequences(count: 4, length: 6, prefix: 0, random: stream, on: backend)
    #expect(found[2] == plain[2] && texts([[], [], [], []], 6, backend) == plain)
    // After b comes what the model believes after b, also beyond the texts that are written side by side.
    let many = texts([[Int32]](repeating: [2], count: 4000), 2, backend)
    for token in [1, 3] {
      let share = Double(many.count { $0 == [2, Int32(token)] }) / 4000
      let p = exp(bigram.logProbabilities[2][token])
      #expect(abs(share - p) < 4 * (p * (1 - p) / 4000).squareRoot())
    }
    // Only what is drawn ends a text.
    let stopped = texts([[Int32]](repeating: [1, 2], count: 200), 16, stop: [1], backend)
    #expect(stopped.contains { $0.count < 16 })
    for text in stopped {
      #expect(text.starts(with: [1, 2]))
      let drawn = text.dropFirst(2)
      #expect(drawn.firstIndex(of: 1).map { $0 == text.count - 1 } ?? (text.count == 16))
    }
  }

  @Test(.enabled(if: SharedData.path("models/stories260k") != nil)) func realModelsTellTheirStory() throws {
    let backend = CPUBackend(threads: 2)
    let model = try LoadedModel.load(try #require(SharedData.path("models/stories260k")), on: backend)
    let text = "Once upon a time, there was a little girl named Lily."
    let prompt = [1] + (try #require(model.tokenizer)).encode(text)
    let greedy = model.transformer.generate(prompt: prompt, maxTokens: 8, sampler: .greedy, on: backend)
    #expect(greedy == [338, 401, 396, 267, 337, 410, 408, 419])
    let told = try #require(model.complete(text, maxTokens: 30, sampler: .greedy, on: backend))
    #expect(told.hasPrefix(text + " She loved to play outside in the park."))
    let start = Date()
    let sampled = model.transformer.sampleSequences(
      count: 64, length: 256, prefix: 1, random: RandomStream(seed: 1), on: backend)
    let seconds = Date().timeIntervalSince(start)
    #expect(sampled.allSatisfy { $0.count == 256 })
    print("sampled 64 × 256 tokens in \(seconds) s: \(64 * 256 / seconds) tokens/s")
    let losses = model.transformer.negativeLogLikelihoods(
      Batch(
        tokens: sampled.flatMap { [1] + $0.dropLast() }, targets: sampled.flatMap { $0 },
        lengths: sampled.map(\.count)), on: backend)
    print("nats per sampled token \(losses.reduce(0) { $0 + Double($1) } / Double(losses.count))")
  }
}
