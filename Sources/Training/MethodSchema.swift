// What options a method has: declared in the method's own file, read by experiment files, defaults and the manual.

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
  /// Another option and the words of it under which an option matters.
  public struct Condition: Sendable, Equatable {
    public let key: String
    public let words: [String]
    public init(_ key: String, _ words: [String]) {
      self.key = key
      self.words = words
    }
  }
  public let key: String
  public let kind: OptionKind
  public let defaultValue: OptionValue
  /// Without any it always matters. Set without effect, it is an error: nothing is read and ignored.
  public let conditions: [Condition]
  /// One sentence for the manual.
  public let doc: String

  public init(
    _ key: String, _ kind: OptionKind, default value: OptionValue, onlyWith condition: Condition? = nil,
    and second: Condition? = nil, _ doc: String
  ) {
    self.key = key
    self.kind = kind
    self.defaultValue = value
    conditions = [condition, second].compactMap { $0 }
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

extension OptionSchema {
  /// The two ways in which a quadratic penalty can act.
  public static let form = OptionSchema(
    "form", .word(["coupled", "proximal"], notYet: []), default: .word("proximal"),
    "proximal: an exact step on the penalty in the optimizer's own metric after the optimizer's step, stable for any strength; coupled: the penalty's gradient is added to the clipped task gradient and goes through the optimizer's moments."
  )
}
