// How a stage is trained: batch, length, optimizer, schedule, guards.
// The property initialisers are the defaults of the experiment file.
import TensorCore

/// The resolved training settings of a stage, or the defaults of all stages.
public struct TrainingPlan: Sendable, Equatable {
  /// How long a stage lasts; all three count stage rows, not replayed ones.
  public enum Length: Sendable, Equatable {
    case epochs(Int)
    case steps(Int)
    case tokens(Int)
  }
  public enum ExcessLength: String, Sendable { case split, truncate, drop, `raise` }
  public enum Optimizer: String, Sendable { case adamw, sgd }
  public enum Adapter: String, Sendable { case none, lora }
  public enum Scheduler: String, Sendable { case cosine, linear, constant, wsd, infinite }

  public var sequenceLength = 512
  public var samplePacking = true
  public var trainOnInputs = false
  /// Nil: split for text, truncate for pairs.
  public var excessLength: ExcessLength?
  public var microBatchSize = 4
  public var gradientAccumulationSteps = 1
  public var length = Length.epochs(1)
  public var optimizer = Optimizer.adamw
  public var learningRate = 2e-5
  public var scheduler = Scheduler.cosine
  /// The share of the stage's steps in which the learning rate rises.
  public var warmupRatio = 0.03
  /// The last learning rate as a share of the highest.
  public var minLearningRateRatio = 0.1
  /// The constant learning rate of the infinite schedule as a share of the highest.
  public var constantLearningRateRatio = 0.5
  public var weightDecay = 0.01
  /// 0: no clipping.
  public var maxGradNorm = 1.0
  public var adamBeta1 = 0.9
  public var adamBeta2 = 0.999
  public var adamEpsilon = 1e-8
  /// Whether a stage goes on with the moments and the step count of the stage before.
  public var keepsOptimizerState = false
  /// Of products in training and in the Fisher information.
  public var precision = Precision.fp32
  /// Whether blocks are computed again on the way back instead of kept; no number changes.
  public var gradientCheckpointing = false
  /// Globs of parameter names that are not trained.
  public var freeze: [String] = []
  /// Whether weights are trained themselves, or low-rank changes of them.
  public var adapter = Adapter.none
  public var loraRank = 8
  /// The change of a weight is α/r·B·A.
  public var loraAlpha = 16.0
  /// Globs of parameter names; nil: every matrix except embeddings and heads.
  public var loraTargets: [String]?
  /// Strength of the penalty on overlap with the adapters of earlier stages; 0: none.
  public var loraOrthogonality = 0.0
  /// Validation checks without improvement before a stage ends; 0: off.
  public var earlyStoppingPatience = 0
  /// A loss above this many times its running mean counts as diverging; 0: off.
  public var lossWatchdogThreshold = 5.0
}
