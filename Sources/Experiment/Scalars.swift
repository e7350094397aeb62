// Strict readings of scalars: what a number, a share or a duration may look like.
// YAML's own rules (base 60, octal, yes/no, .nan) are the source of silent mistakes and are not used.

enum Scalars {
  /// Decimal digits with an optional sign and `_` between digits; no leading zeros, so nothing looks octal.
  static func isInteger(_ text: String) -> Bool {
    var bytes = Array(text.utf8)
    if let first = bytes.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
      bytes.removeFirst()
    }
    guard isDigits(bytes[...]) else { return false }
    return bytes.count == 1 || bytes[0] != UInt8(ascii: "0")
  }

  /// Nil where the text is no integer or does not fit.
  static func integer<T: FixedWidthInteger>(_ text: String, as type: T.Type = Int.self) -> T? {
    guard isInteger(text) else { return nil }
    return T(text.filter { $0 != "_" })
  }

  /// A finite decimal number, with `_` between digits and an exponent where wanted.
  static func number(_ text: String) -> Double? {
    guard isNumber(text), let value = Double(text.filter { $0 != "_" }), value.isFinite else { return nil }
    return value
  }

  /// A number, or a percentage such as `5%`.
  static func share(_ text: String) -> Double? {
    guard text.utf8.last == UInt8(ascii: "%") else { return number(text) }
    let mantissa = String(text.dropLast())
    guard number(mantissa) != nil, !mantissa.utf8.contains(where: { $0 | 0x20 == UInt8(ascii: "e") }) else {
      return nil
    }
    // Shifting the decimal point in the text rounds once: 5% is the same number as 0.05.
    return Double(mantissa.filter { $0 != "_" } + "e-2")
  }

  /// Seconds of a duration such as `8h`, `1h30m`, `90m` or `30s`.
  static func seconds(_ text: String) -> Double? {
    let units: [UInt8: Double] = [
      UInt8(ascii: "d"): 86_400, UInt8(ascii: "h"): 3600, UInt8(ascii: "m"): 60, UInt8(ascii: "s"): 1,
    ]
    var total = 0.0
    var last = Double.infinity
    var digits = ""
    for scalar in text.unicodeScalars {
      if scalar.isASCII, let unit = units[UInt8(ascii: scalar)] {
        guard unit < last, !digits.hasPrefix("-"), !digits.hasPrefix("+"), let value = number(digits) else {
          return nil
        }
        total += value * unit
        last = unit
        digits = ""
      } else {
        digits.unicodeScalars.append(scalar)
      }
    }
    return digits.isEmpty && last.isFinite && total.isFinite ? total : nil
  }

  /// True where a scalar says that there is no value.
  static func isNull(_ text: String) -> Bool {
    ["", "~", "null", "Null", "NULL"].contains { same($0, text) }
  }

  private static func isDigits(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard let first = bytes.first, let last = bytes.last else { return false }
    let underscore = UInt8(ascii: "_")
    guard first != underscore, last != underscore else { return false }
    var afterUnderscore = false
    for byte in bytes {
      if byte == underscore {
        if afterUnderscore { return false }
        afterUnderscore = true
      } else {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return false }
        afterUnderscore = false
      }
    }
    return true
  }

  private static func isNumber(_ text: String) -> Bool {
    var rest = Array(text.utf8)[...]
    func dropSign() {
      if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
        rest = rest.dropFirst()
      }
    }
    dropSign()
    if let e = rest.firstIndex(where: { $0 | 0x20 == UInt8(ascii: "e") }) {
      let mantissa = rest[..<e]
      rest = rest[(e + 1)...]
      dropSign()
      guard isDigits(rest) else { return false }
      rest = mantissa
    }
    guard let dot = rest.firstIndex(of: UInt8(ascii: ".")) else {
      return isDigits(rest) && (rest.count == 1 || rest.first != UInt8(ascii: "0"))
    }
    let whole = rest[..<dot]
    let fraction = rest[(dot + 1)...]
    guard !(whole.isEmpty && fraction.isEmpty) else { return false }
    guard whole.isEmpty || (isDigits(whole) && (whole.count == 1 || whole.first != UInt8(ascii: "0"))) else {
      return false
    }
    return fraction.isEmpty || isDigits(fraction)
  }
}
