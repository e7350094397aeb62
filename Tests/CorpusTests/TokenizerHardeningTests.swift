// Damaged and hostile tokenizer files: each is refused with its kind and place, none crashes.
// The numbers are those of the list of bad inputs that every reader of vocabularies has to survive.
import Corpus
import StrictJSON
import Testing

@Suite struct TokenizerHardeningTests {
  private static let plain = #"{"a":0,"b":1,"ab":2,"<s>":3}"#
  private static func file(
    vocab: String = plain, merges: String = #"["a b"]"#, model: String = "", rest: String = ""
  ) -> String {
    #"{"model":{"type":"BPE","vocab":\#(vocab),"merges":\#(merges)\#(model)}\#(rest)}"#
  }
  private func make(_ text: String) throws -> Tokenizer {
    try Tokenizer(json: Array(text.utf8), configuration: nil)
  }
  private func failure(_ text: String) -> TokenizerError? {
    do {
      _ = try make(text)
      return nil
    } catch { return error as? TokenizerError }
  }

  @Test func readsTheUndamagedFile() throws {
    let tokenizer = try make(Self.file())
    #expect(tokenizer.encode("abab") == [2, 2])
    #expect(tokenizer.vocabularySize == 4)
    #expect(tokenizer.decode([2, 99, -1, 0]) == "ab a")
    #expect(tokenizer.token(99) == nil && tokenizer.token(-5) == nil && tokenizer.token(2) == "ab")
    #expect(tokenizer.id(of: "ab") == 2 && tokenizer.id(of: "zz") == nil)
  }

