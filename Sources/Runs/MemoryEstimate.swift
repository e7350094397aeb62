// How much memory a chain needs, from shapes alone.
// A run is refused in the first second rather than killed in the tenth hour.
import Continual
import Experiment
import Layers
import Models
import TensorCPU
import Training

/// Peak memory of one variant of an experiment, in bytes.
///
/// A chain is in one of three states: it trains, measures or consolidates a past. For language models each is gone
/// through with a backend that counts buffers and computes nothing; the largest of them counts, and beside it, with P
/// parameters:
///
/// - methods: as their `stateBytes` and `workBytes` have it, and 8P for interfered retrieval
/// - consolidation: what the pass over the past holds, or the self-test of a Fisher: 12P (bf16: 16P), scoring, and 40 for
///   every probability that it compares, beside Kronecker factors that were found; or two of these where pasts merge
/// - base copy 4P, and 4P for its Fisher, where variants start over from the base
/// - data: 12 a token of training text; 80 MiB for everything else
///
/// Classifiers are small: 12 bytes for every unit and image of a batch.
public struct MemoryEstimate: Sendable {
  public struct Part: Sendable {
    public let name: String
    public let bytes: Int
  }
  public let parts: [Part]
  public var bytes: Int { parts.reduce(0) { $0 + $1.bytes } }

  /// - Parameter isReused: other variants of the experiment start from the same base
  public init(_ plan: ExperimentPlan, assembly: Assembly, isReused: Bool) {
    let parameters = assembly.subject.network.parameters.count
    var parts: [Part] = []
    func add(_ name: String, _ bytes: Int) { if bytes > 0 { parts.append(Part(name: name, bytes: bytes)) } }
    add("parameters", 4 * parameters)
    var distinct: [MethodPlan] = []
    for method in plan.methods + plan.stages.flatMap({ $0.methods ?? [] }) where !distinct.contains(method) {
      distinct.append(method)
    }
    for method in distinct {
      guard let type = method.type else { continue }
      let (options, chain) = (method.methodOptions, StateOutline(plan, assembly))
      add(method.name, type.stateBytes(options, chain) + type.workBytes(options, chain))
    }
    if distinct.contains(where: { $0.string("retrieval") == "interfered" }) { add("retrieval", 8 * parameters) }
    add("base copy", isReused ? 4 * parameters : 0)
    let usesFisher = distinct.contains { $0.name == "ewc" }
    add("fisher of the base", isReused && usesFisher ? 4 * parameters : 0)

    // Of the stages one after the other the largest counts.
    let states = plan.stages.map { Self.optimizerState($0, assembly) }
    let (moments, adapter) = (states.map(\.moments).max() ?? 0, states.map(\.adapter).max() ?? 0)
    add("gradient", 4 * parameters)
    if moments >= adapter { add("moments", moments) } else { add("adapter", adapter) }
    let state = 4 * parameters + max(moments, adapter)
    switch assembly.subject {
    case .language(let model):
      let rehearsal = MemoryRehearsal(model.configuration, threads: plan.threads)
      let widths = plan.stages.indices.map {
        Self.batchTokens(plan, stage: $0, contextLength: assembly.subject.contextLength)
      }
      let training =
        plan.stages.indices.map { stage in
          rehearsal.training(
            plan.stages[stage], tokens: widths[stage], looksBetween: Self.looksBetween(plan, stage: stage, assembly))
        }.max() ?? 0
      let measuring = rehearsal.measuring(tokens: ChainRun.scoringTokens)
      add("activations and work", training - state)
      var others = measuring
      if !distinct.isEmpty {
        let kept = plan.stages.contains { $0.training.keepsOptimizerState } ? moments : 0
        let passes = zip(plan.stages, widths).map { rehearsal.consolidating(distinct, $0, tokens: $1) }.max() ?? 0
        // The self-test of a Fisher moves the parameters, whose rounded form is then another one.
        let usesBF16 = plan.stages.contains { $0.training.precision == .bf16 } && CPUBackend.supportsBF16
        let longest = ([plan.training] + plan.stages.map(\.training)).map(\.sequenceLength).max() ?? 0
        let probabilities = DivergenceProbe.workBytes(
          length: min(longest, assembly.subject.contextLength), classes: model.configuration.vocabularySize)
        let found =
          distinct.map { $0.type?.estimateBytes($0.methodOptions, assembly.subject.network.parameters) ?? 0 }
          .max() ?? 0
        let test = usesFisher ? found + (usesBF16 ? 16 : 12) * parameters + measuring + probabilities : 0
        others = max(others, max(passes, test, 2 * found) + kept)
      }
      add("consolidation and measuring", others - training)
    case .classifier(let classifier):
      let sizes = classifier.network.configuration
      let widest =
        plan.stages.indices.map {
          Self.batchTokens(plan, stage: $0, contextLength: assembly.subject.contextLength)
        }.max() ?? 0
      add("consolidation", usesFisher ? 8 * parameters : 0)
      add("activations", 12 * widest * (sizes.inputs + sizes.hiddenSizes.reduce(0, +)))
      add("images", 8 * sizes.inputs * assembly.data.stages.reduce(0) { $0 + $1.examples.count })
    }
    let tokens = ([assembly.data.base] + assembly.data.stages).reduce(0) { $0 + $1.inputTokens }
    add("data", 12 * tokens)
    add("program", 80 << 20)
    self.parts = parts
  }

