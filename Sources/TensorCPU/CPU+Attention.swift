// The attention family: tiles of queries against the keys they may see, heads and segments in parallel.
import CKernels
import TensorCore

extension CPUBackend {
  /// Queries of a tile: short sequences want short tiles, since half of the diagonal tile is masked.
  private func tileHeight(_ length: Int) -> Int { length <= 512 ? 64 : 128 }

  public func attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, shape: AttentionShape, into out: Tensor,
    logSumExp: Tensor
  ) {
    overwriting(out, logSumExp)
    let d = shape.headDimension
    let group = shape.heads / shape.keyHeads
    workers.run(segments.count * shape.heads) { job in
      let (segment, head) = (segments[job / shape.heads], job % shape.heads)
      let keyColumn = head / group * d
      let height = min(tileHeight(segment.count), segment.count)
      guard height > 0 else { return }
      let scores = empty(height, segment.count)
      var first = 0
      while first < segment.count {
        let rows = min(height, segment.count - first)
        let columns = first + rows
        let query = segment.lowerBound + first
        gemm(
          q.base + query * q.stride + head * d, q.stride, false, k.base + segment.lowerBound * k.stride + keyColumn,
          k.stride, true, scores.base, scores.stride, m: rows, n: columns, k: d, beta: 0)
        ck_attention_softmax(
          scores.base, scores.stride, shape.scale, first + 1, logSumExp.base + query * logSumExp.stride + head,
          logSumExp.stride, rows, columns)
        gemm(
          scores.base, scores.stride, false, v.base + segment.lowerBound * v.stride + keyColumn, v.stride, false,
          out.base + query * out.stride + head * d, out.stride, m: rows, n: d, k: columns, beta: 0)
        first += rows
      }
    }
  }

  public func attentionGradient(
    _ dOut: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logSumExp: Tensor, segments: Segments,
    shape: AttentionShape, dq: Tensor, dk: Tensor, dv: Tensor
  ) {
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
}
