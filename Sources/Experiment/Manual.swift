// The manual behind `retain explain`: a paragraph for every key of the experiment file and every exit code.
// Options of methods explain themselves from the table of methods, so a new method is documented by being there.
import Training

public enum Manual {
  /// Every key of the experiment file in dotted form, in the order of the file.
  public static let keys: [String] = fileEntries.map(\.key) + methodEntries.map(\.key)

  /// The paragraph for a key (`training.learning_rate`, `learning_rate`, `stages.medical.training.num_epochs`),
  /// a method (`ewc`), an exit code (`78`) or `exit-codes`; nil for anything else.
  public static func explain(_ key: String) -> String? {
    let key = key.hasPrefix("exit ") ? String(key.dropFirst(5)) : key
    if same(key, "exit-codes") {
      return exitCodes.map { "\($0.code)  \($0.text)" }.joined(separator: "\n")
    }
    if let code = exitCodes.first(where: { same(String($0.code), key) }) {
      return "exit \(code.code): \(code.text)"
    }
    if let method = MethodSchema.named(key) { return explain(method) }
    let general = generalized(key)
    if let entry = all.first(where: { same($0.key, general) }) { return paragraph(entry) }
    let matches = all.filter { same(last($0.key), key) }
    return matches.isEmpty ? nil : matches.map(paragraph).joined(separator: "\n\n")
  }

  /// What somebody who asked for an unknown key may have meant.
  public static func suggestion(for key: String) -> String? {
    Suggestions.nearest(to: key, among: keys)
      ?? Suggestions.nearest(to: key, among: keys.map(last)).flatMap { home(of: $0) ?? $0 }
      ?? Aliases.ours(for: key).flatMap { home(of: $0) ?? $0 }
  }

  /// The dotted key whose last part is `key`, where there is exactly one.
  static func home(of key: String) -> String? {
    let matches = keys.filter { same(last($0), key) }
    return matches.count == 1 ? matches.first : nil
  }

  private static let all = fileEntries + methodEntries

  private static func paragraph(_ entry: (key: String, text: String)) -> String {
    "\(entry.key)\n  \(entry.text)"
  }
  private static func last(_ key: String) -> String { key.split(separator: ".").last.map(String.init) ?? key }

  /// Drops the names and numbers of entries: what is true of one stage is true of all.
  private static func generalized(_ key: String) -> String {
    var parts = key.split(separator: ".").map(String.init)
    guard let first = parts.first, ["stages", "probes", "base_data", "compare"].contains(first) else {
      return key
    }
    func known(_ parts: [String]) -> String? {
      let key = parts.joined(separator: ".")
      return keys.contains { same($0, key) } ? key : nil
    }
    if let key = known(parts) { return key }
    // The base's data and a stage's validation sets are datasets.
    let isDataset = first == "base_data" || first == "stages" && parts.dropLast().contains("val")
    if isDataset, let last = parts.last, let key = known(["stages", "datasets", last]) { return key }
    // Names may have dots, so parts are dropped until the rest is a key.
    while parts.count > 1 {
      parts.remove(at: 1)
      let rest = Array(parts.dropFirst())
      let readings: [[String]] =
        switch first {
        case "base_data": [[first]]
        case "compare": [rest.isEmpty ? [first] : ["methods"] + rest]
        default:
          [parts, rest, [first, "datasets"] + rest.dropFirst(2), [first, "datasets"] + rest.dropFirst()]
        }
      if let key = readings.lazy.compactMap(known).first { return key }
    }
    return first
  }

  private static let methodEntries: [(key: String, text: String)] = MethodSchema.all.flatMap { method in
    [(key: "methods.\(method.name)", text: method.doc)]
      + method.options.map { (key: "methods.\(method.name).\($0.key)", text: "\($0.doc) \(values(of: $0))") }
  }

  private static func values(of option: OptionSchema) -> String {
    func short(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }
    let allowed: String
    switch option.kind {
    case .number(let minimum, let open, let words):
      allowed = (["a number \(open ? "above" : "from") \(short(minimum))"] + words).joined(separator: " or ")
    case .share(let maximum, let open): allowed = "a share from 0 to \(open ? "below " : "")\(short(maximum))"
    case .integer(let range, let words):
      allowed = (["an integer from \(range.lowerBound)"] + words).joined(separator: " or ")
    case .word(let words, _): allowed = words.joined(separator: " | ")
    }
    let standard =
      switch option.defaultValue {
      case .number(let value): short(value)
      case .integer(let value): "\(value)"
      case .word(let word): word
      }
    return "Values: \(allowed). Default: \(standard)."
  }

  private static func explain(_ method: MethodSchema) -> String {
    let options = methodEntries.filter { $0.key.hasPrefix("methods.\(method.name).") }.map(paragraph)
    let units = method.name == "ewc" ? [ewcUnits] : []
    return ([method.name, "  " + method.doc] + units + options).joined(separator: "\n")
  }
}
