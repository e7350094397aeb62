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
  ///   - bounded: pulls of single parameters, with forces at the parameters as they are
  /// - Returns: ½ Σ λF(θ − θ*)² over the quadratic pulls before the step
  public func update(
    along accumulator: Accumulator, learningRate: Double, gradientScale: Float, pulls: [QuadraticPull],
    bounded: [(parameter: Parameter, pull: BoundedPull)] = []
  ) -> Double {
    for (index, parameter) in store.parameters.enumerated() where moves(parameter, accumulator) { steps[index] += 1 }
    let own = Dictionary(grouping: bounded) { ObjectIdentifier($0.parameter) }
    var penalty = 0.0
    for part in parts(accumulator, pulls, apart: { own[ObjectIdentifier($0)] != nil }) {
      let range = part.range
      penalty += move(
        store.values.slice(range), along: accumulator.gradient.slice(range), first: first?.slice(range),
        second: second?.slice(range), decays: part.decays, steps: part.steps, learningRate: learningRate,
        gradientScale: gradientScale, pulls: part.pulls.map { pulls[$0].slice(range) },
        bounded: part.alone.flatMap { own[ObjectIdentifier($0)] }.map { $0.map(\.pull) } ?? [])
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
    for moved in parts(accumulator) {
      let range = moved.range
      // In parts: the moments' copies stay small.
      for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.previewed) {
        let part = start..<min(start + Self.previewed, range.upperBound)
        _ = move(
          values.slice(part), along: accumulator.gradient.slice(part),
          first: first.map { backend.copied($0.slice(part)) }, second: second.map { backend.copied($0.slice(part)) },
          decays: moved.decays, steps: moved.steps + 1, learningRate: learningRate, gradientScale: gradientScale,
          pulls: [], bounded: [])
      }
    }
  }
  /// Parameters whose moments `preview` copies at a time.
  private static let previewed = 1 << 20

  /// One step of some parameters with the same decay and the same number of steps, this one included.
  private func move(
    _ parameters: Tensor, along gradient: Tensor, first: Tensor?, second: Tensor?, decays: Bool, steps: Int,
    learningRate: Double, gradientScale: Float, pulls: [QuadraticPull], bounded: [BoundedPull]
  ) -> Double {
    let decay = decays ? settings.weightDecay : 0
    if settings.kind == .adamw, let first, let second {
      return backend.adamW(
        parameters, gradient: gradient, firstMoment: first, secondMoment: second, pulls: pulls,
        bounded: bounded,
        step: AdamWStep(
          learningRate: Float(learningRate), beta1: settings.beta1, beta2: settings.beta2, epsilon: settings.epsilon,
          weightDecay: decay, step: steps, gradientScale: gradientScale))
    }
    return backend.sgd(
      parameters, gradient: gradient, momentumBuffer: first, momentum: settings.momentum,
      learningRate: Float(learningRate), weightDecay: decay, gradientScale: gradientScale, pulls: pulls,
      bounded: bounded)
  }

  private func moves(_ parameter: Parameter, _ accumulator: Accumulator) -> Bool {
    parameter.isTrainable && accumulator.hasGradient(parameter)
  }

  /// What one pass moves: neighbouring parameters with a gradient that are treated alike.
  private struct Part {
    var range: Range<Int>
    let decays: Bool
    let steps: Int
    /// Indices of the pulls that reach it.
    let pulls: [Int]
    /// The parameter, where it stands for itself.
    let alone: Parameter?
  }
  private func parts(
    _ accumulator: Accumulator, _ pulls: [QuadraticPull] = [], apart: (Parameter) -> Bool = { _ in false }
  ) -> [Part] {
    var parts: [Part] = []
    for (index, parameter) in store.parameters.enumerated() where moves(parameter, accumulator) {
      let part = Part(
        range: parameter.range, decays: parameter.decays && settings.weightDecay != 0, steps: steps[index],
        pulls: pulls.indices.filter { pulls[$0].reaches(parameter.range) },
        alone: apart(parameter) ? parameter : nil)
      if let last = parts.last, last.range.upperBound == part.range.lowerBound, last.decays == part.decays,
        last.steps == part.steps, last.pulls == part.pulls, last.alone == nil, part.alone == nil
      {
        parts[parts.count - 1].range = last.range.lowerBound..<part.range.upperBound
      } else {
        parts.append(part)
      }
    }
    return parts
  }

  /// √Σg² over the parameters with a gradient.
  public func gradientNorm(_ accumulator: Accumulator) -> Double {
    var sum = 0.0
    for part in parts(accumulator) {
      let gradient = accumulator.gradient.slice(part.range)
      sum += backend.dot(gradient, gradient)
    }
    return sum.squareRoot()
  }
}
