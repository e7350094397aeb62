// The rowwise family: chunks of rows, one kernel call each.
import CKernels
import TensorCore

extension CPUBackend {
  public func normalize(
    _ x: Tensor, gain: Tensor, shift: Tensor?, epsilon: Float, centred: Bool, into y: Tensor, statistics: Tensor
  ) {
    overwriting(y, statistics)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_normalize(
        x.base + r * x.stride, x.stride, gain.base, shift?.base, epsilon, centred ? 1 : 0, y.base + r * y.stride,
        y.stride, statistics.base + r * statistics.stride, statistics.stride, rows.count, x.columns)
    }
  }

  public func normalizeGradient(
    _ dy: Tensor, x: Tensor, gain: Tensor, statistics: Tensor, centred: Bool, into dx: Tensor, accumulate: Bool
  ) {
    overwriting(dx)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_normalize_gradient(
        dy.base + r * dy.stride, dy.stride, x.base + r * x.stride, x.stride, gain.base,
        statistics.base + r * statistics.stride, statistics.stride,
        centred ? 1 : 0, dx.base + r * dx.stride, dx.stride, accumulate ? 1 : 0, rows.count, x.columns)
    }
  }

  public func normalizedProduct(_ dy: Tensor, x: Tensor, statistics: Tensor, into out: Tensor) {
    overwriting(out)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_normalized_product(
        dy.base + r * dy.stride, dy.stride, x.base + r * x.stride, x.stride, statistics.base + r * statistics.stride,
        statistics.stride,
        out.base + r * out.stride, out.stride, rows.count, x.columns)
    }
  }

  public func gatedSiLU(gate: Tensor, up: Tensor, into y: Tensor) {
    overwriting(y)
    overRows(y.rows, height: height(columns: y.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_gated_silu(
        gate.base + r * gate.stride, gate.stride, up.base + r * up.stride, up.stride, y.base + r * y.stride,
        y.stride, rows.count, y.columns)
    }
  }

  public func gatedSiLUGradient(
    _ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor, y: Tensor
  ) {
    overwriting(dGate, dUp, y)
    overRows(dy.rows, height: height(columns: dy.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_gated_silu_gradient(
        dy.base + r * dy.stride, dy.stride, gate.base + r * gate.stride, gate.stride, up.base + r * up.stride,
        up.stride, dGate.base + r * dGate.stride, dGate.stride, dUp.base + r * dUp.stride, dUp.stride,
        y.base + r * y.stride, y.stride, rows.count, dy.columns)
    }
  }

  public func gelu(_ x: Tensor, into y: Tensor) {
    overwriting(y)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_gelu(x.base + r * x.stride, x.stride, y.base + r * y.stride, y.stride, rows.count, x.columns)
    }
  }

  public func geluGradient(_ dy: Tensor, x: Tensor, into dx: Tensor) {
    overwriting(dx)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_gelu_gradient(
        dy.base + r * dy.stride, dy.stride, x.base + r * x.stride, x.stride, dx.base + r * dx.stride, dx.stride,
        rows.count, x.columns)
    }
  }

  public func relu(_ x: Tensor, into y: Tensor) {
    overwriting(y)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_relu(x.base + r * x.stride, x.stride, y.base + r * y.stride, y.stride, rows.count, x.columns)
    }
  }

  public func reluGradient(_ dy: Tensor, y: Tensor, into dx: Tensor) {
    overwriting(dx)
    overRows(y.rows, height: height(columns: y.columns)) { rows in
      let r = rows.lowerBound
      ck_rowwise_relu_gradient(
        dy.base + r * dy.stride, dy.stride, y.base + r * y.stride, y.stride, dx.base + r * dx.stride, dx.stride,
        rows.count, y.columns)
    }
  }

  public func rotate(
    _ x: Tensor, headDimension: Int, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) {
    overwriting(x)
    precondition(positions.count == x.rows && x.columns % headDimension == 0, "rotary shapes disagree")
    positions.withUnsafeBufferPointer { positions in
      guard let first = positions.baseAddress else { return }
      overRows(x.rows, height: height(columns: x.columns)) { rows in
        let r = rows.lowerBound
        ck_rowwise_rotate(
          x.base + r * x.stride, x.stride, x.columns / headDimension, headDimension, first + r, cosines.base,
          sines.base, inverse ? 1 : 0, rows.count)
      }
    }
  }
}
