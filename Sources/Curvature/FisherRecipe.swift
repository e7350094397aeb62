// How a Fisher information was estimated: recorded with the estimate, printed in reports.

/// The recipe of a Fisher estimate. Estimates by different recipes are different quantities.
public struct FisherRecipe: Sendable, Hashable {
  public enum Labels: Sendable, Hashable {
    /// Σ_y p(y|x)(∂log p(y|x))²: exact; one backward pass a class and scored position.
    case expected
    /// Labels drawn from the model; unbiased; `count` backward passes from one forward pass.
    case sampled(count: Int)
    /// The data's labels: the empirical Fisher. With unit sequence, cross terms between tokens make it grow with length.
    case observed
  }
  public enum Unit: String, Sendable, Hashable {
    /// F = Σ_s g_s² / scored tokens, g_s the gradient of the summed log-likelihood of sequence s.
    case sequence
    /// Squares of single positions at every weight: one product, approximate because attention mixes positions.
    case position
  }
  public var labels: Labels
  public var unit: Unit
  /// Sequences that are looked at, at most.
  public var examples: Int

  public init(labels: Labels, unit: Unit, examples: Int) {
    self.labels = labels
    self.unit = unit
    self.examples = examples
  }

  public var description: String {
    let kind =
      switch labels {
      case .expected: "expected"
      case .sampled(let count): count == 1 ? "sampled" : "sampled(\(count))"
      case .observed: "observed"
      }
    return "\(kind) labels, unit \(unit.rawValue), diagonal, ≤ \(examples) sequences"
  }
}
