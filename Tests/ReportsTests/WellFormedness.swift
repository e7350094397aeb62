// A strict reader of the pages we write: every element closed in order, every reference known, ids and quotes whole.
// Stricter than browsers on purpose, because browsers forgive what we should not write.

enum WellFormedness {
  /// The first violation, or nil.
  static func violation(_ page: String) -> String? {
    let bytes = Array(page.utf8)
    var position = 0
    var open: [String] = []
    func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "<"):
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: ">")) else {
          return "an open tag at the end"
        }
        var tag = text(position + 1..<end)
        position = end + 1
        if tag.hasPrefix("!") {
          if tag != "!DOCTYPE html" { return "declaration \(tag)" }
          continue
        }
        if tag.hasPrefix("/") {
          tag.removeFirst()
          guard open.popLast() == tag else { return "</\(tag)> closes nothing" }
          continue
        }
        if tag.contains("<") { return "< inside a tag: \(tag)" }
        let isVoid = tag.hasSuffix("/")
        if isVoid { tag.removeLast() }
        let name = String(tag.prefix { $0 != " " })
        if let problem = attributes(String(tag.dropFirst(name.count))) { return "\(name): \(problem)" }
        if !isVoid { open.append(name) }
      case UInt8(ascii: "&"):
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: ";")), end - position < 8,
          ["&amp", "&lt", "&gt", "&quot"].contains(text(position..<end))
        else { return "a bare & near '\(text(position..<min(position + 20, bytes.count)))'" }
        position = end + 1
      case 0x09, 0x0A, 0x0D, 0x20...: position += 1
      default: return "control character at byte \(position)"
      }
    }
    return open.isEmpty ? nil : "<\(open[open.count - 1])> is never closed"
  }

  private static func attributes(_ text: String) -> String? {
    var rest = Substring(text)
    var names = Set<String>()
    while !rest.isEmpty {
      guard rest.first == " " else { return "no space before '\(rest.prefix(12))'" }
      rest = rest.dropFirst()
      guard let equals = rest.firstIndex(of: "=") else { return "no value in '\(rest)'" }
      let name = String(rest[..<equals])
      guard names.insert(name).inserted else { return "\(name) twice" }
      rest = rest[rest.index(after: equals)...]
      guard rest.first == "\"" else { return "\(name) without quotes" }
      rest = rest.dropFirst()
      guard let end = rest.firstIndex(of: "\"") else { return "\(name) never ends" }
      rest = rest[rest.index(after: end)...]
    }
    return nil
  }
}
