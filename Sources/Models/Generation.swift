// Writing text with a model: how the next token is drawn, one text from a prompt, many texts from nothing.
// Every draw comes from a named stream, so equal seeds give equal tokens for any number of threads.
import Layers
import TensorCore

/// How the next token is chosen among a model's probabilities.
public struct Sampler: Sendable, Equatable {
  /// Divides the logits; 0 takes the likeliest token.
  public var temperature: Double
  /// Keeps the k likeliest tokens; nil keeps all.
  public var topK: Int?
  /// Then keeps the likeliest tokens that together reach this probability; nil keeps all.
  public var topP: Double?
  public var seed: UInt64

  public init(temperature: Double = 1, topK: Int? = nil, topP: Double? = nil, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
  }
  /// Always the likeliest token; of equals the one with the lowest id.
  public static let greedy = Sampler(temperature: 0)

  /// One token by inverting the cumulative distribution of the kept tokens, likeliest first.
  ///
  /// - Parameter uniform: in [0, 1)
  /// - Cost: linear in V, and the sorting of the likely tokens; V log V where a draw falls far into the tail
  public func choose(_ logits: [Float], uniform: Double) -> Int32 {
    guard temperature > 0 else {
      var best = 0
      for index in logits.indices where logits[index] > logits[best] { best = index }
      return Int32(best)
    }
    guard let top = logits.max() else { return 0 }
    let weights = logits.map { Maths.exp(Double($0 - top) / temperature) }
    var order = LikeliestFirst(logits, band: Float(8 * temperature))
    let limit = topK.map { min(logits.count, max(1, $0)) } ?? logits.count
    var total = limit == logits.count ? weights.reduce(0, +) : (0..<limit).reduce(0) { $0 + weights[order[$1]] }
    var kept = limit
    if let topP {
      let wanted = topP * total
      (kept, total) = (0, 0)
      while kept < limit, kept == 0 || total < wanted {
        total += weights[order[kept]]
        kept += 1
      }
    }
    let wanted = uniform * total
    var reached = 0.0
    for rank in 0..<kept {
      reached += weights[order[rank]]
      if reached > wanted { return Int32(order[rank]) }
    }
    return Int32(order[kept - 1])
  }
}

/// Tokens by falling logit, equals by rising id; the long tail, which is seldom asked for, is sorted when it is.
private struct LikeliestFirst {
  private let logits: [Float]
  private var sorted: [Int] = []
  private let threshold: Float

  /// - Parameter band: how far below the largest logit a token may be to be sorted at once
  init(_ logits: [Float], band: Float) {
    self.logits = logits
    threshold = (logits.max() ?? 0) - band
    append(tail: false)
  }
  private mutating func append(tail: Bool) {
    let found = logits.indices.filter { (logits[$0] >= threshold) != tail }
    sorted += found.sorted { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }
  }
  subscript(rank: Int) -> Int {
    mutating get {
      if rank >= sorted.count { append(tail: true) }
      return sorted[rank]
    }
  }
}

extension Transformer {
  /// Continues a prompt until a token of `stop`, which is not returned, or until `maxTokens`.
  ///
  /// The prompt is fed as it is: put the prefix token before it. A text that fills the context goes on from
  /// its last half, so it may be longer than the context. An empty prompt gives nothing.
  /// - Cost: one pass over the prompt, then one token's work a token
  public func generate(
    prompt: [Int32], maxTokens: Int, sampler: Sampler = Sampler(), stop: Set<Int32> = [],
    on backend: any Backend
  ) -> [Int32] {
    let context = configuration.contextLength
    guard !prompt.isEmpty, maxTokens > 0 else { return [] }
    var random = RandomStream(seed: sampler.seed).forked("generate")
    let fed = Array(prompt.suffix(context))
    let cache = cache(sequences: 1, capacity: min(context, fed.count + maxTokens), on: backend)
    var logits = extend(fed, cache: cache, on: backend)
    var text: [Int32] = []
    while true {
      let token = sampler.choose(logits.toArray(), uniform: random.uniform())
      if stop.contains(token) { return text }
      text.append(token)
      if text.count == maxTokens { return text }
      if cache.length == cache.capacity {
        cache.reset()
        logits = extend(Array((fed + text).suffix(max(1, context / 2))), cache: cache, on: backend)
      } else {
        logits = extend([token], cache: cache, on: backend)
      }
    }
  }

