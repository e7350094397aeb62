// The methods an experiment may name and the options of each, as one table.
// A new method is a new entry here: reading, defaults, plan.yaml, suggestions and the manual follow from it.

/// What values an option takes.
public enum OptionKind: Sendable, Equatable {
  /// A finite number of `minimum` or more (above it where `open`), or one of the words.
  case number(minimum: Double, open: Bool, words: [String])
  /// A share from 0 to `maximum` (below it where `open`), also as a percentage.
  case share(maximum: Double, open: Bool)
  /// An integer in the range, or one of the words.
  case integer(ClosedRange<Int>, words: [String])
  /// One of the words; `notYet` names those that are planned and refused as such.
  case word([String], notYet: [String])
}

/// A resolved option.
public enum OptionValue: Sendable, Equatable {
  case number(Double)
  case integer(Int)
  case word(String)
}

/// One option of a method; a dot in the key is a nested mapping.
public struct OptionSchema: Sendable, Equatable {
  public let key: String
  public let kind: OptionKind
  public let defaultValue: OptionValue
  /// One sentence for the manual.
  public let doc: String

  public init(_ key: String, _ kind: OptionKind, default value: OptionValue, _ doc: String) {
    self.key = key
    self.kind = kind
    self.defaultValue = value
    self.doc = doc
  }
}

/// A method by name.
public struct MethodSchema: Sendable, Equatable {
  public let name: String
  /// One sentence for the manual.
  public let doc: String
  public let options: [OptionSchema]

  public init(_ name: String, _ doc: String, options: [OptionSchema]) {
    self.name = name
    self.doc = doc
    self.options = options
  }
}

extension MethodSchema {
  /// Every method, in the order of the catalog.
  public static let all: [MethodSchema] = [ewc, replay, l2sp]

  public static func named(_ name: String) -> MethodSchema? { all.first { same($0.name, name) } }

  private static let form = OptionSchema(
    "form", .word(["coupled", "proximal"], notYet: []), default: .word("proximal"),
    """
    proximal: an exact step on the penalty in the optimizer's own metric after the optimizer's step, \
    stable for any strength; coupled: the penalty's gradient is added to the clipped task gradient and \
    goes through the optimizer's moments.
    """)

  static let ewc = MethodSchema(
    "ewc",
    """
    Elastic weight consolidation: the penalty ½ λ Σ F (θ − θ*)² holds each parameter near its anchor in \
    proportion to its Fisher information.
    """,
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: ["posterior"]), default: .number(10),
        """
        The strength in posterior units: 10 weighs every past as ten times the new stage's tokens; \
        posterior computes N_old/N_new from token counts (the base counts base_tokens).
        """),
      OptionSchema(
        "variant", .word(["separate", "online"], notYet: []), default: .word("online"),
        "online: one accumulated Fisher with the newest anchor; separate: one penalty for every past."),
      OptionSchema(
        "decay", .share(maximum: 1, open: false), default: .number(1),
        """
        γ of the online variant: the old Fisher is multiplied by it at every consolidation; 1 forgets \
        nothing.
        """),
      form,
      OptionSchema(
        "fisher.labels", .word(["sampled", "observed", "expected"], notYet: []), default: .word("sampled"),
        """
        Which labels the Fisher is taken over: sampled from the model (unbiased), the observed data (the \
        so-called empirical Fisher), or the exact expectation (classifiers).
        """),
      OptionSchema(
        "fisher.unit", .word(["sequence", "position"], notYet: []), default: .word("sequence"),
        """
        What is squared: the gradient of a whole sequence, or the contribution of each position of each \
        linear layer.
        """),
      OptionSchema(
        "fisher.structure", .word(["diagonal"], notYet: ["kronecker"]), default: .word("diagonal"),
        "The shape of the Fisher: one number a parameter."),
      OptionSchema(
        "fisher.examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        """
        How many training sequences (or classifier examples) the Fisher is averaged over; all takes \
        every one.
        """),
      OptionSchema(
        "fisher.samples", .integer(1...1024, words: []), default: .integer(1),
        "How many label samples are drawn for each example with labels: sampled."),
    ])

  static let replay = MethodSchema(
    "replay",
    "Experience replay: rows of the past are mixed into every batch of the new stage.",
    options: [
      OptionSchema(
        "ratio", .share(maximum: 1, open: true), default: .number(0.1),
        "The share r of the final mix: r/(1−r) replayed tokens for every stage token, in the same batches."),
      OptionSchema(
        "budget_tokens", .integer(1...1_000_000_000_000, words: []), default: .integer(500_000),
        "How many tokens the buffer holds."),
      OptionSchema(
        "selection", .word(["reservoir", "stage_balanced"], notYet: []), default: .word("reservoir"),
        """
        reservoir: every document seen so far is kept with the same probability; stage_balanced: every \
        past gets the same share of the budget.
        """),
    ])

  static let l2sp = MethodSchema(
    "l2sp",
    """
    L2-SP: the penalty ½ λ Σ (θ − θ*)², EWC with a Fisher of one everywhere; the control that any EWC \
    result must beat.
    """,
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: []), default: .number(0.01),
        "The strength, the same for every parameter."),
      form,
      OptionSchema(
        "anchor", .word(["previous", "base"], notYet: []), default: .word("previous"),
        "What the parameters are held near: the model before this stage, or the base model."),
    ])
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
