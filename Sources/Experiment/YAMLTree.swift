// The experiment file as a tree of scalars, lists and mappings with their places.
// Everything in YAML that surprises (aliases, merge keys, tags, several documents) is refused here, with its place.
import Yams

/// A node of the file or of an override.
struct Tree: Sendable {
  struct Entry: Sendable {
    let key: String
    let keyPlace: Place
    var value: Tree
  }
  enum Content: Sendable {
    case scalar(String, plain: Bool)
    case list([Tree])
    case map([Entry])
    /// Something that was refused and reported; readers pass over it in silence.
    case refused
  }
  var content: Content
  var place: Place

  var entries: [Entry]? { if case .map(let entries) = content { entries } else { nil } }
  var items: [Tree]? { if case .list(let items) = content { items } else { nil } }
  var scalar: String? { if case .scalar(let text, _) = content { text } else { nil } }
  subscript(key: String) -> Tree? { entries?.first { same($0.key, key) }?.value }
  var isRefused: Bool { if case .refused = content { true } else { false } }
  var isNull: Bool {
    if case .scalar(let text, plain: true) = content { Scalars.isNull(text) } else { false }
  }
  /// What the node is, in the words of an error message.
  var kindName: String {
    switch content {
    case .scalar(let text, let plain): isNull ? "nothing" : plain ? quoted(text) : "the text \(quoted(text))"
    case .list: "a list"
    case .map: "a mapping"
    case .refused: "nothing"
    }
  }
}

/// Composes trees with Yams and reports what they must not contain.
struct TreeComposer {
  static let maximumDepth = 32
  static let maximumAliases = 16
  static let aliasHint = "write the value out where it is used; quote text that begins with & or *"
  static let maximumRepeats = 16
  /// A repeated key that has been reported is overwritten with these, so that reading can go on.
  static let repeatMarks: ClosedRange<UInt32> = 0xE000...(0xE000 + UInt32(maximumRepeats))

  let collector: Collector
  let origin: Place.Origin
  /// How many scalars stand before the text in its line.
  var offset = 0

  /// The single document of the text, or nil after a report.
  func compose(_ text: String) -> Tree? {
    var source = SourceText(text)
    guard !hasTooManyAliases(source) else { return nil }
    for turn in 0..<TreeComposer.maximumRepeats {
      do {
        // The parser owns the anchors, which nodes only refer to weakly.
        let parser = try Parser(yaml: source.text, resolver: .basic, encoding: .utf8)
        guard let root = try parser.singleRoot() else {
          report("empty experiment file", 1, 1, hint: "'retain init FILE' writes one to start from")
          return nil
        }
        return convert(root, lines: source.lines.map { Array($0.unicodeScalars) }, depth: 0)
      } catch YamlError.duplicatedKeysInMapping(let names, let context) {
        guard let renamed = rename(names.first ?? "", after: context.mark, in: source, turn: turn) else {
          return nil
        }
        source = renamed
      } catch let error as YamlError {
        report(error)
        return nil
      } catch {
        report("cannot be parsed: \(error)", 1, 1)
        return nil
      }
    }
    return nil
  }

  private func place(_ line: Int, _ column: Int, _ length: Int) -> Place {
    if line > 1, case .argument(let index) = origin, collector.arguments.indices.contains(index) {
      // An argument is one line; what is missing at its end is missing behind its last character.
      return Place(
        origin: origin, line: 1, column: collector.arguments[index].unicodeScalars.count + 1, length: 1)
    }
    return Place(origin: origin, line: line, column: column + (line == 1 ? offset : 0), length: length)
  }
  private func report(_ message: String, _ line: Int, _ column: Int, length: Int = 1, hint: String? = nil) {
    collector.report(message, at: place(line, column, length), hint: hint)
  }

