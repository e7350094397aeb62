// The order of a training step, written once for everybody.
import Layers
import TensorCore

/// What one optimizer step did.
public struct StepReport: Sendable {
  /// Mean over targets, each with its weight, in nats; neither penalty nor soft loss inside.
  public let loss: Double
  /// Σ weight·divergence from teachers, per counted target, reported beside the loss.
  public let softLoss: Double
  /// ½ Σ λF(θ − θ*)² at the parameters that the pulls found, reported beside the loss.
  public let penalty: Double
  /// Whether anything pulled.
  public let isPulled: Bool
  /// Of the task's gradient, before clipping.
  public let gradientNorm: Double
  public let learningRate: Double
  /// Targets that carried loss.
  public let targets: Int
  /// Whether loss and gradient were finite; if not, nothing was changed.
  public let isFinite: Bool
}

/// compose → forward → losses block by block → backward → clip → optimizer with pulls.
public final class TrainStep {
  public let network: any Network
  public let accumulator: Accumulator
  public let optimizer: Optimizer
  private let adapter: LowRankAdapter?
  private let backend: any Backend

  public convenience init(_ network: any Network, optimizer: Optimizer, on backend: any Backend) {
    self.init(network, optimizer, nil, on: backend)
  }
  /// Steps that move the factors of an adapter, whose weights follow; clipping and `gradientNorm` are the factors'.
  ///
  /// - Precondition: no method moves parameters after the optimizer
  public convenience init(_ network: any Network, adapter: LowRankAdapter, on backend: any Backend) {
    self.init(network, adapter.optimizer, adapter, on: backend)
  }
  private init(_ network: any Network, _ optimizer: Optimizer, _ adapter: LowRankAdapter?, on backend: any Backend) {
    self.network = network
    self.optimizer = optimizer
    self.adapter = adapter
    self.backend = backend
    accumulator = Accumulator(network.parameters, on: backend)
  }

  /// One step on micro-batches that count as one batch: every target weighs the same, whichever part it is in, and a
  /// mean of its own is over the places of all parts.
  ///
  /// - Parameters:
  ///   - maximumNorm: limit of the task gradient's norm; 0 for none
  ///   - pulls: applied once, after clipping, beside those of the methods
  ///   - methods: the stack; what they add to micro-batches is in these already
  public func callAsFunction(
    _ microBatches: [Batch], learningRate: Double, maximumNorm: Double, pulls: [QuadraticPull] = [],
    methods: [any ContinualMethod] = []
  ) -> StepReport {
    let targets = microBatches.reduce(0) { $0 + $1.counted }
    let scale = 1 / Float(max(1, targets))
    accumulator.reset()
    var (loss, weights, softLoss) = (0.0, 0.0, 0.0)
    for batch in Self.balanced(microBatches, targets: targets) where batch.count > 0 {
      if let objectives = batch.objectives {
        let seed = ObjectiveSeed(objectives, scale: scale)
        _ = network.backward(batch, seed: seed, sink: accumulator, on: backend)
        loss += seed.sums.hard
        weights += seed.sums.weights
        softLoss += seed.sums.soft
      } else {
        loss += network.backward(batch, seed: CrossEntropySeed(scale: scale), sink: accumulator, on: backend).loss
        weights += Double(batch.scored)
      }
    }
    loss /= max(weights, 1e-12)
    softLoss /= Double(max(1, targets))
    let norm = adapter?.project(accumulator) ?? optimizer.gradientNorm(accumulator)
    guard (loss + softLoss).isFinite, norm.isFinite else {
      for method in methods { method.stepWasSkipped() }
      return StepReport(
        loss: loss, softLoss: softLoss, penalty: 0, isPulled: false, gradientNorm: norm, learningRate: learningRate,
        targets: targets, isFinite: false)
    }
    let step = StepScope(
      network: network, backend: backend, accumulator: accumulator, optimizer: optimizer, learningRate: learningRate,
      gradientScale: Self.clipping(norm, maximumNorm: maximumNorm), targets: targets,
      isObserved: methods.contains { type(of: $0).observesGradient })
    let all = pulls + methods.flatMap(\.pulls)
    var penalty = methods.reduce(0) { $0 + $1.adjustGradient(step) }
    if let adapter {
      penalty += adapter.update(
        along: accumulator, learningRate: learningRate, gradientScale: step.gradientScale, pulls: all)
    } else {
      penalty += optimizer.update(
        along: accumulator, learningRate: learningRate, gradientScale: step.gradientScale, pulls: all,
        bounded: methods.flatMap(\.boundedPulls))
    }
    penalty += all.reduce(0) { $0 + $1.constant }
    penalty += adjust(methods, step)
    for method in methods { method.observe(step) }
    return StepReport(
      loss: loss, softLoss: softLoss, penalty: penalty, isPulled: !all.isEmpty || penalty != 0, gradientNorm: norm,
      learningRate: learningRate, targets: targets, isFinite: true)
  }

  /// What methods do to the parameters after the optimizer.
  ///
  /// - Returns: the sum of their penalties
  private func adjust(_ methods: [any ContinualMethod], _ step: StepScope) -> Double {
    let constraints = methods.filter { type(of: $0).constrainsSteps }
    var penalty = methods.reduce(0.0) { type(of: $1).constrainsSteps ? $0 : $0 + $1.adjustParameters(step) }
    if !constraints.isEmpty {
      // Constraints look at the step without what would be put back behind them.
      for method in methods { method.settle(step) }
      penalty += constraints.reduce(0) { $0 + $1.adjustParameters(step) }
    }
    for method in methods { method.settle(step) }
    return penalty
  }

  /// The batches with such weights that dividing by the step's targets makes of a mean of its own what dividing by its
  /// places would.
  private static func balanced(_ batches: [Batch], targets: Int) -> [Batch] {
    var places: [ObjectIdentifier: Int] = [:]
    for batch in batches {
      for (mean, rows) in batch.objectives?.means ?? [:] { places[mean, default: 0] += rows.count }
    }
    guard !places.isEmpty else { return batches }
    return batches.map { batch in
      guard var objectives = batch.objectives else { return batch }
      for (mean, rows) in objectives.means {
        let factor = Float(Double(max(1, targets)) / Double(max(1, places[mean] ?? 1)))
        for row in rows {
          objectives.rows.hard[row] *= factor
          objectives.rows.soft[row] *= factor
        }
      }
      var balanced = batch
      balanced.objectives = objectives
      return balanced
    }
  }

  /// Writes where a step along a gradient would put the parameters, clipped as a step's own; nothing is changed.
  ///
  /// Weight decay is included; pulls and what methods add are not.
  /// - Shapes: values [1, P]
  /// - Cost: a step's pass over memory, and copies of parameters and moments
  public func preview(
    along gradient: Accumulator, learningRate: Double, maximumNorm: Double, into values: Tensor
  ) {
    let norm = adapter?.project(gradient) ?? optimizer.gradientNorm(gradient)
    let scale = Self.clipping(norm, maximumNorm: maximumNorm)
    if let adapter {
      backend.copy(network.parameters.values, into: values)
      adapter.preview(along: gradient, learningRate: learningRate, gradientScale: scale, into: values)
    } else {
      optimizer.preview(along: gradient, learningRate: learningRate, gradientScale: scale, into: values)
    }
  }

  /// Clipping's factor on a gradient of this norm; 1 where `maximumNorm` is 0.
  private static func clipping(_ norm: Double, maximumNorm: Double) -> Float {
    maximumNorm > 0 && norm > maximumNorm ? Float(maximumNorm / norm) : 1
  }
}
