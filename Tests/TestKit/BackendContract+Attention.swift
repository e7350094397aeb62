// Contract cases for attention: segments of length 1, shared key heads, one fused buffer, sharp scores, prefixes.
import TensorCore

extension BackendContract {
  public static let attentionCases: [ContractCase] = [
    ContractCase("attention and its gradient") { bench in
      for (lengths, shape) in attentionShapes {
        for strided in [false, true] { attend(bench, lengths, shape, strided: strided) }
      }
    },
    ContractCase("attention, q k v in one buffer") { bench in
      for (lengths, shape) in attentionShapes { attendFused(bench, lengths, shape) }
    },
    ContractCase("attention, sharp scores") { bench in
      attend(
        bench, [9, 1, 20], AttentionShape(heads: 4, keyHeads: 2, headDimension: 8, scale: 0.35),
        strided: false,
        deviation: 30, tolerance: .sharpAttention)
    },
    ContractCase("attention over a cache") { bench in
      for (texts, capacity, length, shape) in cacheShapes {
        for strided in [false, true] { attendCache(bench, texts, capacity, length, shape, strided: strided) }
      }
    },
    ContractCase("attention after shared prefixes") { bench in
      for (lengths, parents, shape) in prefixShapes {
        for strided in [false, true] {
          attendForward(bench, Segments(lengths: lengths, parents: parents), shape, strided: strided)
        }
      }
    },
  ]

  private static let attentionShapes: [([Int], AttentionShape)] = [
    ([1], AttentionShape(heads: 1, keyHeads: 1, headDimension: 1, scale: 1)),
    ([1, 1, 1], AttentionShape(heads: 2, keyHeads: 1, headDimension: 3, scale: 0.5)),
    ([5], AttentionShape(heads: 4, keyHeads: 2, headDimension: 4, scale: 0.5)),
    ([3, 1, 7], AttentionShape(heads: 6, keyHeads: 3, headDimension: 5, scale: 0.447)),
    ([17, 33, 1, 2], AttentionShape(heads: 3, keyHeads: 3, headDimension: 8, scale: 0.3535)),
    ([70, 1, 40], AttentionShape(heads: 4, keyHeads: 1, headDimension: 16, scale: 0.25)),
    (
      [2, 1, 5, 3, 1, 4, 8, 1, 16, 9, 7], AttentionShape(heads: 2, keyHeads: 2, headDimension: 4, scale: 0.5)
    ),
    ([300, 2], AttentionShape(heads: 1, keyHeads: 1, headDimension: 6, scale: 0.4)),
    ([130], AttentionShape(heads: 2, keyHeads: 1, headDimension: 64, scale: 0.125)),
    ([97, 192, 95], AttentionShape(heads: 2, keyHeads: 2, headDimension: 75, scale: 0.12)),
  ]

  /// Children of a whole text, of a child, of a far segment; long ones; siblings beyond a tile; empty segments.
  private static let prefixShapes: [([Int], [Int?], AttentionShape)] = [
    ([1, 1], [nil, 0], AttentionShape(heads: 1, keyHeads: 1, headDimension: 1, scale: 1)),
    ([5, 2, 3, 1], [nil, 0, 0, 0], AttentionShape(heads: 4, keyHeads: 2, headDimension: 4, scale: 0.5)),
    (
      [7, 4, 2, 3, 6, 1, 2, 4, 3], [nil, 0, 1, 1, 0, 4, 4, nil, 7],
      AttentionShape(heads: 6, keyHeads: 3, headDimension: 5, scale: 0.447)
    ),
    ([3, 5, 0, 2, 4], [nil, nil, 0, 2, 1], AttentionShape(heads: 2, keyHeads: 1, headDimension: 3, scale: 0.5)),
    (
      [90, 70, 150, 1, 40, 30, 20], [nil, 0, 1, 1, 1, 0, 0],
      AttentionShape(heads: 2, keyHeads: 1, headDimension: 16, scale: 0.25)
    ),
    ([4, 530, 3], [nil, 0, 1], AttentionShape(heads: 1, keyHeads: 1, headDimension: 6, scale: 0.4)),
  ]

