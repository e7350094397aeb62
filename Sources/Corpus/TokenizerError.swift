// The one error of tokenizers: what is wrong with a tokenizer file, where, and what to do about it.
// The kind decides the exit code of a command, so it is part of the error and not of its text.

/// Why a tokenizer cannot be used.
public struct TokenizerError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: Sendable {
    /// A well-formed file that asks for something this program does not have (exit code 69).
    case unsupported
    /// A file that contradicts itself or its format (exit code 65).
    case invalid
    /// A file that is not there or cannot be read (exit code 66).
    case missing
  }
  public let kind: Kind
  /// The file, where the tokenizer came from one.
  public let path: String?
  /// What is wrong, beginning with the place inside the file where there is one.
  public let reason: String
  /// What to do about it.
  public let hint: String?

  public init(kind: Kind, path: String? = nil, reason: String, hint: String? = nil) {
    self.kind = kind
    self.path = path
    self.reason = reason
    self.hint = hint
  }
  public var description: String {
    (path.map { "\($0): " } ?? "") + reason + (hint.map { " (\($0))" } ?? "")
  }
  /// The same error with the file it was found in.
  func located(at path: String) -> TokenizerError {
    TokenizerError(kind: kind, path: path, reason: reason, hint: hint)
  }
}
