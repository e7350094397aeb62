// The only constructor of models, methods and optimizers from a plan; what the variants of one experiment share.
import Archive
import Continual
import Corpus
import Curvature
import Experiment
import Layers
import Ledger
import Models
import Probes
import StrictJSON
import TensorCPU
import TensorCore
import Training

/// Everything an experiment's variants have in common: backend, base model, data, probes.
public final class Assembly {
  public let plan: ExperimentPlan
  public let backend: CPUBackend
  public let subject: Subject
  public let data: ChainData
  public let probes: [PreparedProbe]
  /// The base's parameters, for variants that start over.
  private let baseValues: Tensor?
  var isReused: Bool { baseValues != nil }
  /// Results of the base that every variant would compute alike.
  let sharedBase = SharedResults()
  var baseMeasurements: [Ledger.Measurement]?
  /// Asked for the first time before anything is trained or restored.
  public private(set) lazy var origins = Origins(self)

  /// - Parameter reuse: variants or trials will start from the base again
  public init(_ plan: ExperimentPlan, backend: CPUBackend? = nil, reuse: Bool) throws {
    self.plan = plan
    let backend = backend ?? CPUBackend(threads: plan.threads)
    self.backend = backend
    if case .new(.mlp(let description)) = plan.baseModel {
      let classifier = try ImageClassifier(description, plan, on: backend)
      subject = .classifier(classifier)
      probes = try plan.probes.map { try classifier.probe($0, plan, description.heads) }
      data = ChainData(base: classifier.base, stages: classifier.stages)
    } else {
      let model = try Self.baseModel(plan, on: backend)
      subject = .language(model)
      probes = try plan.probes.map { try PreparedProbe(Self.definition($0), model: model) }
      let documents = try plan.probes.map { probe in
        (
          name: probe.name,
          rows: try DataReader.read(
            paths: probe.paths, documents: DocumentRule(rawValue: probe.documents.rawValue) ?? .blankLine)
        )
      }
      data = try ChainData(plan, model: model, probeRows: documents)
    }
    baseValues = reuse ? backend.copied(subject.network.parameters.values) : nil
  }

  /// Sets how the passes that follow compute: numbers in products, and what a forward pass keeps.
  func prepare(for training: TrainingPlan) {
    backend.precision = training.precision
    subject.prepare(for: training)
  }

  /// Puts the base's parameters back.
  func restoreBase() {
    if let baseValues { backend.copy(baseValues, into: subject.network.parameters.values) }
  }

  /// The rows and steps of one stage of a plan that has this assembly's data.
  ///
  /// - Parameter plan: this assembly's, or one that differs in methods or in how long stages last
  /// - Cost: packing all rows of the stage, once
  public func schedule(_ stage: Int, of plan: ExperimentPlan) -> StageSchedule {
    let key = ScheduleKey(
      stage: stage, training: plan.stages[stage].training, seed: plan.seed,
      isLast: stage + 1 == plan.stages.count + plan.laterStages)
    if let known = schedules.first(where: { $0.key == key }) { return known.schedule }
    let schedule = StageSchedule(
      data.stages[stage], key.training, contextLength: subject.contextLength,
      place: Schedule.Place(isFirst: stage == 0, isLast: key.isLast),
      random: RandomStream(seed: plan.seed).forked("data", stage))
    schedules.append((key, schedule))
    return schedule
  }
  private struct ScheduleKey: Equatable {
    let stage: Int
    let training: TrainingPlan
    let seed: UInt64
    let isLast: Bool
  }
  private var schedules: [(key: ScheduleKey, schedule: StageSchedule)] = []

  /// The language model an experiment starts from.
  public static func baseModel(_ plan: ExperimentPlan, on backend: any Backend) throws -> LoadedModel {
    switch plan.baseModel {
    case .folder(let path), .checkpoint(let path): return try LoadedModel.load(path, on: backend)
    case .new(.llama(let sizes)): return try newModel("llama", sizes, plan, on: backend)
    case .new(.gpt2(let sizes)): return try newModel("gpt2", sizes, plan, on: backend)
    case .new(.mlp): throw RunError(ExitCode.configuration, "architecture mlp is a classifier, not a language model")
    }
  }

