// Layer norm and root-mean-square norm: one kernel, with and without a mean.
import TensorCore

/// y = (x − mean)/√(var + ε) · gain + shift; without shift the root-mean-square form, mean 0.
///
/// - Shapes: x, y [N, C]
public struct Normalization {
  public let gain: Parameter
  public let shift: Parameter?
  public let epsilon: Float

  public init(gain: Parameter, shift: Parameter?, epsilon: Float) {
    self.gain = gain.used()
    self.shift = shift?.used()
    self.epsilon = epsilon
  }
  private var isCentred: Bool { shift != nil }

  private func normalize(_ x: Tensor, into y: Tensor, statistics: Tensor, on backend: any Backend) {
    backend.normalize(
      x, gain: gain.value, shift: shift?.value, epsilon: epsilon, centred: isCentred, into: y, statistics: statistics)
  }
  /// y once more, the same bits.
  func again(_ x: Tensor, into y: Tensor, _ context: Context) {
    normalize(x, into: y, statistics: context.backend.empty(x.rows, 2), on: context.backend)
  }

  /// The pullback adds to a given gradient by x: norms sit beside residual connections.
  public typealias AddingPullback = (_ dy: Tensor, _ dx: Tensor, _ accumulate: Bool, _ sink: any GradientSink) -> Void

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, AddingPullback) {
    let backend = context.backend
    let y = backend.empty(x.rows, x.columns)
    let statistics = backend.empty(x.rows, 2)
    normalize(x, into: y, statistics: statistics, on: backend)
    return (
      y,
      { dy, dx, accumulate, sink in
        backend.normalizeGradient(
          dy, x: x, gain: gain.value, statistics: statistics, centred: isCentred, into: dx, accumulate: accumulate)
        if let shift, shift.isTrainable { sink.sum(shift, terms: dy, segments: context.segments) }
        if gain.isTrainable {
          // dy is not needed any more: its buffer takes the terms dy ⊙ x̂.
          backend.normalizedProduct(dy, x: x, statistics: statistics, into: dy)
          sink.sum(gain, terms: dy, segments: context.segments)
        }
      }
    )
  }
}
