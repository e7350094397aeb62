// The attention family: tiles of queries against the keys they may see, heads and segments in parallel.
import CKernels
import TensorCore

extension CPUBackend {
  /// Queries of a tile: short sequences want short tiles, since half of the diagonal tile is masked.
  private func tileHeight(_ length: Int) -> Int { length <= 512 ? 64 : 128 }

  /// Neighbouring segments that go on from the same tokens, together at most a tile high: the products with
  /// what they share are one. Any other segment stands alone.
  private func siblings(_ segments: Segments) -> [Range<Int>] {
    guard segments.hasPrefixes else { return (0..<segments.count).map { $0..<$0 + 1 } }
    var runs: [Range<Int>] = []
    for index in 0..<segments.count {
      let prefix = segments.prefix(of: index)
      if let run = runs.last, !prefix.isEmpty, prefix == segments.prefix(of: run.lowerBound),
        segments.starts[index + 1] - segments.starts[run.lowerBound] <= tileHeight(0)
      {
        runs[runs.count - 1] = run.lowerBound..<index + 1
      } else {
        runs.append(index..<index + 1)
      }
    }
    return runs
  }

  public func attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, shape: AttentionShape, into out: Tensor,
    logSumExp: Tensor
  ) {
    overwriting(out, logSumExp)
    let d = shape.headDimension
    let group = shape.heads / shape.keyHeads
    let runs = siblings(segments)
    workers.run(runs.count * shape.heads) { job in
      let (run, head) = (runs[job / shape.heads], job % shape.heads)
      let keyColumn = head / group * d
      let prefix = segments.prefix(of: run.lowerBound)
      let shared = prefix.reduce(0) { $0 + $1.count }
      let all = segments.starts[run.lowerBound]..<segments.starts[run.upperBound]
      let height = min(tileHeight(all.count), all.count)
      guard height > 0 else { return }
      let scores = empty(height, shared + (run.map { segments[$0].count }.max() ?? 0))
      /// One tile's scores against some keys.
      func score(_ queries: Range<Int>, row: Int, keys: Range<Int>, column: Int) {
        gemm(
          q.base + queries.lowerBound * q.stride + head * d, q.stride, false,
          k.base + keys.lowerBound * k.stride + keyColumn, k.stride, true,
          scores.base + row * scores.stride + column, scores.stride, m: queries.count, n: keys.count, k: d, beta: 0)
      }
      /// Adds what those keys contribute to the tile's output; the first ones overwrite it.
      func mix(_ queries: Range<Int>, row: Int, keys: Range<Int>, column: Int) {
        gemm(
          scores.base + row * scores.stride + column, scores.stride, false,
          v.base + keys.lowerBound * v.stride + keyColumn, v.stride, false,
          out.base + queries.lowerBound * out.stride + head * d, out.stride, m: queries.count, n: d, k: keys.count,
          beta: column == 0 ? 0 : 1)
      }
      func overPrefix(_ body: (_ keys: Range<Int>, _ column: Int) -> Void) {
        var column = 0
        for keys in prefix {
          body(keys, column)
          column += keys.count
        }
      }
      for tile in stride(from: all.lowerBound, to: all.upperBound, by: height) {
        let queries = tile..<min(tile + height, all.upperBound)
        overPrefix { score(queries, row: 0, keys: $0, column: $1) }
        for index in run {
          let segment = segments[index]
          // Of several segments each lies in this tile as a whole; a single one may take several tiles.
          let own = segment.clamped(to: queries)
          guard !own.isEmpty else { continue }
          let (row, first) = (own.lowerBound - tile, own.lowerBound - segment.lowerBound)
          let columns = shared + first + own.count
          score(own, row: row, keys: segment.lowerBound..<own.upperBound, column: shared)
          ck_attention_softmax(
            scores.base + row * scores.stride, scores.stride, shape.scale, shared + first + 1,
            logSumExp.base + own.lowerBound * logSumExp.stride + head, logSumExp.stride, own.count, columns)
        }
        overPrefix { mix(queries, row: 0, keys: $0, column: $1) }
        for index in run {
          let own = segments[index].clamped(to: queries)
          guard !own.isEmpty else { continue }
          mix(
            own, row: own.lowerBound - tile, keys: segments[index].lowerBound..<own.upperBound, column: shared)
        }
      }
    }
  }

  public func attentionGradient(
    _ dOut: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logSumExp: Tensor, segments: Segments,
    shape: AttentionShape, dq: Tensor, dk: Tensor, dv: Tensor
  ) {
    precondition(!segments.hasPrefixes, "attention with shared prefixes has no gradient")
    overwriting(dq, dk, dv)
    let d = shape.headDimension
    let group = shape.heads / shape.keyHeads
    workers.run(segments.count * shape.keyHeads) { job in
      let (segment, keyHead) = (segments[job / shape.keyHeads], job % shape.keyHeads)
      let keys = segment.lowerBound
      let keyColumn = keyHead * d
      let height = min(tileHeight(segment.count), segment.count)
      guard height > 0 else { return }
      let probabilities = empty(height, segment.count)
      let gradient = empty(height, segment.count)
      for row in segment {
        ck_vector_fill(dk.base + row * dk.stride + keyColumn, 0, d)
        ck_vector_fill(dv.base + row * dv.stride + keyColumn, 0, d)
      }
      for head in keyHead * group..<(keyHead + 1) * group {
        var first = 0
        while first < segment.count {
          let rows = min(height, segment.count - first)
          let columns = first + rows
          let query = segment.lowerBound + first
          let queries = q.base + query * q.stride + head * d
          let upstream = dOut.base + query * dOut.stride + head * d
          // P = exp(scale·QKᵀ − lse)
          gemm(
            queries, q.stride, false, k.base + keys * k.stride + keyColumn, k.stride, true, probabilities.base,
            probabilities.stride, m: rows, n: columns, k: d, beta: 0)
          ck_attention_probabilities(
            probabilities.base, probabilities.stride, shape.scale, first + 1,
            logSumExp.base + query * logSumExp.stride + head, logSumExp.stride, rows, columns)
          // dV += Pᵀ dO;  dP = dO Vᵀ;  dS = scale·P(dP − Σ dO·O)
          gemm(
            probabilities.base, probabilities.stride, true, upstream, dOut.stride, false,
            dv.base + keys * dv.stride + keyColumn, dv.stride, m: columns, n: d, k: rows, beta: 1)
          gemm(
            upstream, dOut.stride, false, v.base + keys * v.stride + keyColumn, v.stride, true, gradient.base,
            gradient.stride, m: rows, n: columns, k: d, beta: 0)
          ck_attention_score_gradient(
            probabilities.base, gradient.base, gradient.stride, shape.scale, upstream, dOut.stride,
            out.base + query * out.stride + head * d, out.stride, d, first + 1, rows, columns)
          // dQ = dS K;  dK += dSᵀ Q
          gemm(
            gradient.base, gradient.stride, false, k.base + keys * k.stride + keyColumn, k.stride, false,
            dq.base + query * dq.stride + head * d, dq.stride, m: rows, n: d, k: columns, beta: 0)
          gemm(
            gradient.base, gradient.stride, true, queries, q.stride, false, dk.base + keys * dk.stride + keyColumn,
            dk.stride, m: columns, n: d, k: rows, beta: 1)
          first += rows
        }
      }
    }
  }

  public func cachedAttention(
    q: Tensor, keys: Tensor, values: Tensor, length: Int, shape: AttentionShape, into out: Tensor
  ) {
    let (texts, d, group) = (q.rows, shape.headDimension, shape.heads / shape.keyHeads)
    guard texts > 0 else { return }
    let capacity = keys.rows / texts
    precondition((1...max(1, capacity)).contains(length), "\(length) of \(capacity) stored rows")
    // Short texts are done before a second thread would be awake.
    let pairs = texts * shape.keyHeads
    let each = max(1, (1 << 15) / (length * d * group))
    overRows(pairs, height: each) { chunk in
      // The last column takes the log-sum-exp, which nobody asks for.
      let scores = empty(group, length + 1)
      for pair in chunk {
        let (text, keyHead) = (pair / shape.keyHeads, pair % shape.keyHeads)
        let (row, column) = (text * capacity, keyHead * d)
        gemm(
          q.base + text * q.stride + column * group, d, false, keys.base + row * keys.stride + column, keys.stride,
          true, scores.base, scores.stride, m: group, n: length, k: d, beta: 0)
        ck_attention_softmax(
          scores.base, scores.stride, shape.scale, length, scores.base + length, scores.stride, group, length)
        gemm(
          scores.base, scores.stride, false, values.base + row * values.stride + column, values.stride, false,
          out.base + text * out.stride + column * group, d, m: group, n: d, k: length, beta: 0)
      }
    }
  }
}
