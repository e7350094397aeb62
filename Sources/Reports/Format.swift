// Numbers and names as people read them: enough digits to see the effect, no more.
// One place, so that the terminal, Markdown and HTML never disagree.

import Glibc

enum Format {
  /// Shown where there is no number.
  static let nothing = "–"

  /// Exactly `decimals` digits after the point.
  static func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "not a number" : value > 0 ? "infinite" : "-infinite" }
    guard abs(value) < 1e15 else { return "\(value)" }
    var buffer = [CChar](repeating: 0, count: 64)
    let count = withVaList([Int32(decimals), value]) { vsnprintf(&buffer, buffer.count, "%.*f", $0) }
    let text = String(
      decoding: buffer.prefix(max(0, Int(count))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // No "-0.000": the sign of nothing confuses.
    return text.hasPrefix("-") && !text.contains { "123456789".contains($0) }
      ? String(text.dropFirst()) : text
  }

  /// Three decimals, more for small values, fewer for large ones.
  static func number(_ value: Double?) -> String {
    guard let value else { return nothing }
    return fixed(value, decimals(for: value))
  }

  static func decimals(for value: Double) -> Int {
    switch abs(value) {
    case 0: 3
    case ..<0.0001: 6
    case ..<0.001: 5
    case ..<0.01: 4
    case ..<10: 3
    case ..<100: 2
    case ..<1000: 1
    default: 0
    }
  }

  static func signed(_ value: Double?) -> String {
    guard let value else { return nothing }
    return (value > 0 ? "+" : "") + number(value)
  }

  /// A share as a percentage with one decimal.
  static func percent(_ share: Double?, signed: Bool = false) -> String {
    guard let share else { return nothing }
    return (signed && share > 0 ? "+" : "") + fixed(100 * share, 1) + "%"
  }

  /// `12 s`, `6 min 52 s`, `3 h 04 min`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return nothing }
    if seconds < 10 { return fixed(seconds, 1) + " s" }
    let whole = Int(seconds.rounded())
    if whole < 60 { return "\(whole) s" }
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    if whole < 3600 { return "\(whole / 60) min \(two(whole % 60)) s" }
    return "\(whole / 3600) h \(two(whole / 60 % 60)) min"
  }

  /// `950`, `48.2 k`, `2.10 M`.
  static func count(_ value: Int) -> String {
    let number = Double(value)
    switch abs(number) {
    case ..<10_000: return "\(value)"
    case ..<1e6: return fixed(number / 1e3, 1) + " k"
    case ..<1e9: return fixed(number / 1e6, 2) + " M"
    default: return fixed(number / 1e9, 2) + " G"
    }
  }

  static func bytes(_ value: Int) -> String { count(value) + (value < 10_000 ? " bytes" : "B") }

  /// `bits per byte`, `accuracy`; other names as they are.
  static func unit(_ metric: String?) -> String {
    switch metric {
    case "bits_per_byte": "bits per byte"
    case "acc": "accuracy"
    case "acc_norm": "normalised accuracy"
    case .some(let other): other
    case nil: "units of the metric"
    }
  }

  /// Text for a terminal or a table cell: control characters become spaces, so nothing can move a cursor.
  static func plain(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? " " : $0 }))
  }

  /// Text that Markdown shows as it is: no markup, no HTML, no new cell.
  static func markdown(_ text: String) -> String {
    var out = ""
    for character in plain(text) {
      switch character {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "|", "*", "`", "[", "]", "\\", "~", "#": out += "\\\(character)"
      default: out.append(character)
      }
    }
    return out
  }
}
