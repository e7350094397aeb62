// WiSE-FT at the end of every stage: the model goes only part of the way that training took it.
import Layers
import TensorCore
import Training

/// θ ← θ₀ + α(θ₁ − θ₀), θ₀ the parameters before the stage and θ₁ those after its last step.
///
/// Along this line what was learned rises fast at first and what is lost rises slowly at first, so a point between both
/// ends keeps most of either. Parameters that nothing had trained before the stage, such as a new head, are left alone.
/// - Cost: nothing a step, one pass over the parameters a stage; state: 4 bytes a parameter
/// - Trap: the loss that training reports is that of θ₁; only what is measured after the stage is the model's
/// - Source: Wortsman et al. 2022, arXiv:2109.01903
public final class WeightInterpolation: ConfigurableMethod {
  public static let card = MethodCard(
    name: "wise_ft", title: "WiSE-FT at stage ends", paper: "Wortsman et al. 2022 (arXiv:2109.01903)",
    equation: "θ ← θ₀ + α(θ₁ − θ₀) after the last step", cost: "nothing a step",
    state: "the parameters before the stage: 4 bytes each", needs: "nothing of the past",
    verified: "the formula, over two stages; α 1 changes no bit; new parameters stay")
  public static let schema = MethodSchema(
    "wise_ft",
    "WiSE-FT: after a stage's last step the parameters go back part of the way to where the stage began.",
    options: [
      OptionSchema(
        "alpha", .share(maximum: 1, open: false), default: .number(0.7),
        "How much of the way is kept: 1 all of it, 0 none.")
    ])

  private let alpha: Double
  private let store: ParameterStore
  private let backend: any Backend
  private var origin: Tensor?
  /// Whether each parameter has been trained before the running stage.
  private var isTrained: [Bool]
  private var distance = 0.0

  public init(alpha: Double, _ store: ParameterStore, on backend: any Backend) {
    self.alpha = alpha
    self.store = store
    self.backend = backend
    isTrained = store.parameters.map { _ in false }
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(alpha: ingredients.number("alpha") ?? 1, ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 4 * chain.parameters }

  public func stageWillBegin(_ scope: StageScope) throws {
    if let origin { backend.copy(store.values, into: origin) } else { origin = backend.copied(store.values) }
  }

  public func stageDidTrain(_ scope: StageScope) throws {
    guard let origin else { return }
    var squares = 0.0
    for (index, parameter) in store.parameters.enumerated() {
      let (now, before) = (store.values.slice(parameter.range), origin.slice(parameter.range))
      let moved = backend.quadratic(now, anchor: before, curvature: nil)
      guard moved > 0 else { continue }
      squares += moved
      // θ₁ + (1 − α)(θ₀ − θ₁), so that α = 1 keeps every bit.
      guard isTrained[index], alpha < 1 else { continue }
      let way = backend.empty(1, before.count)
      backend.subtract(now, from: before, into: way)
      backend.add(way, scaled: Float(1 - alpha), into: now)
    }
    distance = squares.squareRoot()
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    for (index, parameter) in store.parameters.enumerated() where !isTrained[index] {
      // A base that was loaded has been trained by others.
      isTrained[index] =
        origin.map {
          backend.quadratic(store.values.slice(parameter.range), anchor: $0.slice(parameter.range), curvature: nil) > 0
        } ?? (scope.past == 0 && !scope.isUntrained)
    }
  }

  public var facts: [(name: String, value: Double)] { [("trained_distance", distance)] }

  public func write(to writer: any StateWriter) {
    writer.integers(
      "trained", isTrained.map { $0 ? 1 : 0 }, description: "for each parameter: trained before the running stage")
    writer.doubles("distance", [distance], description: "‖θ₁ − θ₀‖ of the stage before")
    writer.integers("has_origin", [origin == nil ? 0 : 1], description: "whether a stage has begun")
    if let origin { store.write(origin, to: writer, under: "origin", description: "θ₀: parameters before the stage") }
  }
  public func restore(from reader: any StateReader) throws {
    let trained = try reader.integers("trained")
    guard trained.count == isTrained.count else {
      throw StateError(description: "the interpolation knows \(trained.count) parameters of \(isTrained.count)")
    }
    isTrained = trained.map { $0 != 0 }
    distance = try reader.doubles("distance").first ?? 0
    guard try reader.integers("has_origin").first == 1 else {
      origin = nil
      return
    }
    let restored = backend.empty(1, store.count)
    try store.restore(restored, from: reader, under: "origin")
    origin = restored
  }
}
