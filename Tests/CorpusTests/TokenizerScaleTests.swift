// Megabytes at a time: long texts, endless words, many threads, training. Speed itself is measured by `retain bench`.
import Corpus
import Foundation
import TestKit
import Testing

@Suite(.serialized) struct TokenizerScaleTests {
  private func english(bytes: Int) -> [UInt8]? {
    var text: [UInt8] = []
    for name in ["data/general", "data/legal", "data/medical", "data/scientific"] {
      guard let folder = SharedData.path(name),
        let files = FileManager.default.enumerator(atPath: folder)?.compactMap({ $0 as? String }).sorted()
      else { continue }
      for file in files where file.hasSuffix(".jsonl") || file.hasSuffix(".txt") {
        text += FileManager.default.contents(atPath: "\(folder)/\(file)") ?? Data()
        if text.count >= bytes { return Array(text[..<bytes]) }
      }
    }
    return text.isEmpty ? nil : text
  }

  @Test(.enabled(if: SharedData.isPresent, "the shared folder is absent"))
  func longTextsComeBack() throws {
    guard let folder = SharedData.path("tokenizers/gpt2"), let text = english(bytes: 2 << 20) else { return }
    let tokenizer = try Tokenizer.load(folder: folder)
    let whole = String(decoding: text, as: UTF8.self)
    #expect(tokenizer.decode(tokenizer.encode(whole)).utf8.elementsEqual(whole.utf8))
  }

  @Test func endlessWordsAreMerged() throws {
    let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
    var state: UInt64 = 1
    let text = (0..<(4 << 20)).map { _ -> UInt8 in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return 0x61 + UInt8(truncatingIfNeeded: state >> 33) % 26
    }
    // Quadratic merging would not come back within hours.
    #expect(text.withUnsafeBufferPointer { tokenizer.encode(utf8: $0).count } > 1 << 20)
    // The two ways of merging agree: around the limit, and on runs of one letter.
    for length in 60..<70 {
      let word = String(repeating: "the", count: length / 3 + 1).prefix(length)
      #expect(tokenizer.decode(tokenizer.encode(String(word))) == String(word))
    }
  }

  @Test func threadsShareATokenizer() async throws {
    let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
    let texts = (0..<200).map { "the lease \($0) of the tenant \($0 * 7919) and the ferry, don't wait\n" }
    let expected = texts.map { tokenizer.encode($0) }
    let wrong = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask { zip(texts, expected).filter { tokenizer.encode($0) != $1 }.count }
      }
      return await group.reduce(0, +)
    }
    #expect(wrong == 0)
  }

  @Test(.enabled(if: SharedData.isPresent, "the shared folder is absent"))
  func trainsOnEnglish() throws {
    guard let text = english(bytes: 4 << 20) else { return }
    let lines = text.split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    let made = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: 8192, specialTokens: ["<|endoftext|>"], documents: lines)
    #expect(try Tokenizer(json: made.json, configuration: made.configuration).vocabularySize == 8192)
  }
}
