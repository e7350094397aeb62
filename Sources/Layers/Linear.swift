// The product with a weight, and the bias beside it.
import TensorCore

/// y = x Wᵀ + b  (or x W + b for weights stored input by output).
///
/// - Shapes: x [N, I] → y [N, O]
public struct Linear {
  public let weight: Parameter
  public let bias: Parameter?
  public let layout: WeightLayout

  public init(_ weight: Parameter, bias: Parameter? = nil, layout: WeightLayout = .outputByInput) {
    self.weight = weight.used()
    self.bias = bias?.used()
    self.layout = layout
    weight.layout = layout
  }
  public var outputs: Int { layout == .outputByInput ? weight.value.rows : weight.value.columns }
  public var inputs: Int { layout == .outputByInput ? weight.value.columns : weight.value.rows }

  public func forward(_ x: Tensor, on backend: any Backend) -> Tensor {
    let y = backend.empty(x.rows, outputs)
    forward(x, into: y, on: backend)
    return y
  }
  func forward(_ x: Tensor, into y: Tensor, on backend: any Backend) {
    backend.multiply(
      x, transposed: false, weight.value, transposed: layout == .outputByInput, into: y, accumulate: false)
    if let bias { backend.addBias(bias.value, to: y) }
  }
  /// dx ← dy W, or dx += dy W.
  public func inputGradient(_ dy: Tensor, into dx: Tensor, accumulate: Bool, on backend: any Backend) {
    backend.multiply(
      dy, transposed: false, weight.value, transposed: layout == .inputByOutput, into: dx, accumulate: accumulate)
  }
  /// Tells the sink about weight and bias. Call after `inputGradient`: the sink may overwrite dy.
  public func report(_ dy: Tensor, input x: Tensor, rows: RowMap, to sink: any GradientSink) {
    if let bias, bias.isTrainable { sink.sum(bias, terms: dy, segments: rows.segments) }
    if weight.isTrainable { sink.linear(weight, layout: layout, input: x, outputGradient: dy, rows: rows) }
  }

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    let backend = context.backend
    return (
      forward(x, on: backend),
      { dy, sink in
        let dx = backend.empty(x.rows, x.columns)
        inputGradient(dy, into: dx, accumulate: false, on: backend)
        report(dy, input: x, rows: RowMap(context.segments), to: sink)
        return dx
      }
    )
  }
}
