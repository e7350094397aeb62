// The reference's factor analysis: Gram–Schmidt and Jacobi rotations in double.

/// Rows of numbers.
private typealias Rows = [[Double]]

extension ReferenceBackend {
  public func factorAnalysis(of matrices: [Tensor], loadings: [Tensor], uniquenesses: [Tensor]) {
    for index in matrices.indices { analyse(matrices[index], loadings[index], uniquenesses[index]) }
  }

  private func analyse(_ matrix: Tensor, _ loadings: Tensor, _ uniquenesses: Tensor) {
    let (n, rank) = (matrix.rows, loadings.rows)
    requireShape(matrix, n, n, "factorAnalysis: matrix")
    requireShape(loadings, min(rank, n), n, "factorAnalysis: loadings")
    requireShape(uniquenesses, 1, n, "factorAnalysis: uniquenesses")
    let signs = FactorAnalysis.start(side: n, rank: rank)
    // Rows are the vectors that span the subspace.
    var images = (0..<rank).map { row in (0..<n).map { Double(signs[row * n + $0]) } }
    var unique = [Double](repeating: 0, count: n)
    var (basis, inner): (Rows, Rows) = ([], [])
    for round in 0..<FactorAnalysis.rounds {
      basis = orthonormal(images)
      images = basis.map { q in
        (0..<n).map { i in (0..<n).reduce(-unique[i] * q[i]) { $0 + matrix[i, $1] * q[$1] } }
      }
      inner = basis.map { q in images.map { dot(q, $0) } }
      // The first subspace is a random one and says nothing.
      guard round > 0 else { continue }
      for i in 0..<n {
        var common = 0.0
        for a in 0..<rank { for b in 0..<rank { common += basis[a][i] * inner[a][b] * basis[b][i] } }
        unique[i] = max(0, matrix[i, i] - common)
      }
    }
    let (values, vectors) = eigen(inner)
    for i in 0..<n {
      var common = 0.0
      for a in 0..<rank {
        let length = max(0, values[a]).squareRoot()
        loadings[a, i] = length * (0..<rank).reduce(0) { $0 + vectors[$1][a] * basis[$1][i] }
        common += loadings[a, i] * loadings[a, i]
      }
      uniquenesses[0, i] = max(0, matrix[i, i] - common)
    }
  }

  private func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }

  /// The rows, each without its part along those before it; where nothing is left, a direction that none of them has.
  private func orthonormal(_ rows: Rows) -> Rows {
    var result: Rows = []
    /// Twice, because once leaves rounding errors of what was taken away.
    func rest(of row: [Double]) -> [Double]? {
      var rest = row
      for _ in 0..<2 {
        for earlier in result {
          let along = dot(rest, earlier)
          for i in rest.indices { rest[i] -= along * earlier[i] }
        }
      }
      let length = dot(rest, rest).squareRoot()
      return length > 1e-12 * dot(row, row).squareRoot() ? rest.map { $0 / length } : nil
    }
    for row in rows {
      let axes = row.indices.lazy.map { axis in row.indices.map { $0 == axis ? 1.0 : 0 } }
      if let next = rest(of: row) ?? axes.compactMap(rest).first { result.append(next) }
    }
    return result
  }

  /// Eigenvalues of a symmetric matrix, and its eigenvectors as columns.
  private func eigen(_ symmetric: Rows) -> (values: [Double], vectors: Rows) {
    let n = symmetric.count
    var m = (0..<n).map { i in (0..<n).map { (symmetric[i][$0] + symmetric[$0][i]) / 2 } }
    var vectors = (0..<n).map { i in (0..<n).map { $0 == i ? 1.0 : 0 } }
    for _ in 0..<60 {
      var largest = 0.0
      for p in 0..<n {
        for q in p + 1..<max(p + 1, n) where m[p][q] != 0 {
          largest = max(largest, abs(m[p][q]))
          let difference = (m[q][q] - m[p][p]) / (2 * m[p][q])
          let tangent = (difference < 0 ? -1 : 1) / (abs(difference) + (1 + difference * difference).squareRoot())
          let cosine = 1 / (1 + tangent * tangent).squareRoot()
          let sine = tangent * cosine
          for k in 0..<n {
            (m[k][p], m[k][q]) = (cosine * m[k][p] - sine * m[k][q], sine * m[k][p] + cosine * m[k][q])
          }
          for k in 0..<n {
            (m[p][k], m[q][k]) = (cosine * m[p][k] - sine * m[q][k], sine * m[p][k] + cosine * m[q][k])
            (vectors[k][p], vectors[k][q]) = (
              cosine * vectors[k][p] - sine * vectors[k][q], sine * vectors[k][p] + cosine * vectors[k][q]
            )
          }
        }
      }
      if largest <= 1e-15 * (0..<n).reduce(0, { max($0, abs(m[$1][$1])) }) { break }
    }
    return ((0..<n).map { m[$0][$0] }, vectors)
  }
}
