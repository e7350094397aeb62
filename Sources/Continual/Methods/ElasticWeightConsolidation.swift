// Elastic weight consolidation: a quadratic pull towards what earlier data settled, weighted by Fisher information.
import Curvature
import Layers
import TensorCore
import Training

/// penalty = ½ λ Σ_k Σ_i F_k,i (θ_i − θ_k,i)², all pasts merged into one curvature and one anchor.
///
/// separate: F̄ = Σ w_k F_k, θ̄ = Σ w_k F_k θ_k / F̄, and the constant by which the sum over pasts exceeds that one
/// quadratic; online: F̃_k = γF̃_{k−1} + w_k F_k with the newest anchor.
/// w_k = 1 and strength λ for a numeric λ; w_k = N_k and strength 1/N_new for the Laplace posterior.
/// - Cost: 8 bytes a parameter and step, whatever the number of pasts
/// - Trap: F is per scored token; λ from tools that sum or batch-average F means something else
/// - Source: Kirkpatrick et al. 2017, arXiv:1612.00796; Huszár 2017, arXiv:1712.03847; online: Schwarz et al. 2018,
///   arXiv:1805.06370
public final class ElasticWeightConsolidation: ConfigurableMethod {
  public enum Strength: Sendable, Equatable {
    case fixed(Double)
    /// λ_k = N_k / N_new, counted in scored tokens.
    case posterior
  }
  public enum Variant: String, Sendable { case separate, online }