  /// Turns a node into a tree; anchored nodes are reported and not entered, so that aliases cannot multiply.
  private func convert(_ node: Node, lines: [[Unicode.Scalar]], depth: Int) -> Tree {
    let line = node.mark?.line ?? 1
    let column = node.mark?.column ?? 1
    let row = lines.indices.contains(line - 1) ? lines[line - 1] : []
    let first = row.indices.contains(column - 1) ? row[column - 1] : " "
    func refuse(_ message: String, hint: String?) -> Tree {
      report(message, line, column, hint: hint)
      return Tree(content: .refused, place: place(line, column, 1))
    }
    if node.anchor != nil || first == "&" || first == "*" {
      return refuse("anchors and aliases are not supported", hint: TreeComposer.aliasHint)
    }
    if first == "!" {
      return refuse("tags are not supported", hint: "remove the tag; every key has one type")
    }
    guard depth < TreeComposer.maximumDepth else {
      return refuse("nested deeper than \(TreeComposer.maximumDepth) levels", hint: nil)
    }
    switch node {
    case .scalar(let scalar):
      let plain = scalar.style == .plain
      let length = scalarLength(scalar, row: row, column: column)
      return Tree(content: .scalar(scalar.string, plain: plain), place: place(line, column, length))
    case .sequence(let sequence):
      let items = sequence.map { convert($0, lines: lines, depth: depth + 1) }
      return Tree(content: .list(items), place: place(line, column, 1))
    case .mapping(let mapping):
      let entries = mapping.compactMap { entry($0.key, $0.value, lines: lines, depth: depth + 1) }
      return Tree(content: .map(entries), place: place(line, column, 1))
    case .alias:
      return refuse("anchors and aliases are not supported", hint: TreeComposer.aliasHint)
    }
  }

  private func entry(_ key: Node, _ value: Node, lines: [[Unicode.Scalar]], depth: Int) -> Tree.Entry? {
    let key = convert(key, lines: lines, depth: depth)
    guard let name = key.scalar, case .scalar(_, let plain) = key.content else {
      if !key.isRefused { collector.report("a key must be a word", at: key.place) }
      return nil
    }
    if let scalar = name.unicodeScalars.first, TreeComposer.repeatMarks.contains(scalar.value) { return nil }
    if plain, same(name, "<<") {
      collector.report(
        "merge keys are not supported", at: key.place, hint: "write the keys out where they are used")
      return nil
    }
    return Tree.Entry(key: name, keyPlace: key.place, value: convert(value, lines: lines, depth: depth))
  }

  private func scalarLength(_ scalar: Node.Scalar, row: [Unicode.Scalar], column: Int) -> Int {
    let rest = max(1, row.count - column + 1)
    switch scalar.style {
    case .plain: return min(rest, max(1, scalar.string.unicodeScalars.count))
    case .singleQuoted, .doubleQuoted:
      return ScalarSpan.quoted(row, from: column - 1).map { $0.count } ?? rest
    default: return 1
    }
  }

