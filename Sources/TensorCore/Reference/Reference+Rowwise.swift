// The reference's row-wise functions: normalisation, activations, rotary positions.
// Each row, or each element, is computed from its own inputs alone.

extension ReferenceBackend {
  public func normalize(
    _ x: Tensor, gain: Tensor, shift: Tensor?, epsilon: Float, centred: Bool, into y: Tensor,
    statistics: Tensor
  ) {
    requireShape(y, x.rows, x.columns, "normalize: y")
    requireShape(gain, 1, x.columns, "normalize: gain")
    if let shift { requireShape(shift, 1, x.columns, "normalize: shift") }
    requireShape(statistics, x.rows, 2, "normalize: statistics")
    let width = Double(x.columns)
    for row in 0..<x.rows {
      var mean = 0.0
      if centred {
        for column in 0..<x.columns { mean += x[row, column] / width }
      }
      var variance = 0.0
      for column in 0..<x.columns {
        let distance = x[row, column] - mean
        variance += distance * distance / width
      }
      let inverse = 1 / (variance + Double(epsilon)).squareRoot()
      for column in 0..<x.columns {
        y[row, column] = (x[row, column] - mean) * inverse * gain[0, column] + (shift?[0, column] ?? 0)
      }
      statistics[row, 0] = mean
      statistics[row, 1] = inverse
    }
  }

  public func normalizeGradient(
    _ dy: Tensor, x: Tensor, gain: Tensor, statistics: Tensor, centred: Bool, into dx: Tensor,
    accumulate: Bool
  ) {
    requireShape(dy, x.rows, x.columns, "normalizeGradient: dy")
    requireShape(dx, x.rows, x.columns, "normalizeGradient: dx")
    requireShape(gain, 1, x.columns, "normalizeGradient: gain")
    requireShape(statistics, x.rows, 2, "normalizeGradient: statistics")
    let width = Double(x.columns)
    for row in 0..<x.rows {
      let mean = statistics[row, 0]
      let inverse = statistics[row, 1]
      // With n = (x − mean)·inverse and g = dy·gain:  dx = inverse·(g − mean(g) − n·mean(g·n)); the middle
      // term is the mean's own gradient, so it is there only where a mean was taken.
      var meanOfG = 0.0
      var meanOfGN = 0.0
      for column in 0..<x.columns {
        let g = dy[row, column] * gain[0, column]
        meanOfG += g / width
        meanOfGN += g * (x[row, column] - mean) * inverse / width
      }
      for column in 0..<x.columns {
        let g = dy[row, column] * gain[0, column]
        let n = (x[row, column] - mean) * inverse
        let gradient = inverse * (g - (centred ? meanOfG : 0) - n * meanOfGN)
        dx[row, column] = gradient + (accumulate ? dx[row, column] : 0)
      }
    }
  }

  public func normalizedProduct(_ dy: Tensor, x: Tensor, statistics: Tensor, into out: Tensor) {
    requireShape(statistics, x.rows, 2, "normalizedProduct: statistics")
    forEach(x, dy, out, what: "normalizedProduct") { row, column in
      out[row, column] = dy[row, column] * (x[row, column] - statistics[row, 0]) * statistics[row, 1]
    }
  }

  public func gatedSiLU(gate: Tensor, up: Tensor, into y: Tensor) {
    forEach(gate, up, y, what: "gatedSiLU") { row, column in
      y[row, column] = gate[row, column] * sigmoid(gate[row, column]) * up[row, column]
    }
  }

  public func gatedSiLUGradient(
    _ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor, y: Tensor
  ) {
    forEach(gate, up, dy, dGate, dUp, y, what: "gatedSiLUGradient") { row, column in
      let (g, u, d) = (gate[row, column], up[row, column], dy[row, column])
      let s = sigmoid(g)
      dGate[row, column] = d * u * s * (1 + g * (1 - s))
      dUp[row, column] = d * g * s
      y[row, column] = g * s * u
    }
  }

  public func gelu(_ x: Tensor, into y: Tensor) {
    forEach(x, y, what: "gelu") { row, column in
      let value = x[row, column]
      y[row, column] = 0.5 * value * (1 + Maths.tanh(geluInner(value)))
    }
  }

  public func geluGradient(_ dy: Tensor, x: Tensor, into dx: Tensor) {
    forEach(x, dy, dx, what: "geluGradient") { row, column in
      let value = x[row, column]
      let t = Maths.tanh(geluInner(value))
      let slope = Self.geluFactor * (1 + 3 * 0.044715 * value * value)
      dx[row, column] = dy[row, column] * (0.5 * (1 + t) + 0.5 * value * (1 - t * t) * slope)
    }
  }

  public func relu(_ x: Tensor, into y: Tensor) {
    forEach(x, y, what: "relu") { row, column in y[row, column] = max(0, x[row, column]) }
  }

  public func reluGradient(_ dy: Tensor, y: Tensor, into dx: Tensor) {
    forEach(y, dy, dx, what: "reluGradient") { row, column in
      dx[row, column] = y[row, column] > 0 ? dy[row, column] : 0
    }
  }

  public func rotate(
    _ x: Tensor, headDimension: Int, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) {
    let half = headDimension / 2
    precondition(
      headDimension % 2 == 0 && x.columns % headDimension == 0, "rotate: \(shape(x)), D \(headDimension)")
    requireRows(x, positions.count, "rotate: positions")
    requireShape(cosines, cosines.rows, half, "rotate: cosines")
    requireShape(sines, cosines.rows, half, "rotate: sines")
    for row in 0..<x.rows {
      let position = Int(positions[row])
      for head in 0..<x.columns / headDimension {
        for i in 0..<half {
          let first = head * headDimension + i
          let second = first + half
          let cosine = cosines[position, i]
          let sine = inverse ? -sines[position, i] : sines[position, i]
          let (a, b) = (x[row, first], x[row, second])
          x[row, first] = a * cosine - b * sine
          x[row, second] = b * cosine + a * sine
        }
      }
    }
  }

  private func sigmoid(_ x: Double) -> Double { 1 / (1 + Maths.exp(-x)) }
  private static let geluFactor = (2 / Double.pi).squareRoot()
  private func geluInner(_ x: Double) -> Double { Self.geluFactor * (x + 0.044715 * x * x * x) }
}
