// Linear interpolation between the base and what was learned: the line on which forgetting is traded for learning.
import TensorCore

/// θ = (1 − α) θ_base + α Σ w_i θ_i / Σ w_i
///
/// One tuned model: α = 1 gives it bit for bit.
/// - Cost: one pass over all vectors for every α
/// - Source: WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903
public struct LinearMerge: MergeMethod {
  public static let card = MergeCard(
    name: "linear", title: "linear interpolation (WiSE-FT)", paper: "Wortsman et al. 2022 (arXiv:2109.01903)",
    equation: "(1 − α) θ_base + α Σ w_i θ_i / Σ w_i", cost: "one pass over the parameters a strength",
    defaultAlpha: 0.5, options: [.weights])

  private let ingredients: MergeIngredients
  /// w_i / Σ w_i
  private let shares: [Double]

  public static func check(weights: [Double], alphas: [Double]) throws(MergeError) {
    let sum = weights.reduce(0, +)
    guard sum > 0 else { throw MergeError("the weights of a linear merge must have a sum above 0, not \(sum)") }
  }

  public init(_ ingredients: MergeIngredients) throws(MergeError) {
    try Self.check(weights: ingredients.weights, alphas: [])
    self.ingredients = ingredients
    let sum = ingredients.weights.reduce(0, +)
    shares = ingredients.weights.map { $0 / sum }
  }

  public func merge(alpha: Double, into result: Tensor) {
    let (elements, target) = (Elements(ingredients), result.buffer)
    // θ_base + (θ_1 − θ_base) is θ_1 only up to rounding.
    if alpha == 1, elements.tuned.count == 1 {
      _ = target.update(fromContentsOf: elements.tuned[0])
      return
    }
    for i in target.indices {
      var mean = 0.0
      for model in shares.indices { mean += shares[model] * elements.task(model, i) }
      target[i] = moved(elements.base[i], by: alpha * mean)
    }
  }
}
