// The learning rate over the steps of one stage; every stage warms up again, except where one schedule spans the chain.
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
    /// One schedule for the whole chain: the first stage warms up and cools by a cosine to the constant rate over the
    /// first half of its other steps, the last one anneals linearly over its last tenth, and no stage warms up again.
    /// Source: Ibrahim et al. 2024, arXiv:2403.08763
    case infinite
  }
  /// Where a stage stands in its chain.
  public struct Place: Sendable, Equatable {
    public let isFirst: Bool
    public let isLast: Bool
    public init(isFirst: Bool, isLast: Bool) {
      self.isFirst = isFirst
      self.isLast = isLast
    }
  }
  public let shape: Shape
  public let peak: Double
  public let steps: Int
  public let warmupSteps: Int
  public let minimumRatio: Double
  /// The constant rate of `infinite` as a share of the peak.
  public let constantRatio: Double
  public let place: Place

  public init(
    shape: Shape, peak: Double, steps: Int, warmupRatio: Double, minimumRatio: Double, constantRatio: Double = 1,
    place: Place = Place(isFirst: true, isLast: true)
  ) {
    self.constantRatio = constantRatio
    self.place = place
    self.shape = shape
    self.peak = peak
    self.steps = steps
    let warmsUp = shape != .infinite || place.isFirst
    warmupSteps = warmsUp ? Int((warmupRatio * Double(steps)).rounded(.up)) : 0
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
    case .wsd: factor = Self.annealed(1, to: minimumRatio, share)
    case .infinite:
      if place.isFirst, share < 0.5 {
        factor = constantRatio + (1 - constantRatio) * 0.5 * (1 + Maths.cos(2 * Double.pi * share))
      } else {
        factor = place.isLast ? Self.annealed(constantRatio, to: minimumRatio, share) : constantRatio
      }
    }
    return peak * factor
  }
  private static func annealed(_ constant: Double, to last: Double, _ share: Double) -> Double {
    share < 0.9 ? constant : constant - (constant - last) * (share - 0.9) / 0.1
  }
}
