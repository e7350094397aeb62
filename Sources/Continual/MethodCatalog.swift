// The table of methods: to add one, write its file and add its line here.
import Layers
import TensorCore
import Training

/// What a method is built from: its options by dotted key, and where it runs.
public struct MethodIngredients {
  public let number: (String) -> Double?
  public let integer: (String) -> Int?
  public let word: (String) -> String?
  public let store: ParameterStore
  public let backend: any Backend
  public init(
    number: @escaping (String) -> Double?, integer: @escaping (String) -> Int?,
    word: @escaping (String) -> String?, store: ParameterStore, backend: any Backend
  ) {
    self.number = number
    self.integer = integer
    self.word = word
    self.store = store
    self.backend = backend
  }
}

/// A method that can be made from options.
public protocol ConfigurableMethod: ContinualMethod {
  static var schema: MethodSchema { get }
  init(_ ingredients: MethodIngredients)
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
  public static func make(_ name: String, _ ingredients: MethodIngredients) -> (any ContinualMethod)? {
    for method in methods where method.card.name == name { return method.init(ingredients) }
    return nil
  }
}
