// What can be wrong with a probe apart from its files, which the data reader complains about itself.

/// A probe that cannot be asked, with a way out.
public struct ProbeError: Error, Sendable, CustomStringConvertible {
  public enum Kind: Sendable {
    /// The definition contradicts itself: exit status 78 from an experiment file, 64 from the command line.
    case definition
    /// The rows are not what the definition needs (65).
    case data
    /// The model cannot be asked this way (69).
    case model
  }
  public let kind: Kind
  /// The probe's name.
  public let probe: String
  public let reason: String
  public let hint: String

  public init(_ kind: Kind, probe: String, _ reason: String, hint: String) {
    self.kind = kind
    self.probe = probe
    self.reason = reason
    self.hint = hint
  }
  public var description: String { "probe \(probe): \(reason)\nhint: \(hint)" }
}
