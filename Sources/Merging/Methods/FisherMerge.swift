// Averages in which every model speaks loudest where its own data have something to say.
import TensorCore

/// θ = ((1 − α) F_base θ_base + α Σ w_i F_i θ_i) / ((1 − α) F_base + α Σ w_i F_i), element by element
///
/// It is the minimiser of (1 − α) Σ F_base (θ − θ_base)² + α Σ_i w_i Σ F_i (θ − θ_i)²: what EWC pulls towards, without
/// training. Where no Fisher says anything (the denominator is 0) it is the average with the same weights.
/// - Cost: one pass over all vectors for every α
/// - Source: Matena and Raffel 2022, arXiv:2111.09832
public struct FisherMerge: MergeMethod {
  public static let card = MergeCard(
    name: "fisher", title: "Fisher-weighted average", paper: "Matena and Raffel 2022 (arXiv:2111.09832)",
    equation: "((1 − α) F_base θ_base + α Σ w_i F_i θ_i) / ((1 − α) F_base + α Σ w_i F_i)",
    cost: "a Fisher of every model on its own data, then one pass a strength", defaultAlpha: 0.5,
    options: [.weights, .seed, .fisherData])

  private let ingredients: MergeIngredients

  public static func check(weights: [Double], alphas: [Double]) throws(MergeError) {
    guard weights.allSatisfy({ $0 >= 0 }), weights.contains(where: { $0 > 0 }) else {
      throw MergeError("the weights of a Fisher merge must be 0 or more, and not all 0")
    }
    for alpha in alphas where !(0...1).contains(alpha) {
      throw MergeError("an alpha of \(alpha) is not in [0, 1]: no model can have a negative say in an average")
    }
  }

  /// - Precondition: there is a Fisher of the base and of every tuned model
  public init(_ ingredients: MergeIngredients) throws(MergeError) {
    precondition(ingredients.fishers.count == ingredients.tuned.count + 1, "one Fisher a model")
    try Self.check(weights: ingredients.weights, alphas: [])
    self.ingredients = ingredients
  }

  public func merge(alpha: Double, into result: Tensor) throws(MergeError) {
    try Self.check(weights: ingredients.weights, alphas: [alpha])
    let (elements, target) = (Elements(ingredients), result.buffer)
    let fishers = ingredients.fishers.map(\.buffer)
    let says = ingredients.weights.map { alpha * $0 }
    let sum = says.reduce(1 - alpha, +)
    // As a move away from the base: where all models agree there is nothing to move.
    for i in target.indices {
      var (move, total, plain) = (0.0, (1 - alpha) * Double(fishers[0][i]), 0.0)
      for model in says.indices {
        let (say, change) = (says[model] * Double(fishers[model + 1][i]), elements.task(model, i))
        move += say * change
        total += say
        plain += says[model] * change
      }
      target[i] = moved(elements.base[i], by: total > 0 ? move / total : plain / sum)
    }
  }
}
