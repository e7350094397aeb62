// The slow, obviously right backend: straight loops, sums in double, one thread, nothing clever.
// It is the executable specification that every fast backend is compared with; this file holds the products.

/// The specification of `Backend` as loops; every sum is accumulated in Double and rounded once.
///
/// - Cost: one multiplication at a time; for tests and tiny models only
public final class ReferenceBackend: Backend {
  public let pool: BufferPool
  /// Always fp32: rounding is what other backends are held against.
  public var precision: Precision {
    get { .fp32 }
    set {}
  }

  public init(pool: BufferPool = BufferPool()) { self.pool = pool }

  public func multiply(
    _ a: Tensor, transposed transposeA: Bool, _ b: Tensor, transposed transposeB: Bool, into c: Tensor,
    accumulate: Bool
  ) {
    let inner = transposeA ? a.rows : a.columns
    precondition(
      (transposeA ? a.columns : a.rows) == c.rows && (transposeB ? b.rows : b.columns) == c.columns
        && (transposeB ? b.columns : b.rows) == inner,
      "multiply: \(shape(a))\(transposeA ? "ᵀ" : "") · \(shape(b))\(transposeB ? "ᵀ" : "") into \(shape(c))")
    for row in 0..<c.rows {
      for column in 0..<c.columns {
        var sum = accumulate ? c[row, column] : 0
        for k in 0..<inner {
          sum += (transposeA ? a[k, row] : a[row, k]) * (transposeB ? b[column, k] : b[k, column])
        }
        c[row, column] = sum
      }
    }
  }

  public func addBias(_ bias: Tensor, to y: Tensor) {
    requireShape(bias, 1, y.columns, "addBias: bias")
    for row in 0..<y.rows { for column in 0..<y.columns { y[row, column] += bias[0, column] } }
  }

  public func columnSums(_ x: Tensor, into sums: Tensor, accumulate: Bool) {
    requireShape(sums, 1, x.columns, "columnSums: sums")
    for column in 0..<x.columns {
      var sum = accumulate ? sums[0, column] : 0
      for row in 0..<x.rows { sum += x[row, column] }
      sums[0, column] = sum
    }
  }

  public func accumulateSquaredProducts(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor) {
    requireShape(f, a.columns, b.columns, "accumulateSquaredProducts: F")
    requireRows(a, b.rows, "accumulateSquaredProducts: a")
    requireRows(a, segments.tokens, "accumulateSquaredProducts: segments")
    for p in 0..<a.columns {
      for q in 0..<b.columns {
        var sum = f[p, q]
        for segment in 0..<segments.count {
          var product = 0.0
          for row in segments[segment] { product += a[row, p] * b[row, q] }
          sum += product * product
        }
        f[p, q] = sum
      }
    }
  }

  public func accumulateProductsOfSquares(_ a: Tensor, _ b: Tensor, into f: Tensor) {
    requireShape(f, a.columns, b.columns, "accumulateProductsOfSquares: F")
    requireRows(a, b.rows, "accumulateProductsOfSquares: a")
    for p in 0..<a.columns {
      for q in 0..<b.columns {
        var sum = f[p, q]
        for row in 0..<a.rows { sum += a[row, p] * a[row, p] * b[row, q] * b[row, q] }
        f[p, q] = sum
      }
    }
  }

  public func accumulateSquaredColumnSums(_ x: Tensor, segments: Segments, into f: Tensor) {
    requireShape(f, 1, x.columns, "accumulateSquaredColumnSums: F")
    requireRows(x, segments.tokens, "accumulateSquaredColumnSums: segments")
    for column in 0..<x.columns {
      var total = f[0, column]
      for segment in 0..<segments.count {
        var sum = 0.0
        for row in segments[segment] { sum += x[row, column] }
        total += sum * sum
      }
      f[0, column] = total
    }
  }

  public func accumulateProductMagnitudes(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor) {
    requireShape(f, a.columns, b.columns, "accumulateProductMagnitudes: F")
    requireRows(a, b.rows, "accumulateProductMagnitudes: a")
    requireRows(a, segments.tokens, "accumulateProductMagnitudes: segments")
    forEach(f, what: "accumulateProductMagnitudes") { p, q in
      for segment in 0..<segments.count {
        f[p, q] += abs(segments[segment].reduce(0) { $0 + a[$1, p] * b[$1, q] })
      }
    }
  }

  public func accumulateColumnSumMagnitudes(_ x: Tensor, segments: Segments, into f: Tensor) {
    requireShape(f, 1, x.columns, "accumulateColumnSumMagnitudes: F")
    requireRows(x, segments.tokens, "accumulateColumnSumMagnitudes: segments")
    forEach(f, what: "accumulateColumnSumMagnitudes") { row, column in
      for segment in 0..<segments.count { f[row, column] += abs(segments[segment].reduce(0) { $0 + x[$1, column] }) }
    }
  }

  // MARK: What all families share

  func shape(_ x: Tensor) -> String { "[\(x.rows), \(x.columns)]" }
  func requireShape(_ x: Tensor, _ rows: Int, _ columns: Int, _ what: String) {
    precondition(x.rows == rows && x.columns == columns, "\(what) is \(shape(x)), not [\(rows), \(columns)]")
  }
  func requireRows(_ x: Tensor, _ rows: Int, _ what: String) {
    precondition(x.rows == rows, "\(what): \(x.rows) rows against \(rows)")
  }
  /// Calls `body` for every element of tensors of one shape.
  func forEach(_ x: Tensor, _ others: Tensor..., what: String, _ body: (Int, Int) -> Void) {
    for other in others { requireShape(other, x.rows, x.columns, what) }
    for row in 0..<x.rows { for column in 0..<x.columns { body(row, column) } }
  }
}

extension Tensor {
  /// Element (row, column) in double; writing rounds once.
  subscript(row: Int, column: Int) -> Double {
    get {
      precondition(row >= 0 && row < rows && column >= 0 && column < columns, "element \(row), \(column)")
      return Double(base[row * stride + column])
    }
    nonmutating set {
      precondition(row >= 0 && row < rows && column >= 0 && column < columns, "element \(row), \(column)")
      base[row * stride + column] = Float(newValue)
    }
  }
}
