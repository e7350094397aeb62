// The named shapes of benchmarks, and how many operations a token of them costs.
import ArgumentParser
import Models
import Runs

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

/// Sizes that `--shape` puts in the place of the named shape's: hidden=1024,inner=2736,layers=25,heads=16.
struct ShapeChanges: ExpressibleByArgument, Sendable {
  private typealias Size = WritableKeyPath<TransformerConfiguration, Int> & Sendable
  private var sizes: [(key: Size, value: Int)] = []
  private static let keys: [(name: String, path: Size)] = [
    ("hidden", \.hiddenSize), ("inner", \.intermediateSize), ("layers", \.layers), ("heads", \.heads),
    ("key_heads", \.keyHeads), ("vocabulary", \.vocabularySize),
  ]
  static var help: String { keys.map(\.name).joined(separator: ", ") }

  init?(argument: String) {
    for part in argument.split(separator: ",") {
      let halves = part.split(separator: "=", maxSplits: 1)
      guard halves.count == 2, let value = Int(halves[1]), (1...1 << 24).contains(value),
        let key = Self.keys.first(where: { $0.name == halves[0] })
      else { return nil }
      sizes.append((key.path, value))
    }
  }

  /// - Throws: `RunError` (64) where the sizes do not fit together
  func applied(to configuration: TransformerConfiguration) throws -> TransformerConfiguration {
    var changed = configuration
    for (key, value) in sizes { changed[keyPath: key] = value }
    if !sizes.contains(where: { $0.key == \.keyHeads }) { changed.keyHeads = changed.heads }
    guard changed.hiddenSize % (2 * changed.heads) == 0 else {
      throw usage("--shape: hidden=\(changed.hiddenSize) is not an even multiple of heads=\(changed.heads)")
    }
    guard changed.heads % changed.keyHeads == 0 else {
      throw usage("--shape: heads=\(changed.heads) is not a multiple of key_heads=\(changed.keyHeads)")
    }
    guard changed.architecture != "gpt2" || changed.keyHeads == changed.heads else {
      throw usage("--shape: gpt2 has no key_heads")
    }
    changed.headDimension = changed.hiddenSize / changed.heads
    return changed
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
  /// 6·(P_lin + P_head) a token and 6·L·d·T² a sequence.
  func total(lengths: [Int]) -> Double {
    6 * Double(linear + head) * Double(lengths.reduce(0, +)) + attention(lengths: lengths)
  }
  /// Attention among the tokens of each sequence: 6·L·d·ΣT².
  func attention(lengths: [Int]) -> Double {
    lengths.reduce(0) { $0 + attention(length: $1) * Double($1) }
  }
}
