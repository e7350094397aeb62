// Builds HTML and SVG by nesting, with every text and attribute escaped.
// There is no way to put raw text in, so what stands in a data file cannot become markup.

struct Markup {
  private(set) var text = ""

  typealias Attributes = KeyValuePairs<String, String>

  /// An element with content.
  mutating func element(_ name: String, _ attributes: Attributes = [:], _ body: (inout Markup) -> Void) {
    text += "<\(name)"
    append(attributes)
    text += ">"
    body(&self)
    text += "</\(name)>"
    if Markup.blocks.contains(name) { text += "\n" }
  }

  /// An element that holds only text.
  mutating func element(_ name: String, _ attributes: Attributes, _ content: String) {
    element(name, attributes) { $0.write(content) }
  }
  mutating func element(_ name: String, _ content: String) { element(name, [:], content) }

  /// An element without content: void in HTML, closed in SVG.
  mutating func void(_ name: String, _ attributes: Attributes = [:]) {
    text += "<\(name)"
    append(attributes)
    text += "/>"
  }

  /// Text between elements.
  mutating func write(_ content: String) { text += Markup.escape(content) }

  /// The first line of a page.
  mutating func doctype() { text += "<!DOCTYPE html>\n" }

  private mutating func append(_ attributes: Attributes) {
    for (key, value) in attributes where !value.isEmpty { text += " \(key)=\"\(Markup.escape(value))\"" }
  }

  private static let blocks: Set<String> = [
    "p", "h1", "h2", "h3", "tr", "table", "thead", "tbody", "section", "figure", "header", "svg", "head",
    "style", "title", "li", "ul", "details", "pre", "div", "body",
  ]

  /// Escapes for text and quoted attributes; characters that XML forbids become U+FFFD.
  static func escape(_ content: String) -> String {
    var out = ""
    out.reserveCapacity(content.utf8.count)
    for scalar in content.unicodeScalars {
      switch scalar {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      case "\n", "\t", "\r": out.unicodeScalars.append(scalar)
      case "\u{0}"..<"\u{20}", "\u{7F}"..."\u{9F}", "\u{FFFE}", "\u{FFFF}": out += "\u{FFFD}"
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}
