// Who watches a run: the command line's progress bar, or nobody.

/// One logged step with its place in the chain.
public struct StepProgress: Sendable {
  public let variant: String
  public let stage: String
  public let step: Int
  public let steps: Int
  public let loss: Double
  public let penalty: Double
  public let learningRate: Double
  public let gradientNorm: Double
  /// Stage and replayed tokens of this step.
  public let tokens: Int
  public let tokensPerSecond: Double
  /// Of the stage, from the speed so far.
  public let secondsLeft: Double
  /// Whether `logging_steps` wants a line for it.
  public let isLogged: Bool
}

public protocol RunObserver: AnyObject {
  /// Model, data and probes have been read; nothing has been trained yet.
  func assembled(_ assembly: Assembly)
  func message(_ text: String)
  func warning(_ text: String)
  func progress(_ step: StepProgress)
  /// Consolidation, measuring: what goes on between steps.
  func activity(_ text: String)
}

extension RunObserver {
  public func assembled(_ assembly: Assembly) {}
}

/// Watches nothing.
public final class SilentObserver: RunObserver {
  public init() {}
  public func message(_ text: String) {}
  public func warning(_ text: String) {}
  public func progress(_ step: StepProgress) {}
  public func activity(_ text: String) {}
}
