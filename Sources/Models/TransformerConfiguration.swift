// The numbers that describe a decoder-only transformer, whatever its family.
import StrictJSON

/// Sizes and constants of one language model.
public struct TransformerConfiguration: Sendable, Equatable {
  public var architecture: String
  public var vocabularySize: Int
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var layers: Int
  public var heads: Int
  public var keyHeads: Int
  public var headDimension: Int
  /// Longest sequence the model was made for.
  public var contextLength: Int
  public var epsilon: Double
  public var ropeTheta: Double
  public var tiesHead: Bool
  public var attentionBias = false
  public var feedForwardBias = false
  public var initializerRange = 0.02
  public var bosToken: Int32?
  public var eosToken: Int32?

  public init(
    architecture: String, vocabularySize: Int, hiddenSize: Int, intermediateSize: Int, layers: Int, heads: Int,
    keyHeads: Int, contextLength: Int, epsilon: Double, ropeTheta: Double, tiesHead: Bool
  ) {
    self.architecture = architecture
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layers = layers
    self.heads = heads
    self.keyHeads = keyHeads
    headDimension = hiddenSize / max(1, heads)
    self.contextLength = contextLength
    self.epsilon = epsilon
    self.ropeTheta = ropeTheta
    self.tiesHead = tiesHead
  }

  /// Trainable numbers.
  public func parameterCount() throws(ModelError) -> Int {
    try ModelCatalog.architecture(named: architecture).declarations(self).reduce(0) { $0 + $1.count }
  }
}

/// The largest sizes that a config.json may name, those of experiment files: looked at before anything is built from
/// them, and too small together for any product or sum of them to overflow.
enum SizeLimit {
  static let layers = 1...512
  static let heads = 1...1024
  static let width = 1...65_536
  static let intermediate = 1...1_048_576
  static let positions = 1...1_048_576
  static let vocabulary = 1...16_777_216
  /// Of positions × head dimension: numbers in the rotary tables, behind which no tensor of the file stands.
  static let rotary = 1 << 28
}

/// Reads typed keys of a config.json and reports what is missing or out of range by name.
struct ConfigurationReader {
  let json: JSON
  let path: String

  func integer(_ key: String, default fallback: Int? = nil, in range: ClosedRange<Int>) throws(ModelError) -> Int {
    guard let value = json[key], !value.isNull else {
      if let fallback { return fallback }
      throw ModelError(.invalid, path, "the key \(key) is missing")
    }
    guard let number = value.int, range.contains(number) else {
      throw ModelError(.invalid, path, "\(key) is \(value.compact); expected an integer in \(range)")
    }
    return number
  }
  func number(_ key: String, default fallback: Double) throws(ModelError) -> Double {
    guard let value = json[key], !value.isNull else { return fallback }
    guard let number = value.double, number > 0, number.isFinite else {
      throw ModelError(.invalid, path, "\(key) is \(value.compact); expected a positive number")
    }
    return number
  }
  func flag(_ key: String, default fallback: Bool) throws(ModelError) -> Bool {
    guard let value = json[key], !value.isNull else { return fallback }
    guard let flag = value.bool else {
      throw ModelError(.invalid, path, "\(key) is \(value.compact); expected true or false")
    }
    return flag
  }
  /// A token id; a list (several end tokens) gives its first.
  func token(_ key: String) -> Int32? {
    let value = json[key]?.int ?? json[key]?[0]?.int
    return value.flatMap { Int32(exactly: $0) }.flatMap { $0 >= 0 ? $0 : nil }
  }
  func string(_ key: String) -> String? { json[key]?.string }
}
