// Figures of speed, and bounds that only a wrong algorithm would miss on a busy machine.
import Corpus
import Foundation
import TestKit
import Testing

@Suite(.serialized) struct TokenizerSpeedTests {
  private func seconds(_ body: () throws -> Void) rethrows -> Double {
    let elapsed = try ContinuousClock().measure { try body() }
    return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18
  }
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

  @Test(
    .enabled(if: SharedData.isPresent, "the shared folder is absent"),
    arguments: ["gpt2", "llama3", "qwen2", "llama2", "bert-base-uncased"])
  func encodesEnglish(_ name: String) throws {
    guard let folder = SharedData.path("tokenizers/\(name)"), let text = english(bytes: 16 << 20) else {
      return
    }
    var loaded: Tokenizer?
    let loading = try seconds { loaded = try Tokenizer.load(folder: folder) }
    let tokenizer = try #require(loaded)
    var ids: [Int32] = []
    let first = text.withUnsafeBufferPointer { text in seconds { ids = tokenizer.encode(utf8: text) } }
    var decoded = ""
    let back = seconds { decoded = tokenizer.decode(ids) }
    let speed = Double(text.count) / 1e6 / first
    print(
      "\(name): loads in \(Int(loading * 1000)) ms, encodes \(text.count) bytes to \(ids.count) ids at",
      "\(Int(speed)) MB/s, decodes at \(Int(Double(text.count) / 1e6 / back)) MB/s")
    #expect(speed > 1)
    if name == "gpt2" { #expect(decoded.utf8.elementsEqual(String(decoding: text, as: UTF8.self).utf8)) }
  }

  @Test func endlessWordsTakeLinearTime() throws {
    let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
    var state: UInt64 = 1
    let text = (0..<(4 << 20)).map { _ -> UInt8 in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return 0x61 + UInt8(truncatingIfNeeded: state >> 33) % 26
    }
    var count = 0
    let spent = text.withUnsafeBufferPointer { text in seconds { count = tokenizer.encode(utf8: text).count }
    }
    print("one word of \(text.count) bytes: \(count) ids at \(Double(text.count) / 1e6 / spent) MB/s")
    #expect(count > 1 << 20)
    #expect(spent < 60)
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
    guard let text = english(bytes: 16 << 20) else { return }
    let lines = text.split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    var size = 0
    let spent = try seconds {
      let made = try TokenizerTrainer.byteLevelBPE(
        vocabularySize: 16384, specialTokens: ["<|endoftext|>"], documents: lines)
      size = try Tokenizer(json: made.json, configuration: made.configuration).vocabularySize
    }
    print("trains \(size) tokens on \(text.count) bytes in \(spent) s")
    #expect(size == 16384 || text.count < 4 << 20)
  }
}
