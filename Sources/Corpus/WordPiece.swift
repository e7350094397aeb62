// WordPiece (BERT): the longest piece that begins a word, then the longest that continues it.
// WordLevel, where a whole word is a token or unknown, lives here too: it is WordPiece without pieces.

final class WordPiece: TokenizerModel {
  private let unknown: Int32
  private let longestWord: Int
  private let vocabulary: TokenizerVocabulary
  /// Pieces that continue a word, without their prefix.
  private let continuing: TokenizerByteMap

  init(_ field: TokenizerField, vocabulary: TokenizerVocabulary) throws(TokenizerError) {
    let text = try field["unk_token"].text(default: "[UNK]")
    guard let id = vocabulary.id(text) else {
      throw field["unk_token"].invalid("\"\(text)\" is not in the vocabulary")
    }
    unknown = id
    longestWord =
      field["max_input_chars_per_word"].isAbsent ? 100 : try field["max_input_chars_per_word"].count()
    let prefix = Array(try field["continuing_subword_prefix"].text(default: "##").utf8)
    self.vocabulary = vocabulary
    var map = TokenizerByteMap(minimumCapacity: vocabulary.size / 4)
    vocabulary.forEach { text, id in
      if text.utf8.starts(with: prefix) { _ = map.insert(Array(text.utf8.dropFirst(prefix.count)), id) }
    }
    continuing = map
  }

  func encode(_ word: UnsafeBufferPointer<UInt8>, into out: inout [Int32]) {
    let characters = word.reduce(0) { $0 + ($1 & 0xC0 == 0x80 ? 0 : 1) }
    guard characters <= longestWord else {
      out.append(unknown)
      return
    }
    let before = out.count
    var start = 0
    while start < word.count {
      let longest = start == 0 ? vocabulary.longestToken : continuing.longest
      var end = min(word.count, start + longest)
      var found: Int32?
      while end > start {
        // A piece ends where a character ends.
        if end == word.count || word[end] & 0xC0 != 0x80 {
          let piece = UnsafeBufferPointer(rebasing: word[start..<end])
          found = start == 0 ? vocabulary.id(piece) : continuing.find(piece)
          if found != nil { break }
        }
        end -= 1
      }
      guard let id = found else {
        out.removeSubrange(before...)
        out.append(unknown)
        return
      }
      out.append(id)
      start = end
    }
  }
}

final class WordLevel: TokenizerModel {
  private let unknown: Int32?
  private let vocabulary: TokenizerVocabulary

  init(_ field: TokenizerField, vocabulary: TokenizerVocabulary) throws(TokenizerError) {
    let text = try field["unk_token"].text(default: "<unk>")
    unknown = vocabulary.id(text)
    self.vocabulary = vocabulary
  }
  func encode(_ word: UnsafeBufferPointer<UInt8>, into out: inout [Int32]) {
    if let id = vocabulary.id(word) ?? unknown { out.append(id) }
  }
}
