// Reads path values of the experiment and reports missing inputs where they are named.
// Overrides resolve from the current directory, the file's own paths from the file.
import Foundation

struct PathReader {
  enum Want { case file, folder, fileOrFolder }
  let context: PathContext
  let collector: Collector

  /// An absolute path with its environment variables expanded, whether or not it exists.
  func absolute(_ tree: Tree, _ name: String) -> String? {
    expanded(tree, name).map { Paths.absolute($0, from: base(of: tree)) }
  }

  /// An absolute path of something that exists.
  func existing(_ tree: Tree, _ name: String, want: Want = .file) -> String? {
    guard let text = expanded(tree, name) else { return nil }
    let path = Paths.absolute(text, from: base(of: tree))
    return check(path, text, tree, name, want) ? path : nil
  }

  /// Every regular file that a path or pattern stands for, sorted; a file of that very name comes first.
  func files(_ tree: Tree, _ name: String) -> [String]? {
    guard let text = expanded(tree, name) else { return nil }
    let path = Paths.absolute(text, from: base(of: tree))
    guard context.checksFiles, Paths.hasPattern(text), Paths.kind(path) == .missing else {
      return check(path, text, tree, name, .file) ? [path] : nil
    }
    let found = Paths.expand(text, in: base(of: tree))
    guard found.isEmpty else { return found }
    collector.report(
      "\(name): no file matches \(quoted(text))", at: tree.place,
      hint: Neighbours.note(missing: path, shown: text), kind: .missingInput)
    return nil
  }

  private func base(of tree: Tree) -> String {
    if case .argument = tree.place.origin { context.workingDirectory } else { context.directory }
  }

  private func check(_ path: String, _ text: String, _ tree: Tree, _ name: String, _ want: Want) -> Bool {
    guard context.checksFiles else { return true }
    let problem: String
    var hint: String?
    switch (Paths.kind(path), want) {
    case (.file, .file), (.file, .fileOrFolder), (.folder, .folder), (.folder, .fileOrFolder): return true
    case (.missing, _):
      problem = "no such \(want == .folder ? "folder" : "file") \(quoted(text))"
      hint =
        text.hasPrefix("~") ? "~ is not expanded; write ${HOME}" : Neighbours.note(missing: path, shown: text)
    case (.folder, .file):
      problem = "\(quoted(text)) is a folder"
      hint = "name a file, or a pattern such as '\(text)/*.jsonl'"
    default: problem = "\(quoted(text)) is not a regular file"
    }
    collector.report("\(name): \(problem)", at: tree.place, hint: hint, kind: .missingInput)
    return false
  }

  /// Replaces `${NAME}` by the environment's value; `$${` stands for a literal `${`.
  private func expanded(_ tree: Tree, _ name: String) -> String? {
    guard !tree.isRefused else { return nil }
    guard let text = tree.scalar, !tree.isNull, !text.isEmpty else {
      collector.report("\(name): expected a path, found \(tree.kindName)", at: tree.place)
      return nil
    }
    guard !text.utf8.contains(0) else {
      collector.report("\(name): a path must not contain a NUL character", at: tree.place)
      return nil
    }
    var result = ""
    var rest = text[...]
    while let dollar = rest.range(of: "${") {
      let before = rest[..<dollar.lowerBound]
      rest = rest[dollar.upperBound...]
      if before.hasSuffix("$") {
        result += before.dropLast() + "${"
        continue
      }
      guard let end = rest.firstIndex(of: "}") else {
        collector.report("\(name): '${' without '}' in \(quoted(text))", at: tree.place)
        return nil
      }
      let variable = String(rest[..<end])
      guard let value = context.environment[variable] else {
        collector.report(
          "\(name): the environment variable \(quoted(variable)) is not set", at: tree.place,
          hint: Suggestions.nearest(to: variable, among: context.environment.keys.sorted())
            .map { "did you mean '\($0)'?" } ?? "set it before the run")
        return nil
      }
      result += before + value
      rest = rest[rest.index(after: end)...]
    }
    return result + rest
  }
}
