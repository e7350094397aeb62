// BPE over characters with bytes as a last resort (Llama 2), and character vocabularies without merges.
// Such models see a whole text as one word; cutting it where no merge can cross lets the word cache help.

final class SentencePieceBPE: TokenizerModel {
  private let rules: BytePairRules
  private let vocabulary: TokenizerVocabulary
  private let ascii: [Int32]
  /// Ids of `<0x00>` … `<0xFF>`; -1 where absent.
  private let fallback: [Int32]
  let safeMarker: [UInt8]?

  init(_ rules: BytePairRules, vocabulary: TokenizerVocabulary) {
    self.rules = rules
    self.vocabulary = vocabulary
    ascii = (0..<128).map { vocabulary.id(String(Character(Unicode.Scalar(UInt8($0))))) ?? -1 }
    let hexadecimal = Array("0123456789ABCDEF")
    fallback = (0..<256).map { byte in
      guard rules.fallsBackToBytes else { return -1 }
      return vocabulary.id("<0x\(hexadecimal[byte >> 4])\(hexadecimal[byte & 15])>") ?? -1
    }
    let marker: Unicode.Scalar = "\u{2581}"
    let isSafe =
      vocabulary.id(String(Character(marker))) != nil && !rules.ignoresMerges
      && rules.mergeTexts.allSatisfy { left, right in
        left.unicodeScalars.last == marker || right.unicodeScalars.first != marker
      }
    safeMarker = isSafe ? [0xE2, 0x96, 0x81] : nil
  }

  func encode(_ word: UnsafeBufferPointer<UInt8>, into out: inout [Int32]) {
    if rules.ignoresMerges, let id = vocabulary.id(word) {
      out.append(id)
      return
    }
    var symbols = TokenizerSymbols(rules, capacity: word.count)
    let reader = ScalarReader(word)
    var offset = 0
    while offset < word.count {
      let start = offset
      offset += reader.scalar(at: start).length
      let character = UnsafeBufferPointer(rebasing: word[start..<offset])
      if character.count == 1, ascii[Int(character[0] & 0x7F)] >= 0 {
        symbols.known(ascii[Int(character[0] & 0x7F)])
      } else if character.count > 1, let id = vocabulary.id(character) {
        symbols.known(id)
      } else if rules.fallsBackToBytes, character.allSatisfy({ fallback[Int($0)] >= 0 }) {
        symbols.bytes(character.map { fallback[Int($0)] })
      } else {
        symbols.unknown()
      }
    }
    symbols.finish()
    rules.merges.apply(to: &symbols.ids)
    out += symbols.ids
  }
}
