// Synaptic intelligence: a parameter matters by what its own path contributed to the fall of the loss.
import Layers
import TensorCore
import Training

/// ω_i = −Σ_t g_i(t)·Δθ_i(t) over a stage; Ω_i += max(0, ω_i) / ((θ_end − θ_start)_i² + ξ); loss + c Σ Ω (θ − θ*)².
///
/// g is the gradient of the task alone, not clipped and without any penalty; Δθ is what the step really did, with
/// optimizer, decay and penalties.
/// - Cost: 24 bytes a parameter and step beside the pull's 8; state: 16 bytes a parameter
/// - Trap: a gradient that already holds the penalty makes old parameters look important for the new task
/// - Source: Zenke et al. 2017, arXiv:1703.04200
public final class SynapticIntelligence: ConfigurableMethod {
  public static let card = MethodCard(
    name: "si", title: "Synaptic intelligence", paper: "Zenke et al. 2017 (arXiv:1703.04200)",
    equation: "c Σ Ω (θ − θ*)², Ω += max(0, −Σ g·Δθ) / ((θ_end − θ_start)² + ξ)",
    cost: "32 bytes a parameter and step; no pass over old data", state: "16 bytes a parameter",
    needs: "nothing of the past; the base has no importance unless it was trained as a stage",
    verified: "small full-batch steps: Σ ω equals the fall of the loss; hand-computed Ω")

  public static let schema = MethodSchema(
    "si", "Synaptic intelligence: importance is what each parameter's path contributed to the fall of the loss.",
    options: [
      OptionSchema(
        "c", .number(minimum: 0, open: false, words: []), default: .number(0.1),
        "The strength; the penalty is c Σ Ω (θ − θ*)², without a factor of one half, as in the paper."),
      OptionSchema(
        "xi", .number(minimum: 0, open: true, words: []), default: .number(0.1),
        "ξ, which keeps parameters that hardly moved from looking infinitely important."),
      .form,
    ])

  private let strength: Double
  private let xi: Float
  private let form: QuadraticPull.Form
  private let store: ParameterStore
  private let backend: any Backend
  /// ω of the running stage, Ω of all earlier ones, θ before the step, θ at the end of the last past. [1, P]
  private let path: Tensor
  private let importance: Tensor
  private let previous: Tensor
  private let anchor: Tensor
  private var pasts = 0

  public init(
    strength: Double, xi: Double, form: QuadraticPull.Form = .proximal, _ store: ParameterStore,
    on backend: any Backend
  ) {
    self.strength = strength
    self.xi = Float(xi)
    self.form = form
    self.store = store
    self.backend = backend
    path = backend.zeros(1, store.count)
    importance = backend.zeros(1, store.count)
    previous = backend.zeros(1, store.count)
    anchor = backend.zeros(1, store.count)
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      strength: ingredients.number("c") ?? 0, xi: ingredients.number("xi") ?? 0.1,
      form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal, ingredients.store,
      on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 16 * chain.parameters }

  public func stageWillBegin(_ scope: StageScope) throws {
    backend.fill(path, 0)
    backend.copy(store.values, into: previous)
    // Without a past the stage's own begin is where its path is measured from.
    if pasts == 0 { backend.copy(store.values, into: anchor) }
  }

  public var pulls: [QuadraticPull] {
    guard pasts > 0 else { return [] }
    // ½ λ F with λ = 2c
    return [QuadraticPull(strength: Float(2 * strength), curvature: importance, anchor: anchor, form: form)]
  }

  public static let observesGradient = true
  public func observe(_ step: StepScope) {
    for parameter in step.moving {
      let range = parameter.range
      backend.addPath(
        gradient: step.accumulator.gradient.slice(range), values: store.values.slice(range),
        previous: previous.slice(range), into: path.slice(range))
    }
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    // Where the path ended: what moved the parameters after the last step is no part of it.
    let (omega, moved, now) = (path.buffer, anchor.buffer, previous.buffer)
    if scope.past > 0 {
      let sums = importance.buffer
      for i in sums.indices where omega[i] > 0 {
        let distance = now[i] - moved[i]
        sums[i] += omega[i] / (distance * distance + xi)
      }
    }
    backend.copy(store.values, into: anchor)
    pasts += 1
  }

  public func write(to writer: any StateWriter) {
    writer.integers("pasts", [pasts], description: "consolidated pasts, the base included")
    for (name, tensor, description) in parts { store.write(tensor, to: writer, under: name, description: description) }
  }
  public func restore(from reader: any StateReader) throws {
    pasts = try reader.integers("pasts").first ?? 0
    for (name, tensor, _) in parts { try store.restore(tensor, from: reader, under: name) }
  }
  private var parts: [(String, Tensor, String)] {
    [
      ("path", path, "ω of the running stage"), ("importance", importance, "Ω of all pasts"),
      ("previous", previous, "parameters after the last step"), ("anchor", anchor, "parameters at the last past"),
    ]
  }
}
