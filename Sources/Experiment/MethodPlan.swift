// A method of a stack as the plan holds it: its name and every option of its schema, resolved.
import Continual
import Training

extension MethodSchema {
  /// Every method, in the order of the catalog.
  static let all: [MethodSchema] = MethodCatalog.schemas
  static func named(_ name: String) -> MethodSchema? { all.first { same($0.name, name) } }
}

/// A method of a stack with every option resolved.
public struct MethodPlan: Sendable, Equatable {
  public let name: String
  /// By dotted key, such as `lambda` or `fisher.labels`; every option of the schema is present.
  public internal(set) var options: [String: OptionValue]

  /// The method with its defaults; nil for an unknown name.
  public init?(_ name: String) {
    guard let schema = MethodSchema.named(name) else { return nil }
    self.init(schema)
  }
  init(_ schema: MethodSchema) {
    name = schema.name
    options = Dictionary(
      schema.options.map { ($0.key, $0.defaultValue) }, uniquingKeysWith: { first, _ in first })
  }

  /// The options as the method's own file asks for them.
  public var methodOptions: MethodOptions { MethodOptions { options[$0] } }
  /// The method's type; nil for an unknown name.
  public var type: (any ConfigurableMethod.Type)? { MethodCatalog.named(name) }

  public subscript(key: String) -> OptionValue? { options[key] }
  /// The number, also of an integer option; nil where the option is a word.
  public func double(_ key: String) -> Double? {
    switch options[key] {
    case .number(let value): value
    case .integer(let value): Double(value)
    default: nil
    }
  }
  public func int(_ key: String) -> Int? { if case .integer(let value) = options[key] { value } else { nil } }
  public func string(_ key: String) -> String? {
    if case .word(let value) = options[key] { value } else { nil }
  }
}
