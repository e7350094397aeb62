// The immutable plan of an experiment: every default filled in, every name and path resolved.
// Everything after the reading of the file works from this value; nothing downstream sees YAML.

/// What is run.
public struct ExperimentPlan: Sendable, Equatable {
  public var name: String
  /// The absolute path of the experiment file.
  public var file: String
  /// The absolute folder of the experiment file.
  public var directory: String
  /// The overrides of the command line, as typed.
  public var overrides: [String]
  /// Absolute.
  public var outputDirectory: String
  public var baseModel: BaseModel
  /// What the base model knows; empty where nothing is given.
  public var baseData: [DatasetSpec]
  /// How many tokens the base stands for in `lambda: posterior`.
  public var baseTokens: Int?
  /// Nil: all cores.
  public var threads: Int?
  public var timeLimitSeconds: Double?
  public var seed: UInt64
  /// Of the whole chain, once for each; the seed alone where there is one.
  public var seeds: [UInt64]
  /// The defaults of all stages.
  public var training: TrainingPlan
  /// The main stack; empty is naive fine-tuning.
  public var methods: [MethodPlan]
  /// The same chain under other stacks, in the order of the file.
  public var compare: [VariantPlan]
  public var stages: [StagePlan]
  /// Stages of the chain that this plan leaves out at its end, as a search for a strength does.
  public var laterStages = 0
  public var probes: [ProbePlan]
  public var evaluate: EvaluatePlan
  public var dataChecks: DataChecksPlan
  public var checkpoint: CheckpointPlan
  public var logging: LoggingPlan
  public var tune: TunePlan?

  /// The main stack's name: its methods joined by `-`, or `naive`.
  public var mainVariantName: String { ExperimentPlan.variantName(of: methods) }

  static func variantName(of methods: [MethodPlan]) -> String {
    methods.isEmpty ? "naive" : methods.map(\.name).joined(separator: "-")
  }

  /// The plan of one entry of `compare`: its stack everywhere, in a folder of its own; nil for an unknown name.
  ///
  /// Overrides of `methods` in single stages belong to the main stack and do not apply.
  public func variant(_ name: String) -> ExperimentPlan? {
    guard let entry = compare.first(where: { same($0.name, name) }) else { return nil }
    var plan = self
    plan.methods = entry.methods
    plan.compare = []
    plan.outputDirectory = outputDirectory + "/" + entry.name
    for index in plan.stages.indices { plan.stages[index].methods = nil }
    return plan
  }
}

extension ExperimentPlan {
  /// The plan of one of several seeds, in a folder of its own.
  public func withSeed(_ seed: UInt64) -> ExperimentPlan {
    var plan = self
    plan.seed = seed
    plan.seeds = [seed]
    if seeds.count > 1 { plan.outputDirectory += "/seed-\(seed)" }
    return plan
  }
}

/// A named stack of `compare`.
public struct VariantPlan: Sendable, Equatable {
  public var name: String
  public var methods: [MethodPlan]
}

/// One stage of the chain.
public struct StagePlan: Sendable, Equatable {
  public var name: String
  public var datasets: [DatasetSpec]
  /// Held-out data given as such; empty where there is none.
  public var validation: [DatasetSpec]
  /// The share of the stage's documents that is held out; nil where nothing is.
  public var validationShare: Double?
  /// The defaults with the stage's own keys over them.
  public var training: TrainingPlan
  /// The stage's own stack; nil: the main one.
  public var methods: [MethodPlan]?
}

/// When and how probes are asked.
public struct EvaluatePlan: Sendable, Equatable {
  public enum Moment: String, Sendable {
    case base
    case stageEnd = "stage_end"
  }
  public var at: [Moment] = [.base, .stageEnd]
  /// Steps between checks inside a stage; 0: none.
  public var evalSteps = 200
  /// How many items of each probe a check inside a stage uses.
  public var watchItems = 64
  /// Of intervals.
  public var confidence = 0.95
  /// Resamplings behind an interval.
  public var bootstrap = 2000
  /// Tokens of context in scoring; nil: the model's own.
  public var window: Int?
}

/// What is looked for in the data before training.
public struct DataChecksPlan: Sendable, Equatable {
  public enum Duplicates: String, Sendable { case drop, warn, off }
  public enum Action: String, Sendable { case error, warn, off }
  public struct ProbeOverlap: Sendable, Equatable {
    /// Words in a run.
    public var ngram = 13
    /// The share of a probe document's runs in training rows from which it counts as leaked.
    public var documentShare = 0.2
    /// The share of leaked documents above which `action` is taken.
    public var maxDocuments = 0.02
    public var action = Action.error
  }
  public var exactDuplicates = Duplicates.drop
  public var probeOverlap = ProbeOverlap()
}

/// When checkpoints are written; stage ends always are.
public struct CheckpointPlan: Sendable, Equatable {
  /// 0: at stage ends only.
  public var saveSteps = 200
  /// How many checkpoints within stages are kept.
  public var saveTotalLimit = 3
}

public struct LoggingPlan: Sendable, Equatable {
  public var loggingSteps = 10
  /// Where events go.
  public var reportTo = ["jsonl"]
}

/// How the strength of a method is searched.
public struct TunePlan: Sendable, Equatable {
  public enum Range: Sendable, Equatable {
    case logUniform(Double, Double)
    case uniform(Double, Double)
    case values([Double])
  }
  public struct Dimension: Sendable, Equatable {
    /// A key as on the command line, such as `methods.ewc.lambda`.
    public var key: String
    public var range: Range
  }
  public enum Sampler: String, Sendable { case halving, grid, random }
  public enum Pick: Sendable, Equatable {
    /// The largest plasticity_share + forgetting_avoided.
    case knee
    case bestPlasticity(retentionAtLeast: Double)
  }
  public var stage: String
  public var search: [Dimension]
  public var sampler = Sampler.halving
  public var trials = 12
  public var pick = Pick.knee
}
