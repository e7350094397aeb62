// Rewrites an experiment file with other values, for tuned.yaml: the user's own text, comments and all.
// The result is read back and must give the wanted plan; where it does not, the resolved plan is written instead.
import Foundation

extension ExperimentFile {
  /// The text of this experiment with a key set, complete in itself wherever the new file lies.
  ///
  /// Relative paths become absolute and overrides of this reading are written in. A key that the text
  /// does not hold, or holds in a form that cannot be replaced in place, gives the text of plan.yaml.
  /// - Throws: `ExperimentError` where the key or the value is wrong.
  public func settingOverride(_ key: String, _ value: String) throws(ExperimentError) -> String {
    let arguments = overrides + ["\(key)=\(value)"]
    let wanted = try ExperimentFile.parse(text, named: name, overrides: arguments, context: context).plan
    if let rewritten = rewritten(arguments, output: wanted.outputDirectory) {
      var elsewhere = context
      elsewhere.directory = "/nowhere"
      let read = try? ExperimentFile.parse(rewritten, named: name, context: elsewhere).plan
      if let read, ExperimentFile.agree(read, wanted) { return rewritten }
    }
    return wanted.yaml()
  }

  /// Whether two plans are the same but for the file they came from.
  private static func agree(_ read: ExperimentPlan, _ wanted: ExperimentPlan) -> Bool {
    var read = read
    read.file = wanted.file
    read.directory = wanted.directory
    read.overrides = wanted.overrides
    return read == wanted
  }

  /// The text with the values of the arguments in place, or nil where one has no place.
  private func rewritten(_ arguments: [String], output: String) -> String? {
    var source = SourceText(text)
    for argument in arguments {
      guard let (tree, value) = overridden(argument, in: source),
        let edit = ScalarEdit(replacing: tree, by: value, in: source)
      else { return nil }
      source = SourceText(ScalarEdit.apply([edit], to: source))
    }
    let collector = Collector(path: name, lines: source.lines, arguments: [])
    guard let tree = TreeComposer(collector: collector, origin: .file).compose(source.text) else {
      return nil
    }
    var edits: [ScalarEdit] = []
    for path in PathNodes.all(in: tree) {
      guard let raw = path.scalar, !isAbsolute(raw) else { continue }
      let absolute =
        raw.contains("${") ? context.directory + "/" + raw : Paths.absolute(raw, from: context.directory)
      guard let edit = ScalarEdit(replacing: path, by: YAMLText.render(absolute), in: source) else {
        return nil
      }
      edits.append(edit)
    }
    var lines = SourceText(ScalarEdit.apply(edits, to: source)).lines
    if tree["output_dir"] == nil {
      // The default lies beside the file, and the file is about to lie elsewhere.
      guard let entry = tree.entries?.first(where: { $0.key == "name" }), entry.keyPlace.column == 1 else {
        return nil
      }
      lines.insert("output_dir: \(YAMLText.render(output))", at: entry.keyPlace.line - 1)
    }
    return lines.joined(separator: "\n")
  }

  /// Whether a path, or the variable that it begins with, begins at the root.
  private func isAbsolute(_ raw: String) -> Bool {
    guard raw.hasPrefix("${"), let end = raw.firstIndex(of: "}") else { return raw.hasPrefix("/") }
    return context.environment[String(raw.dropFirst(2)[..<end])]?.hasPrefix("/") ?? false
  }

  /// The node of the text that an override replaces, and the value's own text.
  private func overridden(_ argument: String, in source: SourceText) -> (Tree, String)? {
    let collector = Collector(path: name, lines: source.lines, arguments: [argument])
    guard let equals = argument.firstIndex(of: "="),
      let old = TreeComposer(collector: collector, origin: .file).compose(source.text)
    else { return nil }
    var new = old
    Overrides(collector: collector).apply([argument], to: &new)
    guard !collector.hasErrors, let tree = ExperimentFile.replaced(old, new) else { return nil }
    return (tree, String(argument[argument.index(after: equals)...]))
  }

  private static func replaced(_ old: Tree, _ new: Tree) -> Tree? {
    if new.place.origin != .file { return old }
    switch (old.content, new.content) {
    case (.map(let a), .map(let b)) where a.count == b.count:
      for (x, y) in zip(a, b) { if let found = replaced(x.value, y.value) { return found } }
    case (.list(let a), .list(let b)) where a.count == b.count:
      for (x, y) in zip(a, b) { if let found = replaced(x, y) { return found } }
    default: break
    }
    return nil
  }
}

/// A scalar of one line and what takes its place.
private struct ScalarEdit {
  let place: Place
  let text: String

  init?(replacing tree: Tree, by text: String, in source: SourceText) {
    guard case .scalar(let value, let plain) = tree.content,
      source.lines.indices.contains(tree.place.line - 1)
    else { return nil }
    let row = Array(source.lines[tree.place.line - 1].unicodeScalars)
    let start = tree.place.column - 1
    guard row.indices.contains(start) else { return nil }
    if plain {
      guard row.dropFirst(start).starts(with: value.unicodeScalars), !value.isEmpty else { return nil }
    } else if ScalarSpan.quoted(row, from: start)?.count != tree.place.length {
      return nil
    }
    place = tree.place
    self.text = text
  }

  /// Applies edits from the back, so that earlier columns stay right.
  static func apply(_ edits: [ScalarEdit], to source: SourceText) -> String {
    var lines = source.lines.map { Array($0.unicodeScalars) }
    for edit in edits.sorted(by: { ($0.place.line, $0.place.column) > ($1.place.line, $1.place.column) }) {
      let start = edit.place.column - 1
      lines[edit.place.line - 1].replaceSubrange(
        start..<(start + edit.place.length), with: edit.text.unicodeScalars)
    }
    return lines.map { row in
      var view = String.UnicodeScalarView()
      view.append(contentsOf: row)
      return String(view)
    }.joined(separator: "\n")
  }
}

/// The nodes of a tree that hold input or output paths.
private enum PathNodes {
  static func all(in root: Tree) -> [Tree] {
    var nodes = [root["output_dir"], root["base_model"], root["base_model"]?["tokenizer"]].compactMap { $0 }
    var sources = root["base_data"]?.items ?? []
    for stage in root["stages"]?.items ?? [] {
      sources += stage["datasets"]?.items ?? []
      if let held = stage["val"] { sources += held.items ?? [held] }
    }
    sources += root["probes"]?.items ?? []
    for source in sources {
      nodes += [source, source["images"], source["labels"], source["fewshot_path"]].compactMap { $0 }
      if let path = source["path"] { nodes += path.items ?? [path] }
    }
    return nodes.filter { $0.scalar != nil }
  }
}
