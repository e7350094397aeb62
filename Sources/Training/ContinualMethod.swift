// What a continual-learning method may do, and when. The caller defines it; one file a method fills it.
import Layers
import TensorCore

/// What `retain list methods` shows.
public struct MethodCard: Sendable {
  /// The key in experiment files.
  public let name: String
  public let title: String
  public let paper: String
  public let equation: String
  public let cost: String
  public let state: String
  public let needs: String
  /// Published figure that was reproduced, or what stands in for one.
  public let verified: String
  public init(
    name: String, title: String, paper: String, equation: String, cost: String, state: String, needs: String,
    verified: String
  ) {
    self.name = name
    self.title = title
    self.paper = paper
    self.equation = equation
    self.cost = cost
    self.state = state
    self.needs = needs
    self.verified = verified
  }
}

/// What a method sees when a past is to be remembered: the base before the first stage, or a stage that just ended.
public struct ConsolidationScope {
  public let network: any Network
  public let backend: any Backend
  /// 0 for the base, k for stage k.
  public let past: Int
  public let name: String
  /// The past's training sequences; those sampled from the model where the base has no data.
  public let sequences: [Exemplar]
  /// Whether `sequences` are text of the past, rather than sampled from the model.
  public let isReal: Bool
  /// Whether the parameters are still as they were drawn.
  public let isUntrained: Bool
  /// Scored tokens that the past stands for (N_old of the Laplace posterior).
  public let tokens: Int
  /// Largest batch of a Fisher pass, in tokens.
  public let batchTokens: Int
  /// Texts that the model writes itself, each from the mark that begins a text; nil for models that cannot.
  public let write: Writer?
  /// Draws a text for each prompt at a temperature: behind the mark the prompt, which may be empty, then what the model
  /// writes, at most `length` tokens together; a prompt is cut so that at least one of them is drawn.
  public typealias Writer = (
    _ prompts: [[Int32]], _ length: Int, _ temperature: Double, _ random: RandomStream
  ) -> [Exemplar]
  /// Lays sequences end to end; several batches where a network's heads differ.
  public let makeBatches: ([Exemplar]) -> [Batch]
  /// What several runs of one past may compute once; nil where nothing is shared.
  public let sharing: SharedResults?
  /// The method's own stream for this past.
  public let random: RandomStream
  /// Tells the ledger a fact.
  public let note: (String) -> Void

  public init(
    network: any Network, backend: any Backend, past: Int, name: String, sequences: [Exemplar], isReal: Bool,
    isUntrained: Bool = false,
    tokens: Int, batchTokens: Int, makeBatches: @escaping ([Exemplar]) -> [Batch], write: Writer? = nil,
    sharing: SharedResults? = nil, random: RandomStream, note: @escaping (String) -> Void
  ) {
    self.write = write
    self.isUntrained = isUntrained
    self.makeBatches = makeBatches
    self.sharing = sharing
    self.network = network
    self.backend = backend
    self.past = past
    self.name = name
    self.sequences = sequences
    self.isReal = isReal
    self.tokens = tokens
    self.batchTokens = batchTokens
    self.random = random
    self.note = note
  }
}

/// Results that depend on the past and a recipe alone, kept for the next run that asks.
public final class SharedResults {
  private var results: [String: Any] = [:]
  private var owners: [String: SharedResults] = [:]
  public init() {}
  /// Results of one method alone: what others draw comes from other streams.
  public func owned(by name: String) -> SharedResults {
    if let known = owners[name] { return known }
    let own = SharedResults()
    owners[name] = own
    return own
  }
  public func result<Result>(_ key: String, _ compute: () throws -> Result) rethrows -> Result {
    if let known = results[key] as? Result { return known }
    let result = try compute()
    results[key] = result
    return result
  }
}

extension ConsolidationScope {
  /// Whether results are kept for other runs, and so must not be changed.
  public var isSharing: Bool { sharing != nil }
  /// Computes a result, or takes it from a run that computed it from the same past. It must not be changed.
  public func shared<Result>(_ key: String, _ compute: () throws -> Result) rethrows -> Result {
    guard let sharing else { return try compute() }
    return try sharing.result(key, compute)
  }
}

/// What a method sees when a stage begins.
public struct StageScope {
  public let network: any Network
  /// 1 for the first stage.
  public let stage: Int
  public let name: String
  /// Scored tokens of the stage's data, each counted once (N_new).
  public let tokens: Int
  public let random: RandomStream
  /// Optimizer steps of the whole stage.
  public let steps: Int
  public init(
    network: any Network, stage: Int, name: String, tokens: Int, random: RandomStream, steps: Int = 0
  ) {
    self.steps = steps
    self.network = network
    self.stage = stage
    self.name = name
    self.tokens = tokens
    self.random = random
  }
}

/// One micro-batch while methods add to it.
public struct Composition {
  /// Sequences of the stage; a method may give them soft targets and weights.
  public var stage: [Exemplar]
  /// Sequences that join them.
  public var rehearsed: [Exemplar] = []
  public let network: any Network
  public let backend: any Backend
  /// Largest batch of a pass, in tokens.
  public let batchTokens: Int
  /// Lays sequences end to end; several batches where a network's heads differ.
  public let makeBatches: ([Exemplar]) -> [Batch]
  /// Where a step of the stage along a gradient would lead; nil where no step follows.
  public let preview: Preview?
  /// Writes the parameters after the step into `values` [1, P]; nothing else is changed.
  public typealias Preview = (_ gradient: Accumulator, _ values: Tensor) -> Void

