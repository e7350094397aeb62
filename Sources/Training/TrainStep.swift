// The order of a training step, written once for everybody.
import Layers
import TensorCore

/// What one optimizer step did.
public struct StepReport: Sendable {
  /// Mean over targets, in nats; no penalty inside.
  public let loss: Double
  /// ½ Σ λF(θ − θ*)² before the step, reported beside the loss.
  public let penalty: Double
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
  private let backend: any Backend

  public init(_ network: any Network, optimizer: Optimizer, on backend: any Backend) {
    self.network = network
    self.optimizer = optimizer
    self.backend = backend
    accumulator = Accumulator(network.parameters, on: backend)
  }

  /// One step on micro-batches that count as one batch: every target weighs the same, whichever part it is in.
  ///
  /// - Parameters:
  ///   - maximumNorm: limit of the task gradient's norm; 0 for none
  ///   - pulls: applied once, after clipping
  public func callAsFunction(
    _ microBatches: [Batch], learningRate: Double, maximumNorm: Double, pulls: [QuadraticPull]
  ) -> StepReport {
    let targets = microBatches.reduce(0) { $0 + $1.scored }
    let seed = CrossEntropySeed(scale: 1 / Float(max(1, targets)))
    accumulator.reset()
    var loss = 0.0
    for batch in microBatches where batch.count > 0 {
      loss += network.backward(batch, seed: seed, sink: accumulator, on: backend).loss
    }
    loss /= Double(max(1, targets))
    let norm = optimizer.gradientNorm(accumulator)
    guard loss.isFinite, norm.isFinite else {
      return StepReport(
        loss: loss, penalty: 0, gradientNorm: norm, learningRate: learningRate, targets: targets, isFinite: false)
    }
    let scale = maximumNorm > 0 && norm > maximumNorm ? Float(maximumNorm / norm) : 1
    let penalty = optimizer.update(
      along: accumulator, learningRate: learningRate, gradientScale: scale, pulls: pulls)
    return StepReport(
      loss: loss, penalty: penalty, gradientNorm: norm, learningRate: learningRate, targets: targets,
      isFinite: true)
  }
}
