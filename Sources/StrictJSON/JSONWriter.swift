// JSON to text: compact for ledgers and wires, indented for files that people open.

extension JSON {
  /// One line without spaces.
  public var compact: String {
    var out = ""
    write(to: &out, indent: nil, level: 0)
    return out
  }
  /// Two spaces a level, one member a line; arrays of plain values stay on one line.
  public var pretty: String {
    var out = ""
    write(to: &out, indent: 2, level: 0)
    out += "\n"
    return out
  }

  private var isPlain: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  private func write(to out: inout String, indent: Int?, level: Int) {
    switch self {
    case .null: out += "null"
    case .bool(let value): out += value ? "true" : "false"
    case .integer(let value): out += String(value)
    // JSON has no NaN or infinity; null is what readers of metrics expect in their place.
    case .number(let value):
      if !value.isFinite {
        out += "null"
      } else if value == value.rounded(), abs(value) < 1e15 {
        out += "\(Int(value)).0"
      } else {
        out += "\(value)"
      }
    case .string(let value): JSON.quote(value, into: &out)
    case .array(let values):
      out += "["
      let inline = indent == nil || values.allSatisfy(\.isPlain)
      for (index, value) in values.enumerated() {
        if index > 0 { out += inline && indent != nil ? ", " : "," }
        if !inline, let indent { out += "\n" + String(repeating: " ", count: indent * (level + 1)) }
        value.write(to: &out, indent: indent, level: level + 1)
      }
      if !inline, let indent, !values.isEmpty { out += "\n" + String(repeating: " ", count: indent * level) }
      out += "]"
    case .object(let members):
      out += "{"
      for (index, member) in members.enumerated() {
        if index > 0 { out += "," }
        if let indent { out += "\n" + String(repeating: " ", count: indent * (level + 1)) }
        JSON.quote(member.key, into: &out)
        out += indent == nil ? ":" : ": "
        member.value.write(to: &out, indent: indent, level: level + 1)
      }
      if let indent, !members.isEmpty { out += "\n" + String(repeating: " ", count: indent * level) }
      out += "}"
    }
  }

  private static func quote(_ text: String, into out: inout String) {
    out += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case Unicode.Scalar(0)..<Unicode.Scalar(0x20):
        let hex = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    out += "\""
  }
}
