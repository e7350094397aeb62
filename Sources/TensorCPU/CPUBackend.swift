import CKernels
// The fast backend and its matrix family: OpenBLAS for products, cut into chunks that depend on shapes alone.
import COpenBLAS
import Glibc
import TensorCore

/// Float32 on the CPU: single-threaded OpenBLAS and C kernels, scheduled over one pool of threads.
///
/// The same inputs give the same bits for any number of threads.
public final class CPUBackend: Backend {
  public let pool = BufferPool()
  let workers: ThreadPool

  /// - Parameter threads: workers, the caller included; nil for all processors that this process may use
  public init(threads: Int? = nil) {
    // Set once for the process: our pool is the only one that schedules.
    openblas_set_num_threads(1)
    workers = ThreadPool(threads: threads ?? Self.availableProcessors)
  }

  public var threads: Int { workers.threads }
  /// The kernel set that OpenBLAS chose for this CPU; part of what decides bits.
  public static var blasCore: String { String(cString: openblas_get_corename()) }
  public static var blasConfiguration: String { String(cString: openblas_get_config()) }
  public static var availableProcessors: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Cuts `rows` into chunks of equal height and runs them.
  func overRows(_ rows: Int, height: Int, _ body: (Range<Int>) -> Void) {
    let chunks = (rows + height - 1) / height
    workers.run(chunks) { chunk in body(chunk * height..<min(rows, (chunk + 1) * height)) }
  }
  /// Rows of a chunk that holds about `elements` elements.
  func height(columns: Int, elements: Int = 1 << 14) -> Int { max(1, elements / max(1, columns)) }

  // MARK: Products

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
    guard m > 0, n > 0 else { return }
    let beta: Float = accumulate ? 1 : 0
    guard k > 0 else {
      if !accumulate { fill(c, 0) }
      return
    }
    // Chunks along the longer side of C; at least 128 wide, so that packing the other operand again stays cheap.
    let alongRows = m >= n
    let extent = alongRows ? m : n
    let chunk = m * n * k < 1 << 18 ? extent : max(128, ((extent + 7) / 8 + 15) / 16 * 16)
    workers.run((extent + chunk - 1) / chunk) { index in
      let begin = index * chunk
      let size = min(chunk, extent - begin)
      if alongRows {
        gemm(
          a.base + (transposeA ? begin : begin * a.stride), a.stride, transposeA, b.base, b.stride, transposeB,
          c.base + begin * c.stride, c.stride, m: size, n: n, k: k, beta: beta)
      } else {
        gemm(
          a.base, a.stride, transposeA, b.base + (transposeB ? begin * b.stride : begin), b.stride, transposeB,
          c.base + begin, c.stride, m: m, n: size, k: k, beta: beta)
      }
    }
  }

  public func addBias(_ bias: Tensor, to y: Tensor) {
    precondition(bias.count == y.columns, "bias of \(bias.count) for \(y.columns) columns")
    overRows(y.rows, height: height(columns: y.columns)) { rows in
      ck_rowwise_add_bias(bias.base, y.base + rows.lowerBound * y.stride, y.stride, rows.count, y.columns)
    }
  }

  public func columnSums(_ x: Tensor, into sums: Tensor, accumulate: Bool) {
    precondition(sums.count == x.columns, "\(sums.count) sums for \(x.columns) columns")
    if !accumulate { fill(sums, 0) }
    // Few fixed chunks with a partial sum each, added in order.
    let height = max(64, (x.rows + 7) / 8)
    let chunks = (x.rows + height - 1) / height
    guard chunks > 1 else {
      ck_rowwise_column_sums(x.base, x.stride, sums.base, x.rows, x.columns)
      return
    }
    let partial = zeros(chunks, x.columns)
    overRows(x.rows, height: height) { rows in
      ck_rowwise_column_sums(
        x.base + rows.lowerBound * x.stride, x.stride, partial.base + rows.lowerBound / height * x.columns,
        rows.count, x.columns)
    }
    ck_rowwise_column_sums(partial.base, partial.stride, sums.base, chunks, x.columns)
  }

  public func accumulateSquaredProducts(_ a: Tensor, _ b: Tensor, segments: Segments, into f: Tensor) {
    precondition(
      f.rows == a.columns && f.columns == b.columns && a.rows == b.rows && segments.tokens == a.rows,
      "squares of [\(a.rows), \(a.columns)]ᵀ[\(b.rows), \(b.columns)] into [\(f.rows), \(f.columns)]")
    // A block of F and the gradient of one sequence for it stay in cache while all sequences pass.
    let block = max(16, min((f.rows + 1) / 2, (1 << 17) / max(1, f.columns)))
    overRows(f.rows, height: block) { rows in
      let scratch = empty(rows.count, f.columns)
      for index in 0..<segments.count {
        let segment = segments[index]
        guard !segment.isEmpty else { continue }
        gemm(
          a.base + segment.lowerBound * a.stride + rows.lowerBound, a.stride, true,
          b.base + segment.lowerBound * b.stride, b.stride, false, scratch.base, scratch.stride, m: rows.count,
          n: f.columns, k: segment.count, beta: 0)
        if f.isContiguous {
          ck_vector_add_squares(scratch.base, 1, f.base + rows.lowerBound * f.stride, scratch.count)
        } else {
          for row in 0..<rows.count {
            ck_vector_add_squares(
              scratch.base + row * scratch.stride, 1, f.base + (rows.lowerBound + row) * f.stride, f.columns)
          }
        }
      }
    }
  }

  public func accumulateProductsOfSquares(_ a: Tensor, _ b: Tensor, into f: Tensor) {
    multiply(squared(a), transposed: true, squared(b), transposed: false, into: f, accumulate: true)
  }

  private func squared(_ x: Tensor) -> Tensor {
    let y = empty(x.rows, x.columns)
    overRows(x.rows, height: height(columns: x.columns)) { rows in
      for row in rows { ck_vector_square(x.base + row * x.stride, y.base + row * y.stride, x.columns) }
    }
    return y
  }

  public func accumulateSquaredColumnSums(_ x: Tensor, segments: Segments, into f: Tensor) {
    let sums = empty(1, x.columns)
    for index in 0..<segments.count {
      columnSums(x.rows(segments[index]), into: sums, accumulate: false)
      addSquares(sums, scaled: 1, into: f)
    }
  }
}
