// Elastic weight consolidation as an experiment file states it: options, what they make, and what they cost.
import Curvature
import Layers
import TensorCore
import Training

extension ElasticWeightConsolidation {
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
        "fisher.labels", .word(["sampled", "observed", "expected", "predicted", "top_k"], notYet: []),
        default: .word("sampled"),
        """
        Which labels the Fisher is taken over: sampled from the model (unbiased), the observed data (the \
        so-called empirical Fisher), the exact expectation (classifiers), the likeliest label (predicted; what some \
        published code does, for comparison only), or the likeliest labels one by one with a draw from the others \
        (top_k; unbiased, scatters less than sampled).
        """),
      OptionSchema(
        "fisher.top_k", .integer(1...64, words: []), default: .integer(4), onlyWith: .init("fisher.labels", ["top_k"]),
        "How many of the likeliest labels count one by one with labels: top_k; k + 1 backward passes a batch."),
      OptionSchema(
        "fisher.unit", .word(["sequence", "position", "batch"], notYet: []), default: .word("sequence"),
        onlyWith: .init("fisher.structure", ["diagonal"]),
        """
        What is squared: the gradient of a whole sequence, the contribution of each position of each linear \
        layer, or the mean gradient of a batch (what much published code does; for comparison only).
        """),
      OptionSchema(
        "fisher.batch", .integer(1...1_000_000, words: []), default: .integer(128),
        onlyWith: .init("fisher.unit", ["batch"]), "Sequences of a batch with unit: batch."),
      OptionSchema(
        "fisher.structure", .word(["diagonal", "kronecker"], notYet: []), default: .word("diagonal"),
        """
        diagonal: one number a parameter; kronecker: two factors for every linear layer (K-FAC), which know \
        how its parameters act together; embeddings, a tied head and gains stay diagonal.
        """),
      OptionSchema(
        "fisher.examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        """
        How many training sequences (or classifier examples) the Fisher is averaged over; all takes \
        every one.
        """),
      OptionSchema(
        "fisher.tolerance", .share(maximum: 1, open: false), default: .number(0),
        onlyWith: .init("fisher.structure", ["diagonal"]), and: .init("fisher.unit", ["sequence", "position"]),
        """
        Fewer examples will do once the relative standard error of ΣF over batches is this small; 0 looks at all of \
        them.
        """),
      OptionSchema(
        "fisher.storage", .word(["fp32", "bf16"], notYet: []), default: .word("fp32"),
        """
        bf16: the Fisher information is rounded to bfloat16 and takes half of its place in checkpoints; products with \
        Kronecker factors are in bf16 where the CPU has it, at half their cost.
        """),
      OptionSchema(
        "fisher.rank", .share(maximum: 1, open: false), default: .number(0.2),
        onlyWith: .init("fisher.structure", ["kronecker"]),
        """
        The rank that is kept of a Kronecker factor, as a share of its side: UUᵀ beside the exact diagonal, found by \
        factor analysis, in whole sixteens. A fifth takes two fifths of the work and a fifth of the memory; 0, shares of \
        a half or more, and sides under 128 keep whole factors.
        """),
      OptionSchema(
        "fisher.rank_agreement", .share(maximum: 1, open: true), default: .number(0),
        onlyWith: .init("fisher.structure", ["diagonal"]), and: .init("fisher.unit", ["sequence", "position"]),
        """
        Fewer examples will do once even and odd batches rank the parameters alike: Spearman's correlation of F between \
        them, looked at after 4, 8, 16 and so on batches, is at least this; 0 looks at all. Beside tolerance either ends \
        the pass.
        """),
      OptionSchema(
        "fisher.samples", .integer(1...1024, words: []), default: .integer(1),
        onlyWith: .init("fisher.labels", ["sampled"]),
        "How many label samples are drawn for each example with labels: sampled."),
    ])

  public convenience init(_ ingredients: MethodIngredients) {
    let labels: FisherRecipe.Labels =
      switch ingredients.word("fisher.labels") {
      case "observed": .observed
      case "expected": .expected
      case "predicted": .predicted
      case "top_k": .topK(count: ingredients.integer("fisher.top_k") ?? 4)
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
          structure: ingredients.word("fisher.structure").flatMap(FisherRecipe.Structure.init) ?? .diagonal,
          examples: ingredients.integer("fisher.examples") ?? .max, batch: ingredients.integer("fisher.batch") ?? 1,
          tolerance: ingredients.number("fisher.tolerance") ?? 0,
          rankAgreement: ingredients.number("fisher.rank_agreement") ?? 0),
        storage: ingredients.word("fisher.storage").flatMap(Precision.init) ?? .fp32,
        rankShare: ingredients.number("fisher.rank") ?? 0.2),
      ingredients.store, on: ingredients.backend)
  }

  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    let diagonal = 8 * chain.parameters
    guard options.word("fisher.structure") == "kronecker" else { return diagonal }
    // In bf16 the factors and the copies that products read.
    let bytes = options.word("fisher.storage") == "bf16" ? 6 : 4
    let share = options.number("fisher.rank") ?? 0.2
    let factors = chain.store.parameters.filter(KroneckerFactors.covers).reduce(0) { sum, weight in
      sum + weight.shape.reduce(0) { $0 + bytes * SymmetricMatrix.count(side: $1, rankShare: share) }
    }
    guard options.word("variant") == "separate" else { return diagonal + factors }
    // Every past keeps its own factors and all of its anchor.
    return diagonal + chain.pasts * (factors + 4 * chain.parameters)
  }
  /// Of proximal factored pulls within a step: the force on every factored weight.
  public static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    guard options.word("fisher.structure") == "kronecker", options.word("form") == "proximal" else { return 0 }
    return 4 * chain.store.parameters.filter(KroneckerFactors.covers).reduce(0) { $0 + $1.range.count }
  }
  /// Of Kronecker factors: the new ones, whole.
  public static func estimateBytes(_ options: MethodOptions, _ store: ParameterStore) -> Int {
    guard options.word("fisher.structure") == "kronecker" else { return 0 }
    return store.parameters.filter(KroneckerFactors.covers).reduce(0) { sum, weight in
      sum + weight.shape.reduce(0) { $0 + 4 * $1 * $1 }
    }
  }
  /// 2·O·I·(O + I) operations for every factored weight, or what low rank leaves of it, beside six a parameter and token.
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double {
    guard options.word("fisher.structure") == "kronecker" else { return 0 }
    let share = options.number("fisher.rank") ?? 0.2
    let work = step.store.parameters.filter(KroneckerFactors.covers).reduce(0.0) { sum, weight in
      let sides = (weight.shape[0], weight.shape[1])
      return sum + 2
        * (Double(sides.1) * Double(SymmetricMatrix.work(side: sides.0, rankShare: share))
          + Double(sides.0) * Double(SymmetricMatrix.work(side: sides.1, rankShare: share)))
    }
    let kept = options.word("variant") == "separate" ? max(1, step.pasts) : 1
    return Double(kept) * work / (6 * Double(step.store.count) * Double(step.tokens))
  }
  public static func reasonAgainstAdapters(_ options: MethodOptions) -> String? {
    options.word("fisher.structure") == "kronecker" && options.word("form") == "proximal"
      ? "with structure: kronecker and form: proximal moves the weights themselves" : nil
  }
}