  /// Whether a stage stops on its way to score validation rows or probes.
  private static func looksBetween(_ plan: ExperimentPlan, stage: Int, _ assembly: Assembly) -> Bool {
    let every = plan.evaluate.evalSteps
    let looks =
      plan.evaluate.watchItems > 0 && !assembly.probes.isEmpty || !assembly.data.stages[stage].validation.isEmpty
    return every > 0 && looks && assembly.schedule(stage, of: plan).steps > every
  }

  /// Bytes that a stage's optimizer keeps, or its adapter with its optimizer.
  static func optimizerState(_ stage: StagePlan, _ assembly: Assembly) -> (moments: Int, adapter: Int) {
    let isAdamW = stage.training.optimizer == .adamw
    guard let settings = AdapterSettings(stage.training) else {
      return (isAdamW ? 8 * assembly.subject.network.parameters.count : 0, 0)
    }
    // Patterns that match nothing are refused elsewhere.
    let weights = (try? assembly.adapted(stage)) ?? []
    let largest = weights.map(\.range.count).max() ?? 0
    return (
      0,
      4 * weights.reduce(0) { $0 + $1.range.count } + (isAdamW ? 16 : 8) * settings.factorCount(of: weights) + 8
        * largest
    )
  }

  /// Tokens of the largest micro-batch of a stage.
  static func batchTokens(_ plan: ExperimentPlan, stage: Int, contextLength: Int) -> Int {
    let training = plan.stages[stage].training
    let tokens = training.microBatchSize * min(training.sequenceLength, contextLength)
    return tokens + Int((Double(tokens) * plan.rehearsedPerToken(stage: stage)).rounded(.up))
  }
}

extension StateOutline {
  /// What a forecast knows of a plan's chain.
  ///
  /// - Parameter isOver: after the last stage, which is a past then, too; else while it trains
  init(_ plan: ExperimentPlan, _ assembly: Assembly, isOver: Bool = false) {
    let isNew = plan.baseModel.isNew && assembly.data.base.examples.isEmpty
    self.init(
      store: assembly.subject.network.parameters,
      pasts: plan.stages.count - (isNew ? 1 : 0) + (isOver ? 1 : 0),
      stageTokens: assembly.data.stages.indices.map {
        min(assembly.data.stages[$0].inputTokens, assembly.schedule($0, of: plan).inputTokens)
      }.max() ?? 0,
      textTokens: ([assembly.data.base] + assembly.data.stages).reduce(0) { $0 + $1.inputTokens })
  }
}

extension ExperimentPlan {
  /// What the methods of a stage add to its steps beside rehearsed tokens, as a share of a plain step's work.
  func addedWork(stage: Int, _ step: StepOutline) -> Double {
    (stages[stage].methods ?? methods).reduce(0) { $0 + ($1.type?.addedWork($1.methodOptions, step) ?? 0) }
  }
  /// Rehearsed tokens for every stage token.
  func rehearsedPerToken(stage: Int) -> Double {
    (stages[stage].methods ?? methods).reduce(0) { $0 + ($1.type?.rehearsedPerToken($1.methodOptions) ?? 0) }
  }
}
