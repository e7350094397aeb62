// What can stop a run, and the exit code that says so to other programs.
import Archive
import Continual
import Corpus
import Curvature
import Experiment
import Glibc
import Ledger
import Merging
import Models
import Probes
import Training

/// A failure of the run itself.
public struct RunError: Error, Sendable, CustomStringConvertible {
  public let exitCode: Int32
  public let reason: String
  public let hint: String?
  public init(_ exitCode: Int32, _ reason: String, hint: String? = nil) {
    self.exitCode = exitCode
    self.reason = reason
    self.hint = hint
  }
  public var description: String { reason + (hint.map { " — \($0)" } ?? "") }
}

/// The documented exit codes.
public enum ExitCode {
  public static let done: Int32 = 0
  public static let bug: Int32 = 1
  public static let gateBroken: Int32 = 2
  public static let usage: Int32 = 64
  public static let badData: Int32 = 65
  public static let missingInput: Int32 = 66
  public static let unavailable: Int32 = 69
  public static let resources: Int32 = 71
  public static let cannotCreate: Int32 = 73
  public static let inputOutput: Int32 = 74
  public static let resumable: Int32 = 75
  public static let permission: Int32 = 77
  public static let configuration: Int32 = 78
  public static let diverged: Int32 = 80
  public static let interruptedTwice: Int32 = 130

  /// The exit code of any error that a target below throws.
  public static func of(_ error: any Error) -> Int32 {
    switch error {
    case let error as RunError: error.exitCode
    case let error as ExperimentError: error.exitCode
    case let error as ArchiveError: error.kind.exitCode
    case let error as DataError: error.kind.exitCode
    case let error as ModelError:
      switch error.kind {
      case .unsupported: unavailable
      case .invalid: badData
      case .missing: missingInput
      }
    case let error as TokenizerError:
      switch error.kind {
      case .unsupported: unavailable
      case .invalid: badData
      case .missing: missingInput
      }
    case let error as ProbeError:
      switch error.kind {
      case .definition: configuration
      case .data: badData
      case .model: unavailable
      }
    case is FisherError: configuration
    case is MergeError: usage
    case is StateError, is AdapterError, is ShapeError: badData
    case let error as LedgerError:
      switch error.kind {
      case .missing: missingInput
      case .malformed: badData
      case .io(let code):
        switch code {
        case EACCES, EPERM, EROFS: permission
        default: inputOutput
        }
      }
    default: bug
    }
  }
}
