// The named shapes of benchmarks, and how many operations a token of them costs.
import ArgumentParser
import Models

enum BenchShape: String, ExpressibleByArgument, CaseIterable {
  case gpt2, stories15m
  case llama42m = "llama-42m"

  /// - Parameter length: longest sequence; the shape's own context where that is longer
  func configuration(length: Int) -> TransformerConfiguration {
    switch self {
    case .gpt2:
      var gpt2 = TransformerConfiguration(
        architecture: "gpt2", vocabularySize: 50257, hiddenSize: 768, intermediateSize: 3072, layers: 12,
        heads: 12,
        keyHeads: 12, contextLength: max(1024, length), epsilon: 1e-5, ropeTheta: 0, tiesHead: true)
      gpt2.attentionBias = true
      gpt2.feedForwardBias = true
      return gpt2
    case .stories15m:
      return Self.llama(hidden: 288, inner: 768, layers: 6, heads: 6, length: max(256, length))
    case .llama42m:
      return Self.llama(hidden: 512, inner: 1376, layers: 8, heads: 8, length: max(1024, length))
    }
  }

  private static func llama(hidden: Int, inner: Int, layers: Int, heads: Int, length: Int)
    -> TransformerConfiguration
  {
    TransformerConfiguration(
      architecture: "llama", vocabularySize: 32000, hiddenSize: hidden, intermediateSize: inner,
      layers: layers,
      heads: heads, keyHeads: heads, contextLength: length, epsilon: 1e-6, ropeTheta: 10000, tiesHead: true)
  }
}

/// Operations of one training token, forward and backward; recomputation is not counted.
struct OperationCount {
  private let configuration: TransformerConfiguration
  init(_ configuration: TransformerConfiguration) { self.configuration = configuration }

  /// Inputs and outputs of the products of one layer.
  var products: [(name: String, inputs: Int, outputs: Int)] {
    let c = configuration
    let (queries, keys) = (c.heads * c.headDimension, c.keyHeads * c.headDimension)
    let attention = [
      ("attention in", c.hiddenSize, queries + 2 * keys), ("attention out", queries, c.hiddenSize),
    ]
    return c.architecture == "gpt2"
      ? attention + [
        ("expand", c.hiddenSize, c.intermediateSize), ("contract", c.intermediateSize, c.hiddenSize),
      ]
      : attention + [
        ("gate and up", c.hiddenSize, 2 * c.intermediateSize), ("down", c.intermediateSize, c.hiddenSize),
      ]
  }
  /// P_lin: weights of all products but the head's.
  var linear: Int { configuration.layers * products.reduce(0) { $0 + $1.inputs * $1.outputs } }
  /// P_head, counted whether or not it is tied to the embedding.
  var head: Int { configuration.vocabularySize * configuration.hiddenSize }
  /// 6·L·d·T for a sequence of T tokens: half of all pairs, forward once and backward twice.
  func attention(length: Int) -> Double {
    6 * Double(configuration.layers) * Double(configuration.heads * configuration.headDimension)
      * Double(length)
  }
  /// 6·(P_lin + P_head) + 6·L·d·T
  func perToken(length: Int) -> Double { 6 * Double(linear + head) + attention(length: length) }
}
