// The fast backend: what it is made of, how it cuts work, and the sums over rows.
import CKernels
import COneDNN
import COpenBLAS
import Glibc
import TensorCore

/// Float32 on the CPU: single-threaded OpenBLAS and C kernels, scheduled over one pool of threads.
///
/// The same inputs give the same bits for any number of threads.
public final class CPUBackend: Backend {
  public let pool: BufferPool
  let workers: ThreadPool
  let products: ProductCache
  /// Numbers in products; bf16 only where the CPU and oneDNN have it.
  public var precision: Precision {
    get { usesBF16 ? .bf16 : .fp32 }
    set { usesBF16 = newValue == .bf16 && Self.supportsBF16 }
  }
  private(set) var usesBF16 = false

  /// - Parameters:
  ///   - threads: workers, the caller included; nil for all processors that this process may use
  ///   - precision: numbers in products; see `precision`
  public init(threads: Int? = nil, precision: Precision = .fp32) {
    // For the whole process: our pool is the only one that schedules.
    openblas_set_num_threads(1)
    ck_memory_keep()
    pool = BufferPool()
    products = ProductCache()
    workers = ThreadPool(threads: threads ?? Self.availableProcessors)
    self.precision = precision
  }

  /// A backend that asks for the same buffers and computes nothing: after a pass, `pool.bytesTouched` is what the
  /// pass needs.
  ///
  /// Results are zeros or what was there; nothing may depend on them.
  /// - Parameter threads: of the backend that it stands for, each with working space of its own
  public init(countingOnly precision: Precision, threads: Int? = nil) {
    pool = BufferPool(isUntouched: true)
    products = ProductCache(isIdle: true)
    workers = ThreadPool(threads: threads ?? Self.availableProcessors, isIdle: true)
    self.precision = precision
  }

  /// Gives all memory that nothing looks at back to the system: free buffers, and what large arrays left in the heap.
  public func returnMemory() {
    pool.trim()
    ck_memory_trim()
  }

  public var threads: Int { workers.threads }
  public static var blasConfiguration: String { String(cString: openblas_get_config()) }
  /// The version of oneDNN that computes the large products, or nil where OpenBLAS computes all of them.
  public static var oneDNNVersion: String? { codnn_version().map { String(cString: $0) } }
  /// Whether bf16 products run on instructions made for them.
  public static let supportsBF16 = codnn_supports(Int32(CODNN_BF16)) != 0
  /// What is missing where `supportsBF16` is false.
  public static var whyNoBF16: String {
    oneDNNVersion == nil
      ? "Retain was built without oneDNN (libdnnl-dev)" : "this CPU has no bf16 instructions (avx512_bf16)"
  }
  public static var availableProcessors: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Cuts `rows` into chunks of equal height and runs them.
  func overRows(_ rows: Int, height: Int, _ body: (Range<Int>) -> Void) {
    let chunks = (rows + height - 1) / height
    workers.run(chunks) { chunk in body(chunk * height..<min(rows, (chunk + 1) * height)) }
  }
  /// Rows of a chunk that holds about `elements` elements.
  func height(columns: Int, elements: Int = 1 << 14) -> Int { max(1, elements / max(1, columns)) }

  /// To be called for everything that an operation writes: a rounded copy of it no longer agrees.
  func overwriting(_ tensors: Tensor...) {
    for tensor in tensors where tensor.storage.rounded != nil { tensor.storage.rounded = nil }
  }

  public func addBias(_ bias: Tensor, to y: Tensor) {
    precondition(bias.count == y.columns, "bias of \(bias.count) for \(y.columns) columns")
    overwriting(y)
    overRows(y.rows, height: height(columns: y.columns)) { rows in
      ck_rowwise_add_bias(bias.base, y.base + rows.lowerBound * y.stride, y.stride, rows.count, y.columns)
    }
  }

  public func columnSums(_ x: Tensor, into sums: Tensor, accumulate: Bool) {
    precondition(sums.count == x.columns, "\(sums.count) sums for \(x.columns) columns")
    overwriting(sums)
    if !accumulate { fill(sums, 0) }
    // Fixed chunks with a partial sum each, added in order.
    let height = max(64, (x.rows + 31) / 32)
    let chunks = (x.rows + height - 1) / height
    guard chunks > 1 else {
      return overRows(x.rows, height: height) { _ in
        ck_rowwise_column_sums(x.base, x.stride, sums.base, x.rows, x.columns)
      }
    }
    let partial = zeros(chunks, x.columns)
    overRows(x.rows, height: height) { rows in
      ck_rowwise_column_sums(
        x.base + rows.lowerBound * x.stride, x.stride, partial.base + rows.lowerBound / height * x.columns,
        rows.count, x.columns)
    }
    overRows(chunks, height: chunks) { _ in
      ck_rowwise_column_sums(partial.base, partial.stride, sums.base, chunks, x.columns)
    }
  }

  public func accumulateSquaredColumnSums(_ x: Tensor, segments: Segments, into f: Tensor) {
    let sums = empty(1, x.columns)
    for index in 0..<segments.count {
      columnSums(x.rows(segments[index]), into: sums, accumulate: false)
      addSquares(sums, scaled: 1, into: f)
    }
  }

  public func accumulateColumnSumMagnitudes(_ x: Tensor, segments: Segments, into f: Tensor) {
    let sums = empty(1, x.columns)
    for index in 0..<segments.count {
      columnSums(x.rows(segments[index]), into: sums, accumulate: false)
      addMagnitudes(sums, scaled: 1, into: f)
    }
  }
}
