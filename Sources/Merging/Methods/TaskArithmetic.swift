// Task vectors added to the base, or taken away from it.
import TensorCore

/// θ = θ_base + α Σ w_i τ_i, τ_i = θ_i − θ_base
///
/// A negative α or weight takes away what a model learned.
/// - Cost: one pass over all vectors for every α
/// - Source: Ilharco et al. 2023, arXiv:2212.04089
public struct TaskArithmetic: MergeMethod {
  public static let card = MergeCard(
    name: "task-arithmetic", title: "task arithmetic", paper: "Ilharco et al. 2023 (arXiv:2212.04089)",
    equation: "θ_base + α Σ w_i τ_i, τ_i = θ_i − θ_base", cost: "one pass over the parameters a strength",
    defaultAlpha: 1, options: [.weights])

  private let ingredients: MergeIngredients

  public init(_ ingredients: MergeIngredients) { self.ingredients = ingredients }

  public func merge(alpha: Double, into result: Tensor) {
    let (elements, target) = (Elements(ingredients), result.buffer)
    let weights = ingredients.weights
    for i in target.indices {
      var sum = 0.0
      for model in weights.indices { sum += weights[model] * elements.task(model, i) }
      target[i] = moved(elements.base[i], by: alpha * sum)
    }
  }
}
