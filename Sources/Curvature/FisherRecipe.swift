// How a Fisher information was estimated: recorded with the estimate, printed in reports.

/// The recipe of a Fisher estimate. Estimates by different recipes are different quantities.
public struct FisherRecipe: Sendable, Hashable {
  public enum Labels: Sendable, Hashable {
    /// Σ_y p(y|x)(∂log p(y|x))²: exact; one backward pass a class and scored position.
    case expected
    /// Labels drawn from the model; unbiased; `count` backward passes from one forward pass.
    case sampled(count: Int)
    /// The `count` likeliest labels of each place by their probabilities, and one draw from all others; unbiased, with less
    /// scatter than single draws; `count` + 1 backward passes from one forward pass.
    case topK(count: Int)
    /// The data's labels: the empirical Fisher. With unit sequence, cross terms between tokens make it grow with length.
    case observed
    /// The model's likeliest label, which underestimates wherever the model is unsure. For comparison only.
    case predicted
  }
  public enum Unit: String, Sendable, Hashable {
    /// F = Σ_s g_s² / scored tokens, g_s the gradient of the summed log-likelihood of sequence s.
    case sequence
    /// Squares of single positions at every weight: one product, approximate because attention mixes positions.
    case position
    /// The square of a batch's mean gradient, averaged over batches: what much published code calls the Fisher.
    /// Where gradients cancel it is smaller by the batch's size. For comparison only.
    case batch
  }
  public enum Structure: String, Sendable, Hashable {
    /// One number a parameter.
    case diagonal
    /// Two factors a linear layer, one number a parameter elsewhere; positions count for themselves.
    case kronecker
  }
  public var labels: Labels
  public var unit: Unit
  public var structure: Structure
  /// Sequences that are looked at, at most.
  public var examples: Int
  /// Sequences of a batch of unit `batch`.
  public var batch: Int
  /// Looking at further batches ends once the relative standard error of the diagonal's sum over batches is this small;
  /// 0 looks at all.
  public var tolerance: Double
  /// It ends, too, once Spearman's rank correlation of the diagonal between even and odd batches is this large; 0 looks at
  /// all. Unit `batch` knows neither rule.
  public var rankAgreement: Double

  public init(
    labels: Labels, unit: Unit, structure: Structure = .diagonal, examples: Int, batch: Int = 1, tolerance: Double = 0,
    rankAgreement: Double = 0
  ) {
    self.rankAgreement = rankAgreement
    self.tolerance = tolerance
    self.structure = structure
    self.labels = labels
    self.unit = unit
    self.examples = examples
    self.batch = batch
  }

  public var description: String {
    let kind =
      switch labels {
      case .expected: "expected"
      case .sampled(let count): count == 1 ? "sampled" : "sampled(\(count))"
      case .topK(let count): "top_k(\(count))"
      case .observed: "observed"
      case .predicted: "predicted"
      }
    let size = unit == .batch ? " of \(batch)" : ""
    let form =
      structure == .kronecker ? "Kronecker factors of linear layers" : "unit \(unit.rawValue)\(size), diagonal"
    return "\(kind) labels, \(form), ≤ \(examples) sequences"
  }
}
