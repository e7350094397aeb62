// What every backend's factor analysis has in common.

/// The fixed part of `Backend.factorAnalysis`.
public enum FactorAnalysis {
  /// Eight leave a squared error within a tenth of what twenty leave, on second moments of a language model.
  public static let rounds = 8

  /// Random signs that the first subspace is spanned by: no direction of a matrix is orthogonal to all of them.
  ///
  /// - Returns: `rank` rows of `side` numbers, 1 or −1
  public static func start(side: Int, rank: Int) -> [Float] {
    var random = RandomStream(seed: 17).forked("factor analysis")
    var bits: UInt64 = 0
    return (0..<side * rank).map { index in
      if index % 64 == 0 { bits = random.next() }
      defer { bits >>= 1 }
      return bits & 1 == 0 ? -1 : 1
    }
  }
}