  private static func attendForward(
    _ bench: ContractBench, _ segments: Segments, _ shape: AttentionShape, strided: Bool
  ) {
    bench.context =
      "segments at \(segments.starts) with prefixes, \(shape.heads)/\(shape.keyHeads) heads of "
      + "\(shape.headDimension)" + (strided ? ", strided" : "")
    let (width, keyWidth) = (shape.heads * shape.headDimension, shape.keyHeads * shape.headDimension)
    let q = bench.normal("q", segments.tokens, width, strided: strided)
    let k = bench.normal("k", segments.tokens, keyWidth, strided: strided)
    let v = bench.normal("v", segments.tokens, keyWidth, strided: strided)
    let out = bench.blank("out", q.rows, q.columns, strided: strided)
    let logSumExp = bench.blank("logSumExp", q.rows, shape.heads, strided: strided)
    bench.backend.attention(
      q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
    bench.output("out", out, .attention, floor: 1)
    bench.output("logSumExp", logSumExp, .attention, floor: 1)
  }

  private static let cacheShapes: [(texts: Int, capacity: Int, length: Int, shape: AttentionShape)] = [
    (1, 1, 1, AttentionShape(heads: 1, keyHeads: 1, headDimension: 1, scale: 1)),
    (3, 7, 5, AttentionShape(heads: 6, keyHeads: 3, headDimension: 5, scale: 0.447)),
    (1, 700, 600, AttentionShape(heads: 4, keyHeads: 2, headDimension: 32, scale: 0.177)),
    (33, 40, 40, AttentionShape(heads: 4, keyHeads: 1, headDimension: 16, scale: 0.25)),
  ]

  private static func attendCache(
    _ bench: ContractBench, _ texts: Int, _ capacity: Int, _ length: Int, _ shape: AttentionShape, strided: Bool
  ) {
    bench.context =
      "\(texts) texts, \(length) of \(capacity) rows, \(shape.heads)/\(shape.keyHeads) heads of "
      + "\(shape.headDimension)" + (strided ? ", strided" : "")
    let (width, keyWidth) = (shape.heads * shape.headDimension, shape.keyHeads * shape.headDimension)
    let q = bench.normal("q", texts, width, strided: strided)
    // What lies behind the stored rows must not be read.
    func stored(_ name: String) -> Tensor {
      var element = 0
      return bench.tensor(name, texts * capacity, keyWidth, strided: strided) { random in
        defer { element += 1 }
        return element / keyWidth % capacity < length ? Float(random.normal()) : .nan
      }
    }
    let (keys, values) = (stored("keys"), stored("values"))
    let out = bench.blank("out", texts, width, strided: strided)
    bench.backend.cachedAttention(q: q, keys: keys, values: values, length: length, shape: shape, into: out)
    bench.output("out", out, .attention, floor: 1)
  }

  private static func attend(
    _ bench: ContractBench, _ lengths: [Int], _ shape: AttentionShape, strided: Bool, deviation: Float = 1,
    tolerance: Tolerance = .attention
  ) {
    bench.context =
      "segments \(lengths), \(shape.heads)/\(shape.keyHeads) heads of \(shape.headDimension)"
      + (strided ? ", strided" : "")
    let tokens = lengths.reduce(0, +)
    let width = shape.heads * shape.headDimension
    let keyWidth = shape.keyHeads * shape.headDimension
    attend(
      bench, Segments(lengths: lengths), shape, tolerance,
      q: bench.normal("q", tokens, width, strided: strided, deviation: deviation),
      k: bench.normal("k", tokens, keyWidth, strided: strided, deviation: deviation),
      v: bench.normal("v", tokens, keyWidth, strided: strided),
      dq: bench.blank("dq", tokens, width, strided: strided),
      dk: bench.blank("dk", tokens, keyWidth, strided: strided),
      dv: bench.blank("dv", tokens, keyWidth, strided: strided), strided: strided)
  }

  private static func attendFused(_ bench: ContractBench, _ lengths: [Int], _ shape: AttentionShape) {
    bench.context =
      "segments \(lengths), \(shape.heads)/\(shape.keyHeads) heads of \(shape.headDimension), fused"
    let tokens = lengths.reduce(0, +)
    let width = shape.heads * shape.headDimension
    let keyWidth = shape.keyHeads * shape.headDimension
    let all = bench.normal("qkv", tokens, width + 2 * keyWidth)
    let gradients = bench.blank("dqkv", tokens, width + 2 * keyWidth)
    let ranges = [0..<width, width..<width + keyWidth, width + keyWidth..<width + 2 * keyWidth]
    attend(
      bench, Segments(lengths: lengths), shape, .attention,
      q: all.columns(ranges[0]), k: all.columns(ranges[1]), v: all.columns(ranges[2]),
      dq: gradients.columns(ranges[0]), dk: gradients.columns(ranges[1]), dv: gradients.columns(ranges[2]),
      strided: false)
  }

  private static func attend(
    _ bench: ContractBench, _ segments: Segments, _ shape: AttentionShape, _ tolerance: Tolerance, q: Tensor,
    k: Tensor, v: Tensor, dq: Tensor, dk: Tensor, dv: Tensor, strided: Bool
  ) {
    let out = bench.blank("out", q.rows, q.columns, strided: strided)
    let logSumExp = bench.blank("logSumExp", q.rows, shape.heads, strided: strided)
    bench.backend.attention(
      q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
    bench.output("out", out, tolerance, floor: 1)
    bench.output("logSumExp", logSumExp, tolerance, floor: 1)
    // Every backend differentiates from the same forward result, so only the gradient is judged here.
    ReferenceBackend().attention(
      q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
    let dOut = bench.normal("dOut", q.rows, q.columns, strided: strided)
    bench.backend.attentionGradient(
      dOut, q: q, k: k, v: v, out: out, logSumExp: logSumExp, segments: segments, shape: shape, dq: dq,
      dk: dk,
      dv: dv)
    bench.output("dq", dq, tolerance, floor: 1)
    bench.output("dk", dk, tolerance, floor: 1)
    bench.output("dv", dv, tolerance, floor: 1)
  }
}
