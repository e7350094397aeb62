// How layers are put together: the pre-norm residual connection, and a body that forgets what it computed.
import TensorCore

/// y = x + body(norm(x)); what the norm gave is not kept but computed again on the way back.
///
/// - Shapes: x, y [N, C]
/// - Precondition: nothing that the body returns lies in its input's buffer
public func residual(
  _ x: Tensor, norm: Normalization, context: Context,
  body: (Tensor, Context) -> (Tensor, Pullback)
) -> (Tensor, Pullback) {
  let backend = context.backend
  let (normalized, normBack) = norm(x, context)
  let (y, bodyBack) = body(normalized, context)
  backend.add(x, scaled: 1, into: y)
  normalized.storage.vacate()
  return (
    y,
    { dy, sink in
      if normalized.storage.occupy() { norm.again(x, into: normalized, context) }
      // The body reads dy and leaves it; the norm adds its share to it.
      normBack(bodyBack(dy, sink), dy, true, sink)
      return dy
    }
  )
}

/// y = body(x), of which only x is kept: the pullback runs the body again before it goes back through it.
///
/// - Shapes: as the body's
/// - Cost: one more forward pass of the body for every backward pass; the memory of x
public func recomputed(_ x: Tensor, _ body: @escaping (Tensor) -> (Tensor, Pullback)) -> (Tensor, Pullback) {
  // The same kernels on the same x: the bits are those of a body that kept everything.
  (body(x).0, { dy, sink in body(x).1(dy, sink) })
}
