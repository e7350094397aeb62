// The two-layer networks between attentions: gated SiLU (Llama) and GELU (GPT-2).
import TensorCore

/// y = (silu(x Wg) ⊙ x Wu) Wd.
///
/// - Shapes: x, y [N, C]
/// - Source: Shazeer 2020, arXiv:2002.05202
public struct GatedFeedForward {
  public let gateAndUp: LinearGroup
  public let down: Linear
  public init(gate: Linear, up: Linear, down: Linear) {
    gateAndUp = LinearGroup([gate, up])
    self.down = down
  }

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    let backend = context.backend
    let inner = gateAndUp.forward(x, on: backend)
    let (gates, ups) = (gateAndUp.columns[0], gateAndUp.columns[1])
    let hidden = backend.empty(x.rows, down.inputs)
    backend.gatedSiLU(gate: inner.columns(gates), up: inner.columns(ups), into: hidden)
    let y = down.forward(hidden, on: backend)
    return (
      y,
      { dy, sink in
        let rows = RowMap(context.segments)
        // y = hidden Wd;  hidden = silu(g)·u, computed again: cheaper than keeping it
        let hidden = backend.empty(x.rows, down.inputs)
        down.inputGradient(dy, into: hidden, accumulate: false, on: backend)
        let dInner = backend.empty(inner.rows, inner.columns)
        backend.gatedSiLUGradient(
          hidden, gate: inner.columns(gates), up: inner.columns(ups), dGate: dInner.columns(gates),
          dUp: dInner.columns(ups), y: hidden)
        down.report(dy, input: hidden, rows: rows, to: sink)
        // [g | u] = x [Wg | Wu]
        let dx = backend.empty(x.rows, x.columns)
        gateAndUp.inputGradient(dInner, into: dx, on: backend)
        gateAndUp.report(dInner, input: x, rows: rows, to: sink)
        return dx
      }
    )
  }
}

/// y = gelu(x W1 + b1) W2 + b2.
///
/// - Shapes: x, y [N, C]
public struct FeedForward {
  public let expand: Linear
  public let contract: Linear
  public init(expand: Linear, contract: Linear) {
    self.expand = expand
    self.contract = contract
  }

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    let backend = context.backend
    let inner = expand.forward(x, on: backend)
    let hidden = backend.empty(inner.rows, inner.columns)
    backend.gelu(inner, into: hidden)
    let y = contract.forward(hidden, on: backend)
    return (
      y,
      { dy, sink in
        let rows = RowMap(context.segments)
        let dInner = backend.empty(inner.rows, inner.columns)
        contract.inputGradient(dy, into: dInner, accumulate: false, on: backend)
        let hidden = backend.empty(inner.rows, inner.columns)
        backend.gelu(inner, into: hidden)
        contract.report(dy, input: hidden, rows: rows, to: sink)
        backend.geluGradient(dInner, x: inner, into: dInner)
        let dx = backend.empty(x.rows, x.columns)
        expand.inputGradient(dInner, into: dx, accumulate: false, on: backend)
        expand.report(dInner, input: x, rows: rows, to: sink)
        return dx
      }
    )
  }
}
