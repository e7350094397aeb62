// What is wrong with an experiment file: every mistake with its place, its line and a suggestion.
// One error carries all of them, so that nobody repairs a file one run at a time.

/// One remark about an experiment file or an override of it.
public struct Issue: Sendable, Equatable {
  /// Whether the remark stops the run.
  public enum Severity: String, Sendable { case error, warning }
  /// What kind of mistake it is; the raw value is the exit code it asks for.
  public enum Kind: Int, Sendable {
    case badData = 65
    case missingInput = 66
    case unsupported = 69
    case configuration = 78
  }
  public let severity: Severity
  public let kind: Kind
  /// The file as the user named it, or `command line` for an override.
  public let path: String
  /// Counted from 1; for an override, the number of the argument. Zero where a place makes no sense.
  public let line: Int
  /// Counted from 1 in Unicode scalars. Zero where a place makes no sense.
  public let column: Int
  /// How many scalars the underline covers.
  public let length: Int
  public let message: String
  public let hint: String?
  /// The line itself, or nil where there is none to show.
  public let sourceLine: String?
}

extension Issue {
  /// `file:line:column: error: message`, then the line with its number, the underline and the hint.
  public var description: String {
    let place = line > 0 ? "\(path):\(line):\(column)" : path
    let head = "\(place): \(severity.rawValue): \(message)"
    guard line > 0, let sourceLine else {
      return hint.map { "\(head)\n   hint: \($0)" } ?? head
    }
    let gutter = String(line)
    let margin = String(repeating: " ", count: max(2, 5 - gutter.count))
    let excerpt = Excerpt(of: sourceLine, column: column, length: length)
    let blank = margin + String(repeating: " ", count: gutter.count)
    let underline = "\(blank) | \(excerpt.indent)\(excerpt.underline)"
    return "\(head)\n\(margin)\(gutter) | \(excerpt.text)\n"
      + (hint.map { "\(underline) \($0)" } ?? underline)
  }
}

extension Issue: CustomStringConvertible {}

/// The part of a source line that fits a screen, with the underline below it.
private struct Excerpt {
  let text: String
  let indent: String
  let underline: String

  init(of line: String, column: Int, length: Int) {
    let width = 100
    let scalars = Array(line.unicodeScalars)
    let target = min(max(column - 1, 0), scalars.count)
    // A long line is shown from a little before the place, so that the place is always visible.
    let start = target < width - 20 ? 0 : target - 40
    let end = min(scalars.count, start + width)
    var shown = String.UnicodeScalarView()
    var indent = String.UnicodeScalarView()
    for index in start..<end {
      let scalar = scalars[index]
      let visible = scalar == "\t" || (scalar.value >= 0x20 && scalar.value != 0x7F) ? scalar : "\u{FFFD}"
      shown.append(visible)
      if index < target { indent.append(scalar == "\t" ? "\t" : " ") }
    }
    let available = max(1, end - target)
    text = (start > 0 ? "…" : "") + String(shown) + (end < scalars.count ? "…" : "")
    self.indent = (start > 0 ? " " : "") + String(indent)
    underline = "^" + String(repeating: "~", count: max(0, min(length, available) - 1))
  }
}

/// Everything that is wrong with an experiment.
public struct ExperimentError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Errors only, in the order of their places.
  public let issues: [Issue]

  public init(issues: [Issue]) { self.issues = issues }

  /// 78 if any mistake is in the experiment, else 69, else 66, else 65.
  public var exitCode: Int32 {
    for kind in [Issue.Kind.configuration, .unsupported, .missingInput]
    where issues.contains(where: { $0.kind == kind }) {
      return Int32(kind.rawValue)
    }
    return Int32(Issue.Kind.badData.rawValue)
  }

  /// Every issue in full, then how many there are.
  public var description: String {
    let count = issues.count == 1 ? "1 error" : "\(issues.count) errors"
    return issues.map(\.description).joined(separator: "\n") + "\n\(count). Nothing was trained."
  }
}
