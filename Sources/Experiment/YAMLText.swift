// Writes an outline as YAML that our own strict reader reads back to the same values.
// Texts are quoted unless they are plainly words, so no scalar changes its meaning in other readers.

enum YAMLText {
  /// A word as it is, anything else in double quotes.
  static func render(_ text: String) -> String {
    let reserved = ["true", "false", "null", "yes", "no", "y", "n"]
    let isWord = text.utf8.enumerated().allSatisfy { index, byte in
      let letter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A
      let inner = (byte >= 0x30 && byte <= 0x39) || byte == 0x2D || byte == 0x2E
      return letter || byte == 0x5F || byte == 0x2F || (index > 0 && inner)
    }
    if isWord, !text.isEmpty, !reserved.contains(text.lowercased()) { return text }
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      default:
        let value = scalar.value
        let printable =
          (0x20..<0x7F).contains(value)
          || (value >= 0xA0 && ![0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF].contains(value))
        if printable {
          result.unicodeScalars.append(scalar)
        } else {
          let digits = String(value, radix: 16, uppercase: true)
          result += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
        }
      }
    }
    return result + "\""
  }

  static func write(_ outline: Outline) -> String {
    var lines: [String] = []
    write(outline, indent: "", into: &lines)
    return lines.joined(separator: "\n") + "\n"
  }

  private static func inline(_ outline: Outline) -> String? {
    switch outline {
    case .scalar(let text): return text
    case .list(let items):
      let texts = items.map { item -> String? in if case .scalar(let text) = item { text } else { nil } }
      guard texts.allSatisfy({ $0 != nil }) else { return nil }
      return "[\(texts.compactMap { $0 }.joined(separator: ", "))]"
    case .map(let pairs): return pairs.isEmpty ? "{}" : nil
    }
  }

  private static func write(_ outline: Outline, indent: String, into lines: inout [String]) {
    switch outline {
    case .scalar(let text): lines.append(indent + text)
    case .map(let pairs):
      for (key, value) in pairs {
        let name = render(key)
        if let text = inline(value) {
          lines.append("\(indent)\(name): \(text)")
        } else {
          lines.append("\(indent)\(name):")
          write(value, indent: indent + "  ", into: &lines)
        }
      }
    case .list(let items):
      for item in items {
        if let text = inline(item) {
          lines.append("\(indent)- \(text)")
          continue
        }
        var inner: [String] = []
        write(item, indent: indent + "  ", into: &inner)
        inner[0] = "\(indent)- " + inner[0].dropFirst(indent.count + 2)
        lines += inner
      }
    }
  }
}
