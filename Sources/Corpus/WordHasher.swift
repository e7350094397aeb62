// Words as hashes: lower case, punctuation and symbols dropped, white space between words.
// One pass over bytes with a table, because every training byte goes through here.

/// Turns a text into the hashes of its words.
struct WordHasher {
  /// What a character becomes: 0 nothing, 1 the end of a word, else its lower-case code point plus 2.
  private static func code(_ scalar: Unicode.Scalar) -> UInt32 {
    if scalar.properties.isWhitespace { return 1 }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .nonspacingMark,
      .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber:
      return (scalar.properties.lowercaseMapping.unicodeScalars.first ?? scalar).value + 2
    default: return 0
    }
  }
  /// Codes of the characters that fill running text in most scripts; the rest are asked one by one.
  private static let table: [UInt32] = (0..<0x3000).map { Unicode.Scalar($0).map(code) ?? 0 }

  /// Calls `body` with the hash of each word, in order; a word of punctuation only is no word.
  static func forEachWord(in text: String, _ body: (UInt64) -> Void) {
    var text = text
    text.withUTF8 { bytes in
      table.withUnsafeBufferPointer { table in
        let empty: UInt64 = 0xCBF2_9CE4_8422_2325
        var hash = empty
        var index = 0
        while index < bytes.count {
          var value = UInt32(bytes[index])
          index += 1
          if value >= 0x80 {
            // A Swift string is valid UTF-8: the lead byte tells how many bytes follow.
            let more = value >= 0xF0 ? 3 : value >= 0xE0 ? 2 : 1
            value &= 0x3F >> UInt32(more)
            let end = min(bytes.count, index + more)
            while index < end {
              value = value << 6 | UInt32(bytes[index] & 0x3F)
              index += 1
            }
          }
          let code = value < 0x3000 ? table[Int(value)] : Unicode.Scalar(value).map(Self.code) ?? 0
          if code > 1 {
            hash = (hash ^ UInt64(code)) &* 0x0000_0100_0000_01B3
          } else if code == 1, hash != empty {
            body(ShuffleGenerator.mix(hash))
            hash = empty
          }
        }
        if hash != empty { body(ShuffleGenerator.mix(hash)) }
      }
    }
  }
}

/// Hashes of all runs of `length` words, by a rolling polynomial, and of the text as a whole.
struct RunHasher {
  static let base: UInt64 = 0x9E37_79B9_7F4A_7C15
  let length: Int
  /// base to the power of `length`: what the word that leaves a run is multiplied by.
  private let leaving: UInt64

  init(length: Int) {
    self.length = max(1, length)
    leaving = (0..<max(1, length)).reduce(1) { power, _ in power &* Self.base }
  }

  /// Calls `body` with the hash of each run and returns the number of words and the hash of all of them.
  func runs(of text: String, _ body: (UInt64) -> Void) -> (words: Int, whole: UInt64) {
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: length) { ring in
      ring.initialize(repeating: 0)
      var (run, whole) = (UInt64(0), UInt64(0))
      var (words, place) = (0, 0)
      WordHasher.forEachWord(in: text) { word in
        run = run &* Self.base &+ word &- ring[place] &* leaving
        whole = whole &* Self.base &+ word
        ring[place] = word
        place = place + 1 == length ? 0 : place + 1
        words += 1
        if words >= length { body(ShuffleGenerator.mix(run)) }
      }
      return (words, ShuffleGenerator.mix(whole))
    }
  }
}
