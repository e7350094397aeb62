// L2-SP: the same pull for every parameter. The control that any use of Fisher information has to beat.
import Layers
import TensorCore
import Training

/// penalty = ½ λ Σ (θ − θ*)², θ* the parameters before the stage (or the base's).
///
/// Annealed, λ is multiplied by 1 − σ(k(t − t₀)) at step t: it holds on at first and lets go around t₀ (RecAdam's schedule,
/// on the penalty alone: the loss keeps its weight, which Adam would not notice).
/// - Cost: 4 bytes a parameter and step
/// - Source: Li et al. 2018, arXiv:1802.01483; annealing: Chen et al. 2020, arXiv:2004.12651
public final class L2SP: ConfigurableMethod {
  public enum Anchor: String, Sendable {
    /// The parameters as the stage found them.
    case previous
    /// The parameters of the base, through all stages.
    case base
  }
  public static let card = MethodCard(
    name: "l2sp", title: "L2-SP",
    paper: "Li et al. 2018 (arXiv:1802.01483); annealing: Chen et al. 2020 (arXiv:2004.12651)",
    equation: "½ λ Σ (θ − θ*)²",
    cost: "4 bytes a parameter and step", state: "anchor: 4 bytes a parameter", needs: "nothing of the past",
    verified: "equals EWC with F = 1")

  public static let schema = MethodSchema(
    "l2sp",
    """
    L2-SP: the penalty ½ λ Σ (θ − θ*)², EWC with a Fisher of one everywhere; the control that any EWC \
    result must beat.
    """,
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: []), default: .number(0.01),
        "The strength, the same for every parameter."),
      .form,
      OptionSchema(
        "anchor", .word(["previous", "base"], notYet: []), default: .word("previous"),
        "What the parameters are held near: the model before this stage, or the base model."),
      OptionSchema(
        "anneal", .word(["none", "sigmoid"], notYet: []), default: .word("none"),
        "sigmoid: the strength falls from λ to 0 within each stage, as RecAdam does."),
      OptionSchema(
        "anneal_at", .share(maximum: 1, open: false), default: .number(0.5),
        onlyWith: .init("anneal", ["sigmoid"]), "t₀ as a share of the stage's steps: where half of λ is left."),
      OptionSchema(
        "anneal_rate", .number(minimum: 0, open: true, words: []), default: .number(0.1),
        onlyWith: .init("anneal", ["sigmoid"]), "k a step: how sharply it falls."),
    ])

  private let strength: Double
  private let form: QuadraticPull.Form
  private let anchoring: Anchor
  /// t₀ as a share of a stage, and k a step; nil without annealing.
  public struct Annealing: Sendable, Equatable {
    public let share: Double
    public let rate: Double
    public init(at share: Double, rate: Double) {
      self.share = share
      self.rate = rate
    }
  }
  private let annealing: Annealing?
  private let store: ParameterStore
  private let backend: any Backend
  private var anchor: Tensor?
  /// Steps of the running stage: taken, and in all.
  private var step = 0
  private var steps = 0

  public init(
    strength: Double, form: QuadraticPull.Form, anchor: Anchor, annealing: Annealing? = nil, _ store: ParameterStore,
    on backend: any Backend
  ) {
    self.annealing = annealing
    self.strength = strength
    self.form = form
    anchoring = anchor
    self.store = store
    self.backend = backend
  }

  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      strength: ingredients.number("lambda") ?? 0,
      form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal,
      anchor: ingredients.word("anchor").flatMap(Anchor.init) ?? .previous,
      annealing: ingredients.word("anneal") == "sigmoid"
        ? Annealing(at: ingredients.number("anneal_at") ?? 0.5, rate: ingredients.number("anneal_rate") ?? 0.1) : nil,
      ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 4 * chain.parameters }

  public func stageWillBegin(_ scope: StageScope) throws { (step, steps) = (0, scope.steps) }

  public var pulls: [QuadraticPull] {
    anchor.map { [QuadraticPull(strength: Float(strengthNow), curvature: nil, anchor: $0, form: form)] } ?? []
  }
  private var strengthNow: Double {
    guard let annealing else { return strength }
    return strength / (1 + Maths.exp(annealing.rate * (Double(step) - annealing.share * Double(steps))))
  }
  public func observe(_ step: StepScope) { self.step += 1 }

  public func consolidate(_ scope: ConsolidationScope) throws {
    if anchoring == .base, anchor != nil { return }
    anchor = backend.copied(store.values)
  }

  public func write(to writer: any StateWriter) {
    writer.integers("has_anchor", [anchor == nil ? 0 : 1], description: "whether a past was consolidated")
    writer.integers("step", [step], description: "steps taken in the running stage, for annealing")
    if let anchor { store.write(anchor, to: writer, under: "anchor", description: "anchor θ* of the penalty") }
  }
  public func restore(from reader: any StateReader) throws {
    // Absent in files of before annealing.
    step = try reader.contains("step") ? reader.integers("step").first ?? 0 : 0
    guard try reader.integers("has_anchor").first == 1 else {
      anchor = nil
      return
    }
    let restored = backend.empty(1, store.count)
    try store.restore(restored, from: reader, under: "anchor")
    anchor = restored
  }
}
