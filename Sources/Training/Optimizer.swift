// AdamW and SGD over the flat vector, with every quadratic pull in the same pass over memory.
import Layers
import TensorCore

/// What an optimizer is made from.
public struct OptimizerSettings: Sendable, Equatable {
  public enum Kind: String, Sendable, CaseIterable { case adamw, sgd }
  public var kind: Kind
  public var beta1: Float
  public var beta2: Float
  public var epsilon: Float
  /// Decoupled; on matrices only, not on gains and biases.
  public var weightDecay: Float
  /// SGD only.
  public var momentum: Float
  public init(
    kind: Kind = .adamw, beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0,
    momentum: Float = 0
  ) {
    self.kind = kind
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.momentum = momentum
  }
}

/// The optimizer's state and its step.
///
/// - Cost: AdamW 28 bytes a parameter and step, 8 more for each pull with its own curvature and anchor
public final class Optimizer {
  public let settings: OptimizerSettings
  /// Steps taken since the state was new.
  public internal(set) var steps = 0
  /// AdamW's first moment, or SGD's momentum buffer. [1, P]
  public let first: Tensor?
  /// AdamW's second moment. [1, P]
  public let second: Tensor?
  private let store: ParameterStore
  private let backend: any Backend

  public init(_ settings: OptimizerSettings, _ store: ParameterStore, on backend: any Backend) {
    self.settings = settings
    self.store = store
    self.backend = backend
    let needsFirst = settings.kind == .adamw || settings.momentum != 0
    first = needsFirst ? backend.zeros(1, store.count) : nil
    second = settings.kind == .adamw ? backend.zeros(1, store.count) : nil
  }

  /// Forgets moments and step count: a new stage begins.
  public func reset() {
    steps = 0
    if let first { backend.fill(first, 0) }
    if let second { backend.fill(second, 0) }
  }
  /// Continues a restored state, whose moments have been written into `first` and `second`.
  public func resume(steps: Int) { self.steps = steps }

  /// Moves the parameters that received a gradient; the others, frozen or idle, keep every bit.
  ///
  /// - Parameters:
  ///   - gradientScale: factor on the gradient, from clipping; never on a pull
  /// - Returns: ½ Σ λF(θ − θ*)² over the pulls before the step
  public func update(
    along accumulator: Accumulator, learningRate: Double, gradientScale: Float, pulls: [QuadraticPull]
  ) -> Double {
    steps += 1
    var penalty = 0.0
    for (range, decays) in ranges(accumulator) {
      let parameters = store.values.slice(range)
      let gradient = accumulator.gradient.slice(range)
      let local = pulls.map { $0.slice(range) }
      let decay = decays ? settings.weightDecay : 0
      if settings.kind == .adamw, let first, let second {
        penalty += backend.adamW(
          parameters, gradient: gradient, firstMoment: first.slice(range), secondMoment: second.slice(range),
          pulls: local,
          step: AdamWStep(
            learningRate: Float(learningRate), beta1: settings.beta1, beta2: settings.beta2,
            epsilon: settings.epsilon, weightDecay: decay, step: steps, gradientScale: gradientScale))
      } else {
        penalty += backend.sgd(
          parameters, gradient: gradient, momentumBuffer: first?.slice(range), momentum: settings.momentum,
          learningRate: Float(learningRate), weightDecay: decay, gradientScale: gradientScale, pulls: local)
      }
    }
    return penalty
  }

  /// Neighbouring parameters with a gradient and the same decay, as one range.
  private func ranges(_ accumulator: Accumulator) -> [(Range<Int>, decays: Bool)] {
    var ranges: [(Range<Int>, decays: Bool)] = []
    for parameter in store.parameters where parameter.isTrainable && accumulator.hasGradient(parameter) {
      let decays = parameter.decays && settings.weightDecay != 0
      if let last = ranges.last, last.0.upperBound == parameter.range.lowerBound, last.decays == decays {
        ranges[ranges.count - 1].0 = last.0.lowerBound..<parameter.range.upperBound
      } else {
        ranges.append((parameter.range, decays))
      }
    }
    return ranges
  }

  /// Moves parameters against a force in the optimizer's own metric, damped so that it cannot overshoot.
  ///
  /// θ ← θ − ηλ·force/(d + ηλ·bound), d = √v̂ + ε for AdamW, 1 for SGD
  /// - Parameters:
  ///   - rate: ηλ
  ///   - bound: at least the slope of the force along every parameter's own axis, the others' influence included
  public func step(_ range: Range<Int>, against force: Tensor, bound: Tensor, rate: Float) {
    backend.dampedStep(
      store.values.slice(range), force: force, bound: bound,
      secondMoment: settings.kind == .adamw ? second?.slice(range) : nil,
      correction: Float(1 / (1 - Maths.pow(Double(settings.beta2), Double(steps)))), epsilon: settings.epsilon,
      rate: rate)
  }

  /// √Σg² over the parameters with a gradient.
  public func gradientNorm(_ accumulator: Accumulator) -> Double {
    var sum = 0.0
    for (range, _) in ranges(accumulator) {
      let gradient = accumulator.gradient.slice(range)
      sum += backend.dot(gradient, gradient)
    }
    return sum.squareRoot()
  }
}
