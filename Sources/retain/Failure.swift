// Every failure in one voice: where, what, and the way out, on standard error.
import Archive
import Corpus
import Experiment
import Glibc
import Ledger
import Models
import Probes
import Runs

enum Failure {
  /// Prints an error.
  static func say(_ error: any Error) { Terminal.error(painted(text(error))) }

  /// Prints all errors and how many there are.
  static func say(all errors: [any Error]) {
    for error in errors { say(error) }
    Terminal.error(
      errors.count == 1 ? "1 error. Nothing was trained." : "\(errors.count) errors. Nothing was trained.")
  }

  /// `place: error: what`, more lines where there is more, and `hint:` last.
  static func text(_ error: any Error) -> String {
    switch error {
    case let error as ExperimentError: error.description
    case let error as RunError: located(nil, error.reason, error.hint)
    case let error as ArchiveError: located(error.path, error.reason, error.hint)
    case let error as ModelError: located(error.path, error.reason, error.hint)
    case let error as TokenizerError: located(error.path, error.reason, error.hint)
    case let error as LedgerError:
      located(error.line.map { "\(error.path):\($0)" } ?? error.path, error.what, error.hint)
    case let error as ProbeError: located(nil, "probe \(error.probe): \(error.reason)", error.hint)
    case let error as DataError: rows(error)
    default:
      Runs.ExitCode.of(error) == Runs.ExitCode.bug
        ? located(
          nil, "internal failure: \(error)", "this is a bug; please report it with the command that led here")
        : located(nil, "\(error)", nil)
    }
  }

  private static func located(_ place: String?, _ what: String, _ hint: String?) -> String {
    let head = place.map { "\($0): error: \(what)" } ?? "error: \(what)"
    guard let hint, !hint.isEmpty else { return head }
    return head + "\n   hint: " + hint
  }

  /// The first bad rows with their lines, then how many there are of each kind.
  private static func rows(_ error: DataError) -> String {
    var lines = [
      error.line.map { "\(error.file):\($0): error: \(error.reason)" } ?? "\(error.file): error: \(error.reason)"
    ]
    lines += error.offenders.dropFirst().map { "\($0.file):\($0.line): error: \($0.reason)" }
    if error.counts.reduce(0, { $0 + $1.rows }) > 1 {
      lines += error.counts.map { "   \(Figures.count($0.rows)) rows: \($0.reason)" }
    }
    if !error.hint.isEmpty { lines.append("   hint: " + error.hint) }
    return lines.joined(separator: "\n")
  }

  /// Colours the word `error:` of every line.
  private static func painted(_ text: String) -> String {
    let text = Terminal.plain(text)
    guard Style.isWanted(on: STDERR_FILENO) else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      guard let range = line.firstRange(of: "error:") else { return String(line) }
      return line[..<range.lowerBound] + Style.red.paint("error:", on: STDERR_FILENO)
        + line[range.upperBound...]
    }.joined(separator: "\n")
  }
}
