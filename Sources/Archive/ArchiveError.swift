// What can go wrong with a file: the kind decides the exit code, the rest says where, what and what to do.
// One struct for the whole target, so that every function can state it in its signature.
import Glibc

/// Why a file could not be read or written.
public struct ArchiveError: Error, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    /// The file or folder is not there.
    case missing
    /// Bytes are not what was written, or not what the format allows.
    case damaged
    /// Whole, but not what the reader asked for: another schema, type, shape or entry.
    case incompatible
    case cannotCreate
    case io
    case permission
    /// No space, quota or file-size limit left.
    case full
    /// Another process holds the directory.
    case locked
    /// A format that is refused on principle or not known.
    case unsupported
    /// More memory than the machine has.
    case memory
    /// The caller contradicts itself, for instance with two entries of one name: a bug of the program.
    case invalid

    public var exitCode: Int32 {
      switch self {
      case .missing: 66
      case .damaged, .incompatible: 65
      case .cannotCreate: 73
      case .io, .full: 74
      case .permission: 77
      case .locked: 75
      case .unsupported: 69
      case .memory: 71
      case .invalid: 1
      }
    }
  }

  public let kind: Kind
  public let path: String
  public let reason: String
  public let hint: String

  public init(_ kind: Kind, path: String, reason: String, hint: String) {
    self.kind = kind
    self.path = path
    self.reason = reason
    self.hint = hint
  }
  public var description: String { "\(path): \(reason); \(hint)" }
}

extension ArchiveError {
  enum Purpose { case reading, writing }

  /// The error of a failed system call.
  init(_ code: Int32, _ action: String, path: String, for purpose: Purpose) {
    let reason = "cannot \(action): \(String(cString: strerror(code)))"
    switch code {
    case ENOSPC, EDQUOT, EFBIG:
      self.init(.full, path: path, reason: reason, hint: "free some space or raise the quota, then run again")
    case EACCES, EPERM, EROFS:
      self.init(
        .permission, path: path, reason: reason,
        hint: "check the owner and the mode of the file and its folder")
    case ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, EISDIR, EEXIST:
      self.init(
        purpose == .reading ? .missing : .cannotCreate, path: path, reason: reason,
        hint: purpose == .reading ? "check the path" : "choose a path in an existing folder")
    case ENOMEM, EMFILE, ENFILE:
      self.init(.memory, path: path, reason: reason, hint: "raise the limit of memory or open files")
    default:
      self.init(.io, path: path, reason: reason, hint: "check the disk and the kernel log")
    }
  }
  static func damaged(_ path: String, _ reason: String) -> ArchiveError {
    ArchiveError(.damaged, path: path, reason: reason, hint: "use another copy of the file")
  }
  static func invalid(_ path: String, _ reason: String) -> ArchiveError {
    ArchiveError(.invalid, path: path, reason: reason, hint: "this is a bug of the program, please report it")
  }
}

/// A name from a file as it may be shown: control characters escaped, at most 120 characters.
func shown(_ name: String) -> String {
  var out = "\""
  for scalar in name.unicodeScalars.prefix(120) {
    if scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
      || scalar.properties.generalCategory == .format
    {
      out += "\\u{" + String(scalar.value, radix: 16) + "}"
    } else {
      out.unicodeScalars.append(scalar)
    }
  }
  return out + (name.unicodeScalars.count > 120 ? "…\"" : "\"")
}
