// A language model whose every probability is known: the next letter depends on the last one alone.
// A real Transformer whose attention and feed-forward add nothing, over a one-hot embedding.
import Corpus
import Foundation
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

struct BigramModel {
  static let letters = Array("<abcdefghijklmnopqrstuvwxyz \n:QA").map(String.init)
  let model: LoadedModel
  /// logProbabilities[from][to] in nats.
  let logProbabilities: [[Double]]

  /// - Parameter scores: logit of `to` after `from`, by their letters; 0 where it is not named.
  init(
    scores: [String: Double] = [:], hasPrefix: Bool = true, context: Int = 16, on backend: any Backend
  ) throws {
    let letters = Self.letters
    let size = letters.count + 1
    // The last token merges z and the space after it.
    let vocabulary = (letters + ["z "]).enumerated().map { #""\#($1 == "\n" ? "\\n" : $1)":\#($0)"# }
    let json = """
      {"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
       "decoder":{"type":"Fuse"},"model":{"type":"BPE","dropout":null,"unk_token":null,"fuse_unk":false,
       "byte_fallback":false,"ignore_merges":false,"vocab":{\(vocabulary.joined(separator: ","))},
       "merges":[["z"," "]]}}
      """
    var configuration = TransformerConfiguration(
      architecture: "llama", vocabularySize: size, hiddenSize: size, intermediateSize: 4, layers: 1, heads: 1,
      keyHeads: 1, contextLength: context, epsilon: 1e-12, ropeTheta: 10000, tiesHead: false)
    configuration.headDimension = 4
    configuration.bosToken = hasPrefix ? 0 : nil
    let transformer = try ModelCatalog.build(configuration, on: backend)
    func fill(_ name: String, _ value: (Int, Int) -> Double) throws {
      let parameter = try #require(transformer.parameters[name]).value
      parameter.assign(
        (0..<parameter.rows).flatMap { row in (0..<parameter.columns).map { Float(value(row, $0)) } })
    }
    for name in ["model.norm.weight", "model.layers.0.input_layernorm.weight"] {
      try fill(name) { _, _ in 1 }
    }
    try fill("model.embed_tokens.weight") { $0 == $1 ? 1 : 0 }
    let names = letters + ["z "]
    func logit(_ from: Int, _ to: Int) -> Double {
      scores[names[from] + names[to]] ?? 0.1 * Double((from * 7 + to * 13) % 11)
    }
    try fill("lm_head.weight") { to, from in logit(from, to) / Double(size).squareRoot() }
    logProbabilities = (0..<size).map { from in
      let logits = (0..<size).map { logit(from, $0) }
      let total = log(logits.reduce(0) { $0 + exp($1) })
      return logits.map { $0 - total }
    }
    model = LoadedModel(
      transformer: transformer, tokenizer: try Tokenizer(json: Array(json.utf8), configuration: nil),
      path: "bigram")
  }

  /// −Σ log p of the text's letters from `first` on, each after the one before it, the prefix token first.
  func nats(_ text: String, from first: Int = 0, hasPrefix: Bool = true) throws -> Double {
    let ids = (hasPrefix ? [0] : []) + (try #require(model.tokenizer)).encode(text).map(Int.init)
    let start = first + (hasPrefix ? 1 : 0)
    return (max(1, start)..<ids.count).reduce(0.0) { $0 - logProbabilities[ids[$1 - 1]][ids[$1]] }
  }
}

/// Writes a file of rows and hands its path on.
func withRows<Result>(_ text: String, name: String = "rows.jsonl", _ body: (String) throws -> Result) throws
  -> Result
{
  try withTemporaryDirectory { directory in
    let path = directory + "/" + name
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return try body(path)
  }
}

func isClose(_ found: Double, _ wanted: Double, _ tolerance: Double = 1e-5) -> Bool {
  abs(found - wanted) <= tolerance * max(1, abs(wanted))
}
