// Ids and texts against reference libraries: small tokenizers of every kind, and real ones where present.
// RETAIN_TOKENIZER_FIXTURES may name a larger folder written by Tests/Fixtures/scripts/tokenizer_fixtures.py.
import Corpus
import Foundation
import StrictJSON
import TestKit
import Testing

@Suite struct TokenizerReferenceTests {
  static let fixtures =
    ProcessInfo.processInfo.environment["RETAIN_TOKENIZER_FIXTURES"] ?? Fixtures.path("tokenizers")
  static let kinds = [
    "gpt2", "llama3", "qwen2", "flags", "roberta", "digits", "gaps", "llama2", "trimmed", "metaspace-first",
    "metaspace-always", "metaspace-never", "bert", "bert-cased", "characters", "words", "words-isolated",
    "words-previous", "words-delimited",
  ]

  private func read(_ path: String) throws -> JSON {
    try JSON.parse(Array(try #require(FileManager.default.contents(atPath: path))))
  }
  private func ids(_ value: JSON?) -> [Int32] { value?.array?.compactMap { $0.int.map(Int32.init) } ?? [] }

  @Test(arguments: kinds) func agreesWithHuggingFace(_ kind: String) throws {
    let folder = "\(Self.fixtures)/\(kind)"
    let tokenizer = try Tokenizer.load(folder: folder)
    let texts = try #require(try read("\(Self.fixtures)/texts.json").array)
    let rows = try #require(try read("\(folder)/encodings.json").array)
    #expect(texts.count == rows.count && texts.count >= 80)
    var wrong = 0
    for (text, row) in zip(texts, rows) {
      let text = try #require(text.string)
      let special = ids(row["special"])
      let results = [
        tokenizer.encode(text) == ids(row["ids"]),
        tokenizer.encode(text, addSpecialTokens: true) == special,
        tokenizer.decode(special).utf8.elementsEqual(row["decoded"]?.string?.utf8 ?? "".utf8),
        tokenizer.decode(special, skipSpecialTokens: true).utf8.elementsEqual(
          row["skipped"]?.string?.utf8 ?? "".utf8),
      ]
      if results.contains(false) {
        wrong += 1
        if wrong < 6 {
          Issue.record(
            """
            \(kind) \(results) \(JSON(text).compact)
            \(tokenizer.encode(text)) \(tokenizer.encode(text).map { tokenizer.token($0) ?? "?" })
            \(ids(row["ids"])) \(ids(row["ids"]).map { tokenizer.token($0) ?? "?" })
            \(JSON(tokenizer.decode(special)).compact) \(row["decoded"]?.compact ?? "")
            """)
        }
      }
    }
    #expect(wrong == 0, "\(wrong) of \(rows.count) texts differ")
  }

  static let shared = [
    "tokenizers/gpt2", "tokenizers/llama2", "tokenizers/llama3", "tokenizers/qwen2",
    "tokenizers/bert-base-uncased", "models/stories260k", "models/stories260k-bf16-sharded",
    "models/babyllama-105",
  ]

  @Test(.enabled(if: SharedData.isPresent, "the shared folder is absent"), arguments: shared)
  func agreesOnRealVocabularies(_ name: String) throws {
    guard let folder = SharedData.path(name) else { return print("skipped: \(name) is absent") }
    let tokenizer = try Tokenizer.load(folder: folder)
    let lines = try String(contentsOfFile: "\(folder)/encodings.jsonl", encoding: .utf8).utf8
      .split(separator: 0x0A)
    let isSentencePiece = !["gpt2", "llama3", "qwen2", "bert"].contains { name.contains($0) }
    let addsSpecial = name.contains("llama") || name.contains("stories") || name.contains("bert")
    var checked = 0
    for line in lines {
      let row = try JSON.parse(Array(line))
      let text = try #require(row["text"]?.string)
      // SentencePiece reads these as plain text, tokenizer.json as special tokens.
      if isSentencePiece, ["<s>", "</s>", "<unk>"].contains(where: { text.contains($0) }) { continue }
      let expected = ids(row["ids"])
      let actual = tokenizer.encode(text, addSpecialTokens: addsSpecial)
      #expect(actual == expected, "\(name): \(JSON(text).compact)")
      let decoded = tokenizer.decode(expected, skipSpecialTokens: addsSpecial)
      // SentencePiece prints unknown pieces as a mark, Hugging Face not at all.
      if !(isSentencePiece && expected.contains(0)) {
        let reference = try #require(row["decoded"]?.string)
        #expect(
          decoded.utf8.elementsEqual(reference.utf8),
          "\(name): \(JSON(decoded).compact) for \(JSON(reference).compact)")
      }
      checked += 1
    }
    #expect(checked >= 90)
    print("\(name): \(checked) of \(lines.count) texts agree, \(tokenizer.vocabularySize) ids")
  }

  @Test(.enabled(if: SharedData.isPresent, "the shared folder is absent"))
  func readsCharacterVocabularies() throws {
    guard let names = SharedData.path("models/names-en"), let sort = SharedData.path("models/sort-abc") else {
      return
    }
    let letters = try Tokenizer.load(folder: names)
    #expect(letters.vocabularySize == 27)
    #expect(letters.encode("emma", addSpecialTokens: true) == [0, 5, 13, 13, 1])
    #expect(letters.decode([5, 13, 13, 1]) == "emma")
    #expect(letters.bosToken == 0 && letters.eosToken == 0)
    let abc = try Tokenizer.load(folder: sort)
    #expect(abc.encode("CABx") == [2, 0, 1])
    #expect(abc.bosToken == nil)
  }
}