  public init(
    _ stage: [Exemplar], network: any Network, backend: any Backend, batchTokens: Int,
    makeBatches: @escaping ([Exemplar]) -> [Batch], preview: Preview? = nil
  ) {
    self.preview = preview
    self.stage = stage
    self.network = network
    self.backend = backend
    self.batchTokens = batchTokens
    self.makeBatches = makeBatches
  }
  public var stageTokens: Int { stage.reduce(0) { $0 + $1.inputs.count } }
  /// Everything, ready to run.
  public var batches: [Batch] { makeBatches(stage + rehearsed) }
}

/// A step whose gradient is known, before or after the optimizer has moved the parameters.
public struct StepScope {
  public let network: any Network
  public let backend: any Backend
  /// The gradient of the mean loss, not clipped; before the optimizer and after it no penalty that pulls is in it.
  public let accumulator: Accumulator
  public let optimizer: Optimizer
  public let learningRate: Double
  /// Clipping's factor on the gradient.
  public let gradientScale: Float
  /// Targets that the mean was taken over.
  public let targets: Int
  /// Whether a method of the stack looks at the gradient after the step: who adds to it takes it out again.
  public let isObserved: Bool

  public init(
    network: any Network, backend: any Backend, accumulator: Accumulator, optimizer: Optimizer, learningRate: Double,
    gradientScale: Float, targets: Int, isObserved: Bool
  ) {
    self.network = network
    self.backend = backend
    self.accumulator = accumulator
    self.optimizer = optimizer
    self.learningRate = learningRate
    self.gradientScale = gradientScale
    self.targets = targets
    self.isObserved = isObserved
  }

  public var store: ParameterStore { network.parameters }
  /// Parameters that this step moves.
  public var moving: [Parameter] { store.parameters.filter { $0.isTrainable && accumulator.hasGradient($0) } }
}

/// A way of keeping what was learned.
///
/// Order: `consolidate` (base) → for each stage: `stageWillBegin` → steps → `stageDidTrain` → `consolidate`. In a step:
/// `compose` for each micro-batch → backward → `adjustGradient` → the optimizer with `pulls` and `boundedPulls` →
/// `adjustParameters`, of methods that constrain steps last → `settle` → `observe`; where loss or gradient is not
/// finite, backward → `stepWasSkipped`.
public protocol ContinualMethod: Archivable {
  static var card: MethodCard { get }
  /// Whether it promises something of the whole step, which moves after its own would break.
  static var constrainsSteps: Bool { get }
  /// Whether `observe` looks at the gradient.
  static var observesGradient: Bool { get }
  /// Called after a resume, too, with the same scope; must not draw from streams that steps use.
  func stageWillBegin(_ scope: StageScope) throws
  /// Adds sequences of the past to a micro-batch, or soft targets to the stage's own.
  func compose(_ batch: inout Composition)
  /// Quadratic pulls that the optimizer applies once a step.
  var pulls: [QuadraticPull] { get }
  /// Pulls of single weights that the optimizer applies once a step, with forces at the parameters before it; asked for
  /// after `adjustGradient`.
  var boundedPulls: [(parameter: Parameter, pull: BoundedPull)] { get }
  /// Adds to the gradient what shall go through the optimizer's moments, or looks at it before the parameters move.
  ///
  /// - Returns: the penalty at the parameters as they are, 0 without one
  func adjustGradient(_ step: StepScope) -> Double
  /// Moves the parameters once more after the optimizer.
  ///
  /// - Returns: the penalty at the parameters that it found, 0 without one
  func adjustParameters(_ step: StepScope) -> Double
  /// Puts back what must not have moved, whoever in the stack moved it; also before methods that constrain steps.
  func settle(_ step: StepScope)
  /// Looks at what the step did as a whole.
  func observe(_ step: StepScope)
  /// The composed step is not taken, because its loss or gradient was not finite; what was kept for it goes.
  func stepWasSkipped()
  /// All steps of the stage are taken; the parameters that this leaves are measured and consolidated.
  func stageDidTrain(_ scope: StageScope) throws
  func consolidate(_ scope: ConsolidationScope) throws
  /// Facts for the report, such as how often the buffer was replayed.
  var facts: [(name: String, value: Double)] { get }
}

extension ContinualMethod {
  public static var constrainsSteps: Bool { false }
  public static var observesGradient: Bool { false }
  public func stageWillBegin(_ scope: StageScope) throws {}
  public func compose(_ batch: inout Composition) {}
  public var pulls: [QuadraticPull] { [] }
  public var boundedPulls: [(parameter: Parameter, pull: BoundedPull)] { [] }
  public func adjustGradient(_ step: StepScope) -> Double { 0 }
  public func adjustParameters(_ step: StepScope) -> Double { 0 }
  public func settle(_ step: StepScope) {}
  public func observe(_ step: StepScope) {}
  public func stepWasSkipped() {}
  public func stageDidTrain(_ scope: StageScope) throws {}
  public func consolidate(_ scope: ConsolidationScope) throws {}
  public var facts: [(name: String, value: Double)] { [] }
}
