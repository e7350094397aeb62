// Puts `key=value` arguments into the tree before it is read, with places on the command line.
// The readers then judge an override exactly as they judge the file: ranges, unknown keys, suggestions.
import Training

struct Overrides {
  let collector: Collector
  /// Keys that hold lists, which an override cannot invent entries of.
  private static let listKeys = ["methods", "stages", "probes", "base_data", "datasets", "gates"]
  /// Keys of which an override replaces whichever the file gives.
  private static let exclusive = [PlanReader.lengthKeys, ["val", "val_set_size"], ["seed", "seeds"]]

  func apply(_ arguments: [String], to tree: inout Tree) {
    for (index, argument) in arguments.enumerated() {
      let whole = Place(origin: .argument(index), line: 1, column: 1, length: argument.unicodeScalars.count)
      guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else {
        collector.report(
          "\(quoted(argument)) is no override", at: whole,
          hint: "write key=value, for example training.learning_rate=1e-5")
        continue
      }
      let key = argument[..<equals]
      let text = String(argument[argument.index(after: equals)...])
      let offset = key.unicodeScalars.count + 1
      guard text.contains(where: { $0 != " " }) else {
        collector.report("\(quoted(String(key))) is given no value", at: whole, hint: "write key=value")
        continue
      }
      let composer = TreeComposer(collector: collector, origin: .argument(index), offset: offset)
      guard let value = composer.compose(text) else { continue }
      let parts = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
      guard parts.allSatisfy({ !$0.isEmpty }) else {
        collector.report("\(quoted(String(key))) is no key", at: whole, hint: "separate names by single dots")
        continue
      }
      Setter(collector: collector, parts: parts, value: value, origin: .argument(index)).set(0, in: &tree)
    }
  }

  /// Walks one dotted key and puts the value where it leads.
  private struct Setter {
    let collector: Collector
    let parts: [String]
    let value: Tree
    let origin: Place.Origin

    /// The place of the parts from `start`, `count` of them.
    private func place(_ start: Int, _ count: Int = 1) -> Place {
      let before = parts[..<start].reduce(0) { $0 + $1.unicodeScalars.count + 1 }
      let length = parts[start..<(start + count)].joined(separator: ".").unicodeScalars.count
      return Place(origin: origin, line: 1, column: before + 1, length: max(1, length))
    }
    private func path(_ count: Int) -> String { parts[..<count].joined(separator: ".") }

    /// How many parts from `start` on spell one of the names; the longest match wins, for names may have dots.
    private func match(_ start: Int, _ names: [String]) -> (index: Int, count: Int)? {
      for count in stride(from: parts.count - start, through: 1, by: -1) {
        let joined = parts[start..<(start + count)].joined(separator: ".")
        if let index = names.firstIndex(where: { same($0, joined) }) { return (index, count) }
      }
      return nil
    }

    func set(_ start: Int, in tree: inout Tree) {
      guard start < parts.count else {
        tree = value
        return
      }
      switch tree.content {
      case .map(var entries):
        setInMap(start, &entries)
        tree.content = .map(entries)
      case .list(var items):
        setInList(start, &items)
        tree.content = .list(items)
      case .scalar where tree.isNull:
        var entries: [Tree.Entry] = []
        setInMap(start, &entries)
        tree.content = .map(entries)
      case .scalar:
        collector.report(
          "\(path(start)) is \(tree.kindName) and has no \(quoted(parts[start]))", at: place(start))
      case .refused: break
      }
    }

    private func setInMap(_ start: Int, _ entries: inout [Tree.Entry]) {
      let isLast = start == parts.count - 1
      if isLast, let group = Overrides.exclusive.first(where: { $0.contains(parts[start]) }) {
        entries.removeAll {
          $0.keyPlace.origin == .file && group.contains($0.key) && !same($0.key, parts[start])
        }
      }
      if let (index, count) = match(start, entries.map(\.key)) {
        set(start + count, in: &entries[index].value)
        // A replaced value is named where it was replaced.
        if start + count == parts.count {
          entries[index] = Tree.Entry(key: entries[index].key, keyPlace: place(start, count), value: value)
        }
        return
      }
      if !isLast, Overrides.listKeys.contains(parts[start]) {
        collector.report("the file has no \(path(start + 1)) to address", at: place(start))
        return
      }
      var child = Tree(content: .map([]), place: place(start))
      set(start + 1, in: &child)
      entries.append(Tree.Entry(key: parts[start], keyPlace: place(start), value: child))
    }

    private func setInList(_ start: Int, _ items: inout [Tree]) {
      let names = items.map { item in
        item["name"]?.scalar ?? item.scalar ?? (item["path"] == nil ? item.entries?.first?.key : nil) ?? ""
      }
      var found = match(start, names)
      if found == nil, let index = Scalars.integer(parts[start], as: Int.self), items.indices.contains(index) {
        found = (index, 1)
      }
      guard let (index, count) = found else {
        let known = names.filter { !$0.isEmpty }
        collector.report(
          "\(path(start)) has no entry \(quoted(parts[start]))", at: place(start),
          hint: Suggestions.hint(for: parts[start], among: known)
            ?? (items.isEmpty ? "the list is empty" : "entries are addressed by name or by index from 0"))
        return
      }
      guard let method = MethodSchema.named(names[index]), items[index]["name"] == nil,
        start + count < parts.count
      else {
        set(start + count, in: &items[index])
        return
      }
      // An entry of a stack is a mapping of one key, or the bare name where it has no options.
      var options = items[index][method.name] ?? Tree(content: .map([]), place: items[index].place)
      set(start + count, in: &options)
      let keyPlace = items[index].entries?.first?.keyPlace ?? items[index].place
      items[index].content = .map([Tree.Entry(key: method.name, keyPlace: keyPlace, value: options)])
    }
  }
}
