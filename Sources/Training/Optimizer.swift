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
  /// Steps that each parameter has taken since its moments were new: bias corrections go by these, so a head that first
  /// receives a gradient late begins like any other.
  public private(set) var steps: [Int]
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
    steps = [Int](repeating: 0, count: store.parameters.count)
    let needsFirst = settings.kind == .adamw || settings.momentum != 0
    first = needsFirst ? backend.zeros(1, store.count) : nil
    second = settings.kind == .adamw ? backend.zeros(1, store.count) : nil
  }

  /// Continues a restored state, whose moments have been written into `first` and `second`.
  ///
  /// - Parameter steps: of each parameter; a single number stands for all of them
  public func resume(steps: [Int]) {
    precondition(steps.count == 1 || steps.count == self.steps.count, "\(steps.count) step counts")
    self.steps = steps.count == 1 ? self.steps.map { _ in steps[0] } : steps
  }

  /// Moves the parameters that received a gradient; the others, frozen or idle, keep every bit.
  ///
  /// - Parameters:
  ///   - gradientScale: factor on the gradient, from clipping; never on a pull
  /// - Returns: ½ Σ λF(θ − θ*)² over the pulls before the step
  public func update(
    along accumulator: Accumulator, learningRate: Double, gradientScale: Float, pulls: [QuadraticPull]
  ) -> Double {
    for (index, parameter) in store.parameters.enumerated() where moves(parameter, accumulator) { steps[index] += 1 }
    var penalty = 0.0
    for (range, decays, steps) in ranges(accumulator) {
      penalty += move(
        store.values.slice(range), along: accumulator.gradient.slice(range), first: first?.slice(range),
        second: second?.slice(range), decays: decays, steps: steps, learningRate: learningRate,
        gradientScale: gradientScale, pulls: pulls.map { $0.slice(range) })
    }
    return penalty
  }

  /// Writes where `update` without pulls would put the parameters, weight decay included; parameters, moments and step
  /// counts keep every bit.
  ///
  /// - Shapes: values [1, P], not the parameters themselves
  /// - Cost: a step's pass over memory, and copies of parameters and moments
  public func preview(
    along accumulator: Accumulator, learningRate: Double, gradientScale: Float, into values: Tensor
  ) {
    backend.copy(store.values, into: values)
    for (range, decays, steps) in ranges(accumulator) {
      // In parts: the moments' copies stay small.
      for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.previewed) {
        let part = start..<min(start + Self.previewed, range.upperBound)
        _ = move(
          values.slice(part), along: accumulator.gradient.slice(part),
          first: first.map { backend.copied($0.slice(part)) }, second: second.map { backend.copied($0.slice(part)) },
          decays: decays, steps: steps + 1, learningRate: learningRate, gradientScale: gradientScale, pulls: [])
      }
    }
  }
  /// Parameters whose moments `preview` copies at a time.
  private static let previewed = 1 << 20

  /// One step of some parameters with the same decay and the same number of steps, this one included.
  private func move(
    _ parameters: Tensor, along gradient: Tensor, first: Tensor?, second: Tensor?, decays: Bool, steps: Int,
    learningRate: Double, gradientScale: Float, pulls: [QuadraticPull]
  ) -> Double {
    let decay = decays ? settings.weightDecay : 0
    if settings.kind == .adamw, let first, let second {
      return backend.adamW(
        parameters, gradient: gradient, firstMoment: first, secondMoment: second, pulls: pulls,
        step: AdamWStep(
          learningRate: Float(learningRate), beta1: settings.beta1, beta2: settings.beta2, epsilon: settings.epsilon,
          weightDecay: decay, step: steps, gradientScale: gradientScale))
    }
    return backend.sgd(
      parameters, gradient: gradient, momentumBuffer: first, momentum: settings.momentum,
      learningRate: Float(learningRate), weightDecay: decay, gradientScale: gradientScale, pulls: pulls)
  }

  private func moves(_ parameter: Parameter, _ accumulator: Accumulator) -> Bool {
    parameter.isTrainable && accumulator.hasGradient(parameter)
  }

  /// Neighbouring parameters with a gradient, the same decay and the same number of steps, as one range.
  private func ranges(_ accumulator: Accumulator) -> [(Range<Int>, decays: Bool, steps: Int)] {
    var ranges: [(Range<Int>, decays: Bool, steps: Int)] = []
    for (index, parameter) in store.parameters.enumerated() where moves(parameter, accumulator) {
      let decays = parameter.decays && settings.weightDecay != 0
      if let last = ranges.last, last.0.upperBound == parameter.range.lowerBound, last.decays == decays,
        last.steps == steps[index]
      {
        ranges[ranges.count - 1].0 = last.0.lowerBound..<parameter.range.upperBound
      } else {
        ranges.append((parameter.range, decays, steps[index]))
      }
    }
    return ranges
  }

  /// Joins the step that was just taken with a pull of which only the force and a bound of its slope are known.
  ///
  /// θ ← θ − ηλ(force + bound·(θ − previous))/(d + ηλ·bound), d = √v̂ + ε for AdamW, 1 for SGD: the minimiser of the step's
  /// quadratic model plus a quadratic that is nowhere below the pull's penalty and touches it at `previous`. It cannot
  /// overshoot for any λ, and rests where gradient + λ·force = 0.
  /// - Parameters:
  ///   - previous: the parameter before the step; force, bounds: likewise taken there. [R, C] as the parameter's value
  ///   - rate: ηλ
  public func join(_ parameter: Parameter, previous: Tensor, force: Tensor, bounds: [RankOneBound], rate: Float) {
    let taken = zip(store.parameters, steps).first { $0.0 === parameter }?.1 ?? 1
    backend.dampedStep(
      parameter.value, previous: previous, force: force, bounds: bounds,
      secondMoment: settings.kind == .adamw ? second.map(parameter.view) : nil,
      correction: Float(1 / (1 - Maths.pow(Double(settings.beta2), Double(taken)))), epsilon: settings.epsilon,
      rate: rate)
  }

  /// √Σg² over the parameters with a gradient.
  public func gradientNorm(_ accumulator: Accumulator) -> Double {
    var sum = 0.0
    for (range, _, _) in ranges(accumulator) {
      let gradient = accumulator.gradient.slice(range)
      sum += backend.dot(gradient, gradient)
    }
    return sum.squareRoot()
  }
}
