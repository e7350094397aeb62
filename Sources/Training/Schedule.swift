// The learning rate over the steps of one stage; every stage warms up again.
import TensorCore

/// η(s) for step s of S.
///
/// Linear warm-up over W = ⌈ratio·S⌉ steps, then the shape down to `minimumRatio` of the peak.
public struct Schedule: Sendable, Equatable {
  public enum Shape: String, Sendable, CaseIterable {
    /// peak·(m + (1 − m)·½(1 + cos πx)), x the share of steps after the warm-up
    case cosine
    /// peak·(1 − (1 − m)x)
    case linear
    case constant
    /// Warm-up, constant, then linear over the last tenth.
    case wsd
  }
  public let shape: Shape
  public let peak: Double
  public let steps: Int
  public let warmupSteps: Int
  public let minimumRatio: Double

  public init(shape: Shape, peak: Double, steps: Int, warmupRatio: Double, minimumRatio: Double) {
    self.shape = shape
    self.peak = peak
    self.steps = steps
    warmupSteps = Int((warmupRatio * Double(steps)).rounded(.up))
    self.minimumRatio = minimumRatio
  }

  /// - Parameter step: 0 for the first
  public func learningRate(_ step: Int) -> Double {
    if step < warmupSteps { return peak * Double(step + 1) / Double(warmupSteps) }
    let share = min(1, Double(step - warmupSteps) / Double(max(1, steps - warmupSteps)))
    let factor: Double
    switch shape {
    case .constant: factor = 1
    case .cosine: factor = minimumRatio + (1 - minimumRatio) * 0.5 * (1 + Maths.cos(Double.pi * share))
    case .linear: factor = 1 - (1 - minimumRatio) * share
    case .wsd: factor = share < 0.9 ? 1 : 1 - (1 - minimumRatio) * (share - 0.9) / 0.1
    }
    return peak * factor
  }
}
