// Figures as the commands show them on a terminal.
import Foundation

enum Figures {
  static func fixed(_ value: Double, _ digits: Int) -> String {
    value.isFinite ? String(format: "%.\(digits)f", value) : value.isNaN ? "nan" : "inf"
  }
  /// Three or four significant digits, scientific where that is shorter.
  static func short(_ value: Double) -> String {
    guard value.isFinite else { return fixed(value, 0) }
    let size = abs(value)
    if size == 0 { return "0" }
    if size < 1e-3 || size >= 1e6 { return String(format: "%.1e", value) }
    return fixed(value, size < 1 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0)
  }
  /// A setting as a person would write it: no trailing zeros.
  static func setting(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }
  /// 1234567 → `1 234 567`.
  static func count(_ value: Int) -> String {
    var groups: [Substring] = []
    var digits = String(value.magnitude)[...]
    while !digits.isEmpty {
      groups.append(digits.suffix(3))
      digits = digits.dropLast(3)
    }
    return (value < 0 ? "-" : "") + groups.reversed().joined(separator: " ")
  }
  static func bytes(_ value: Int) -> String {
    var (size, unit) = (Double(value), 0)
    while size >= 1024, unit < 4 {
      size /= 1024
      unit += 1
    }
    return unit == 0
      ? "\(value) B" : "\(fixed(size, size < 10 ? 1 : 0)) \(["B", "KiB", "MiB", "GiB", "TiB"][unit])"
  }
  /// `0.4s`, `12s`, `3m 04s`, `2h 05m`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    if seconds < 10 { return fixed(seconds, 1) + "s" }
    let whole = Int(seconds.rounded())
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    if whole < 60 { return "\(whole)s" }
    if whole < 3600 { return "\(whole / 60)m \(two(whole % 60))s" }
    return "\(whole / 3600)h \(two(whole / 60 % 60))m"
  }

  /// Rows in columns; the first column is left-aligned, the others right-aligned.
  static func columns(_ rows: [[String]], indent: String = "") -> String {
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      var line = indent
      for (column, cell) in row.enumerated() {
        let gap = String(repeating: " ", count: widths[column] - cell.count)
        line += (column == 0 ? "" : "  ") + (column == 0 ? cell + gap : gap + cell)
      }
      while line.last == " " { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}
