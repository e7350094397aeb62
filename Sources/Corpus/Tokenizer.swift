// Text to token ids and back, exactly as the tokenizer.json of a model says.
// Reads and checks the file once; after that encoding and decoding cannot fail.
import Foundation
import StrictJSON
import Synchronization

/// A tokenizer read from the `tokenizer.json` of a model; encoding and decoding are safe on every thread.
///
/// Understands byte-level BPE (GPT-2, Llama 3, Qwen 2), BPE over characters with byte fallback (Llama 2),
/// WordPiece (BERT) and WordLevel; anything else is refused with the kind `unsupported` and named.
public final class Tokenizer: Sendable {
  /// The bytes of tokenizer.json as they were read.
  public let json: [UInt8]
  /// The bytes of tokenizer_config.json as they were read, or nil.
  public let configuration: [UInt8]?
  /// Highest id + 1, added tokens included.
  public let vocabularySize: Int
  /// The id of `bos_token` in tokenizer_config.json.
  public let bosToken: Int32?
  /// The id of `eos_token` in tokenizer_config.json.
  public let eosToken: Int32?

  private let vocabulary: TokenizerVocabulary
  private let added: TokenizerAddedTokens
  private let normalizer: TokenizerNormalizer
  private let preTokenizer: PreTokenizer
  private let model: any TokenizerModel
  private let postProcessor: TokenizerPostProcessor
  private let decoder: TokenizerDecoder
  private let workers = Mutex<[Worker]>([])

  /// A word cache, used by one call at a time.
  // Unchecked: the pool hands a worker to one caller, who gives it back when done.
  private final class Worker: @unchecked Sendable {
    var cache = TokenizerWordCache()
  }

  private static let largestFile = 256 << 20

