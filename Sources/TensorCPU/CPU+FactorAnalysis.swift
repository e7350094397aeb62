// Factor analysis of symmetric matrices: one thread each, products by OpenBLAS, decompositions by its LAPACK.
import CKernels
import COpenBLAS
import TensorCore

extension CPUBackend {
  public func factorAnalysis(of matrices: [Tensor], loadings: [Tensor], uniquenesses: [Tensor]) {
    for tensor in loadings + uniquenesses { overwriting(tensor) }
    // Large ones first, so that threads end together.
    let order = matrices.indices.sorted { matrices[$0].rows > matrices[$1].rows }
    workers.run(order.count) { index in
      let place = order[index]
      FactorAnalyst(self, matrices[place], rank: loadings[place].rows).run(
        into: loadings[place], uniquenesses[place])
    }
  }
}

/// One matrix M [n, n]. What is [r, n] here is [n, r] to LAPACK, which goes by columns.
private struct FactorAnalyst {
  private let backend: CPUBackend
  private let matrix: Tensor
  private let n: Int
  private let rank: Int
  /// Q, orthonormal rows. [r, n]
  private let basis: Tensor
  /// Q(M − diag d). [r, n]
  private let images: Tensor
  /// Q(M − diag d)Qᵀ. [r, r]
  private let inner: Tensor
  /// What M and the subspace have in common, in one form or another. [r, n]
  private let common: Tensor

  init(_ backend: CPUBackend, _ matrix: Tensor, rank: Int) {
    precondition(
      matrix.rows == matrix.columns && (1...matrix.rows).contains(rank),
      "rank \(rank) of [\(matrix.rows), \(matrix.columns)]")
    self.backend = backend
    self.matrix = matrix
    (n, self.rank) = (matrix.rows, rank)
    (basis, images, common) = (backend.empty(rank, n), backend.empty(rank, n), backend.empty(rank, n))
    inner = backend.empty(rank, rank)
  }

  func run(into loadings: Tensor, _ uniquenesses: Tensor) {
    precondition(
      loadings.columns == n && uniquenesses.count == n && uniquenesses.isContiguous,
      "loadings of \(loadings.columns) and \(uniquenesses.count) uniquenesses for \(n) columns")
    let unique = uniquenesses.base
    ck_vector_fill(unique, 0, n)
    images.assign(FactorAnalysis.start(side: n, rank: rank))
    for round in 0..<FactorAnalysis.rounds {
      orthonormalise()
      product(basis, matrix, into: images)
      for row in 0..<rank {
        ck_vector_product(basis.base + row * n, unique, common.base + row * n, n)
        ck_vector_add(common.base + row * n, -1, images.base + row * n, n)
      }
      product(basis, images, isTransposed: true, into: inner)
      // The first subspace is a random one and says nothing.
      guard round > 0 else { continue }
      product(inner, basis, into: common)
      leave(basis, common, unique)
    }
    diagonalise(scratch: unique)
    product(inner, basis, into: common)
    for row in 0..<rank { ck_vector_scale(common.base + row * n, max(0, unique[row]).squareRoot(), n) }
    for row in 0..<rank { (loadings.base + row * loadings.stride).update(from: common.base + row * n, count: n) }
    leave(common, common, unique)
  }

  private func product(_ a: Tensor, _ b: Tensor, isTransposed: Bool = false, into c: Tensor) {
    backend.gemm(
      a.base, a.stride, false, b.base, b.stride, isTransposed, c.base, c.stride, m: c.rows, n: c.columns, k: a.columns,
      beta: 0)
  }

  /// d ← what Σ_r a[r]·b[r] lacks of M's diagonal, at least 0.
  private func leave(_ a: Tensor, _ b: Tensor, _ unique: UnsafeMutablePointer<Float>) {
    for i in 0..<n { unique[i] = matrix.base[i * matrix.stride + i] }
    for row in 0..<rank { ck_vector_add_product(a.base + row * n, b.base + row * n, -1, unique, n) }
    for i in 0..<n { unique[i] = max(0, unique[i]) }
  }

  /// Q ← the orthonormal factor of the images.
  private func orthonormalise() {
    basis.base.update(from: images.base, count: rank * n)
    var (rows, columns, info) = (blasint(n), blasint(rank), blasint(0))
    let tau = backend.empty(1, rank)
    // Sixty-four columns at a time.
    let work = backend.empty(rank, 64)
    var size = blasint(work.count)
    sgeqrf_(&rows, &columns, basis.base, &rows, tau.base, work.base, &size, &info)
    precondition(info == 0, "sgeqrf: \(info)")
    var reflectors = columns
    sorgqr_(&rows, &columns, &reflectors, basis.base, &rows, tau.base, work.base, &size, &info)
    precondition(info == 0, "sorgqr: \(info)")
  }

  /// The inner matrix's eigenvectors as its rows, and its eigenvalues.
  private func diagonalise(scratch values: UnsafeMutablePointer<Float>) {
    var (order, info) = (blasint(rank), blasint(0))
    let work = backend.empty(1, 1 + 6 * rank + 2 * rank * rank)
    var integers = [blasint](repeating: 0, count: 3 + 5 * rank)
    var (size, integerSize) = (blasint(work.count), blasint(integers.count))
    ssyevd_("V", "L", &order, inner.base, &order, values, work.base, &size, &integers, &integerSize, &info, 1, 1)
    precondition(info == 0, "ssyevd: \(info)")
  }
}
