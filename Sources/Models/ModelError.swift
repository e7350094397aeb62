// What can be wrong with a model on disk, and what to do about it.

/// A model that cannot be loaded, described or saved.
public struct ModelError: Error, Sendable, CustomStringConvertible {
  public enum Kind: Sendable {
    /// An architecture or feature that Retain does not have.
    case unsupported
    /// Files that contradict themselves or each other.
    case invalid
    case missing
  }
  public let kind: Kind
  public let path: String
  public let reason: String
  public let hint: String?
  public init(_ kind: Kind, _ path: String, _ reason: String, hint: String? = nil) {
    self.kind = kind
    self.path = path
    self.reason = reason
    self.hint = hint
  }
  public var description: String { "\(path): \(reason)" + (hint.map { " — \($0)" } ?? "") }
}
