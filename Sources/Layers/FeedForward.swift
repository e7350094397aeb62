// The two-layer networks between attentions: gated SiLU (Llama) and GELU (GPT-2).
import TensorCore

/// y = (silu(x Wg) ⊙ x Wu) Wd.
///
/// - Shapes: x, y [N, C]
/// - Source: Shazeer 2020, arXiv:2002.05202
public struct GatedFeedForward {
  public let gate: Linear
  public let up: Linear
  public let down: Linear
  public init(gate: Linear, up: Linear, down: Linear) {
    self.gate = gate
    self.up = up
    self.down = down
  }

  public func callAsFunction(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    let backend = context.backend
    let g = gate.forward(x, on: backend)
    let u = up.forward(x, on: backend)
    let hidden = backend.empty(x.rows, gate.outputs)
    backend.gatedSiLU(gate: g, up: u, into: hidden)
    let y = down.forward(hidden, on: backend)
    return (
      y,
      { dy, sink in
        let rows = RowMap(context.segments)
        // y = hidden Wd;  hidden = silu(g)·u, computed again: cheaper than keeping it
        let dHidden = backend.empty(x.rows, gate.outputs)
        down.inputGradient(dy, into: dHidden, accumulate: false, on: backend)
        let hidden = backend.empty(x.rows, gate.outputs)
        backend.gatedSiLU(gate: g, up: u, into: hidden)
        down.report(dy, input: hidden, rows: rows, to: sink)
        let dUp = hidden
        backend.gatedSiLUGradient(dHidden, gate: g, up: u, dGate: dHidden, dUp: dUp)
        // g = x Wg;  u = x Wu
        let dx = backend.empty(x.rows, x.columns)
        gate.inputGradient(dHidden, into: dx, accumulate: false, on: backend)
        gate.report(dHidden, input: x, rows: rows, to: sink)
        up.inputGradient(dUp, into: dx, accumulate: true, on: backend)
        up.report(dUp, input: x, rows: rows, to: sink)
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
