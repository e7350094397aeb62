// Training: the same vocabulary as the Hugging Face trainer makes, twice the same bytes, and round trips.
import Corpus
import Foundation
import StrictJSON
import TestKit
import Testing

@Suite struct TokenizerTrainerTests {
  private func text(_ name: String) throws -> String {
    try String(contentsOfFile: Fixtures.path("tokenizers/training/\(name)"), encoding: .utf8)
  }

  @Test func agreesWithHuggingFace() throws {
    let lines = try text("corpus.txt").components(separatedBy: "\n")
    let documents: [String] = lines.map { $0 + "\n" }
    let expected: JSON = try JSON.parse(Array(try text("expected.json").utf8))
    let size = try #require(expected["size"]?.int)
    let made = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: size, specialTokens: ["<|endoftext|>", "<pad>"], documents: documents)
    let model = try #require(try JSON.parse(made.json)["model"])
    #expect(model["merges"] == expected["merges"])
    let vocabulary = try #require(model["vocab"]?.members).map { JSON.string($0.key) }
    #expect(JSON.array(vocabulary) == expected["vocabulary"])

    let tokenizer = try Tokenizer(json: made.json, configuration: made.configuration)
    #expect(tokenizer.vocabularySize == vocabulary.count)
    #expect(tokenizer.bosToken == 0 && tokenizer.eosToken == 0)
    #expect(tokenizer.id(of: "<pad>") == 1)
    for document in documents { #expect(tokenizer.decode(tokenizer.encode(document)) == document) }
  }

  @Test func isDeterministic() throws {
    let documents = ["the lease of the tenant", "the tenant of the lease", "ééé \u{1F600} the the"]
    let first = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: 300, specialTokens: ["<e>"], documents: documents)
    let second = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: 300, specialTokens: ["<e>"], documents: documents)
    #expect(first.json == second.json && first.configuration == second.configuration)
    let tokenizer = try Tokenizer(json: first.json, configuration: first.configuration)
    #expect(tokenizer.vocabularySize > 257)
    #expect(tokenizer.encode(" the").count == 1)
    #expect(tokenizer.encode("<e>") == [0])
  }

  @Test func refusesImpossibleRequests() {
    for (size, special) in [
      (256, ["<e>"]), (300, ["<e>", "<e>"]), (300, [""]), (300, ["a"]), (-1, []), (1 << 30, []),
    ] {
      #expect(throws: TokenizerError.self) {
        try TokenizerTrainer.byteLevelBPE(vocabularySize: size, specialTokens: special, documents: ["x"])
      }
    }
  }

  @Test func smallTextsGiveSmallVocabularies() throws {
    let made = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: 1000, specialTokens: [], documents: ["abc", ""])
    let tokenizer = try Tokenizer(json: made.json, configuration: made.configuration)
    #expect(tokenizer.vocabularySize == 256)
    #expect(tokenizer.bosToken == nil)
    #expect(tokenizer.decode(tokenizer.encode("abc \u{0}\n")) == "abc \u{0}\n")
  }
}
