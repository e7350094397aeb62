// What the reading commands share: notes on the error stream, JSON or a table on the output, checked options.
import ArgumentParser
import Foundation
import Probes
import Runs
import StrictJSON
import TensorCPU
import TensorCore

/// Text for people; nothing here is read by programs.
enum Say {
  /// A remark that is no result.
  static func note(_ text: String) { Terminal.error("note: \(text)") }
  /// One result for programs.
  static func json(_ value: JSON) { Terminal.out(value) }

  /// Whether output may carry colours: NO_COLOR and CLICOLOR_FORCE before what the terminal says.
  static var hasColour: Bool {
    let environment = ProcessInfo.processInfo.environment
    if let value = environment["NO_COLOR"], !value.isEmpty { return false }
    if let value = environment["CLICOLOR_FORCE"], !value.isEmpty, value != "0" { return true }
    return isatty(STDOUT_FILENO) == 1 && environment["TERM"] != "dumb"
  }
}

/// Rows of text in aligned columns.
struct AlignedTable {
  private var rows: [[String]] = []
  /// Columns whose text stands at the right.
  private let numeric: Set<Int>

  init(_ header: [String], numeric: Set<Int> = []) {
    self.numeric = numeric
    rows = [header]
  }
  mutating func add(_ cells: String...) { rows.append(cells) }
  var isEmpty: Bool { rows.count == 1 }

  var text: String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in
      rows.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      let cells = row.enumerated().map { column, cell in
        let gap = String(repeating: " ", count: widths[column] - cell.count)
        return numeric.contains(column) ? gap + cell : cell + gap
      }
      let line = cells.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}

enum Show {
  /// 1234567 → `1,234,567`.
  static func count(_ value: Int) -> String {
    var groups: [String] = []
    var digits = String(value.magnitude)[...]
    while !digits.isEmpty {
      groups.append(String(digits.suffix(3)))
      digits = digits.dropLast(3)
    }
    return (value < 0 ? "-" : "") + groups.reversed().joined(separator: ",")
  }
  /// Bytes with a unit of 1024.
  static func bytes(_ value: Int) -> String {
    var (size, unit) = (Double(value), 0)
    while size >= 1024, unit < 4 {
      size /= 1024
      unit += 1
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"][unit]
    return unit == 0 ? "\(value) B" : "\(fixed(size, 1)) \(name)"
  }
  static func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
  static func shape(_ shape: [Int]) -> String { "[" + shape.map(String.init).joined(separator: ", ") + "]" }
}

/// Number of worker threads.
struct ThreadOption: ParsableArguments {
  @Option(help: ArgumentHelp("Worker threads; default: all processors.", valueName: "n"))
  var threads: Int?

  func backend() throws -> CPUBackend {
    if let threads, !(1...1024).contains(threads) {
      throw usage("--threads \(threads) is not between 1 and 1024")
    }
    return CPUBackend(threads: threads)
  }
}

/// Numbers in matrix products.
struct PrecisionOption: ParsableArguments {
  @Option(help: "Numbers in matrix products; sums are always fp32.")
  var precision = Precision.fp32

  /// - Throws: 69 where this machine or build has no bf16
  func apply(to backend: CPUBackend) throws {
    backend.precision = precision
    guard backend.precision == precision else {
      throw RunError(
        Runs.ExitCode.unavailable, "--precision bf16: \(CPUBackend.whyNoBF16)", hint: "use --precision fp32")
    }
  }
}
extension Precision: ExpressibleByArgument {}

/// What is wrong with the command line itself.
func usage(_ reason: String, hint: String? = nil) -> RunError {
  RunError(Runs.ExitCode.usage, reason, hint: hint)
}

/// Runs what may throw a probe's complaint, which on a command line has other exit codes than in a run.
func askingProbes<Result>(_ body: () throws -> Result) throws -> Result {
  do { return try body() } catch let error as ProbeError {
    let code =
      switch error.kind {
      case .definition: Runs.ExitCode.usage
      case .data: Runs.ExitCode.badData
      case .model: Runs.ExitCode.unavailable
      }
    throw RunError(code, "probe \(error.probe): \(error.reason)", hint: error.hint)
  }
}
