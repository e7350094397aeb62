// The model an experiment starts from: a folder, a checkpoint, or the description of a new one.
// The keys of a description are those of Hugging Face's config.json.

/// Where the first parameters come from.
public enum BaseModel: Sendable, Equatable {
  /// A Hugging Face folder; absolute.
  case folder(String)
  /// A Retain checkpoint or model file; absolute.
  case checkpoint(String)
  /// Random weights.
  case new(ModelDescription)

  public var isNew: Bool { if case .new = self { true } else { false } }
}

/// A model with random weights.
public enum ModelDescription: Sendable, Equatable {
  case llama(TransformerDescription)
  case gpt2(TransformerDescription)
  case mlp(ClassifierDescription)

  static let names = ["llama", "gpt2", "mlp"]
  public var architecture: String {
    switch self {
    case .llama: "llama"
    case .gpt2: "gpt2"
    case .mlp: "mlp"
    }
  }
}

/// Sizes of a decoder.
public struct TransformerDescription: Sendable, Equatable {
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var layers: Int
  public var heads: Int
  /// Equal to `heads` for gpt2.
  public var keyValueHeads: Int
  public var maxPositionEmbeddings: Int
  /// Of rotary positions; nil for gpt2.
  public var ropeTheta: Double?
  /// `rms_norm_eps` for llama, `layer_norm_epsilon` for gpt2.
  public var normEpsilon: Double
  public var tieWordEmbeddings: Bool
  /// Nil: the tokenizer's.
  public var vocabularySize: Int?
  /// A folder or a tokenizer.json; absolute.
  public var tokenizer: String
}

/// A multilayer perceptron for classification.
public struct ClassifierDescription: Sendable, Equatable {
  public enum Heads: String, Sendable, CaseIterable {
    /// A softmax of its own for every stage.
    case task
    /// One softmax over the classes within a stage, shared by all stages.
    case domain
    /// One softmax over all classes of all stages.
    case `class`
  }
  public var hiddenSizes: [Int]
  public var heads: Heads
  /// Nil: from the data.
  public var inputSize: Int?
  public enum Initialization: String, Sendable {
    /// Weights and biases in ±1/√inputs.
    case uniform
    /// Weights in ±√(6/(inputs + outputs)), biases 0.
    case xavier
  }
  public var initialization = Initialization.uniform
}
