// Freezing by Fisher mass: the few parameters that carry most of the Fisher information stand still.
import Curvature
import Layers
import TensorCore
import Training

/// θ_i = θ*_i for the fewest parameters that together hold `mass` of Σ F; the others are free.
///
/// Every past adds its own parameters; those that stand still keep the value at which they were first held. They are
/// put back after everything else that moves parameters in a step, wherever the method stands in the stack.
/// - Cost: 16 bytes a parameter and step, twice beside methods that constrain steps; one Fisher pass a past
/// - Trap: masking gradients instead would do almost nothing under Adam, whose step does not depend on their size; what
///   A-GEM, GEM or OGD move of held parameters is put back, too, and their promise holds up to that
public final class FisherFreezing: ConfigurableMethod {
  public static let card = MethodCard(
    name: "fisher_freeze", title: "Freezing by Fisher mass", paper: "a limit of EWC; see Kirkpatrick et al. 2017",
    equation: "θ = θ* where F is largest, until `mass` of Σ F is held", cost: "16 bytes a parameter and step",
    state: "8 bytes a parameter", needs: "text of the past at consolidation only",
    verified: "held parameters keep every bit in stacks, too; the held share of the mass by hand")

  public static let schema = MethodSchema(
    "fisher_freeze", "Freezing by Fisher mass: parameters that hold a share of the Fisher information stand still.",
    options: [
      OptionSchema(
        "mass", .share(maximum: 1, open: false), default: .number(0.5),
        "The share of the summed Fisher information whose parameters stand still; 0 frees all."),
      OptionSchema(
        "examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        "Sequences of a past that the Fisher is estimated from, labels sampled."),
    ])

  private let mass: Double
  private let examples: Int
  private let store: ParameterStore
  private let backend: any Backend
  /// 1 where a parameter stands still, and where it stands. [1, P]; nil before the first past
  public private(set) var held: Tensor?
  public private(set) var anchor: Tensor?

  public init(mass: Double, examples: Int = 512, _ store: ParameterStore, on backend: any Backend) {
    self.mass = mass
    self.examples = examples
    self.store = store
    self.backend = backend
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      mass: ingredients.number("mass") ?? 0, examples: ingredients.integer("examples") ?? .max, ingredients.store,
      on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 8 * chain.parameters }
  public static func reasonAgainstAdapters(_ options: MethodOptions) -> String? {
    "holds single weights, which factors move together,"
  }

  public func settle(_ step: StepScope) {
    guard let held, let anchor, mass > 0 else { return }
    // Flags are 0 or 1, so this is a choice and no arithmetic.
    backend.divide(anchor, by: held, otherwise: store.values, into: store.values)
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    let recipe = FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: examples)
    let sample = scope.choice(of: examples)
    let estimate = try scope.shared("fisher: \(recipe)") {
      try DiagonalFisher.estimate(
        scope.network, over: sample.runs(ofTokens: scope.batchTokens).flatMap { scope.makeBatches(Array($0)) },
        recipe: recipe, random: scope.random.forked("fisher"), on: backend)
    }
    hold(estimate.values)
    let count = held.map { $0.buffer.reduce(0) { $0 + ($1 > 0 ? 1 : 0) } } ?? 0
    scope.note("fisher_freeze of \(scope.name): \(count) of \(store.count) parameters stand still")
  }

  /// Adds the fewest parameters that hold `mass` of a Fisher's sum, at their values now.
  public func hold(_ fisher: Tensor) {
    let values = fisher.buffer
    let wanted = mass * values.reduce(0) { $0 + Double($1) }
    let order = values.indices.sorted { (values[$0], $1) > (values[$1], $0) }
    let held = self.held ?? backend.zeros(1, store.count)
    let anchor = self.anchor ?? backend.copied(store.values)
    let (flags, places, now) = (held.buffer, anchor.buffer, store.values.toArray())
    var sum = 0.0
    for index in order {
      guard sum < wanted, values[index] > 0 else { break }
      sum += Double(values[index])
      if flags[index] == 0 { (flags[index], places[index]) = (1, now[index]) }
    }
    (self.held, self.anchor) = (held, anchor)
  }

  public func write(to writer: any StateWriter) {
    writer.integers("has_anchor", [anchor == nil ? 0 : 1], description: "whether a past was consolidated")
    guard let held, let anchor else { return }
    store.write(held, to: writer, under: "held", description: "1 where a parameter stands still")
    store.write(anchor, to: writer, under: "anchor", description: "where it stands")
  }
  public func restore(from reader: any StateReader) throws {
    guard try reader.integers("has_anchor").first == 1 else {
      (held, anchor) = (nil, nil)
      return
    }
    let (restoredHeld, restoredAnchor) = (backend.empty(1, store.count), backend.empty(1, store.count))
    try store.restore(restoredHeld, from: reader, under: "held")
    try store.restore(restoredAnchor, from: reader, under: "anchor")
    (held, anchor) = (restoredHeld, restoredAnchor)
  }
}
