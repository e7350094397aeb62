// A mapping under reading: typed readers, one line each, that report a mistake and go on with the default.
// A key is known exactly when it has been read, so no key can be accepted and ignored.

/// The values a number may have, in numbers and in words.
struct NumberRange: Sendable {
  let words: String
  let contains: @Sendable (Double) -> Bool

  static let any = NumberRange(words: "a number") { _ in true }
  static let positive = NumberRange(words: "a number above 0") { $0 > 0 }
  static let nonNegative = NumberRange(words: "a number of 0 or more") { $0 >= 0 }
  static let unit = NumberRange(words: "a share from 0 to 1") { $0 >= 0 && $0 <= 1 }
  static let belowOne = NumberRange(words: "a share from 0 to below 1") { $0 >= 0 && $0 < 1 }
  static let insideUnit = NumberRange(words: "a share between 0 and 1") { $0 > 0 && $0 < 1 }
  static let positiveUnit = NumberRange(words: "a share above 0 and at most 1") { $0 > 0 && $0 <= 1 }
}

final class Section {
  let collector: Collector
  let place: Place
  /// How messages name the section: `training`, `stages[0].training`; empty at the top.
  let name: String
  private let entries: [Tree.Entry]
  private(set) var known: [String] = []

  init(_ entries: [Tree.Entry], name: String, place: Place, collector: Collector) {
    self.entries = entries
    self.name = name
    self.place = place
    self.collector = collector
  }

  /// A section for a tree that must be a mapping; reports and reads as empty otherwise.
  convenience init(_ tree: Tree, name: String, collector: Collector) {
    if tree.entries == nil, !tree.isRefused {
      collector.report("\(name): expected a mapping, found \(tree.kindName)", at: tree.place)
    }
    self.init(tree.entries ?? [], name: name, place: tree.place, collector: collector)
  }

  func label(_ key: String) -> String { name.isEmpty ? key : "\(name).\(key)" }

  /// The entry, which is thereby known.
  func entry(_ key: String) -> Tree.Entry? {
    if !known.contains(key) { known.append(key) }
    return entries.first { same($0.key, key) }
  }
  /// The value as written; nil where the key is absent or was refused already.
  func tree(_ key: String) -> Tree? {
    guard let value = entry(key)?.value, !value.isRefused else { return nil }
    return value
  }
  func has(_ key: String) -> Bool { entry(key) != nil }

  func report(_ key: String, _ message: String, hint: String? = nil, kind: Issue.Kind = .configuration) {
    let place = entry(key)?.value.place ?? self.place
    collector.report("\(label(key)): \(message)", at: place, hint: hint, kind: kind)
  }
  func mismatch(_ key: String, _ tree: Tree, expected: String, hint: String? = nil) {
    collector.report(
      "\(label(key)): expected \(expected), found \(tree.kindName)", at: tree.place, hint: hint)
  }
  func require(_ key: String, hint: String? = nil) -> Bool {
    if has(key) { return true }
    collector.report(
      name.isEmpty ? "the key '\(key)' is missing" : "\(name): the key '\(key)' is missing", at: place,
      hint: hint)
    return false
  }

  /// Reports every key that nobody has asked for.
  func finish() {
    for entry in entries where !known.contains(where: { same($0, entry.key) }) {
      if collector.isFull { return }
      let context = name.isEmpty ? "" : " in \(name)"
      collector.report(
        "unknown key \(quoted(entry.key))\(context)", at: entry.keyPlace, hint: hint(for: entry.key))
    }
  }

  private func hint(for key: String) -> String? {
    if let alias = Aliases.ours(for: key) {
      if known.contains(alias) { return "did you mean '\(alias)'?" }
      if let home = Manual.home(of: alias) { return "did you mean '\(home)'?" }
    }
    if let near = Suggestions.nearest(to: key, among: known) { return "did you mean '\(near)'?" }
    if let home = Manual.home(of: key) { return "did you mean '\(home)'?" }
    return Suggestions.hint(for: key, among: known)
  }
}

// Typed readers. Each returns the default where the key is absent or wrong.
extension Section {
  private func scalar(_ key: String, expected: String) -> (text: String, plain: Bool, tree: Tree)? {
    guard let tree = tree(key) else { return nil }
    guard case .scalar(let text, let plain) = tree.content, !tree.isNull else {
      mismatch(key, tree, expected: expected, hint: tree.isNull ? "give a value, or remove the key" : nil)
      return nil
    }
    return (text, plain, tree)
  }

  func integer<T: FixedWidthInteger>(_ key: String, in range: ClosedRange<T>) -> T? {
    let expected =
      range.upperBound == T.max
      ? "an integer of \(range.lowerBound) or more"
      : "an integer from \(range.lowerBound) to \(range.upperBound)"
    guard let (text, plain, tree) = scalar(key, expected: expected) else { return nil }
    guard plain, let value = Scalars.integer(text, as: T.self) else {
      mismatch(key, tree, expected: expected, hint: integerHint(text, plain: plain))
      return nil
    }
    guard range.contains(value) else {
      report(key, "\(value) is out of range; expected \(expected)")
      return nil
    }
    return value
  }
  private func integerHint(_ text: String, plain: Bool) -> String? {
    if !plain { return Scalars.isInteger(text) ? "remove the quotes" : nil }
    if let value = Scalars.number(text), let whole = Int(exactly: value) { return "write \(whole)" }
    let digits = text.drop { $0 == "0" }
    if digits.count < text.count, Scalars.isInteger(String(digits)) { return "write \(digits)" }
    return Scalars.isInteger(text) ? "the number is too large" : nil
  }

