// Causal self-attention with its projections: separate ones with rotary (Llama) or one fused (GPT-2).
import TensorCore

/// y = Attention(x Wq, x Wk, x Wv) Wo, each sequence for itself.
///
/// - Shapes: x, y [N, C]
public struct SelfAttention {
  /// [q | k | v]: three weights, or one that holds all of them.
  public let projections: LinearGroup
  public let output: Linear
  public let shape: AttentionShape
  public let rotary: Rotary?

  public init(_ projections: LinearGroup, output: Linear, shape: AttentionShape, rotary: Rotary?) {
    self.projections = projections
    self.output = output
    self.shape = shape
    self.rotary = rotary
  }

  var queryWidth: Int { shape.heads * shape.headDimension }
  var keyWidth: Int { shape.keyHeads * shape.headDimension }

  /// Queries, keys and values as windows on one [N, queryWidth + 2·keyWidth] buffer.
  private func windows(_ joined: Tensor) -> (q: Tensor, k: Tensor, v: Tensor) {
    (
      joined.columns(0..<queryWidth), joined.columns(queryWidth..<queryWidth + keyWidth),
      joined.columns(queryWidth + keyWidth..<queryWidth + 2 * keyWidth)
    )
  }

  func project(_ x: Tensor, _ context: Context) -> (q: Tensor, k: Tensor, v: Tensor) {
    windows(projections.forward(x, on: context.backend))
  }

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    let backend = context.backend
    let (q, k, v) = project(x, context)
    rotary?.rotate(q, context, inverse: false)
    rotary?.rotate(k, context, inverse: false)
    let mixed = backend.empty(x.rows, queryWidth)
    let logSumExp = backend.empty(x.rows, shape.heads)
    backend.attention(
      q: q, k: k, v: v, segments: context.segments, shape: shape, into: mixed, logSumExp: logSumExp)
    let y = output.forward(mixed, on: backend)
    // Rounding it again on the way back costs less than keeping a second form of it.
    mixed.storage.rounded = nil
    return (
      y,
      { dy, sink in
        let rows = RowMap(context.segments)
        // y = mixed Wo
        let dMixed = backend.empty(x.rows, queryWidth)
        output.inputGradient(dy, into: dMixed, accumulate: false, on: backend)
        output.report(dy, input: mixed, rows: rows, to: sink)
        // mixed = attention(rotate(q), rotate(k), v)
        let joined = backend.empty(x.rows, queryWidth + 2 * keyWidth)
        let (dq, dk, dv) = windows(joined)
        backend.attentionGradient(
          dMixed, q: q, k: k, v: v, out: mixed, logSumExp: logSumExp, segments: context.segments, shape: shape,
          dq: dq, dk: dk, dv: dv)
        rotary?.rotate(dq, context, inverse: true)
        rotary?.rotate(dk, context, inverse: true)
        // [q | k | v] = x W
        let dx = backend.empty(x.rows, x.columns)
        projections.inputGradient(joined, into: dx, on: backend)
        projections.report(joined, input: x, rows: rows, to: sink)
        return dx
      }
    )
  }
}