  private static func newModel(
    _ architecture: String, _ sizes: TransformerDescription, _ plan: ExperimentPlan, on backend: any Backend
  ) throws -> LoadedModel {
    let tokenizer = try Tokenizer.load(
      folder: sizes.tokenizer.hasSuffix("/tokenizer.json")
        ? String(sizes.tokenizer.dropLast("/tokenizer.json".count)) : sizes.tokenizer)
    var configuration = TransformerConfiguration(
      architecture: architecture, vocabularySize: sizes.vocabularySize ?? tokenizer.vocabularySize,
      hiddenSize: sizes.hiddenSize, intermediateSize: sizes.intermediateSize, layers: sizes.layers,
      heads: sizes.heads, keyHeads: sizes.keyValueHeads, contextLength: sizes.maxPositionEmbeddings,
      epsilon: sizes.normEpsilon, ropeTheta: sizes.ropeTheta ?? 0, tiesHead: sizes.tieWordEmbeddings)
    configuration.attentionBias = architecture == "gpt2"
    configuration.feedForwardBias = architecture == "gpt2"
    configuration.bosToken = tokenizer.bosToken
    configuration.eosToken = tokenizer.eosToken
    return LoadedModel(
      transformer: try ModelCatalog.initialize(configuration, random: RandomStream(seed: plan.seed), on: backend),
      tokenizer: tokenizer, path: sizes.tokenizer)
  }

  static func definition(_ probe: ProbePlan) -> ProbeDefinition {
    var definition = ProbeDefinition(
      name: probe.name, paths: probe.paths,
      kind: probe.kind.map { kind in
        switch kind {
        case .text: .text
        case .minimalPairs: .minimalPairs
        case .multipleChoice: .multipleChoice
        case .classification: .classification
        }
      }, metrics: probe.metrics, documents: DocumentRule(rawValue: probe.documents.rawValue) ?? .blankLine)
    definition.fewshotCount = probe.fewshotCount
    definition.fewshotPath = probe.fewshotPath
    definition.prompt = probe.prompt
    definition.limit = probe.limit
    return definition
  }

  /// What of a plan does not go with this model: found by `retain validate`, and by a run before it trains.
  ///
  /// - Parameter plan: this assembly's, or one of its variants'
  public func problems(of plan: ExperimentPlan) -> [any Error] {
    var problems: [any Error] = []
    func attempt(_ body: () throws -> Void) {
      do { try body() } catch { problems.append(error) }
    }
    let parameters = subject.network.parameters
    for stage in plan.stages {
      attempt { try adapted(stage) }
      let unmatched = parameters.freeze(stage.training.freeze)
      if !unmatched.isEmpty {
        problems.append(
          RunError(
            ExitCode.configuration,
            "stage \(stage.name): freeze patterns match no parameter: \(unmatched.joined(separator: ", "))",
            hint: "retain inspect lists parameter names"))
      }
    }
    _ = parameters.freeze([])
    let methods = plan.methods + plan.stages.flatMap { $0.methods ?? [] }
    for method in methods { attempt { try requireFit(method, plan) } }
    if let model = subject.languageModel {
      if let window = plan.evaluate.window, window > subject.contextLength, !plan.probes.isEmpty {
        problems.append(
          RunError(
            ExitCode.configuration, "evaluate.window: \(window) tokens, but the model sees \(subject.contextLength)"))
      }
      let asksBase = methods.contains { ChainRun.wantedExamples($0) > 0 }
      if data.base.examples.isEmpty, !plan.baseModel.isNew, asksBase, model.prefixToken == nil {
        problems.append(
          RunError(
            ExitCode.configuration,
            "without base_data the base must write its own text, but the model has no prefix token",
            hint: "give base_data"))
      }
    }
    return problems
  }

