// What can go wrong with the files of a run: where, what, and the way out.
// One error type for the target, so that the door can map kinds to exit codes.

/// A file of a run that cannot be read, written or understood.
public struct LedgerError: Error, Sendable, CustomStringConvertible {
  public enum Kind: Sendable, Equatable {
    /// The file is not there.
    case missing
    /// The operating system refused; the code is `errno`.
    case io(Int32)
    /// The bytes are there but do not say what they should.
    case malformed
  }
  public let kind: Kind
  public let path: String
  /// Line of the file, from 1, where that helps.
  public let line: Int?
  public let what: String
  public let hint: String?

  public init(_ kind: Kind, path: String, line: Int? = nil, what: String, hint: String? = nil) {
    self.kind = kind
    self.path = path
    self.line = line
    self.what = what
    self.hint = hint
  }

  public var description: String {
    let place = line.map { "\(path):\($0)" } ?? path
    return "\(place): \(what)" + (hint.map { "\n  hint: \($0)" } ?? "")
  }
}

/// A member that is absent or of the wrong type, before the file is known.
public struct ShapeError: Error, Sendable, CustomStringConvertible {
  /// Path of keys from the root, such as `summary.forgetting_ci`.
  public let key: String
  public let expected: String
  public var description: String { "'\(key)' is not \(expected)" }

  init(_ key: String, _ expected: String) {
    self.key = key
    self.expected = expected
  }
}
