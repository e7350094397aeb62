// The matrix family: large products through oneDNN in fp32 or bf16, small ones and machines without it through
// OpenBLAS, cut into chunks that depend on shapes alone.
import CKernels
import COneDNN
import COpenBLAS
import TensorCore

extension Storage {
  /// The elements of a rounded copy.
  var bfloat16: UnsafeMutablePointer<UInt16> {
    UnsafeMutableRawPointer(base).assumingMemoryBound(to: UInt16.self)
  }
}

/// Where an operand lies: its Float32 elements and, under bf16, their rounded form.
private struct Operand: @unchecked Sendable {
  let exact: UnsafePointer<Float>
  let rounded: UnsafePointer<UInt16>?
  let stride: Int
  /// The address of an element in the form that a product reads.
  func address(_ element: Int) -> UnsafeRawPointer {
    rounded.map { UnsafeRawPointer($0 + element) } ?? UnsafeRawPointer(exact + element)
  }
}

extension CPUBackend {
  /// One single-threaded product on pointers: C ← op(A)·op(B) + beta·C.
  func gemm(
    _ a: UnsafePointer<Float>, _ strideA: Int, _ transposeA: Bool, _ b: UnsafePointer<Float>, _ strideB: Int,
    _ transposeB: Bool, _ c: UnsafeMutablePointer<Float>, _ strideC: Int, m: Int, n: Int, k: Int, beta: Float
  ) {
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(m), blasint(n), blasint(k), 1, a, blasint(max(1, strideA)), b, blasint(max(1, strideB)), beta, c,
      blasint(max(1, strideC)))
  }

  /// The bfloat16 form of a tensor's whole buffer, made now unless it is there from before.
  ///
  /// Whole buffers, because weights, activations and gradients enter several products each, in several windows.
  private func rounded(_ x: Tensor) -> UnsafePointer<UInt16> {
    let storage = x.storage
    if let known = storage.rounded { return UnsafePointer(known.bfloat16 + x.offset) }
    let copy = storage.roundedStorage()
    overRows(storage.count, height: 1 << 16) { range in
      ck_vector_round(storage.base + range.lowerBound, copy.bfloat16 + range.lowerBound, range.count)
    }
    storage.rounded = copy
    return UnsafePointer(copy.bfloat16 + x.offset)
  }

  private func operand(_ x: Tensor, isBF16: Bool) -> Operand {
    Operand(exact: UnsafePointer(x.base), rounded: isBF16 ? rounded(x) : nil, stride: x.stride)
  }

  /// A product of one chunk by whoever is prepared for it.
  private func run(
    _ product: PreparedProduct?, _ shape: ProductShape, _ a: Operand, _ firstA: Int, _ b: Operand, _ firstB: Int,
    _ c: UnsafeMutablePointer<Float>
  ) {
    if let product {
      product.run(a.address(firstA), b.address(firstB), c)
    } else {
      gemm(
        a.exact + firstA, shape.strideA, shape.transposeA, b.exact + firstB, shape.strideB, shape.transposeB, c,
        shape.strideC, m: shape.m, n: shape.n, k: shape.k, beta: shape.accumulate ? 1 : 0)
    }
  }

  public func multiply(
    _ a: Tensor, transposed transposeA: Bool, _ b: Tensor, transposed transposeB: Bool, into c: Tensor,
    accumulate: Bool
  ) {
    let (m, n) = (c.rows, c.columns)
    let k = transposeA ? a.rows : a.columns
    precondition(
      (transposeA ? a.columns : a.rows) == m && (transposeB ? b.rows : b.columns) == n
        && (transposeB ? b.columns : b.rows) == k,
      "product of [\(a.rows), \(a.columns)] and [\(b.rows), \(b.columns)] into [\(m), \(n)]")
    overwriting(c)
    guard m > 0, n > 0 else { return }
    guard k > 0 else {
      if !accumulate { fill(c, 0) }
      return
    }
    var whole = ProductShape(
      m: m, n: n, k: k, strideA: a.stride, strideB: b.stride, strideC: c.stride, transposeA: transposeA,
      transposeB: transposeB, accumulate: accumulate, isBF16: false)
    whole.isBF16 = usesBF16 && !whole.isSmall
    let (left, right) = (operand(a, isBF16: whole.isBF16), operand(b, isBF16: whole.isBF16))
    let chunks = ProductChunks(whole, from: products)
    let cut = chunks.cut
    // The first sum over terms goes where the whole belongs, the others beside it; they are added in order.
    let others = cut.terms.count > 1 ? empty((cut.terms.count - 1) * m, n) : nil
    workers.run(cut.count) { index in
      let (term, place) = index.quotientAndRemainder(dividingBy: cut.rows.count * cut.columns.count)
      let (column, row) = place.quotientAndRemainder(dividingBy: cut.rows.count)
      let part = chunks.shape(row, column, term)
      let (i, j, l) = (cut.rows.begin(row), cut.columns.begin(column), cut.terms.begin(term))
      let target = others.map { term == 0 ? c.base : $0.base + (term - 1) * m * n } ?? c.base
      run(
        chunks.prepared(row, column, term), part, left, transposeA ? l * a.stride + i : i * a.stride + l, right,
        transposeB ? j * b.stride + l : l * b.stride + j, target + i * part.strideC + j)
    }
    guard let others else { return }
    overRows(m, height: height(columns: n)) { rows in
      for part in 0..<cut.terms.count - 1 {
        for row in rows { ck_vector_add(others.base + (part * m + row) * n, 1, c.base + row * c.stride, n) }
      }
    }
  }

  public func accumulateSquaredProducts(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor) {
    accumulate(a, b, segments: segments, into: f) { ck_vector_add_squares($0, 1, $1, $2) }
  }

  public func accumulateProductMagnitudes(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor) {
    accumulate(a, b, segments: segments, into: f) { ck_vector_add_magnitudes($0, 1, $1, $2) }
  }

  /// F takes what `join` makes of every segment's product AᵀB.
  private func accumulate(
    _ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor,
    _ join: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    precondition(
      f.rows == a.columns && f.columns == b.columns && a.rows == b.rows && segments.tokens == a.rows,
      "gradients of [\(a.rows), \(a.columns)]ᵀ[\(b.rows), \(b.columns)] into [\(f.rows), \(f.columns)]")
    overwriting(f)
    // A block of F and the gradient of one sequence for it stay in cache while all sequences pass.
    let block = max(16, min((f.rows + 1) / 2, (1 << 17) / max(1, f.columns)))
    let isBF16 = usesBF16 && block * f.columns * segments.longest >= ProductShape.smallest
    let (left, right) = (operand(a, isBF16: isBF16), operand(b, isBF16: isBF16))
    func shape(_ rows: Int, _ tokens: Int) -> ProductShape {
      ProductShape(
        m: rows, n: f.columns, k: tokens, strideA: a.stride, strideB: b.stride, strideC: f.columns,
        transposeA: true, transposeB: false, accumulate: false, isBF16: isBF16)
    }
    var prepared: [Int: PreparedProduct] = [:]
    let rest = f.rows % block
    for tokens in Set(segments.lengths) {
      for rows in Set([min(block, f.rows), rest]) where rows > 0 && !shape(rows, tokens).isSmall {
        prepared[rows << 32 | tokens] = products.product(shape(rows, tokens))
      }
    }
    let ready = prepared
    overRows(f.rows, height: block) { rows in
      let scratch = empty(rows.count, f.columns)
      for index in 0..<segments.count {
        let segment = segments[index]
        guard !segment.isEmpty else { continue }
        run(
          ready[rows.count << 32 | segment.count], shape(rows.count, segment.count), left,
          segment.lowerBound * a.stride + rows.lowerBound, right, segment.lowerBound * b.stride, scratch.base)
        if f.isContiguous {
          join(scratch.base, f.base + rows.lowerBound * f.stride, scratch.count)
        } else {
          for row in 0..<rows.count {
            join(scratch.base + row * scratch.stride, f.base + (rows.lowerBound + row) * f.stride, f.columns)
          }
        }
      }
    }
  }

  public func accumulateProductsOfSquares(_ a: Tensor, _ b: Tensor, into f: Tensor) {
    precondition(
      f.rows == a.columns && f.columns == b.columns && a.rows == b.rows,
      "squares of [\(a.rows), \(a.columns)] and [\(b.rows), \(b.columns)] into [\(f.rows), \(f.columns)]")
    // What is wide, the logits above all, is squared tile by tile in cache; beside it the other operand is small.
    guard a.columns >= b.columns, b.columns <= Self.squaredBeside, a.columns > Self.squaredTile, a.rows > 0 else {
      let whole = ProductShape(
        m: f.rows, n: f.columns, k: a.rows, strideA: a.columns, strideB: b.columns, strideC: f.stride,
        transposeA: true, transposeB: false, accumulate: true, isBF16: usesBF16)
      // Rounded squares alone serve only where all of the product is prepared for them.
      let isBF16 = usesBF16 && !whole.isSmall && ProductChunks(whole, from: products).isPrepared
      return multiply(
        squared(a, isBF16: isBF16), transposed: true, squared(b, isBF16: isBF16), transposed: false, into: f,
        accumulate: true)
    }
    overwriting(f)
    let parts = (a.rows + Self.squaredRows - 1) / Self.squaredRows
    let (width, height) = (Self.squaredTile, (a.rows + parts - 1) / parts)
    func shape(_ columns: Int, _ rows: Int, isBF16: Bool) -> ProductShape {
      ProductShape(
        m: columns, n: b.columns, k: rows, strideA: columns, strideB: b.columns, strideC: f.stride,
        transposeA: true, transposeB: false, accumulate: true, isBF16: isBF16)
    }
    func prepared(isBF16: Bool) -> [ProductShape: PreparedProduct?] {
      var products: [ProductShape: PreparedProduct?] = [:]
      for columns in Set([width, a.columns % width]) where columns > 0 {
        for rows in Set([height, a.rows % height]) where rows > 0 {
          let shape = shape(columns, rows, isBF16: isBF16)
          products[shape] = .some(shape.isSmall && !isBF16 ? nil : self.products.product(shape))
        }
      }
      return products
    }
    // A tile has one form: bfloat16 only where all of its products are prepared for that.
    let rounded = usesBF16 ? prepared(isBF16: true) : [:]
    let isBF16 = usesBF16 && rounded.values.allSatisfy { $0 != nil }
    let ready = isBF16 ? rounded : prepared(isBF16: false)
    let (left, right) = (operand(a, isBF16: isBF16), operand(squared(b, isBF16: isBF16), isBF16: isBF16))
    overRows(a.columns, height: width) { columns in
      let tile = empty(height, width)
      let squares = Operand(
        exact: UnsafePointer(tile.base), rounded: isBF16 ? UnsafePointer(tile.storage.bfloat16) : nil,
        stride: columns.count)
      for first in stride(from: 0, to: a.rows, by: height) {
        let shape = shape(columns.count, min(height, a.rows - first), isBF16: isBF16)
        let from = first * a.stride + columns.lowerBound
        if let rounded = left.rounded {
          ck_vector_square_tile_rounded(rounded + from, a.stride, tile.storage.bfloat16, shape.k, shape.m)
        } else {
          ck_vector_square_tile(left.exact + from, a.stride, tile.base, shape.k, shape.m)
        }
        run(
          ready[shape] ?? nil, shape, squares, 0, right, first * right.stride, f.base + columns.lowerBound * f.stride)
      }
    }
  }

  /// Sides of a tile of squares: it stays in the second cache, and its rows do not fall into the same few lines of the
  /// first as those of 256 columns would (5 % slower).
  private static let squaredTile = 240
  private static let squaredRows = 384
  /// Columns of the other operand up to which tiles are worth it: beyond, the product takes so much longer than the
  /// squares that it had better be cut into fewer chunks.
  private static let squaredBeside = 1024

  /// The squares for a product; with `isBF16` its rounded form is all there is of them.
  private func squared(_ x: Tensor, isBF16: Bool) -> Tensor {
    let y = empty(x.rows, x.columns)
    let rounded = isBF16 ? y.storage.roundedStorage() : nil
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      for row in rows {
        let (from, to) = (x.base + row * x.stride, row * y.stride)
        if let rounded {
          ck_vector_square_rounded(from, rounded.bfloat16 + to, x.columns)
        } else {
          ck_vector_square(from, y.base + to, x.columns)
        }
      }
    }
    y.storage.rounded = rounded
    return y
  }
}
