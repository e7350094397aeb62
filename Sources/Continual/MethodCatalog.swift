// The table of methods: to add one, write its file and add its line here.
import Layers
import TensorCore
import Training

/// A method's options by dotted key; nil where an option is of another kind.
public struct MethodOptions {
  private let value: (String) -> OptionValue?
  public init(_ value: @escaping (String) -> OptionValue?) { self.value = value }

  /// The number, also of an integer option.
  public func number(_ key: String) -> Double? {
    switch value(key) {
    case .number(let number): number
    case .integer(let integer): Double(integer)
    default: nil
    }
  }
  public func integer(_ key: String) -> Int? {
    if case .integer(let integer) = value(key) { integer } else { nil }
  }
  public func word(_ key: String) -> String? {
    if case .word(let word) = value(key) { word } else { nil }
  }
}

/// What a method is built from: its options, and where it runs.
public struct MethodIngredients {
  public let options: MethodOptions
  public let store: ParameterStore
  public let backend: any Backend
  public init(_ options: MethodOptions, store: ParameterStore, backend: any Backend) {
    self.options = options
    self.store = store
    self.backend = backend
  }
  public func number(_ key: String) -> Double? { options.number(key) }
  public func integer(_ key: String) -> Int? { options.integer(key) }
  public func word(_ key: String) -> String? { options.word(key) }
}

/// What a forecast knows of a stage's steps.
public struct StepOutline {
  /// Of the stage, in one step.
  public let tokens: Int
  /// Pasts whose text may be kept.
  public let pasts: Int
  public let store: ParameterStore
  public init(tokens: Int, pasts: Int, store: ParameterStore) {
    self.tokens = max(1, tokens)
    self.pasts = pasts
    self.store = store
  }
}

/// What a forecast knows of a chain.
public struct StateOutline {
  public let store: ParameterStore
  /// Pasts that are consolidated by the end of the chain.
  public let pasts: Int
  /// Input tokens that the longest stage comes to see, each counted once.
  public let stageTokens: Int
  /// Tokens of all text that can become a past, which no budget can exceed.
  public let textTokens: Int
  public init(store: ParameterStore, pasts: Int, stageTokens: Int, textTokens: Int = .max) {
    self.store = store
    self.pasts = pasts
    self.stageTokens = stageTokens
    self.textTokens = textTokens
  }
  /// Tokens of real text that a method with such options buffers at most.
  public func buffered(_ options: MethodOptions) -> Int { min(options.integer("budget_tokens") ?? 0, textTokens) }
  /// P
  public var parameters: Int { store.count }
}

/// A method that can be made from options.
public protocol ConfigurableMethod: ContinualMethod {
  static var schema: MethodSchema { get }
  init(_ ingredients: MethodIngredients)
  /// Bytes that it keeps between steps, and at most in every checkpoint.
  static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int
  /// Bytes that it holds beside them while a stage runs, and in no checkpoint.
  static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int
  /// Bytes of what a pass over a past found, held until it has joined the state; while it joins, twice as many.
  static func estimateBytes(_ options: MethodOptions, _ store: ParameterStore) -> Int
  /// Why it cannot guard a stage that trains low-rank factors; nil where it can.
  static func reasonAgainstAdapters(_ options: MethodOptions) -> String?
  /// Rehearsed tokens for every token of the stage.
  static func rehearsedPerToken(_ options: MethodOptions) -> Double
  /// Work that it adds to a step beside that of rehearsed tokens, as a share of a plain step's, of which a forward pass
  /// is a third.
  static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double
}

extension ConfigurableMethod {
  public static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 0 }
  public static func estimateBytes(_ options: MethodOptions, _ store: ParameterStore) -> Int { 0 }
  public static func reasonAgainstAdapters(_ options: MethodOptions) -> String? { nil }
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double { 0 }
  /// r/(1 − r) for a method with a share r of the final mix.
  public static func rehearsedPerToken(_ options: MethodOptions) -> Double {
    guard let ratio = options.number("ratio"), ratio < 1 else { return 0 }
    return ratio / (1 - ratio)
  }
}

extension ConsolidationScope {
  /// A random choice of at most `count` of the past's sequences.
  func choice(of count: Int) -> [Exemplar] {
    let wanted = min(count, sequences.count)
    var random = self.random.forked("choice")
    var indices = Array(sequences.indices)
    for i in 0..<wanted { indices.swapAt(i, i + random.integer(below: indices.count - i)) }
    return indices.prefix(wanted).map { sequences[$0] }
  }
}

public enum MethodCatalog {
  public static var methods: [any ConfigurableMethod.Type] {
    [
      ElasticWeightConsolidation.self,
      ExperienceReplay.self,
      L2SP.self,
      SelfRehearsal.self,
      LearningWithoutForgetting.self,
      SynapticIntelligence.self,
      MemoryAwareSynapses.self,
      RiemannianWalk.self,
      FisherFreezing.self,
      DarkExperienceReplay.self,
      AveragedGradientEpisodicMemory.self,
      GradientEpisodicMemory.self,
      WeightInterpolation.self,
      OrthogonalGradientDescent.self,
    ]
  }
  /// The options of every method, for experiment files and the manual.
  public static var schemas: [MethodSchema] {
    var all: [MethodSchema] = []
    for method in methods { all.append(method.schema) }
    return all
  }
  public static var cards: [MethodCard] {
    var all: [MethodCard] = []
    for method in methods { all.append(method.card) }
    return all
  }
  public static func named(_ name: String) -> (any ConfigurableMethod.Type)? {
    for method in methods where method.card.name == name { return method }
    return nil
  }
}
