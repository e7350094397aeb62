// Makes a byte-level BPE vocabulary from text, for models that start from nothing.
// Counts pairs once and then only where a merge changes them, so tens of megabytes take seconds.
import StrictJSON

/// Trains tokenizers.
public enum TokenizerTrainer {
  /// Trains a byte-level BPE with the pre-tokenizer of GPT-2 and no prefix space.
  ///
  /// Ids: the special tokens, the 256 bytes, then merges, most frequent pair first; of equally frequent pairs
  /// the one with the lower ids. Pairs that occur only once are not merged, so little text gives a smaller
  /// vocabulary.
  /// The same text always gives the same bytes.
  /// - Parameters:
  ///   - vocabularySize: special tokens and bytes included.
  ///   - specialTokens: the first becomes beginning and end of text.
  /// - Returns: the bytes of tokenizer.json and tokenizer_config.json.
  /// - Throws: `TokenizerError` where the size is impossible or special tokens are empty, repeated or single
  ///   letters of the alphabet.
  /// - Cost: linear in the text to count words, then about n log n in the number of different words.
  public static func byteLevelBPE(
    vocabularySize: Int, specialTokens: [String], documents: some Sequence<String>
  ) throws -> (json: [UInt8], configuration: [UInt8]) {
    var texts: [String] = []
    var ids = TokenizerByteMap(minimumCapacity: 1024)
    func add(_ text: String, _ bytes: [UInt8]) -> Bool {
      guard ids.insert(bytes, Int32(texts.count)) else { return false }
      texts.append(text)
      return true
    }
    for token in specialTokens where token.isEmpty || !add(token, Array(token.utf8)) {
      throw TokenizerError(kind: .invalid, reason: "the special token \"\(token)\" is empty or named twice")
    }
    let smallest = specialTokens.count + 256
    guard vocabularySize >= smallest, vocabularySize <= 1 << 24 else {
      throw TokenizerError(
        kind: .invalid, reason: "a vocabulary of \(vocabularySize) is impossible",
        hint: "256 bytes and \(specialTokens.count) special tokens need \(smallest); the most is \(1 << 24)")
    }
    var atoms = [Int32](repeating: 0, count: 256)
    for byte in (0..<256).sorted(by: { ByteAlphabet.scalars[$0].value < ByteAlphabet.scalars[$1].value }) {
      atoms[byte] = Int32(texts.count)
      let text = ByteAlphabet.text(of: UInt8(byte))
      guard add(text, Array(text.utf8)) else {
        throw TokenizerError(
          kind: .invalid, reason: "the special token \"\(text)\" is a letter of the byte alphabet",
          hint: "choose a longer one, such as <|endoftext|>")
      }
    }

    var words = TokenizerWordCounts()
    for var document in documents {
      document.withUTF8 { bytes in TokenizerPattern.gpt2.forEach(in: bytes) { words.add($0) } }
    }
    var pairs = TokenizerPairCounts(words, atoms: atoms)
    var merges: [JSON] = []
    while texts.count < vocabularySize, let (left, right) = pairs.best(atLeast: 2) {
      let text = texts[Int(left)] + texts[Int(right)]
      merges.append(.string(texts[Int(left)] + " " + texts[Int(right)]))
      let bytes = Array(text.utf8)
      // Two ways to one text are two merges and one token.
      let id = ids.find(bytes) ?? Int32(texts.count)
      if Int(id) == texts.count { _ = add(text, bytes) }
      pairs.merge(left, right, into: id)
    }
    return (
      Array(description(texts, merges, specialTokens).compact.utf8),
      Array(configuration(specialTokens).pretty.utf8)
    )
  }

  private static func description(_ texts: [String], _ merges: [JSON], _ special: [String]) -> JSON {
    let byteLevel: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    return .object([
      .init("version", "1.0"), .init("truncation", nil), .init("padding", nil),
      .init(
        "added_tokens",
        .array(
          special.enumerated().map { id, text in
            [
              "id": .integer(id), "content": .string(text), "single_word": false, "lstrip": false,
              "rstrip": false,
              "normalized": false, "special": true,
            ]
          })),
      .init("normalizer", nil), .init("pre_tokenizer", byteLevel),
      .init(
        "post_processor",
        ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true]),
      .init("decoder", byteLevel),
      .init(
        "model",
        [
          "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
          "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
          "vocab": .object(texts.enumerated().map { .init($0.element, .integer($0.offset)) }),
          "merges": .array(merges),
        ]),
    ])
  }
  private static func configuration(_ special: [String]) -> JSON {
    var members: [JSON.Member] = [.init("tokenizer_class", "PreTrainedTokenizerFast")]
    if let first = special.first {
      members += [.init("bos_token", .string(first)), .init("eos_token", .string(first))]
    }
    members += [.init("add_prefix_space", false), .init("clean_up_tokenization_spaces", false)]
    return .object(members)
  }
}
