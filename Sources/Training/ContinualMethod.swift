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
  /// Scored tokens that the past stands for (N_old of the Laplace posterior).
  public let tokens: Int
  /// Largest batch of a Fisher pass, in tokens.
  public let batchTokens: Int
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
    tokens: Int, batchTokens: Int, makeBatches: @escaping ([Exemplar]) -> [Batch], sharing: SharedResults? = nil,
    random: RandomStream, note: @escaping (String) -> Void
  ) {
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
  public init() {}
  public func result<Result>(_ key: String, _ compute: () throws -> Result) rethrows -> Result {
    if let known = results[key] as? Result { return known }
    let result = try compute()
    results[key] = result
    return result
  }
}

extension ConsolidationScope {
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
  public init(network: any Network, stage: Int, name: String, tokens: Int, random: RandomStream) {
    self.network = network
    self.stage = stage
    self.name = name
    self.tokens = tokens
    self.random = random
  }
}

/// A way of keeping what was learned.
///
/// Order: `consolidate` (base) → for each stage: `stageWillBegin` → steps (`rehearse`, `pulls`) → `consolidate`.
public protocol ContinualMethod: Archivable {
  static var card: MethodCard { get }
  /// Called after a resume, too, with the same scope; must not draw from streams that steps use.
  func stageWillBegin(_ scope: StageScope) throws
  /// Sequences of the past that join a micro-batch of `stageTokens` input tokens.
  func rehearse(stageTokens: Int) -> [Exemplar]
  /// Quadratic pulls that the optimizer applies once a step.
  var pulls: [QuadraticPull] { get }
  func consolidate(_ scope: ConsolidationScope) throws
  /// Facts for the report, such as how often the buffer was replayed.
  var facts: [(name: String, value: Double)] { get }
}

extension ContinualMethod {
  public func stageWillBegin(_ scope: StageScope) throws {}
  public func rehearse(stageTokens: Int) -> [Exemplar] { [] }
  public var pulls: [QuadraticPull] { [] }
  public func consolidate(_ scope: ConsolidationScope) throws {}
  public var facts: [(name: String, value: Double)] { [] }
}
