// A table of texts that prints itself on a terminal, in Markdown and in HTML.
// The first column holds names, the others numbers.

struct Table {
  struct Cell {
    var text: String
    /// In HTML only: class and inline style.
    var mark = ""
    var style = ""
    init(_ text: String, mark: String = "", style: String = "") {
      self.text = text
      self.mark = mark
      self.style = style
    }
  }
  var header: [String]
  var rows: [[Cell]] = []

  init(_ header: [String]) { self.header = header }

  mutating func add(_ texts: [String]) { rows.append(texts.map { Cell($0) }) }

  /// Columns padded with spaces, in blocks no wider than `width` that repeat the first column.
  func terminal(width: Int = 100) -> String {
    let lines = [header] + rows.map { row in row.map(\.text) }
    let cells = lines.map { $0.map(Format.plain) }
    let widths = header.indices.map { column in
      cells.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
    }
    guard let first = widths.first else { return "" }
    var blocks: [[Int]] = []
    var used = Int.max / 2
    for column in widths.indices.dropFirst() {
      if used + 2 + widths[column] > width {
        blocks.append([])
        used = first
      }
      blocks[blocks.count - 1].append(column)
      used += 2 + widths[column]
    }
    if blocks.isEmpty { blocks = [[]] }
    return blocks.map { columns in
      cells.map { row in
        var line = row[0] + String(repeating: " ", count: first - row[0].count)
        for column in columns {
          let text = row.indices.contains(column) ? row[column] : ""
          line += "  " + String(repeating: " ", count: widths[column] - text.count) + text
        }
        while line.last == " " { line.removeLast() }
        return line + "\n"
      }.joined()
    }.joined(separator: "\n")
  }

  var markdown: String {
    func line(_ texts: [String]) -> String { "| " + texts.joined(separator: " | ") + " |\n" }
    return line(header.map(Format.markdown)) + line(header.indices.map { $0 == 0 ? "---" : "---:" })
      + rows.map { row in line(row.map { Format.markdown($0.text) }) }.joined()
  }

  func write(to page: inout Markup, caption: String = "") {
    page.element("div", ["class": "scroll"]) { page in
      page.element("table") { page in
        if !caption.isEmpty { page.element("caption", caption) }
        page.element("thead") { page in
          page.element("tr") { page in
            for title in header { page.element("th", ["scope": "col"], title) }
          }
        }
        page.element("tbody") { page in
          for row in rows {
            page.element("tr") { page in
              for (column, cell) in row.enumerated() {
                if column == 0 {
                  page.element("th", ["scope": "row", "class": cell.mark], cell.text)
                } else {
                  page.element("td", ["class": cell.mark, "style": cell.style], cell.text)
                }
              }
            }
          }
        }
      }
    }
  }
}