  @Test func canonicallyEqualKeysStayApart() throws {
    let tokenizer = try make(
      Self.file(
        vocab: #"{"\u00e0":0,"a\u0300":1,"\u212b":2,"\u00c5":3,"a":4,"\u0300":5}"#,
        merges: #"[["a","\u0300"]]"#))
    #expect(tokenizer.vocabularySize == 6)
    #expect(tokenizer.encode("\u{E0}a\u{300}\u{212B}\u{C5}") == [0, 1, 2, 3])
    #expect(tokenizer.id(of: "a\u{300}") == 1 && tokenizer.id(of: "\u{E0}") == 0)
  }

  static let invalid: [(String, String)] = [
    ("T2 result of a merge absent", file(merges: #"["a b","b a"]"#)),
    ("T2 part of a merge absent", file(merges: #"["a z"]"#)),
    ("T3 merge of long tokens", file(merges: #"[["abababababab","ababababab"]]"#)),
    ("T4 negative id", file(vocab: #"{"a":-1,"b":1}"#, merges: "[]")),
    ("T4 duplicate id", file(vocab: #"{"a":0,"b":0}"#, merges: "[]")),
    ("T4 gap", file(vocab: #"{"a":0,"b":2}"#, merges: "[]")),
    ("T4 huge id", file(vocab: #"{"a":0,"b":2147483648}"#, merges: "[]")),
    ("T4 id out of Int", file(vocab: #"{"a":0,"b":99999999999999999999}"#, merges: "[]")),
    ("T4 fractional id", file(vocab: #"{"a":0,"b":1.5}"#, merges: "[]")),
    ("T4 id of a string", file(vocab: #"{"a":0,"b":"1"}"#, merges: "[]")),
    ("T4 empty vocabulary", file(vocab: "{}", merges: "[]")),
    ("T4 vocabulary as a list", file(vocab: "[]", merges: "[]")),
    ("T5 ambiguous merge", file(merges: #"["a  b"]"#)), ("T5 merge of one", file(merges: #"["ab"]"#)),
    ("T5 merge of three", file(merges: #"[["a","b","a"]]"#)), ("T5 merge of a number", file(merges: "[7]")),
    ("T5 empty part", file(merges: #"[["","a"]]"#)), ("T5 merges as text", file(merges: #""a b""#)),
    ("T9 empty added token", file(rest: #","added_tokens":[{"id":4,"content":""}]"#)),
    ("T9 id of another token", file(rest: #","added_tokens":[{"id":0,"content":"<s>"}]"#)),
    ("T9 taken id", file(rest: #","added_tokens":[{"id":0,"content":"new"}]"#)),
    ("T9 twice the id", file(rest: #","added_tokens":[{"id":4,"content":"x"},{"id":4,"content":"y"}]"#)),
    ("T9 twice the text", file(rest: #","added_tokens":[{"id":4,"content":"x"},{"id":5,"content":"x"}]"#)),
    ("T9 flag of a number", file(rest: #","added_tokens":[{"id":4,"content":"x","lstrip":1}]"#)),
    ("T9 negative id", file(rest: #","added_tokens":[{"id":-4,"content":"x"}]"#)),
    ("T9 id with a gap", file(rest: #","added_tokens":[{"id":2147483647,"content":"x"}]"#)),
    ("T9 no object", file(rest: #","added_tokens":["x"]"#)),
    ("T10 duplicate key", #"{"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}}"#),
    ("T10 depth bomb", String(repeating: "[", count: 100_000)),
    ("T10 cut off", #"{"model":{"type":"BPE","vocab":{"a":0"#), ("not an object", "[]"), ("empty", ""),
    ("no model", "{}"), ("unknown token absent", file(model: #","unk_token":"<unk>""#)),
    (
      "T11 template id absent",
      file(
        rest:
          #","post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<q>"}},{"Sequence":{"id":"A"}}],"special_tokens":{}}"#
      )
    ),
    (
      "T11 template id out of range",
      file(
        rest:
          #","post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[77]}}}"#
      )
    ),
    (
      "T11 template without text",
      file(rest: #","post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}}"#)
    ),
    (
      "processing without pair",
      file(rest: #","post_processor":{"type":"BertProcessing","sep":["x"],"cls":["y",0]}"#)
    ),
    (
      "strip of two characters", file(rest: #","decoder":{"type":"Strip","content":"ab","start":1,"stop":0}"#)
    ),
    (
      "empty replacement",
      file(rest: #","normalizer":{"type":"Replace","pattern":{"String":""},"content":"x"}"#)
    ),
    ("WordPiece without its unknown token", #"{"model":{"type":"WordPiece","vocab":{"a":0}}}"#),
  ]
  @Test(arguments: invalid) func refusesInvalid(_ name: String, _ text: String) throws {
    let error = try #require(failure(text), "\(name) was accepted")
    #expect(error.kind == .invalid, "\(name): \(error)")
    #expect(!error.reason.isEmpty)
  }

  static let unsupported: [(String, String)] = [
    ("Unigram", #"{"model":{"type":"Unigram","vocab":{"a":0}}}"#),
    ("Nmt", file(rest: #","normalizer":{"type":"Nmt"}"#)),
    ("Precompiled", file(rest: #","normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled"}]}"#)),
    ("UnicodeScripts", file(rest: #","pre_tokenizer":{"type":"UnicodeScripts"}"#)),
    (
      "(a+)+$",
      file(rest: #","pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated"}"#)
    ),
    ("x*", file(rest: #","normalizer":{"type":"Replace","pattern":{"Regex":"x*"},"content":""}"#)),
    ("CTC", file(rest: #","decoder":{"type":"CTC"}"#)),
    ("Fancy", file(rest: #","post_processor":{"type":"Fancy"}"#)),
    ("continuing_subword_prefix", file(model: #","continuing_subword_prefix":"@@""#)),
    ("dropout", file(model: #","dropout":0.1"#)),
    (
      "behind ByteLevel",
      file(
        rest:
          #","pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}"#)
    ),
  ]
  @Test(arguments: unsupported) func namesWhatIsUnsupported(_ name: String, _ text: String) throws {
    let error = try #require(failure(text), "\(name) was accepted")
    #expect(error.kind == .unsupported, "\(name): \(error)")
    #expect(error.description.contains(name), "\(error)")
  }

  @Test func aMissingFolderIsMissing() {
    do {
      _ = try Tokenizer.load(folder: "/nowhere/at/all")
      Issue.record("a missing folder was read")
    } catch {
      #expect(error.kind == .missing)
      #expect(error.path?.hasSuffix("tokenizer.json") == true)
    }
  }

  @Test func acceptsOddButSoundVocabularies() throws {
    // A token of a megabyte, in an old file: merges begin with a version line and the model has no type.
    let long = String(repeating: "q", count: 1 << 20)
    let tokenizer = try make(
      ##"{"model":{"vocab":{"a":0,"b":1,"ab":2,"\##(long)":3},"merges":["#version: 0.2","a b"]}}"##)
    #expect(tokenizer.encode("ab") == [2])
    // Unknown characters vanish where there is no unknown token, as in the reference.
    #expect(tokenizer.encode("xabx") == [2])
    // The empty key is a token that no text has.
    #expect(try make(Self.file(vocab: #"{"":0,"a":1,"b":2,"ab":3}"#)).encode("ba") == [2, 1])
    // Added tokens that begin alike: the longest wins.
    let added = try make(
      Self.file(
        rest:
          #","added_tokens":[{"id":4,"content":"<x","special":true},{"id":5,"content":"<xy>","special":true}]"#
      ))
    #expect(added.encode("a<xy>b<xb") == [0, 5, 1, 4, 1])
    #expect(added.decode([0, 5, 1], skipSpecialTokens: true) == "a b")
  }

  @Test func readsTheConfiguration() throws {
    func tokens(_ configuration: String) throws -> [Int32?] {
      let tokenizer = try Tokenizer(json: Array(Self.file().utf8), configuration: Array(configuration.utf8))
      #expect(tokenizer.configuration == Array(configuration.utf8))
      return [tokenizer.bosToken, tokenizer.eosToken]
    }
    #expect(try tokens(#"{"bos_token":"<s>","eos_token":{"content":"ab","lstrip":false}}"#) == [3, 2])
    #expect(try tokens(#"{"bos_token":null}"#) == [nil, nil])
    #expect(try tokens(#"{"bos_token":"absent"}"#) == [nil, nil])
    #expect(throws: TokenizerError.self) { try tokens("{") }
  }

  @Test func anyBytesCanBeEncoded() throws {
    let tokenizer = try make(Self.file(vocab: #"{"a":0,"b":1,"ab":2,"\ufffd":3}"#))
    let bytes: [UInt8] = [0x61, 0xFF, 0xC3, 0x62, 0xED, 0xA0, 0x80, 0xF4, 0x90, 0x80, 0x80, 0xE2, 0x82]
    let ids = bytes.withUnsafeBufferPointer { tokenizer.encode(utf8: $0) }
    #expect(ids == tokenizer.encode(String(decoding: bytes, as: UTF8.self)))
    #expect(ids.first == 0 && ids.contains(3))
    #expect(tokenizer.encode(utf8: UnsafeBufferPointer(start: nil, count: 0)).isEmpty)
  }

  @Test func everyCutAndEveryFlippedByteIsSurvived() throws {
    let text = Array(
      Self.file(
        rest:
          #","added_tokens":[{"id":4,"content":"<x>","special":true}],"normalizer":{"type":"Prepend","prepend":"a"},"decoder":{"type":"Fuse"}"#
      ).utf8)
    for length in 0..<text.count {
      #expect(throws: TokenizerError.self) { try Tokenizer(json: Array(text[..<length]), configuration: nil) }
    }
    for index in text.indices {
      for bit in 0..<8 {
        var damaged = text
        damaged[index] ^= 1 << UInt8(bit)
        // Some flips leave a sound file; then it must work.
        if let tokenizer = try? Tokenizer(json: damaged, configuration: nil) {
          _ = tokenizer.decode(tokenizer.encode("ab<x>ba a", addSpecialTokens: true))
        }
      }
    }
  }
}
