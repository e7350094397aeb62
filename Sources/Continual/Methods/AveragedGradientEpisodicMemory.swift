// A-GEM: a step may not raise the loss on a sample of the past, to first order.
import Layers
import TensorCore
import Training

/// u′ = u − max(0, ⟨u, g⟩)/⟨g, g⟩·g for the step u that was really taken, g the gradient on a sample of all memories.
///
/// See `GradientMemory` for cost and traps.
/// - Source: Chaudhry et al. 2019, arXiv:1812.00420
public final class AveragedGradientEpisodicMemory: GradientMemoryMethod {
  public static let card = MethodCard(
    name: "agem", title: "A-GEM", paper: "Chaudhry et al. 2019 (arXiv:1812.00420)",
    equation: "u′ = u − max(0, ⟨u, g⟩)/⟨g, g⟩·g for the applied step u",
    cost: "a forward and a backward pass over sample_tokens a step", state: "the buffer; 8 bytes a parameter",
    needs: "text of the past, up to the budget", verified: "⟨u′, g⟩ ≤ 0; equals GEM with one past and margin 0")
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double {
    guard step.pasts > 0 else { return 0 }
    return Double(options.integer("sample_tokens") ?? 0) / Double(step.tokens)
  }
  public static let schema = MethodSchema(
    "agem", "A-GEM: a step that would raise the loss on a sample of the past loses that part of itself.",
    options: [
      GradientMemory.budget,
      OptionSchema(
        "sample_tokens", .integer(1...1_000_000_000, words: []), default: .integer(1024),
        "Tokens of the sample whose gradient each step is held to."),
    ])
  public let memory: GradientMemory
  public init(budgetTokens: Int, sampleTokens: Int, _ store: ParameterStore, on backend: any Backend) {
    memory = GradientMemory(
      budgetTokens: budgetTokens, sampleTokens: sampleTokens, margin: 0, store, on: backend)
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      sampleTokens: ingredients.integer("sample_tokens") ?? 1, ingredients.store, on: ingredients.backend)
  }
}