  /// Reads `tokenizer.json` and, where present, `tokenizer_config.json` of a folder.
  ///
  /// - Throws: `TokenizerError` with the path of the file at fault.
  public static func load(folder: String) throws(TokenizerError) -> Tokenizer {
    let directory = URL(fileURLWithPath: folder, isDirectory: true)
    let path = directory.appendingPathComponent("tokenizer.json").path
    guard let json = try contents(path) else {
      throw TokenizerError(
        kind: .missing, path: path, reason: "there is no tokenizer here",
        hint: "a folder of a model holds tokenizer.json; sentencepiece .model files are not read")
    }
    let configurationPath = directory.appendingPathComponent("tokenizer_config.json").path
    let configuration = try contents(configurationPath)
    do throws(TokenizerError) {
      return try Tokenizer(json: json, configuration: configuration)
    } catch {
      throw error.located(at: error.path == nil ? path : configurationPath)
    }
  }
  /// The bytes of a file; nil where there is none.
  private static func contents(_ path: String) throws(TokenizerError) -> [UInt8]? {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return nil }
    let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
    guard size <= largestFile else {
      throw TokenizerError(
        kind: .invalid, path: path,
        reason: "\(size) bytes are more than the \(largestFile) a tokenizer may have")
    }
    guard !isDirectory.boolValue, let data = FileManager.default.contents(atPath: path) else {
      throw TokenizerError(kind: .missing, path: path, reason: "the file cannot be read")
    }
    return Array(data)
  }

  /// Reads a tokenizer from the bytes of its files.
  ///
  /// - Parameters:
  ///   - json: what tokenizer.json holds.
  ///   - configuration: what tokenizer_config.json holds, or nil.
  /// - Throws: `TokenizerError` with the place inside the file.
  public init(json: [UInt8], configuration: [UInt8]?) throws(TokenizerError) {
    let root = TokenizerField(place: "", value: try Self.parse(json, named: nil))
    guard root.value.members != nil else {
      throw TokenizerError(kind: .invalid, reason: "a tokenizer is a JSON object")
    }
    guard root["model"].value.members != nil else { throw root["model"].invalid("must be an object") }
    vocabulary = try TokenizerVocabulary(root["model"]["vocab"])
    normalizer = try TokenizerNormalizer.parse(root["normalizer"])
    var preTokenizer = try PreTokenizer(root["pre_tokenizer"])
    model = try TokenizerModels.parse(
      root["model"], vocabulary: vocabulary, isByteLevel: preTokenizer.isByteLevel)
    if let marker = model.safeMarker { preTokenizer.append(.beforeMarker(marker)) }
    self.preTokenizer = preTokenizer
    added = try TokenizerAddedTokens(root["added_tokens"], vocabulary: vocabulary, normalizer: normalizer)
    vocabularySize = try Self.checkedSize(vocabulary, added)
    postProcessor = try TokenizerPostProcessor(root["post_processor"], size: vocabularySize)
    decoder = try TokenizerDecoder.parse(root["decoder"])
    self.json = json
    self.configuration = configuration
    guard let configuration else {
      bosToken = nil
      eosToken = nil
      return
    }
    let settings = TokenizerField(
      place: "", value: try Self.parse(configuration, named: "tokenizer_config.json"))
    bosToken = Self.special(settings["bos_token"]).flatMap { [vocabulary, added] in
      added[$0]?.id ?? vocabulary.id($0)
    }
    eosToken = Self.special(settings["eos_token"]).flatMap { [vocabulary, added] in
      added[$0]?.id ?? vocabulary.id($0)
    }
  }

  private static func parse(_ bytes: [UInt8], named name: String?) throws(TokenizerError) -> JSON {
    do throws(JSONError) {
      return try JSON.parse(bytes, limits: JSONLimits(depth: 64, bytes: largestFile))
    } catch {
      throw TokenizerError(kind: .invalid, path: name, reason: "not JSON: \(error.description)")
    }
  }
  /// A special token of the configuration: a string, or an object with `content`.
  private static func special(_ field: TokenizerField) -> String? {
    field.value.string ?? field.value["content"]?.string
  }
  /// Highest id + 1, once every id below it has a token.
  private static func checkedSize(_ vocabulary: TokenizerVocabulary, _ added: TokenizerAddedTokens)
    throws(TokenizerError) -> Int
  {
    let size = max(vocabulary.size, Int(added.tokens.map(\.id).max() ?? -1) + 1)
    var extra = 0
    for token in added.tokens where vocabulary.text(Int(token.id)) == nil { extra += 1 }
    var known = 0
    vocabulary.forEach { _, _ in known += 1 }
    guard size > 0 else {
      throw TokenizerError(kind: .invalid, reason: "model.vocab: the vocabulary is empty")
    }
    guard known + extra == size else {
      let gap = (0..<size).first { vocabulary.text($0) == nil && added[Int32($0)] == nil } ?? 0
      throw TokenizerError(
        kind: .invalid, reason: "model.vocab: no token has the id \(gap), but the highest id is \(size - 1)",
        hint: "ids must be 0, 1, 2 … without gaps")
    }
    return size
  }

  /// The ids of a text.
  ///
  /// - Parameter addSpecialTokens: also puts around it what the post-processor says, such as `<s>`.
  /// - Cost: linear in the text for words of ordinary length; n log n for one endless word.
  public func encode(_ text: String, addSpecialTokens: Bool = false) -> [Int32] {
    var text = text
    return text.withUTF8 { encodeValid($0, addSpecialTokens: addSpecialTokens) }
  }
  /// The ids of a text in UTF-8; bytes that are no UTF-8 count as U+FFFD.
  public func encode(utf8: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool = false) -> [Int32] {
    if (try? UTF8Span(validating: utf8.span)) != nil {
      return encodeValid(utf8, addSpecialTokens: addSpecialTokens)
    }
    return encode(String(decoding: utf8, as: UTF8.self), addSpecialTokens: addSpecialTokens)
  }

  private func encodeValid(_ text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool) -> [Int32] {
    let worker = workers.withLock { $0.popLast() } ?? Worker()
    defer { workers.withLock { $0.append(worker) } }
    var out: [Int32] = []
    out.reserveCapacity(text.count / 4 + 8)
    if addSpecialTokens { out += postProcessor.prefix }
    added.split(text, afterNormalizing: false) { part in
      switch part {
      case .token(let id): out.append(id)
      case .text(let range):
        let piece = UnsafeBufferPointer(rebasing: text[range])
        if normalizer.isNone {
          encode(piece, isFirst: range.lowerBound == 0, worker, into: &out)
        } else {
          normalizer.apply(Array(piece)).withUnsafeBufferPointer {
            encode($0, isFirst: range.lowerBound == 0, worker, into: &out)
          }
        }
      }
    }
    if addSpecialTokens { out += postProcessor.suffix }
    return out
  }
  /// Encodes a normalised piece.
  private func encode(
    _ text: UnsafeBufferPointer<UInt8>, isFirst: Bool, _ worker: Worker, into out: inout [Int32]
  ) {
    added.split(text, afterNormalizing: true) { part in
      switch part {
      case .token(let id): out.append(id)
      case .text(let range):
        preTokenizer.forEachWord(
          in: UnsafeBufferPointer(rebasing: text[range]), isFirst: isFirst && range.lowerBound == 0
        ) { word in
          guard word.count <= TokenizerWordCache.longestWord else { return model.encode(word, into: &out) }
          let hash = tokenizerHash(word)
          if worker.cache.appendIds(of: word, hash: hash, to: &out) { return }
          let before = out.count
          model.encode(word, into: &out)
          worker.cache.insert(word, hash: hash, ids: out[before...])
        }
      }
    }
  }

  /// The text of ids; unknown ids are left out.
  ///
  /// - Parameter skipSpecialTokens: leaves out tokens marked special, such as `<s>`.
  public func decode(_ ids: [Int32], skipSpecialTokens: Bool = false) -> String {
    var tokens: [[UInt8]] = []
    tokens.reserveCapacity(ids.count)
    for id in ids {
      guard let text = token(id) else { continue }
      if skipSpecialTokens, added[text]?.isSpecial == true { continue }
      tokens.append(Array(text.utf8))
    }
    return decoder.text(of: tokens)
  }
  /// The token of an id as the vocabulary spells it.
  public func token(_ id: Int32) -> String? { added[id]?.text ?? vocabulary.text(Int(id)) }
  /// The id of a token spelled as in the vocabulary, byte for byte.
  public func id(of token: String) -> Int32? { added[token]?.id ?? vocabulary.id(token) }
}