  func number(_ key: String, _ range: NumberRange) -> Double? {
    real(key, range, parse: Scalars.number)
  }
  /// A number that may be written as a percentage.
  func share(_ key: String, _ range: NumberRange) -> Double? {
    real(key, range, parse: Scalars.share)
  }
  private func real(_ key: String, _ range: NumberRange, parse: (String) -> Double?) -> Double? {
    guard let (text, plain, tree) = scalar(key, expected: range.words) else { return nil }
    guard plain, let value = parse(text) else {
      let lower = text.lowercased()
      let infinite =
        lower.contains("nan") || lower.contains("inf")
        || (plain && Double(text).map { !$0.isFinite } ?? false)
      mismatch(
        key, tree, expected: range.words,
        hint: infinite
          ? "the number must be finite"
          : !plain && parse(text) != nil ? "remove the quotes" : nil)
      return nil
    }
    guard range.contains(value) else {
      report(key, "\(text) is out of range; expected \(range.words)")
      return nil
    }
    return value
  }

  func duration(_ key: String) -> Double? {
    let expected = "a duration such as 8h, 90m or 30s"
    guard let (text, plain, tree) = scalar(key, expected: expected) else { return nil }
    guard plain, let value = Scalars.seconds(text), value > 0 else {
      mismatch(
        key, tree, expected: expected, hint: Scalars.isInteger(text) ? "for seconds write \(text)s" : nil)
      return nil
    }
    return value
  }

  func bool(_ key: String) -> Bool? {
    guard let (text, plain, tree) = scalar(key, expected: "true or false") else { return nil }
    if plain, text == "true" { return true }
    if plain, text == "false" { return false }
    let yes = ["yes", "on", "y", "1"]
    let no = ["no", "off", "n", "0"]
    let lower = text.lowercased()
    let meant =
      lower == "true" || yes.contains(lower) ? "true" : lower == "false" || no.contains(lower) ? "false" : nil
    mismatch(key, tree, expected: "true or false", hint: meant.map { "did you mean \($0)?" })
    return nil
  }

  func text(_ key: String) -> String? { scalar(key, expected: "a text")?.text }

  /// One word of a list; words that exist but do not work yet are refused as such.
  func word(_ key: String, _ choices: [String], notYet: [String] = []) -> String? {
    let expected = choices.joined(separator: " or ")
    guard let (text, _, tree) = scalar(key, expected: expected) else { return nil }
    return accept(text, tree, label(key), choices, notYet)
  }
  func accept(_ text: String, _ tree: Tree, _ name: String, _ choices: [String], _ notYet: [String])
    -> String?
  {
    if choices.contains(where: { same($0, text) }) { return text }
    if notYet.contains(where: { same($0, text) }) {
      collector.report(
        "\(name): \(quoted(text)) is not yet supported", at: tree.place,
        hint: "use \(choices.joined(separator: " or "))")
      return nil
    }
    collector.report(
      "\(name): unknown value \(quoted(text)); expected \(choices.joined(separator: " or "))", at: tree.place,
      hint: Suggestions.nearest(to: text, among: choices).map { "did you mean '\($0)'?" })
    return nil
  }

  /// The items of a list; a single value is not a list.
  func list(_ key: String, of what: String) -> [Tree]? {
    guard let tree = tree(key) else { return nil }
    guard let items = tree.items else {
      mismatch(
        key, tree, expected: "a list of \(what)",
        hint: tree.isNull ? "write [] for none" : tree.scalar != nil ? "write [\(tree.scalar ?? "")]" : nil)
      return nil
    }
    return items
  }
  func words(_ key: String, _ choices: [String], notYet: [String] = []) -> [String]? {
    guard let items = list(key, of: "words") else { return nil }
    var result: [String] = []
    for item in items where !item.isRefused {
      guard let text = item.scalar else {
        mismatch(key, item, expected: choices.joined(separator: " or "))
        continue
      }
      guard let word = accept(text, item, label(key), choices, notYet) else { continue }
      if result.contains(word) {
        collector.report("\(label(key)): \(quoted(word)) is listed twice", at: item.place)
      } else {
        result.append(word)
      }
    }
    return result
  }
  func texts(_ key: String) -> [String]? {
    guard let items = list(key, of: "texts") else { return nil }
    return items.compactMap { item in
      if let text = item.scalar, !item.isNull { return text }
      mismatch(key, item, expected: "a text")
      return nil
    }
  }
  func integers(_ key: String, in range: ClosedRange<Int>) -> [Int]? {
    guard let items = list(key, of: "integers") else { return nil }
    return items.compactMap { item in
      if case .scalar(let text, true) = item.content, let value = Scalars.integer(text, as: Int.self),
        range.contains(value)
      {
        return value
      }
      mismatch(key, item, expected: "an integer from \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
  }

  /// A subsection; nil where the key is absent.
  func section(_ key: String) -> Section? {
    tree(key).map { Section($0, name: label(key), collector: collector) }
  }
}