  /// Bytes of keys and values that `sampleSequences` holds at a time.
  private static var cacheBytes: Int { 128 << 20 }

  /// Texts drawn from the model itself, each from the prefix token, which is not returned.
  ///
  /// Like `sampleSequences(prompts:…)` with empty prompts.
  public func sampleSequences(
    count: Int, length: Int, prefix: Int32, stop: Set<Int32> = [], temperature: Double = 1,
    random: RandomStream,
    on backend: any Backend
  ) -> [[Int32]] {
    sampleSequences(
      prompts: [[Int32]](repeating: [], count: max(0, count)), length: length, prefix: prefix, stop: stop,
      temperature: temperature, random: random, on: backend)
  }

  /// Texts that begin with prompts and go on as the model draws; each stands behind the prefix token, which is not
  /// returned.
  ///
  /// Prompts are cut to `length` − 1 tokens. A text ends with the first drawn token of `stop`, which is kept, or after
  /// `length` tokens, its prompt included. Text i draws from its own stream `random.forked("sequence", i)`, whatever
  /// the others do.
  /// - Precondition: `length` is at most the model's context
  /// - Cost: 2 · parameters operations a token, given or drawn; at a time as many texts as have their keys and values
  ///   in 128 MiB, at most 64
  public func sampleSequences(
    prompts: [[Int32]], length: Int, prefix: Int32, stop: Set<Int32> = [], temperature: Double = 1,
    random: RandomStream, on backend: any Backend
  ) -> [[Int32]] {
    precondition(length <= configuration.contextLength, "\(length) tokens exceed the context")
    guard length > 0 else { return [] }
    let each = 8 * configuration.layers * configuration.keyHeads * configuration.headDimension * length
    let side = min(64, max(1, Self.cacheBytes / max(1, each)))
    return stride(from: 0, to: prompts.count, by: side).flatMap { first in
      let part = first..<min(prompts.count, first + side)
      return sample(
        part.map { random.forked("sequence", $0) }, prompts: prompts[part].map { $0.prefix(length - 1) },
        length: length, prefix: prefix, stop: stop, temperature: temperature, on: backend)
    }
  }

  /// Texts side by side, one token each at a time, whether given or drawn: prompts may differ in length.
  private func sample(
    _ streams: [RandomStream], prompts: [ArraySlice<Int32>], length: Int, prefix: Int32, stop: Set<Int32>,
    temperature: Double, on backend: any Backend
  ) -> [[Int32]] {
    var streams = streams
    var texts = [[Int32]](repeating: [], count: streams.count)
    var isOpen = [Bool](repeating: true, count: streams.count)
    var tokens = [Int32](repeating: prefix, count: streams.count)
    let cache = cache(sequences: streams.count, capacity: length, on: backend)
    for place in 0..<length where isOpen.contains(true) {
      let logits = extend(tokens, cache: cache, on: backend)
      if temperature > 0 {
        backend.scale(logits, by: Float(1 / temperature))
        tokens = backend.sampleLabels(logits, uniforms: streams.indices.map { streams[$0].uniform() })
      } else {
        tokens = (0..<logits.rows).map {
          Sampler.greedy.choose(logits.rows($0..<$0 + 1).toArray(), uniform: 0)
        }
      }
      for index in tokens.indices where isOpen[index] {
        let isGiven = place < prompts[index].count
        if isGiven { tokens[index] = prompts[index][prompts[index].startIndex + place] }
        texts[index].append(tokens[index])
        if !isGiven, stop.contains(tokens[index]) { isOpen[index] = false }
      }
    }
    return texts
  }
}

extension LoadedModel {
  /// A text and what the model writes after it, up to an end token; nil without a tokenizer.
  public func complete(
    _ text: String, maxTokens: Int, sampler: Sampler = Sampler(), on backend: any Backend
  ) -> String? {
    guard let tokenizer else { return nil }
    let prompt = (prefixToken.map { [$0] } ?? []) + tokenizer.encode(text)
    // Models trained on texts laid end to end close a text with the mark that opens the next.
    let stop = Set([eosToken, prefixToken].compactMap { $0 })
    let written = transformer.generate(
      prompt: prompt, maxTokens: maxTokens, sampler: sampler, stop: stop, on: backend)
    return tokenizer.decode(prompt + written, skipSpecialTokens: true)
  }
}
