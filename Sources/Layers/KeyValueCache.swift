// Keys and values of tokens already read, so that a text grows by one token at the cost of one token.
// Only for generation: nothing here has a way back.
import TensorCore

/// Rotated keys and values of several texts of equal length, for every layer.
public final class KeyValueCache {
  public let sequences: Int
  /// Tokens that each sequence has room for.
  public let capacity: Int
  /// Tokens that each sequence holds.
  public private(set) var length = 0
  private let layers: [(keys: Tensor, values: Tensor)]

  /// - Parameter width: elements of a key, keyHeads · headDimension
  public init(layers: Int, width: Int, sequences: Int, capacity: Int, on backend: any Backend) {
    self.sequences = sequences
    self.capacity = capacity
    self.layers = (0..<layers).map { _ in
      (backend.empty(sequences * capacity, width), backend.empty(sequences * capacity, width))
    }
  }

  /// Counts the tokens that every layer has stored.
  public func advance(by tokens: Int) { length += tokens }
  /// Forgets everything.
  public func reset() { length = 0 }

  /// Puts the next rows of every sequence behind what a layer holds.  k, v [sequences · n, width]
  func store(_ k: Tensor, _ v: Tensor, layer: Int, on backend: any Backend) {
    let fresh = k.rows / sequences
    for (x, held) in [(k, layers[layer].keys), (v, layers[layer].values)] {
      if fresh == 1 {
        // The places behind the sequences lie equally far apart: one copy.
        let places = Tensor(
          storage: held.storage, offset: held.offset + length * held.stride, rows: sequences, columns: held.columns,
          stride: capacity * held.stride)
        backend.copy(x, into: places)
      } else {
        for sequence in 0..<sequences {
          let first = sequence * capacity + length
          backend.copy(x.rows(sequence * fresh..<(sequence + 1) * fresh), into: held.rows(first..<first + fresh))
        }
      }
    }
  }
  /// Keys and values of a layer.  [sequences · capacity, width] each
  func stored(layer: Int) -> (keys: Tensor, values: Tensor) { layers[layer] }
}

extension SelfAttention {
  /// The layer's output for the next tokens of every sequence; stores their keys and values.
  ///
  /// - Precondition: the cache is empty, or one token comes per sequence
  /// - Shapes: x, y [sequences · n, C]
  public func extend(_ x: Tensor, _ context: Context, cache: KeyValueCache, layer: Int) -> Tensor {
    let backend = context.backend
    let (q, k, v) = project(x, context)
    rotary?.rotate(q, context, inverse: false)
    rotary?.rotate(k, context, inverse: false)
    cache.store(k, v, layer: layer, on: backend)
    let mixed = backend.empty(x.rows, queryWidth)
    if cache.length == 0 {
      let logSumExp = backend.empty(x.rows, shape.heads)
      backend.attention(
        q: q, k: k, v: v, segments: context.segments, shape: shape, into: mixed, logSumExp: logSumExp)
    } else {
      precondition(x.rows == cache.sequences, "a cache that is in use grows by one token a sequence")
      let (keys, values) = cache.stored(layer: layer)
      backend.cachedAttention(
        q: q, keys: keys, values: values, length: cache.length + 1, shape: shape, into: mixed)
    }
    return output.forward(mixed, on: backend)
  }
}
