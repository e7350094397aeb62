// One JSON line to one sample: which shape it has, and whether its fields are what the shape needs.
// Every complaint names the field, so that a user can fix the file without reading this.
import StrictJSON

struct RowParser {
  let limits: DataLimits

  /// The object of a line.
  func object(_ line: UnsafeBufferPointer<UInt8>) throws(RowFault) -> JSON {
    let row: JSON
    do throws(JSONError) {
      row = try JSON.parse(line, limits: JSONLimits(depth: limits.depth, bytes: limits.lineBytes))
    } catch {
      throw RowFault("not valid JSON: \(error)", category: "not valid JSON")
    }
    guard let members = row.members else { throw RowFault("the row is not an object") }
    guard members.count <= limits.keys else { throw RowFault("the row has more than \(limits.keys) keys") }
    return row
  }

  /// The first shape, in the documented order, whose fields are all there.
  static func shape(of row: JSON) -> DataShape? {
    func has(_ keys: String...) -> Bool { keys.allSatisfy { row[$0] != nil } }
    if has("messages") { return .messages }
    if has("conversations") { return .conversations }
    if has("instruction", "output") { return .instruction }
    if has("prompt", "completion") { return .pair }
    if has("sentence_good", "sentence_bad") { return .minimalPairs }
    let asks = questionKeys.contains { row[$0] != nil }
    let offers = choiceKeys.contains { row[$0] != nil } || has("sol1", "sol2")
    let answers = answerKeys.contains { row[$0] != nil }
    if asks && offers && answers || isWinogrande(row) || isPubMedQA(row) { return .multipleChoice }
    if has("text", "label") { return .labelled }
    return has("text") ? .text : nil
  }

  /// What an unrecognisable row is told.
  static func unknown(_ row: JSON) -> RowFault {
    let keys = (row.members ?? []).prefix(8).map { "`\($0.key)`" }.joined(separator: ", ")
    return RowFault(
      keys.isEmpty ? "the row has no fields" : "no known shape; its fields are \(keys)",
      category: "no known shape")
  }

  /// The sample of a row whose shape is known.
  func sample(_ row: JSON, shape: DataShape) throws(RowFault) -> Sample {
    switch shape {
    case .text: return .text(try text(row, "text"))
    case .labelled: return .labelled(text: try text(row, "text"), label: try label(row))
    case .pair:
      return .pair(prompt: try text(row, "prompt", mayBeEmpty: true), completion: try text(row, "completion"))
    case .minimalPairs:
      return .minimalPair(good: try text(row, "sentence_good"), bad: try text(row, "sentence_bad"))
    case .multipleChoice:
      if Self.isWinogrande(row) { return try winogrande(row) }
      if Self.isPubMedQA(row) { return try pubMedQA(row) }
      return try multipleChoice(row)
    case .messages, .conversations, .instruction:
      throw RowFault("\(shape.rawValue) rows are not yet supported")
    }
  }

  // MARK: Fields

  private func text(_ row: JSON, _ key: String, mayBeEmpty: Bool = false) throws(RowFault) -> String {
    guard let value = row[key] else { throw RowFault("`\(key)` is missing") }
    return try text(value, named: key, mayBeEmpty: mayBeEmpty)
  }

  private func text(_ value: JSON, named name: String, mayBeEmpty: Bool = false) throws(RowFault) -> String {
    if value.isNull { throw RowFault("`\(name)` is null") }
    guard let text = value.string else { throw RowFault("`\(name)` is \(Self.kind(value)), not a string") }
    if mayBeEmpty { return text }
    guard !text.isEmpty else { throw RowFault("`\(name)` is empty") }
    guard !text.isBlank else { throw RowFault("`\(name)` is only white space") }
    return text
  }

  private func label(_ row: JSON) throws(RowFault) -> String {
    switch row["label"] {
    case .integer(let value): return String(value)
    case .bool(let value): return String(value)
    default: return try text(row, "label")
    }
  }

