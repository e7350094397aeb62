// Riemannian walk: a running Fisher information and the loss that each parameter's path was worth, together.
import Curvature
import Layers
import TensorCore
import Training

/// loss + λ Σ (F̂ + ŝ)(θ − θ*)², F̂ and ŝ scaled to [0, 1].
///
/// F ← (1 − a)F + a·N·g² over steps, g the step's mean gradient over N targets: N·g² has the size of a single target's
/// squared gradient where the mean gradient is noise. The score of a stage is s = Σ max(0, ΔL) / (½FΔθ² + ε) over windows of
/// `window` steps, ΔL = −Σ g·Δθ; scores of stages are averaged. At the base F is estimated from its text, labels sampled.
/// - Cost: 48 bytes a parameter and step; state: 32 bytes a parameter
/// - Trap: the running F sees batches, not sequences, so it is no Fisher information of single targets; it serves this
///   method alone
/// - Source: Chaudhry et al. 2018, arXiv:1801.10112
public final class RiemannianWalk: ConfigurableMethod {
  public static let card = MethodCard(
    name: "rwalk", title: "Riemannian walk", paper: "Chaudhry et al. 2018 (arXiv:1801.10112)",
    equation: "λ Σ (F̂ + ŝ)(θ − θ*)², s = Σ max(0, ΔL)/(½FΔθ² + ε)", cost: "48 bytes a parameter and step",
    state: "32 bytes a parameter", needs: "text of the base for its Fisher; nothing of later pasts",
    verified: "running Fisher and scores by hand")

  public static let schema = MethodSchema(
    "rwalk", "Riemannian walk: importance is a running Fisher information and the score of each parameter's path.",
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: []), default: .number(1),
        "The strength; the penalty is λ Σ (F + s)(θ − θ*)² with F and s scaled to at most 1."),
      OptionSchema(
        "alpha", .share(maximum: 1, open: false), default: .number(0.1),
        "The new gradient's share in the running Fisher of every step."),
      OptionSchema(
        "window", .integer(1...1_000_000, words: []), default: .integer(10),
        "Steps after which a path's worth is added to the score."),
      OptionSchema(
        "epsilon", .number(minimum: 0, open: true, words: []), default: .number(1e-8),
        "ε, which keeps parameters that hardly moved from looking infinitely important."),
      .form,
      OptionSchema(
        "examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        "Sequences of the base that its Fisher is estimated from."),
    ])

  private let strength: Double
  private let alpha: Float
  private let window: Int
  private let epsilon: Float
  private let form: QuadraticPull.Form
  private let examples: Int
  private let store: ParameterStore
  private let backend: any Backend
  /// All [1, P]: running F; path of the window; θ after the last step; θ at the window's begin; score of the stage; score of
  /// earlier stages; importance and anchor of the pull.
  private let fisher: Tensor
  private let path: Tensor
  private let previous: Tensor
  private let begin: Tensor
  private let score: Tensor
  private let earlier: Tensor
  private let importance: Tensor
  private let anchor: Tensor
  private var pasts = 0
  private var steps = 0

  public init(
    strength: Double, alpha: Double = 0.1, window: Int = 10, epsilon: Double = 1e-8,
    form: QuadraticPull.Form = .proximal, examples: Int = 512, _ store: ParameterStore, on backend: any Backend
  ) {
    self.strength = strength
    self.alpha = Float(alpha)
    self.window = window
    self.epsilon = Float(epsilon)
    self.form = form
    self.examples = examples
    self.store = store
    self.backend = backend
    func empty() -> Tensor { backend.zeros(1, store.count) }
    (fisher, path, previous, begin) = (empty(), empty(), empty(), empty())
    (score, earlier, importance, anchor) = (empty(), empty(), empty(), empty())
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      strength: ingredients.number("lambda") ?? 0, alpha: ingredients.number("alpha") ?? 0.1,
      window: ingredients.integer("window") ?? 10, epsilon: ingredients.number("epsilon") ?? 1e-8,
      form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal,
      examples: ingredients.integer("examples") ?? .max, ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 32 * chain.parameters }

  public func stageWillBegin(_ scope: StageScope) throws {
    steps = 0
    backend.fill(path, 0)
    backend.fill(score, 0)
    backend.copy(store.values, into: previous)
    backend.copy(store.values, into: begin)
  }

  public var pulls: [QuadraticPull] {
    guard pasts > 0 else { return [] }
    return [QuadraticPull(strength: Float(2 * strength), curvature: importance, anchor: anchor, form: form)]
  }

  public static let observesGradient = true
  public func observe(_ step: StepScope) {
    steps += 1
    for parameter in step.moving {
      let range = parameter.range
      let gradient = step.accumulator.gradient.slice(range)
      backend.scale(fisher.slice(range), by: 1 - alpha)
      backend.addSquares(gradient, scaled: alpha * Float(step.targets), into: fisher.slice(range))
      backend.addPath(
        gradient: gradient, values: store.values.slice(range), previous: previous.slice(range),
        into: path.slice(range))
    }
    if steps % window == 0 { closeWindow() }
  }

  private func closeWindow() {
    let (gain, f, now, start, total) = (path.buffer, fisher.buffer, previous.buffer, begin.buffer, score.buffer)
    for i in gain.indices {
      let moved = now[i] - start[i]
      if gain[i] > 0 { total[i] += gain[i] / (0.5 * f[i] * moved * moved + epsilon) }
    }
    backend.fill(path, 0)
    backend.copy(previous, into: begin)
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    if scope.past == 0 {
      let sample = scope.choice(of: examples)
      let recipe = FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: examples)
      let estimate = try scope.shared("fisher: \(recipe)") {
        try DiagonalFisher.estimate(
          scope.network, over: sample.runs(ofTokens: scope.batchTokens).flatMap { scope.makeBatches(Array($0)) },
          recipe: recipe, random: scope.random.forked("fisher"), on: backend)
      }
      backend.copy(estimate.values, into: fisher)
    } else {
      closeWindow()
      // The mean of the stage's score and what came before.
      let share: Float = scope.past > 1 ? 0.5 : 1
      backend.scale(earlier, by: 1 - share)
      backend.add(score, scaled: share, into: earlier)
    }
    backend.fill(importance, 0)
    for part in [fisher, earlier] {
      let largest = part.buffer.max() ?? 0
      if largest > 0 { backend.add(part, scaled: 1 / largest, into: importance) }
    }
    backend.copy(store.values, into: anchor)
    pasts += 1
  }

  public func write(to writer: any StateWriter) {
    writer.integers(
      "counters", [pasts, steps], description: "consolidated pasts, the base included; steps of the stage")
    for (name, tensor, description) in parts { store.write(tensor, to: writer, under: name, description: description) }
  }
  public func restore(from reader: any StateReader) throws {
    let counters = try reader.integers("counters")
    guard counters.count == 2 else { throw StateError(description: "the walk's counters have another form") }
    (pasts, steps) = (counters[0], counters[1])
    for (name, tensor, _) in parts { try store.restore(tensor, from: reader, under: name) }
  }
  private var parts: [(String, Tensor, String)] {
    [
      ("fisher", fisher, "running Fisher information"), ("path", path, "worth of the open window's path"),
      ("previous", previous, "parameters after the last step"), ("begin", begin, "parameters at the window's begin"),
      ("score", score, "score of the running stage"), ("earlier", earlier, "score of earlier stages"),
      ("importance", importance, "F and s, each scaled to at most 1"),
      ("anchor", anchor, "parameters at the last past"),
    ]
  }
}
