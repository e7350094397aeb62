// The reference's causal attention: one query, one head at a time, over the keys of its prefix and segment.
// The gradient rebuilds each probability from the stored log-sum-exp, as a fast backend must.

extension ReferenceBackend {
  public func attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, shape: AttentionShape, into out: Tensor,
    logSumExp: Tensor
  ) {
    requireAttention(q, k, v, segments, shape)
    requireShape(out, q.rows, q.columns, "attention: out")
    requireShape(logSumExp, q.rows, shape.heads, "attention: logSumExp")
    let dimension = shape.headDimension
    for segment in 0..<segments.count {
      let prefix = segments.prefix(of: segment).flatMap { Array($0) }
      for head in 0..<shape.heads {
        let queryColumn = head * dimension
        let keyColumn = keyHead(of: head, shape) * dimension
        for query in segments[segment] {
          let keys = prefix + Array(segments[segment].lowerBound...query)
          let scores = keys.map { score(q, query, queryColumn, k, $0, keyColumn, shape) }
          let top = scores.max() ?? 0
          let total = scores.reduce(0) { $0 + Maths.exp($1 - top) }
          for i in 0..<dimension {
            var sum = 0.0
            for (key, score) in zip(keys, scores) {
              sum += Maths.exp(score - top) / total * v[key, keyColumn + i]
            }
            out[query, queryColumn + i] = sum
          }
          logSumExp[query, head] = top + Maths.log(total)
        }
      }
    }
  }

  public func attentionGradient(
    _ dOut: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logSumExp: Tensor, segments: Segments,
    shape: AttentionShape, dq: Tensor, dk: Tensor, dv: Tensor
  ) {
    requireAttention(q, k, v, segments, shape)
    precondition(!segments.hasPrefixes, "attention with shared prefixes has no gradient")
    for (x, like, name) in [(dOut, q, "dOut"), (out, q, "out"), (dq, q, "dq"), (dk, k, "dk"), (dv, v, "dv")] {
      requireShape(x, like.rows, like.columns, "attentionGradient: \(name)")
    }
    requireShape(logSumExp, q.rows, shape.heads, "attentionGradient: logSumExp")
    let dimension = shape.headDimension
    var queryGradient = [Double](repeating: 0, count: q.count)
    var keyGradient = [Double](repeating: 0, count: k.count)
    var valueGradient = [Double](repeating: 0, count: v.count)
    for segment in 0..<segments.count {
      for head in 0..<shape.heads {
        let queryColumn = head * dimension
        let keyColumn = keyHead(of: head, shape) * dimension
        for query in segments[segment] {
          var outProduct = 0.0
          for i in 0..<dimension { outProduct += dOut[query, queryColumn + i] * out[query, queryColumn + i] }
          for key in segments[segment].lowerBound...query {
            let score = score(q, query, queryColumn, k, key, keyColumn, shape)
            let probability = Maths.exp(score - logSumExp[query, head])
            var valueProduct = 0.0
            for i in 0..<dimension { valueProduct += dOut[query, queryColumn + i] * v[key, keyColumn + i] }
            let scoreGradient = probability * (valueProduct - outProduct) * Double(shape.scale)
            for i in 0..<dimension {
              queryGradient[query * q.columns + queryColumn + i] += scoreGradient * k[key, keyColumn + i]
              keyGradient[key * k.columns + keyColumn + i] += scoreGradient * q[query, queryColumn + i]
              valueGradient[key * v.columns + keyColumn + i] += probability * dOut[query, queryColumn + i]
            }
          }
        }
      }
    }
    write(queryGradient, into: dq)
    write(keyGradient, into: dk)
    write(valueGradient, into: dv)
  }

  public func cachedAttention(
    q: Tensor, keys: Tensor, values: Tensor, length: Int, shape: AttentionShape, into out: Tensor
  ) {
    let dimension = shape.headDimension
    let capacity = q.rows == 0 ? 0 : keys.rows / q.rows
    precondition((1...max(1, capacity)).contains(length), "cachedAttention: \(length) of \(capacity) rows")
    requireShape(q, q.rows, shape.heads * dimension, "cachedAttention: q")
    requireShape(out, q.rows, q.columns, "cachedAttention: out")
    requireShape(keys, q.rows * capacity, shape.keyHeads * dimension, "cachedAttention: keys")
    requireShape(values, keys.rows, keys.columns, "cachedAttention: values")
    for text in 0..<q.rows {
      for head in 0..<shape.heads {
        let queryColumn = head * dimension
        let keyColumn = keyHead(of: head, shape) * dimension
        let rows = text * capacity..<text * capacity + length
        let scores = rows.map { score(q, text, queryColumn, keys, $0, keyColumn, shape) }
        let top = scores.max() ?? 0
        let total = scores.reduce(0) { $0 + Maths.exp($1 - top) }
        for i in 0..<dimension {
          var sum = 0.0
          for (row, score) in zip(rows, scores) { sum += Maths.exp(score - top) / total * values[row, keyColumn + i] }
          out[text, queryColumn + i] = sum
        }
      }
    }
  }

  private func requireAttention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ segments: Segments, _ shape: AttentionShape
  ) {
    requireShape(q, segments.tokens, shape.heads * shape.headDimension, "attention: q")
    requireShape(k, segments.tokens, shape.keyHeads * shape.headDimension, "attention: k")
    requireShape(v, segments.tokens, shape.keyHeads * shape.headDimension, "attention: v")
  }

  private func keyHead(of head: Int, _ shape: AttentionShape) -> Int { head / (shape.heads / shape.keyHeads) }

  private func score(
    _ q: Tensor, _ query: Int, _ queryColumn: Int, _ k: Tensor, _ key: Int, _ keyColumn: Int,
    _ shape: AttentionShape
  ) -> Double {
    var sum = 0.0
    for i in 0..<shape.headDimension { sum += q[query, queryColumn + i] * k[key, keyColumn + i] }
    return sum * Double(shape.scale)
  }

  private func write(_ values: [Double], into x: Tensor) {
    forEach(x, what: "write") { row, column in x[row, column] = values[row * x.columns + column] }
  }
}
