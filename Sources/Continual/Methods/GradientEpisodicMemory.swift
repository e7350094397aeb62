// GEM: a step may not raise the loss on any past's memory, to first order.
import Layers
import TensorCore
import Training

/// The nearest step u′ to the one taken with ⟨u′, g_k⟩ ≤ 0 for the gradient g_k of every past's memory.
///
/// See `GradientMemory` for cost and traps.
/// - Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840
public final class GradientEpisodicMemory: GradientMemoryMethod {
  public static let card = MethodCard(
    name: "gem", title: "GEM", paper: "Lopez-Paz & Ranzato 2017 (arXiv:1706.08840)",
    equation: "min ½‖u′ − u‖² with ⟨u′, g_k⟩ ≤ 0 for every past k", cost: "a pass over every past's memory a step",
    state: "the buffer; 4 bytes a parameter and past, and 4 a parameter for where the step began",
    needs: "text of the past, up to the budget",
    verified: "brute force over active sets, Karush–Kuhn–Tucker residuals")
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double {
    guard step.pasts > 0 else { return 0 }
    return Double(options.integer("budget_tokens") ?? 0) / Double(step.tokens)
  }
  public static let schema = MethodSchema(
    "gem", "GEM: the step becomes the nearest one that raises the loss on no past's memory.",
    options: [
      GradientMemory.budget,
      OptionSchema(
        "margin", .number(minimum: 0, open: false, words: []), default: .number(0.5),
        "Memory strength: how far along every memory's gradient a changed step goes at least, in learning rates."),
    ])
  public let memory: GradientMemory
  public init(budgetTokens: Int, margin: Double, _ store: ParameterStore, on backend: any Backend) {
    memory = GradientMemory(budgetTokens: budgetTokens, sampleTokens: nil, margin: margin, store, on: backend)
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      budgetTokens: ingredients.integer("budget_tokens") ?? 0, margin: ingredients.number("margin") ?? 0,
      ingredients.store, on: ingredients.backend)
  }
}