  private static func kind(_ value: JSON) -> String {
    switch value {
    case .null: "null"
    case .bool: "true or false"
    case .integer, .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }

  // MARK: Multiple choice

  private static let questionKeys = ["question", "question_stem", "ctx", "context", "goal"]
  private static let choiceKeys = ["choices", "endings", "options"]
  /// `answer_idx` first: where it stands, `answer` is the text of the choice.
  private static let answerKeys = ["answer_idx", "label", "answer", "answerKey"]

  private static func isWinogrande(_ row: JSON) -> Bool {
    ["sentence", "option1", "option2", "answer"].allSatisfy { row[$0] != nil }
  }
  private static func isPubMedQA(_ row: JSON) -> Bool {
    ["QUESTION", "CONTEXTS", "final_decision"].allSatisfy { row[$0] != nil }
  }

  private func multipleChoice(_ row: JSON) throws(RowFault) -> Sample {
    guard let key = Self.questionKeys.first(where: { row[$0] != nil }) else {
      throw RowFault("`question`, `question_stem`, `ctx`, `context` or `goal` is missing")
    }
    let question = try text(row, key)
    var choices: [String] = []
    var letters: [String]?
    var labels: [String]?
    if let list = Self.choiceKeys.first(where: { row[$0] != nil }), let value = row[list] {
      if let texts = value["text"]?.array {
        labels = try Self.labels(value, named: list, count: texts.count)
        for (index, text) in texts.enumerated() {
          choices.append(try self.text(text, named: "\(list).text[\(index)]"))
        }
      } else if let members = value.members {
        letters = members.map(\.key)
        for member in members { choices.append(try text(member.value, named: "\(list).\(member.key)")) }
      } else if let values = value.array {
        for (index, value) in values.enumerated() { choices.append(try text(value, named: "\(list)[\(index)]")) }
      } else {
        throw RowFault("`\(list)` is \(Self.kind(value)), not a list")
      }
    } else {
      choices = [try text(row, "sol1"), try text(row, "sol2")]
    }
    guard choices.count >= 2 else { throw RowFault("fewer than two choices") }
    guard let answerKey = Self.answerKeys.first(where: { row[$0].map { !$0.isNull } ?? false }),
      let value = row[answerKey]
    else { throw RowFault("`label`, `answer`, `answer_idx` or `answerKey` is missing") }
    let place: Int? =
      if let labels {
        Self.index(value, labels: labels)
      } else {
        Self.index(value, letters: letters, choices: choices)
      }
    guard let answer = place else {
      throw RowFault("`\(answerKey)` names none of the \(choices.count) choices")
    }
    return .multipleChoice(
      question: question, isContext: key == "ctx" || key == "context", choices: choices, answer: answer)
  }

  /// The names of choices that are given as two lists, `text` and `label` (ARC, OpenBookQA).
  private static func labels(_ value: JSON, named list: String, count: Int) throws(RowFault) -> [String] {
    guard let labels = value["label"]?.array, labels.count == count else {
      throw RowFault("`\(list)` needs a list `label` as long as its list `text`")
    }
    var names: [String] = []
    for (index, label) in labels.enumerated() {
      guard let name = label.string ?? label.int.map(String.init) else {
        throw RowFault("`\(list).label[\(index)]` is \(kind(label)), not a string")
      }
      names.append(name)
    }
    return names
  }
  /// Where a choice has labels of its own, they alone name it: "1" may be the first.
  private static func index(_ value: JSON, labels: [String]) -> Int? {
    guard let name = value.string ?? value.int.map(String.init) else { return nil }
    return labels.firstIndex { $0.utf8.elementsEqual(name.utf8) }
  }

  /// The place of an answer given as index from 0, as key or letter, or as the text of the choice.
  private static func index(_ value: JSON, letters: [String]?, choices: [String]) -> Int? {
    if let index = value.int { return choices.indices.contains(index) ? index : nil }
    guard let name = value.string else { return nil }
    func same(_ other: String) -> Bool { other.utf8.elementsEqual(name.utf8) }
    if let index = letters?.firstIndex(where: same) { return index }
    if let index = Int(name) { return choices.indices.contains(index) ? index : nil }
    if name.utf8.count == 1, let byte = name.utf8.first, (0x41...0x5A).contains(byte & 0xDF) {
      let index = Int(byte & 0xDF) - 0x41
      if choices.indices.contains(index) { return index }
    }
    return choices.firstIndex(where: same)
  }

  private func winogrande(_ row: JSON) throws(RowFault) -> Sample {
    let sentence = try text(row, "sentence")
    let options = [try text(row, "option1"), try text(row, "option2")]
    let parts = sentence.split(separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 2 else { throw RowFault("`sentence` needs one gap `_`, it has \(parts.count - 1)") }
    guard !String(parts[1]).isBlank else { throw RowFault("`sentence` has nothing after its gap") }
    guard let value = row["answer"], let number = value.int ?? value.string.flatMap({ Int($0) }),
      number == 1 || number == 2
    else { throw RowFault("`answer` is neither 1 nor 2") }
    return .cloze(before: String(parts[0]), options: options, after: String(parts[1]), answer: number - 1)
  }

  private func pubMedQA(_ row: JSON) throws(RowFault) -> Sample {
    let question = try text(row, "QUESTION")
    var contexts: [String] = []
    for value in row["CONTEXTS"]?.array ?? [] { contexts.append(try text(value, named: "CONTEXTS")) }
    guard !contexts.isEmpty else { throw RowFault("`CONTEXTS` is no list of texts") }
    let decision = try text(row, "final_decision")
    let choices = ["yes", "no", "maybe"]
    guard let answer = choices.firstIndex(of: decision) else {
      throw RowFault("`final_decision` is neither yes, no nor maybe")
    }
    let prompt = "Abstract: \(contexts.joined(separator: "\n"))\nQuestion: \(question)\nAnswer:"
    return .multipleChoice(question: prompt, isContext: true, choices: choices, answer: answer)
  }
}
