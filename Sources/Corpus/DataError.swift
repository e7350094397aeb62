// What can be wrong with a data file: one typed error that names the file, the line, the reason and a way out.
// Bad rows are collected, so that one reading shows what kinds of mistakes a file has and how often.

/// Why data cannot be used, with the place and a hint; `kind.exitCode` is the status of the process.
public struct DataError: Error, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    /// The file does not exist or may not be read (66).
    case missing
    /// The content is not what it should be (65).
    case bad
    /// The system failed while reading (74).
    case io
    /// A known form that this version cannot use (69).
    case unsupported

    /// The exit status by sysexits.h.
    public var exitCode: Int32 {
      switch self {
      case .missing: 66
      case .bad: 65
      case .io: 74
      case .unsupported: 69
      }
    }
  }
  /// One row that cannot be used.
  public struct Offender: Sendable, Equatable {
    public let file: String
    public let line: Int
    public let reason: String
    public init(file: String, line: Int, reason: String) {
      self.file = file
      self.line = line
      self.reason = reason
    }
  }
  /// How many rows share one kind of mistake.
  public struct Count: Sendable, Equatable {
    public let reason: String
    public let rows: Int
  }

  public let kind: Kind
  public let file: String
  /// The line in the (unpacked) file, counted from 1; nil where the whole file is meant.
  public let line: Int?
  public let reason: String
  public let hint: String
  /// The first bad rows, at most five; empty where the error is not about rows.
  public let offenders: [Offender]
  /// Bad rows by kind of mistake, most frequent first.
  public let counts: [Count]

  public init(
    _ kind: Kind, file: String, line: Int? = nil, reason: String, hint: String,
    offenders: [Offender] = [], counts: [Count] = []
  ) {
    self.kind = kind
    self.file = file
    self.line = line
    self.reason = reason
    self.hint = hint
    self.offenders = offenders
    self.counts = counts
  }

  /// `file:line: reason`, further offenders and counts on lines of their own, then the hint.
  public var description: String {
    var text = line.map { "\(file):\($0): \(reason)" } ?? "\(file): \(reason)"
    for offender in offenders.dropFirst() {
      text += "\n\(offender.file):\(offender.line): \(offender.reason)"
    }
    let total = counts.reduce(0) { $0 + $1.rows }
    if total > 1 {
      text += "\n\(total) bad rows: " + counts.map { "\($0.rows) × \($0.reason)" }.joined(separator: ", ")
    }
    return hint.isEmpty ? text : text + "\nhint: \(hint)"
  }
}

/// Collects bad rows while reading goes on.
struct BadRows {
  static let shown = 5
  private(set) var total = 0
  private var offenders: [DataError.Offender] = []
  private var counts: [String: Int] = [:]

  mutating func add(file: String, line: Int, fault: RowFault) {
    total += 1
    counts[fault.category, default: 0] += 1
    if offenders.count < Self.shown {
      offenders.append(DataError.Offender(file: file, line: line, reason: fault.reason))
    }
  }

  /// The error that lists what was collected; nil when every row was good.
  func error(hint: String) -> DataError? {
    guard let first = offenders.first else { return nil }
    let sorted = counts.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }
    return DataError(
      .bad, file: first.file, line: first.line, reason: first.reason, hint: hint, offenders: offenders,
      counts: sorted.map { DataError.Count(reason: $0.key, rows: $0.value) })
  }
}

/// Why one row is bad: the words for its line, and the kind it is counted under.
struct RowFault: Error {
  let reason: String
  let category: String
  init(_ reason: String, category: String? = nil) {
    self.reason = reason
    self.category = category ?? reason
  }
}