  public struct Settings: Sendable, Equatable {
    public var strength: Strength
    public var variant: Variant
    /// γ of the online form.
    public var decay: Double
    public var form: QuadraticPull.Form
    public var fisher: FisherRecipe
    public init(
      strength: Strength, variant: Variant = .online, decay: Double = 1, form: QuadraticPull.Form = .proximal,
      fisher: FisherRecipe = FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: 512)
    ) {
      self.strength = strength
      self.variant = variant
      self.decay = decay
      self.form = form
      self.fisher = fisher
    }
  }

  public static let card = MethodCard(
    name: "ewc", title: "Elastic Weight Consolidation",
    paper: "Kirkpatrick et al. 2017 (arXiv:1612.00796); online: Schwarz et al. 2018 (arXiv:1805.06370)",
    equation: "½ λ Σ F (θ − θ*)²", cost: "8 bytes a parameter and step; one Fisher pass a stage",
    state: "F and anchor: 8 bytes a parameter", needs: "text of the past at consolidation only",
    verified: "closed-form regressions, Kullback–Leibler test, loop over single sequences")

  public static let schema = MethodSchema(
    "ewc",
    """
    Elastic weight consolidation: the penalty ½ λ Σ F (θ − θ*)² holds each parameter near its anchor in \
    proportion to its Fisher information.
    """,
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: ["posterior"]), default: .number(10),
        """
        The strength in posterior units: 10 weighs every past as ten times the new stage's tokens; \
        posterior computes N_old/N_new from token counts (the base counts base_tokens).
        """),
      OptionSchema(
        "variant", .word(["separate", "online"], notYet: []), default: .word("online"),
        "online: one accumulated Fisher with the newest anchor; separate: one penalty for every past."),
      OptionSchema(
        "decay", .share(maximum: 1, open: false), default: .number(1), onlyWith: .init("variant", ["online"]),
        """
        γ of the online variant: the old Fisher is multiplied by it at every consolidation; 1 forgets \
        nothing.
        """),
      .form,
      OptionSchema(
        "fisher.labels", .word(["sampled", "observed", "expected"], notYet: []), default: .word("sampled"),
        """
        Which labels the Fisher is taken over: sampled from the model (unbiased), the observed data (the \
        so-called empirical Fisher), or the exact expectation (classifiers).
        """),
      OptionSchema(
        "fisher.unit", .word(["sequence", "position"], notYet: []), default: .word("sequence"),
        """
        What is squared: the gradient of a whole sequence, or the contribution of each position of each \
        linear layer.
        """),
      OptionSchema(
        "fisher.structure", .word(["diagonal"], notYet: ["kronecker"]), default: .word("diagonal"),
        "The shape of the Fisher: one number a parameter."),
      OptionSchema(
        "fisher.examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        """
        How many training sequences (or classifier examples) the Fisher is averaged over; all takes \
        every one.
        """),
      OptionSchema(
        "fisher.samples", .integer(1...1024, words: []), default: .integer(1),
        onlyWith: .init("fisher.labels", ["sampled"]),
        "How many label samples are drawn for each example with labels: sampled."),
    ])

  public let settings: Settings
  private let store: ParameterStore
  private let backend: any Backend
  /// Merged curvature and anchor. [1, P]; nil before the first past.
  private var curvature: Tensor?
  private var anchor: Tensor?
  /// ½ Σ_k Σ_i w_k F_k,i (θ_k,i − θ̄_i)²: the penalty of separate pasts at their merged anchor; 0 online.
  private var constant = 0.0
  private var pasts = 0
  private var strength: Float = 0

  public init(_ settings: Settings, _ store: ParameterStore, on backend: any Backend) {
    self.settings = settings
    self.store = store
    self.backend = backend
  }

  public convenience init(_ ingredients: MethodIngredients) {
    let labels: FisherRecipe.Labels =
      switch ingredients.word("fisher.labels") {
      case "observed": .observed
      case "expected": .expected
      default: .sampled(count: ingredients.integer("fisher.samples") ?? 1)
      }
    self.init(
      Settings(
        strength: ingredients.number("lambda").map { .fixed($0) } ?? .posterior,
        variant: ingredients.word("variant").flatMap(Variant.init) ?? .online,
        decay: ingredients.number("decay") ?? 1,
        form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal,
        fisher: FisherRecipe(
          labels: labels, unit: ingredients.word("fisher.unit").flatMap(FisherRecipe.Unit.init) ?? .sequence,
          examples: ingredients.integer("fisher.examples") ?? .max)),
      ingredients.store, on: ingredients.backend)
  }

  public func stageWillBegin(_ scope: StageScope) throws {
    switch settings.strength {
    case .fixed(let lambda): strength = Float(lambda)
    case .posterior: strength = 1 / Float(max(1, scope.tokens))
    }
  }

  public var pulls: [QuadraticPull] {
    guard let curvature, let anchor else { return [] }
    return [
      QuadraticPull(
        strength: strength, curvature: curvature, anchor: anchor, form: settings.form,
        constant: Double(strength) * constant)
    ]
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    let estimate = try scope.shared("fisher: \(settings.fisher)") {
      try DiagonalFisher.estimate(
        scope.network, over: packed(sample(scope), scope), recipe: settings.fisher,
        random: scope.random.forked("fisher"), on: backend)
    }
    scope.note(
      "fisher of \(scope.name): \(settings.fisher.description); \(estimate.sequences) sequences, "
        + "\(estimate.scoredTokens) scored tokens\(scope.isReal ? "" : ", sampled from the model")")
    let weight: Double = settings.strength == .posterior ? Double(scope.tokens) : 1
    absorb(backend.copied(estimate.values), weight: weight)
  }

  /// Joins a new past: its Fisher and, as its anchor, the parameters as they are now.
  public func absorb(_ fisher: Tensor, weight: Double) {
    pasts += 1
    backend.scale(fisher, by: Float(weight))
    guard let curvature, let anchor else {
      curvature = fisher
      anchor = backend.copied(store.values)
      return
    }
    switch settings.variant {
    case .online:
      backend.scale(curvature, by: Float(settings.decay))
      backend.add(fisher, scaled: 1, into: curvature)
      backend.copy(store.values, into: anchor)
    case .separate:
      constant += disagreement(curvature, anchor, fisher, store.values)
      // θ̄ ← (F̄θ̄ + Fθ) / (F̄ + F); where nothing is known yet the newest anchor stands
      let weighted = backend.zeros(1, store.count)
      backend.addProduct(curvature, anchor, scaled: 1, into: weighted)
      backend.addProduct(fisher, store.values, scaled: 1, into: weighted)
      backend.add(fisher, scaled: 1, into: curvature)
      backend.divide(weighted, by: curvature, otherwise: store.values, into: anchor)
    }
  }

  /// ½ Σ F̄F/(F̄ + F)·(θ − θ̄)²: what two pasts cost together where they meet.
  ///
  /// F̄(x − θ̄)² + F(x − θ)² = (F̄ + F)(x − m)² + F̄F/(F̄ + F)·(θ − θ̄)² with m = (F̄θ̄ + Fθ)/(F̄ + F)
  private func disagreement(_ merged: Tensor, _ anchor: Tensor, _ fisher: Tensor, _ values: Tensor) -> Double {
    let sum = backend.copied(merged)
    backend.add(fisher, scaled: 1, into: sum)
    let share = backend.empty(1, store.count)
    // Where the sum is 0 so is F.
    backend.divide(fisher, by: sum, otherwise: fisher, into: share)
    backend.fill(sum, 0)
    backend.addProduct(merged, share, scaled: 1, into: sum)
    return backend.quadratic(values, anchor: anchor, curvature: sum) / 2
  }

  /// Sequences for the Fisher: a random choice of at most `examples`.
  private func sample(_ scope: ConsolidationScope) -> [Exemplar] {
    let wanted = min(settings.fisher.examples, scope.sequences.count)
    var random = scope.random.forked("choice")
    var indices = Array(scope.sequences.indices)
    for i in 0..<wanted { indices.swapAt(i, i + random.integer(below: indices.count - i)) }
    return indices.prefix(wanted).map { scope.sequences[$0] }
  }

  /// Batches of whole sequences of at most `batchTokens` tokens.
  private func packed(_ sequences: [Exemplar], _ scope: ConsolidationScope) -> [Batch] {
    var batches: [Batch] = []
    var open: [Exemplar] = []
    var filled = 0
    for sequence in sequences {
      if filled > 0, filled + sequence.inputs.count > scope.batchTokens {
        batches += scope.makeBatches(open)
        (open, filled) = ([], 0)
      }
      open.append(sequence)
      filled += sequence.inputs.count
    }
    return batches + scope.makeBatches(open)
  }

  public func write(to writer: any StateWriter) {
    writer.integers("pasts", [pasts], description: "consolidated pasts, the base included")
    guard let curvature, let anchor else { return }
    writer.text("recipe", settings.fisher.description, description: "how the Fisher information was estimated")
    store.write(
      curvature, to: writer, under: "fisher", description: "merged diagonal Fisher information, per scored token")
    store.write(anchor, to: writer, under: "anchor", description: "merged anchor θ* of the quadratic penalty")
    if settings.variant == .separate {
      writer.doubles(
        "constant", [constant], description: "what the sum of all pasts' penalties exceeds the merged one by, ÷ λ")
    }
  }

  public func restore(from reader: any StateReader) throws {
    pasts = try reader.integers("pasts").first ?? 0
    // Absent in the online form, and in files of before it was kept.
    constant = try reader.contains("constant") ? reader.doubles("constant").first ?? 0 : 0
    guard pasts > 0 else {
      (curvature, anchor) = (nil, nil)
      return
    }
    let (restoredCurvature, restoredAnchor) = (backend.empty(1, store.count), backend.empty(1, store.count))
    try store.restore(restoredCurvature, from: reader, under: "fisher")
    try store.restore(restoredAnchor, from: reader, under: "anchor")
    (curvature, anchor) = (restoredCurvature, restoredAnchor)
  }
}
