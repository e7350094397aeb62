// How far a backend may be from the reference, one constant per kind of computation, with its reason.
// One unit in the last place (ulp) of a Float is 6e-8 to 1.2e-7 of its value.

/// A bound on |found − expected|: relative·|expected| + ofLargest·L, L the output's largest magnitude.
///
/// The second term is there because the error of a sum follows its largest terms, not its result.
public struct Tolerance: Sendable {
  public let relative: Double
  public let ofLargest: Double

  public init(relative: Double, ofLargest: Double) {
    self.relative = relative
    self.ofLargest = ofLargest
  }

  /// Copies, selections, zeros: no arithmetic, so no rounding.
  public static let exact = Tolerance(relative: 0, ofLargest: 0)
  /// A few multiplications per element: a handful of roundings.
  public static let arithmetic = Tolerance(relative: 5e-7, ofLargest: 2e-7)
  /// exp and tanh from polynomials may be off by a few ulp; gelu and SiLU cancel near their minimum.
  public static let elementary = Tolerance(relative: 2e-6, ofLargest: 1e-6)
  /// Float sums of up to about a thousand terms in any order: roughly √1000 ulp of the largest partial sum.
  public static let sum = Tolerance(relative: 5e-6, ofLargest: 5e-6)
  /// Squares of such sums: twice their relative error.
  public static let squaredSum = Tolerance(relative: 1e-5, ofLargest: 1e-5)
  /// A normalisation's row: a sum, a root and a cancellation of mean and value.
  public static let normalized = Tolerance(relative: 1e-5, ofLargest: 5e-6)
  /// log Σ exp and what follows from it: sum of rounded exponentials of rounded differences.
  public static let softmax = Tolerance(relative: 1e-5, ofLargest: 5e-6)
  /// Softmax of a sum, then a sum weighted by it; the gradient subtracts two nearly equal sums.
  public static let attention = Tolerance(relative: 2e-5, ofLargest: 2e-5)
  /// Scores near 1,000 are rounded to 1e-4 before exp, so a probability is off by 1e-4 of itself.
  public static let sharpAttention = Tolerance(relative: 1e-3, ofLargest: 1e-3)
  /// Sums in double of terms that may have been rounded to Float once: rounding averages out.
  public static let doubleSum = Tolerance(relative: 5e-7, ofLargest: 0)
  /// One optimizer step: a dozen roundings, a root and two quotients per element; gradient and coupled pull may cancel.
  public static let optimizer = Tolerance(relative: 4e-6, ofLargest: 2e-6)

  /// Rounds of products and orthogonalisations in Float, each on what the last one left.
  public static let decomposition = Tolerance(relative: 0, ofLargest: 5e-5)

  /// Whether `found` may stand for `expected` in an output whose largest magnitude is `largest`.
  public func accepts(_ found: Double, _ expected: Double, largest: Double) -> Bool {
    if found == expected { return true }
    // Results far below the smallest useful weight: exp of −100 may be 0 or 1e-37.
    if abs(found - expected) < 1e-30 { return true }
    return abs(found - expected) <= relative * abs(expected) + ofLargest * largest
  }
}