  private func report(_ error: YamlError) {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _):
      let text = context.map { " (\($0.text) at line \($0.mark.line))" } ?? ""
      let special = problem.contains("cannot start any token") || problem.contains("alphabetic or numeric")
      report(
        "not valid YAML: \(problem)\(text)", mark.line, mark.column,
        hint: special ? "indent with spaces; quote text that begins with a special character" : nil)
    case .composer(_, let problem, let mark, _):
      if problem.contains("another document") {
        report("an experiment file holds one document", mark.line, mark.column, hint: "remove this '---'")
      } else if problem.contains("alias") {
        report("anchors and aliases are not supported", mark.line, mark.column, hint: TreeComposer.aliasHint)
      } else {
        report("not valid YAML: \(problem)", mark.line, mark.column)
      }
    case .reader(let problem, let offset, _, let yaml):
      let (line, column) = position(ofByte: offset ?? 0, in: yaml)
      report("not valid YAML: \(problem)", line, column, hint: "remove the control character")
    default: report("cannot be parsed: \(error)", 1, 1)
    }
  }

  private func position(ofByte offset: Int, in text: String) -> (Int, Int) {
    let before = SourceText(String(decoding: text.utf8.prefix(max(0, offset)), as: UTF8.self)).lines
    return (max(1, before.count), (before.last?.unicodeScalars.count ?? 0) + 1)
  }

  /// Reports a repeated key with both lines, and renames the second so that the rest can be read.
  private func rename(_ name: String, after first: Mark, in source: SourceText, turn: Int) -> SourceText? {
    let spellings = [name, "\"\(name)\"", "'\(name)'"].map { Array($0.unicodeScalars) }
    var lines = source.lines.map { Array($0.unicodeScalars) }
    guard lines.indices.contains(first.line - 1) else { return nil }
    let inFlow = lines[first.line - 1].prefix(max(0, first.column - 1)).contains("{")
    for line in (first.line - 1)..<lines.count {
      let row = lines[line]
      let columns = inFlow ? Array(row.indices) : [first.column - 1]
      for column in columns where line > first.line - 1 || column > first.column - 1 {
        guard let spelling = spellings.first(where: { row.dropFirst(column).starts(with: $0) }),
          row.dropFirst(column + spelling.count).first(where: { $0 != " " }) == ":",
          column == 0 || " {,\"'".unicodeScalars.contains(row[column - 1])
        else { continue }
        report(
          "the key \(quoted(name)) is given twice", line + 1, column + 1, length: spelling.count,
          hint: "first given in line \(first.line)")
        let mark = Unicode.Scalar(TreeComposer.repeatMarks.lowerBound + UInt32(turn)) ?? "\u{E000}"
        for index in column..<(column + spelling.count) { lines[line][index] = mark }
        return SourceText(
          lines.map { row in
            var view = String.UnicodeScalarView()
            view.append(contentsOf: row)
            return String(view)
          }.joined(separator: "\n"))
      }
    }
    report(
      "the key \(quoted(name)) is given twice", first.line, first.column,
      length: max(1, name.unicodeScalars.count))
    return nil
  }

  /// Refuses a file of many aliases before it is composed: comparing nodes costs time exponential in them.
  private func hasTooManyAliases(_ source: SourceText) -> Bool {
    var anchors: Set<String> = []
    var aliases: [(name: String, line: Int, column: Int)] = []
    for (line, text) in source.lines.enumerated()
    where text.utf8.contains(where: { $0 == 0x26 || $0 == 0x2A }) {
      let row = Array(text.unicodeScalars)
      for (column, scalar) in row.enumerated() where scalar == "&" || scalar == "*" {
        let before = row[..<column].last { $0 != " " && $0 != "\t" }
        guard before == nil || ":-?[{,".unicodeScalars.contains(before ?? " ") else { continue }
        let name = row[(column + 1)...].prefix {
          $0.properties.isAlphabetic || ("0"..."9").contains($0) || $0 == "_" || $0 == "-"
        }
        guard !name.isEmpty else { continue }
        let word = String(String.UnicodeScalarView(name))
        if scalar == "&" { anchors.insert(word) } else { aliases.append((word, line + 1, column + 1)) }
      }
    }
    let real = aliases.filter { anchors.contains($0.name) }
    guard real.count > TreeComposer.maximumAliases, let first = real.first else { return false }
    report(
      "anchors and aliases are not supported", first.line, first.column, hint: TreeComposer.aliasHint)
    return true
  }
}

/// Finds where a scalar ends in its line.
enum ScalarSpan {
  /// The scalars of a quoted scalar that begins and ends in this line, with its quotes.
  static func quoted(_ row: [Unicode.Scalar], from start: Int) -> Range<Int>? {
    guard row.indices.contains(start), row[start] == "'" || row[start] == "\"" else { return nil }
    let quote = row[start]
    var index = start + 1
    while index < row.count {
      if row[index] == "\\", quote == "\"" {
        index += 2
      } else if row[index] == quote {
        guard quote == "'", index + 1 < row.count, row[index + 1] == "'" else { return start..<(index + 1) }
        index += 2
      } else {
        index += 1
      }
    }
    return nil
  }
}
