// DARE: most of what fine-tuning changed can be dropped at random, if the rest is scaled up to the same sum.
import TensorCore

/// θ = θ_base + α Σ w_i m_i τ_i / density, m_i 1 with probability `density`, else 0
///
/// The mean over seeds is task arithmetic. The choices of model i come from a stream of their own, so that they do
/// not depend on which models stand beside it.
/// - Cost: one draw an element and model once; one pass for every α; 4 bytes a parameter
/// - Source: Yu et al. 2024, arXiv:2311.03099
public struct DareMerge: MergeMethod {
  public static let card = MergeCard(
    name: "dare", title: "DARE: drop and rescale", paper: "Yu et al. 2024 (arXiv:2311.03099)",
    equation: "θ_base + α Σ w_i m_i τ_i / density, m_i ~ Bernoulli(density)",
    cost: "a draw an element and model, then one pass a strength", defaultAlpha: 1,
    options: [.weights, .density, .seed])

  private let ingredients: MergeIngredients
  /// Σ w_i m_i τ_i / density. P elements
  private let task: [Float]

  public init(_ ingredients: MergeIngredients) throws(MergeError) {
    try requireShare(ingredients.density)
    self.ingredients = ingredients
    let elements = Elements(ingredients)
    let (weights, density) = (ingredients.weights, ingredients.density)
    var streams = weights.indices.map { ingredients.random.forked("dare", $0) }
    task = elements.base.indices.map { i in
      var sum = 0.0
      for model in weights.indices where streams[model].uniform() < density {
        sum += weights[model] * elements.task(model, i)
      }
      return Float(sum / density)
    }
  }

  public func merge(alpha: Double, into result: Tensor) {
    let (base, target) = (ingredients.base.buffer, result.buffer)
    for i in target.indices { target[i] = moved(base[i], by: alpha * Double(task[i])) }
  }
}
