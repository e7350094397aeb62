// How layers are put together: the pre-norm residual connection.
import TensorCore

/// y = x + body(norm(x)).
///
/// - Shapes: x, y [N, C]
public func residual(
  _ x: Tensor, norm: Normalization, context: Context,
  body: (Tensor, Context) -> (Tensor, Pullback)
) -> (Tensor, Pullback) {
  let backend = context.backend
  let (normalized, normBack) = norm(x, context)
  let (y, bodyBack) = body(normalized, context)
  backend.add(x, scaled: 1, into: y)
  return (
    y,
    { dy, sink in
      // The body reads dy and leaves it; the norm adds its share to it.
      normBack(bodyBack(dy, sink), dy, true, sink)
      return dy
    }
  )
}
