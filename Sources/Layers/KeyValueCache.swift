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
    for sequence in 0..<sequences {
      let from = sequence * fresh..<(sequence + 1) * fresh
      let first = sequence * capacity + length
      backend.copy(k.rows(from), into: layers[layer].keys.rows(first..<first + fresh))
      backend.copy(v.rows(from), into: layers[layer].values.rows(first..<first + fresh))
    }
  }
  /// The first `count` keys and values of one sequence.  [count, width] each
  func stored(_ count: Int, of sequence: Int, layer: Int) -> (keys: Tensor, values: Tensor) {
    let rows = sequence * capacity..<sequence * capacity + count
    return (layers[layer].keys.rows(rows), layers[layer].values.rows(rows))
  }
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
      mix(q, into: mixed, cache: cache, layer: layer, on: backend)
    }
    return output.forward(mixed, on: backend)
  }

  /// softmax(scale · q Kᵀ) V of one query a sequence; query heads that share a key head go in one product.
  private func mix(_ q: Tensor, into mixed: Tensor, cache: KeyValueCache, layer: Int, on backend: any Backend) {
    let (group, width) = (shape.heads / shape.keyHeads, shape.headDimension)
    let seen = cache.length + 1
    let queries = backend.copied(q)
    backend.scale(queries, by: shape.scale)
    let scores = backend.empty(q.rows * shape.heads, seen)
    func eachGroup(
      _ body: (_ heads: Range<Int>, _ elements: Range<Int>, _ keys: Tensor, _ values: Tensor) -> Void
    ) {
      for sequence in 0..<cache.sequences {
        let (keys, values) = cache.stored(seen, of: sequence, layer: layer)
        for head in 0..<shape.keyHeads {
          let columns = head * width..<(head + 1) * width
          let first = sequence * shape.heads + head * group
          body(
            first..<first + group, first * width..<(first + group) * width, keys.columns(columns),
            values.columns(columns))
        }
      }
    }
    eachGroup { heads, elements, keys, _ in
      backend.multiply(
        queries.slice(elements).reshaped(group, width), transposed: false, keys, transposed: true,
        into: scores.rows(heads), accumulate: false)
    }
    let shares = backend.empty(scores.rows, seen)
    backend.softmax(scores, into: shares)
    eachGroup { heads, elements, _, values in
      backend.multiply(
        shares.rows(heads), transposed: false, values, transposed: false,
        into: mixed.slice(elements).reshaped(group, width), accumulate: false)
    }
  }
}
