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
  /// - Cost: linear when greedy, else V log V
  public func choose(_ logits: [Float], uniform: Double) -> Int32 {
    guard temperature > 0 else {
      var best = 0
      for index in logits.indices where logits[index] > logits[best] { best = index }
      return Int32(best)
    }
    var order = Array(logits.indices)
    order.sort { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }
    if let topK { order.removeLast(order.count - min(order.count, max(1, topK))) }
    guard let first = order.first else { return 0 }
    var weights = order.map { Maths.exp(Double(logits[$0] - logits[first]) / temperature) }
    if let topP {
      let wanted = topP * weights.reduce(0, +)
      var (kept, reached) = (0, 0.0)
      while kept < weights.count, kept == 0 || reached < wanted {
        reached += weights[kept]
        kept += 1
      }
      weights.removeLast(weights.count - kept)
    }
    let wanted = uniform * weights.reduce(0, +)
    var reached = 0.0
    for (index, weight) in zip(order, weights) {
      reached += weight
      if reached > wanted { return Int32(index) }
    }
    return Int32(order[weights.count - 1])
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
  /// A text ends with the first token of `stop`, which is kept, or after `length` tokens. Text i draws from its
  /// own stream `random.forked("sequence", i)`, whatever the others do.
  /// - Precondition: `length` is at most the model's context
  /// - Cost: 2 · parameters operations a token; at a time as many texts as have their keys and values in
  ///   128 MiB, at most 64
  public func sampleSequences(
    count: Int, length: Int, prefix: Int32, stop: Set<Int32> = [], temperature: Double = 1,
    random: RandomStream,
    on backend: any Backend
  ) -> [[Int32]] {
    precondition(length <= configuration.contextLength, "\(length) tokens exceed the context")
    guard count > 0, length > 0 else { return [] }
    let each = 8 * configuration.layers * configuration.keyHeads * configuration.headDimension * length
    let side = min(64, max(1, Self.cacheBytes / max(1, each)))
    return stride(from: 0, to: count, by: side).flatMap { first in
      let streams = (first..<min(count, first + side)).map { random.forked("sequence", $0) }
      return sample(
        streams, length: length, prefix: prefix, stop: stop, temperature: temperature, on: backend)
    }
  }

  /// Texts side by side, one token each at a time.
  private func sample(
    _ streams: [RandomStream], length: Int, prefix: Int32, stop: Set<Int32>, temperature: Double,
    on backend: any Backend
  ) -> [[Int32]] {
    var streams = streams
    var texts = [[Int32]](repeating: [], count: streams.count)
    var isOpen = [Bool](repeating: true, count: streams.count)
    var tokens = [Int32](repeating: prefix, count: streams.count)
    let cache = cache(sequences: streams.count, capacity: length, on: backend)
    for _ in 0..<length where isOpen.contains(true) {
      let logits = extend(tokens, cache: cache, on: backend)
      if temperature > 0 {
        backend.scale(logits, by: Float(1 / temperature))
        tokens = backend.sampleLabels(logits, uniforms: streams.indices.map { streams[$0].uniform() })
      } else {
        tokens = (0..<logits.rows).map {
          Sampler.greedy.choose(logits.rows($0..<$0 + 1).toArray(), uniform: 0)
        }
      }
      for (index, token) in tokens.enumerated() where isOpen[index] {
        texts[index].append(token)
        if stop.contains(token) { isOpen[index] = false }
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
