// The attention family: heads and texts in parallel, each in tiles that stay in cache.
import CKernels
import TensorCore

extension CPUBackend {
  /// Neighbouring segments that go on from the same tokens: what they share is packed once.
  ///
  /// Few enough that heads and runs give every thread work. Any other segment stands alone.
  private func siblings(_ segments: Segments) -> [Range<Int>] {
    guard segments.hasPrefixes else { return (0..<segments.count).map { $0..<$0 + 1 } }
    var runs: [Range<Int>] = []
    for index in 0..<segments.count {
      let prefix = segments.prefix(of: index)
      if let run = runs.last, !prefix.isEmpty, prefix == segments.prefix(of: run.lowerBound),
        segments.starts[index + 1] - segments.starts[run.lowerBound] <= 128
      {
        runs[runs.count - 1] = run.lowerBound..<index + 1
      } else {
        runs.append(index..<index + 1)
      }
    }
    return runs
  }

  private func kernelShape(_ shape: AttentionShape, keys: Int) -> ck_attention_shape {
    ck_attention_shape(
      keys: keys, head_dimension: shape.headDimension, scale: shape.scale,
      is_bf16: usesBF16 && ck_attention_has_bf16() != 0 ? 1 : 0)
  }

  /// Asks for the working space of all threads at once before jobs take it one by one, so that a backend that only
  /// counts sees it.
  private func reserve(_ floats: Int, jobs: Int) {
    withExtendedLifetime((0..<min(jobs, threads)).map { _ in empty(1, floats) }) {}
  }

  public func attention(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, shape: AttentionShape, into out: Tensor,
    logSumExp: Tensor
  ) {
    overwriting(out, logSumExp)
    let d = shape.headDimension
    let group = shape.heads / shape.keyHeads
    let runs = siblings(segments)
    let largest = ck_attention_space(kernelShape(shape, keys: segments.longest), 0)
    reserve(largest, jobs: runs.count * shape.heads)
    workers.run(runs.count * shape.heads) { job in
      let (run, head) = (runs[job / shape.heads], job % shape.heads)
      let (column, keyColumn) = (head * d, head / group * d)
      let prefix = segments.prefix(of: run.lowerBound)
      let shared = prefix.reduce(0) { $0 + $1.count }
      let longest = shared + (run.map { segments[$0].count }.max() ?? 0)
      guard longest > 0 else { return }
      let space = empty(1, largest)
      // Keys and values that lie apart are brought together; the shared ones come first and stay.
      let gathered = shared > 0 ? empty(2 * longest, d) : nil
      func gather(_ rows: Range<Int>, at place: Int) {
        guard let gathered else { return }
        for (offset, row) in rows.enumerated() {
          let key = gathered.base + (place + offset) * d
          key.update(from: k.base + row * k.stride + keyColumn, count: d)
          (key + longest * d).update(from: v.base + row * v.stride + keyColumn, count: d)
        }
      }
      var place = 0
      for rows in prefix {
        gather(rows, at: place)
        place += rows.count
      }
      var first = 0
      for index in run where !segments[index].isEmpty {
        let own = segments[index]
        // The layout of the space depends on the number of keys: siblings keep the longest one's.
        let kernel = kernelShape(shape, keys: gathered == nil ? own.count : longest)
        if let gathered {
          gather(own, at: shared)
          for row in shared + own.count..<longest {
            ck_vector_fill(gathered.base + row * d, 0, d)
            ck_vector_fill(gathered.base + (longest + row) * d, 0, d)
          }
          ck_attention_pack(kernel, gathered.base, d, gathered.base + longest * d, d, first, 0, space.base)
          first = shared / 16 * 16
        } else {
          ck_attention_pack(
            kernel, k.base + own.lowerBound * k.stride + keyColumn, k.stride,
            v.base + own.lowerBound * v.stride + keyColumn, v.stride, 0, 0, space.base)
        }
        ck_attention_forward(
          kernel, q.base + own.lowerBound * q.stride + column, q.stride, shared + 1, own.count,
          out.base + own.lowerBound * out.stride + column, out.stride,
          logSumExp.base + own.lowerBound * logSumExp.stride + head, logSumExp.stride, space.base)
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
    let largest = ck_attention_space(kernelShape(shape, keys: segments.longest), 1)
    reserve(largest, jobs: segments.count * shape.keyHeads)
    workers.run(segments.count * shape.keyHeads) { job in
      let (segment, keyHead) = (segments[job / shape.keyHeads], job % shape.keyHeads)
      guard !segment.isEmpty else { return }
      let (first, keyColumn) = (segment.lowerBound, keyHead * d)
      let kernel = kernelShape(shape, keys: segment.count)
      let space = empty(1, largest)
      ck_attention_pack(
        kernel, k.base + first * k.stride + keyColumn, k.stride, v.base + first * v.stride + keyColumn, v.stride, 0, 1,
        space.base)
      for head in keyHead * group..<(keyHead + 1) * group {
        let column = head * d
        ck_attention_backward(
          kernel, dOut.base + first * dOut.stride + column, dOut.stride, q.base + first * q.stride + column, q.stride,
          out.base + first * out.stride + column, out.stride, logSumExp.base + first * logSumExp.stride + head,
          logSumExp.stride, dq.base + first * dq.stride + column, dq.stride, space.base)
      }
      ck_attention_take(
        kernel, dk.base + first * dk.stride + keyColumn, dk.stride, dv.base + first * dv.stride + keyColumn, dv.stride,
        space.base)
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
      let scores = empty(group, length)
      for pair in chunk {
        let (text, keyHead) = (pair / shape.keyHeads, pair % shape.keyHeads)
        let (row, column) = (text * capacity, keyHead * d)
        gemm(
          q.base + text * q.stride + column * group, d, false, keys.base + row * keys.stride + column, keys.stride,
          true, scores.base, scores.stride, m: group, n: length, k: d, beta: 0)
        ck_attention_softmax(scores.base, scores.stride, shape.scale, group, length)
        gemm(
          scores.base, scores.stride, false, values.base + row * values.stride + column, values.stride, false,
          out.base + text * out.stride + column * group, d, m: group, n: d, k: length, beta: 0)
      }
    }
  }
}
