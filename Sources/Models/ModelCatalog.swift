// The table of architectures: to add one, write its file and add its line here.
import Layers
import StrictJSON
import TensorCore

/// What `retain list models` shows.
public struct ArchitectureCard: Sendable {
  public let name: String
  /// Values of `model_type` in config.json.
  public let modelTypes: [String]
  /// Values of `architectures` in config.json.
  public let classNames: [String]
  public let summary: String
}

/// A family of language models: how it is configured, which parameters it has, how they are wired.
public protocol Architecture {
  static var card: ArchitectureCard { get }
  /// Reads a Hugging Face config.json.
  static func configuration(_ json: JSON, path: String) throws(ModelError) -> TransformerConfiguration
  /// A config.json that transformers reads.
  static func json(_ configuration: TransformerConfiguration) -> JSON
  /// Parameters in file names and shapes, in the order of the flat vector.
  static func declarations(_ configuration: TransformerConfiguration) -> [ParameterDeclaration]
  /// Other names under which files keep a parameter.
  static func aliases(of name: String) -> [String]
  /// Tensors of a file that are not parameters.
  static func isIgnored(_ name: String) -> Bool
  static func build(_ configuration: TransformerConfiguration, _ parts: ParameterLookup, on backend: any Backend)
    -> Transformer
}

extension Architecture {
  public static func aliases(of name: String) -> [String] { [] }
  public static func isIgnored(_ name: String) -> Bool { name.hasSuffix(".rotary_emb.inv_freq") }
}

/// Parameters by name, for wiring.
public struct ParameterLookup {
  public let store: ParameterStore
  public subscript(name: String) -> Parameter {
    guard let parameter = store[name] else { preconditionFailure("the wiring names an undeclared parameter \(name)") }
    return parameter
  }
}

public enum ModelCatalog {
  public static var architectures: [any Architecture.Type] {
    [
      Llama.self,
      GPT2.self,
    ]
  }

  public static func architecture(named name: String) throws(ModelError) -> any Architecture.Type {
    for candidate in architectures where candidate.card.name == name { return candidate }
    var known: [String] = []
    for candidate in architectures { known.append(candidate.card.name) }
    throw ModelError(
      .unsupported, name, "no such architecture", hint: "known: " + known.joined(separator: ", "))
  }
  /// Finds the family of a config.json by `model_type`, else by `architectures`.
  public static func architecture(of json: JSON, path: String) throws(ModelError) -> any Architecture.Type {
    let type = json["model_type"]?.string
    let classes = json["architectures"]?.array?.compactMap(\.string) ?? []
    var known: [String] = []
    for candidate in architectures {
      let card = candidate.card
      if let type, card.modelTypes.contains(type) { return candidate }
      if type == nil, !card.classNames.filter(classes.contains).isEmpty { return candidate }
      known += card.modelTypes
    }
    throw ModelError(
      .unsupported, path, "architecture \(type ?? classes.first ?? "(none named)") is not supported",
      hint: "supported model types: " + known.joined(separator: ", "))
  }

  /// A model with zeroed parameters in the layout of its configuration.
  public static func build(_ configuration: TransformerConfiguration, on backend: any Backend) throws(ModelError)
    -> Transformer
  {
    let family = try architecture(named: configuration.architecture)
    let store = ParameterStore(family.declarations(configuration), on: backend)
    return family.build(configuration, ParameterLookup(store: store), on: backend)
  }
  /// A model with random parameters.
  public static func initialize(
    _ configuration: TransformerConfiguration, random: RandomStream, on backend: any Backend
  ) throws(ModelError) -> Transformer {
    let model = try build(configuration, on: backend)
    let family = try architecture(named: configuration.architecture)
    model.parameters.initialize(family.declarations(configuration), from: random.forked("init"))
    return model
  }
}
