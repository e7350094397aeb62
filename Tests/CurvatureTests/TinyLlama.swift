// A tiny language model and a few sequences for known answers about its Fisher information.
import Layers
import Models
import TensorCore

enum TinyLlama {
  /// Sequences with a repeated token and, in places, no target.
  static let sequences: [(tokens: [Int32], targets: [Int32])] = [
    ([1, 2, 3, 2, 5], [2, 3, 2, 5, -1]), ([4, 4, 0], [4, 0, 7]), ([9], [3]),
    ([6, 7, 8, 1, 1, 2, 10], [-1, -1, 1, 1, 2, 10, 4]),
  ]
  static func batch(_ indices: [Int]) -> Batch {
    Batch(
      tokens: indices.flatMap { sequences[$0].tokens }, targets: indices.flatMap { sequences[$0].targets },
      lengths: indices.map { sequences[$0].tokens.count })
  }
  static func model(tied: Bool = true, on backend: any Backend) throws -> Transformer {
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: 11, hiddenSize: 8, intermediateSize: 12, layers: 2, heads: 2,
      keyHeads: 1, contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: tied)
    c.initializerRange = 0.4
    return try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
  }
}
