// The model of tokenizer.json: a word in, ids out. Which kind it is decides which file does the work.
// One protocol, so that the tokenizer need not know how words become ids.
import StrictJSON

/// Turns one word into ids; never fails, because the vocabulary was checked when it was read.
protocol TokenizerModel: Sendable {
  /// Appends the ids of a word of valid UTF-8.
  func encode(_ word: UnsafeBufferPointer<UInt8>, into out: inout [Int32])
  /// Set where the model may see a whole text as one word and cutting before this marker changes nothing.
  var safeMarker: [UInt8]? { get }
}
extension TokenizerModel {
  var safeMarker: [UInt8]? { nil }
}

enum TokenizerModels {
  static func parse(_ field: TokenizerField, vocabulary: TokenizerVocabulary, isByteLevel: Bool)
    throws(TokenizerError) -> any TokenizerModel
  {
    // Files of old versions leave the type out; only BPE has merges.
    let type = field["type"].isAbsent && !field["merges"].isAbsent ? "BPE" : try field.type()
    switch type {
    case "BPE":
      let rules = try BytePairRules(field, vocabulary: vocabulary)
      return isByteLevel
        ? try ByteLevelBPE(rules, field, vocabulary: vocabulary)
        : SentencePieceBPE(rules, vocabulary: vocabulary)
    case "WordPiece": return try WordPiece(field, vocabulary: vocabulary)
    case "WordLevel": return try WordLevel(field, vocabulary: vocabulary)
    default:
      throw field.unsupported("the model \(type)", hint: "BPE, WordPiece and WordLevel are")
    }
  }
}

/// What byte-level and character BPE read alike from a file: merges and what to do with unknown symbols.
struct BytePairRules: Sendable {
  let merges: TokenizerMergeTable
  /// Texts of every merge, for those who look at its characters.
  let mergeTexts: [(left: String, right: String)]
  let unknown: Int32?
  let fusesUnknown: Bool
  let fallsBackToBytes: Bool
  let ignoresMerges: Bool

  init(_ field: TokenizerField, vocabulary: TokenizerVocabulary) throws(TokenizerError) {
    for name in ["continuing_subword_prefix", "end_of_word_suffix"]
    where try !field[name].text(default: "").isEmpty {
      throw field[name].unsupported("a mark at the edges of words in BPE")
    }
    if let dropout = field["dropout"].value.double, dropout != 0 {
      throw field["dropout"].unsupported("dropout of merges")
    }
    if field["unk_token"].isAbsent {
      unknown = nil
    } else {
      let text = try field["unk_token"].text()
      guard let id = vocabulary.id(text) else {
        throw field["unk_token"].invalid("\"\(text)\" is not in the vocabulary")
      }
      unknown = id
    }
    fusesUnknown = try field["fuse_unk"].flag(default: false)
    fallsBackToBytes = try field["byte_fallback"].flag(default: false)
    ignoresMerges = try field["ignore_merges"].flag(default: false)

    var texts: [(left: String, right: String)] = []
    var table: [(left: Int32, right: Int32, result: Int32)] = []
    let list = field["merges"]
    guard let values = list.value.array else { throw list.invalid("must be a list") }
    texts.reserveCapacity(values.count)
    table.reserveCapacity(values.count)
    for (index, value) in values.enumerated() {
      if let text = value.string, text.utf8.starts(with: "#version".utf8) { continue }
      guard let pair = Self.pair(value) else {
        throw list.invalid("entry \(index) must be two tokens, \"left right\" or [\"left\", \"right\"]")
      }
      guard let left = vocabulary.id(pair.left), let right = vocabulary.id(pair.right) else {
        let absent = vocabulary.id(pair.left) == nil ? pair.left : pair.right
        throw list.invalid("entry \(index) merges \"\(absent)\", which is not in the vocabulary")
      }
      guard let result = vocabulary.id(pair.left + pair.right) else {
        throw list.invalid(
          "entry \(index) makes \"\(pair.left + pair.right)\", which is not in the vocabulary")
      }
      texts.append(pair)
      table.append((left, right, result))
    }
    mergeTexts = texts
    merges = TokenizerMergeTable(table)
  }

  private static func pair(_ value: JSON) -> (left: String, right: String)? {
    if let parts = value.array {
      guard parts.count == 2, let left = parts[0].string, let right = parts[1].string, !left.isEmpty,
        !right.isEmpty
      else { return nil }
      return (left, right)
    }
    guard let text = value.string else { return nil }
    let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
    return (String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self))
  }
}

/// Collects the first symbols of a word, turning runs of unknown ones into the unknown token.
struct TokenizerSymbols {
  let rules: BytePairRules
  var ids: [Int32] = []
  private var hasUnknown = false

  init(_ rules: BytePairRules, capacity: Int) {
    self.rules = rules
    ids.reserveCapacity(capacity)
  }
  @inline(__always) mutating func known(_ id: Int32) {
    if hasUnknown { finish() }
    ids.append(id)
  }
  /// Bytes in place of a character; a pending unknown token stays behind them, as in the reference.
  mutating func bytes(_ new: [Int32]) { ids += new }
  /// An unknown symbol vanishes where the model has no unknown token.
  mutating func unknown() {
    guard rules.unknown != nil else { return }
    if hasUnknown, !rules.fusesUnknown { finish() }
    hasUnknown = true
  }
  mutating func finish() {
    if hasUnknown, let id = rules.unknown { ids.append(id) }
    hasUnknown = false
  }
}
