// What a tokenizer puts around a text on request: the `post_processor` of tokenizer.json.
// For one text it always comes down to ids in front and ids behind.

struct TokenizerPostProcessor: Sendable {
  private(set) var prefix: [Int32] = []
  private(set) var suffix: [Int32] = []

  /// - Parameter size: ids at and above it do not exist.
  init(_ field: TokenizerField, size: Int) throws(TokenizerError) {
    try add(field, size: size)
  }

  private mutating func add(_ field: TokenizerField, size: Int) throws(TokenizerError) {
    if field.isAbsent { return }
    let type = try field.type()
    switch type {
    // Only moves offsets, which we do not keep.
    case "ByteLevel": return
    case "Sequence":
      for item in try field["processors"].items() { try add(item, size: size) }
    case "BertProcessing", "RobertaProcessing":
      prefix = [try Self.known(field["cls"], size: size)] + prefix
      suffix += [try Self.known(field["sep"], size: size)]
    case "TemplateProcessing": try addTemplate(field, size: size)
    default: throw field.unsupported("the post-processor \(type)")
    }
  }

  /// The id of a `[text, id]` pair.
  private static func known(_ field: TokenizerField, size: Int) throws(TokenizerError) -> Int32 {
    let items = try field.items()
    guard items.count == 2 else { throw field.invalid("must be a token and its id") }
    return try known(id: items[1], size: size)
  }
  private static func known(id field: TokenizerField, size: Int) throws(TokenizerError) -> Int32 {
    let id = try field.id()
    guard id < size else { throw field.invalid("the id \(id) is not in the vocabulary") }
    return id
  }

  private mutating func addTemplate(_ field: TokenizerField, size: Int) throws(TokenizerError) {
    var before: [Int32] = []
    var after: [Int32] = []
    var hasText = false
    for item in try field["single"].items() {
      if item.value["Sequence"] != nil {
        let name = try item["Sequence"]["id"].text()
        guard name == "A", !hasText else {
          throw item.invalid("the template of one text must hold the sequence A exactly once")
        }
        hasText = true
        continue
      }
      let name = try item["SpecialToken"]["id"].text()
      let entry = field["special_tokens"][name]
      guard !entry.isAbsent else { throw item.invalid("\"\(name)\" is not among special_tokens") }
      for id in try entry["ids"].items() {
        let id = try Self.known(id: id, size: size)
        if hasText { after.append(id) } else { before.append(id) }
      }
    }
    guard hasText else { throw field["single"].invalid("the template has no place for the text") }
    prefix = before + prefix
    suffix += after
  }
}