  /// - Throws: `RunError` (78) where a method's options ask for what the model cannot do
  private func requireFit(_ method: MethodPlan, _ plan: ExperimentPlan) throws {
    if let prompt = method.int("prompt_tokens"), prompt > 0, prompt >= subject.contextLength {
      throw RunError(
        ExitCode.configuration,
        "\(method.name): prompt_tokens \(prompt) leaves nothing to write in a context of \(subject.contextLength) tokens"
      )
    }
    if subject.languageModel != nil, method.string("fisher.labels") == "expected" {
      let scored = ([data.base] + data.stages).flatMap(\.examples).map(\.lossTokens).max() ?? 0
      let passes = subject.facts.vocabulary * scored
      guard passes > FisherPass.expectedPassLimit else { return }
      throw RunError(
        ExitCode.configuration,
        "\(method.name): fisher.labels: expected would take up to \(passes) backward passes a batch",
        hint: "sampled and top_k estimate the same quantity in few")
    }
  }

  /// A fresh method with the plan's options.
  func method(_ plan: MethodPlan) throws -> any ContinualMethod {
    guard let type = plan.type else {
      throw RunError(ExitCode.configuration, "there is no method called \(plan.name)")
    }
    return type.init(MethodIngredients(plan.methodOptions, store: subject.network.parameters, backend: backend))
  }

  func optimizer(_ training: TrainingPlan) -> Optimizer {
    Optimizer(Self.optimizerSettings(training), subject.network.parameters, on: backend)
  }
  static func optimizerSettings(_ training: TrainingPlan) -> OptimizerSettings {
    OptimizerSettings(
      kind: training.optimizer == .sgd ? .sgd : .adamw, beta1: Float(training.adamBeta1),
      beta2: Float(training.adamBeta2), epsilon: Float(training.adamEpsilon),
      weightDecay: Float(training.weightDecay))
  }

  /// A fresh adapter on the weights as they are; nil where a stage trains them themselves.
  ///
  /// - Throws: `RunError` (78) where a pattern matches no matrix, or nothing is left to adapt
  func adapter(_ stage: StagePlan, random: RandomStream, earlier: AdapterHistory?) throws -> LowRankAdapter? {
    guard let settings = AdapterSettings(stage.training) else { return nil }
    return LowRankAdapter(
      settings, try adapted(stage), of: subject.network.parameters, optimizer: Self.optimizerSettings(stage.training),
      random: random, earlier: earlier, on: backend)
  }

  /// The weights that a stage's adapter changes; none without an adapter.
  ///
  /// - Throws: `RunError` (78) as `adapter` does
  @discardableResult
  func adapted(_ stage: StagePlan) throws -> [Parameter] {
    guard stage.training.adapter == .lora else { return [] }
    let (chosen, unmatched) = subject.network.parameters.matrices(
      stage.training.loraTargets, except: stage.training.freeze)
    guard unmatched.isEmpty else {
      throw RunError(
        ExitCode.configuration,
        "stage \(stage.name): lora_targets match no matrix: \(unmatched.joined(separator: ", "))",
        hint: "retain inspect lists parameter names")
    }
    guard !chosen.isEmpty else {
      throw RunError(
        ExitCode.configuration, "stage \(stage.name): adapter: lora has no matrix to adapt",
        hint: "name some in lora_targets, or freeze fewer")
    }
    return chosen
  }

  /// SHA-256 of the parameters in the order of the layout.
  func parametersHash() -> String { SHA256.hash(UnsafeRawBufferPointer(subject.network.parameters.values.buffer)) }
}

extension AdapterSettings {
  /// nil where the plan asks for no adapter.
  init?(_ training: TrainingPlan) {
    guard training.adapter == .lora else { return nil }
    self.init(
      rank: training.loraRank, alpha: training.loraAlpha, targets: training.loraTargets,
      orthogonality: training.loraOrthogonality)
  }
}
