// Gathers the remarks of one reading of an experiment and knows the lines they point at.
// It lets every reader go on after a mistake, so that all mistakes are found in one go.

/// Where a piece of the experiment stands.
struct Place: Sendable, Equatable {
  enum Origin: Sendable, Equatable {
    case file
    /// The override with this index.
    case argument(Int)
  }
  var origin = Origin.file
  var line: Int
  var column: Int
  var length: Int
}

/// The remarks of one reading; one per place and message.
final class Collector {
  /// More mistakes than this are not read by anybody.
  static let limit = 200
  let path: String
  let lines: [String]
  let arguments: [String]
  private(set) var issues: [Issue] = []

  init(path: String, lines: [String], arguments: [String]) {
    self.path = path
    self.lines = lines
    self.arguments = arguments
  }

  func report(
    _ message: String, at place: Place, hint: String? = nil, kind: Issue.Kind = .configuration,
    severity: Issue.Severity = .error
  ) {
    guard !isFull else { return }
    let named: String
    let line: Int
    let source: String?
    switch place.origin {
    case .file:
      named = path
      line = place.line
      source = lines.indices.contains(place.line - 1) ? lines[place.line - 1] : nil
    case .argument(let index):
      named = "command line"
      line = index + 1
      source = arguments.indices.contains(index) ? arguments[index] : nil
    }
    let issue = Issue(
      severity: severity, kind: kind, path: named, line: line, column: place.column,
      length: place.length, message: message, hint: hint, sourceLine: source)
    if !issues.contains(issue) { issues.append(issue) }
  }

  /// True from the point on where further mistakes would not be read.
  var isFull: Bool { issues.count >= Collector.limit }
  private var inOrder: [Issue] {
    issues.enumerated().sorted {
      let (a, b) = ($0.element, $1.element)
      let aFirst = (a.path == path ? 0 : 1, a.line, a.column, $0.offset)
      let bFirst = (b.path == path ? 0 : 1, b.line, b.column, $1.offset)
      return aFirst < bFirst
    }.map(\.element)
  }
  var errors: [Issue] { inOrder.filter { $0.severity == .error } }
  var warnings: [Issue] { inOrder.filter { $0.severity == .warning } }
  var hasErrors: Bool { issues.contains { $0.severity == .error } }
}

/// A piece of the user's text, short enough for a message and without control characters.
func quoted(_ text: String) -> String {
  var shown = String.UnicodeScalarView()
  for scalar in text.unicodeScalars.prefix(80) {
    shown.append(scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) ? "\u{FFFD}" : scalar)
  }
  return "'\(String(shown))\(text.unicodeScalars.count > 80 ? "…" : "")'"
}

/// Equality of bytes: Swift's equality folds canonically equal strings, a vocabulary must not.
func same(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }
