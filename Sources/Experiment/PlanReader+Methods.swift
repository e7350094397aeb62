// Reads stacks of methods by the table of methods: `methods`, `compare` and a stage's own stack.
import Training

extension PlanReader {
  /// The stack under a key; nil where the key is absent.
  func methods(_ key: String, in section: Section) -> [MethodPlan]? {
    section.has(key)
      ? section.list(key, of: "methods")?.enumeratedMethods(self, section.label(key)) ?? [] : nil
  }

  fileprivate func method(_ item: Tree, _ label: String) -> MethodPlan? {
    guard !item.isRefused else { return nil }
    let entry: Tree.Entry
    if let name = item.scalar, !item.isNull {
      entry = Tree.Entry(key: name, keyPlace: item.place, value: Tree(content: .map([]), place: item.place))
    } else if let entries = item.entries, let first = entries.first {
      if let second = entries.dropFirst().first {
        collector.report(
          "\(label): one method an entry, found also \(quoted(second.key))", at: second.keyPlace,
          hint: entries.allSatisfy { MethodSchema.named($0.key) != nil }
            ? "begin a new '- ' entry" : "indent the options below the method's name")
      }
      entry = first
    } else {
      collector.report(
        "\(label): expected a method such as ewc: { lambda: 10 }, found \(item.kindName)", at: item.place)
      return nil
    }
    guard let schema = MethodSchema.named(entry.key) else {
      collector.report(
        "\(label): unknown method \(quoted(entry.key))", at: entry.keyPlace,
        hint: Suggestions.hint(for: entry.key, among: MethodSchema.all.map(\.name)))
      return nil
    }
    var plan = MethodPlan(schema)
    if entry.value.isNull { return plan }
    let top = Section(entry.value, name: schema.name, collector: collector)
    var groups: [(name: String, section: Section)] = []
    var idle: [(option: OptionSchema, key: String, section: Section)] = []
    for option in schema.options {
      var section = top
      var key = option.key
      if let dot = key.firstIndex(of: ".") {
        let group = String(key[..<dot])
        key = String(key[key.index(after: dot)...])
        if let known = groups.first(where: { $0.name == group }) {
          section = known.section
        } else {
          section =
            top.section(group)
            ?? Section([], name: top.label(group), place: entry.value.place, collector: collector)
          groups.append((group, section))
        }
      }
      if let value = optionValue(option, key, section) {
        plan.options[option.key] = value
        if !option.conditions.isEmpty, value != option.defaultValue { idle.append((option, key, section)) }
      }
    }
    for (option, key, section) in idle {
      guard let condition = option.conditions.first(where: { !$0.words.contains(plan.string($0.key) ?? "") }) else {
        continue
      }
      section.report(
        key, "\(option.key) has no effect unless \(condition.key) is \(condition.words.joined(separator: " or "))",
        hint: "remove it")
    }
    for group in groups { group.section.finish() }
    top.finish()
    return plan
  }

  /// Reports texts that their prompt would fill.
  func checkPrompts(_ methods: [MethodPlan], at place: Place) {
    for method in methods {
      guard let prompt = method.int("prompt_tokens"), let text = method.int("text_tokens"), prompt >= text else {
        continue
      }
      collector.report(
        "\(method.name): prompt_tokens \(prompt) leaves nothing to write in texts of \(text) tokens", at: place,
        hint: "give fewer than text_tokens")
    }
  }

  private func optionValue(_ option: OptionSchema, _ key: String, _ section: Section) -> OptionValue? {
    switch option.kind {
    case .number(let minimum, let open, let words):
      if let word = wordInstead(key, words, section) { return .word(word) }
      let bound = open ? "a number above \(minimum)" : "a number of \(number(minimum)) or more"
      let range = NumberRange(words: ([bound] + words).joined(separator: " or ")) {
        open ? $0 > minimum : $0 >= minimum
      }
      return section.number(key, range).map { .number($0) }
    case .share(let maximum, let open):
      let words = "a share from 0 to \(open ? "below " : "")\(number(maximum))"
      return section.share(
        key, NumberRange(words: words) { $0 >= 0 && (open ? $0 < maximum : $0 <= maximum) }
      ).map { .number($0) }
    case .integer(let range, let words):
      if let word = wordInstead(key, words, section) { return .word(word) }
      return section.integer(key, in: range).map { .integer($0) }
    case .word(let choices, let notYet):
      return section.word(key, choices, notYet: notYet).map { .word($0) }
    }
  }

  private func number(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }

  private func wordInstead(_ key: String, _ words: [String], _ section: Section) -> String? {
    guard let text = section.tree(key)?.scalar, let word = words.first(where: { same($0, text) }) else {
      return nil
    }
    return word
  }

  func compare(_ top: Section, main: [MethodPlan]) -> [VariantPlan] {
    guard let tree = top.tree("compare") else { return [] }
    guard let entries = tree.entries else {
      top.mismatch(
        "compare", tree, expected: "a mapping from names to stacks", hint: "for example  naive: []")
      return []
    }
    let section = Section(entries, name: "compare", place: tree.place, collector: collector)
    var variants: [VariantPlan] = []
    for entry in entries {
      let stack = methods(entry.key, in: section) ?? []
      if !PlanReader.isName(entry.key) {
        collector.report(
          "compare: \(quoted(entry.key)) is no name", at: entry.keyPlace,
          hint: "use 1 to 64 of A-Z a-z 0-9 . _ -")
      } else if same(entry.key, ExperimentPlan.variantName(of: main)) {
        collector.report(
          "compare: \(quoted(entry.key)) is the name of the main stack", at: entry.keyPlace,
          hint: "the main stack is always part of the comparison; remove this entry or rename it")
      } else if ["checkpoints", "trials", "tensorboard"].contains(entry.key) || entry.key.hasPrefix("seed-") {
        collector.report(
          "compare: \(quoted(entry.key)) is a folder of every run", at: entry.keyPlace,
          hint: "choose another name")
      }
      variants.append(VariantPlan(name: entry.key, methods: stack))
    }
    return variants
  }
}

extension MethodPlan {
  /// A method with some options set by `key=value`, judged as an experiment file judges them.
  ///
  /// - Returns: nil for an unknown name
  /// - Throws: `ExperimentError` with every mistake; each has its setting as its line
  public static func read(_ name: String, settings: [String]) throws(ExperimentError) -> MethodPlan? {
    guard MethodSchema.named(name) != nil else { return nil }
    let collector = Collector(path: "command line", lines: [], arguments: settings)
    let start = Place(origin: .argument(0), line: 1, column: 1, length: 1)
    var options = Tree(content: .map([]), place: start)
    Overrides(collector: collector).apply(settings, to: &options)
    let context = PathContext(directory: "/", workingDirectory: "/", environment: [:], checksFiles: false)
    let reader = PlanReader(
      collector: collector, paths: PathReader(context: context, collector: collector), file: "", arguments: settings)
    let entry = Tree.Entry(key: name, keyPlace: start, value: options)
    let plan = reader.method(Tree(content: .map([entry]), place: start), "method")
    if let plan { reader.checkPrompts([plan], at: start) }
    guard !collector.hasErrors else { throw ExperimentError(issues: collector.errors) }
    return plan
  }
}

extension [Tree] {
  /// Reads each item as a method and refuses a method that stands twice in one stack.
  fileprivate func enumeratedMethods(_ reader: PlanReader, _ label: String) -> [MethodPlan] {
    var result: [MethodPlan] = []
    for item in self {
      guard let method = reader.method(item, label) else { continue }
      if result.contains(where: { $0.name == method.name }) {
        reader.collector.report("\(label): \(quoted(method.name)) stands twice in the stack", at: item.place)
      } else {
        result.append(method)
      }
    }
    return result
  }
}
