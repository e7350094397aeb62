// Byte-level BPE (GPT-2, Llama 3, Qwen 2): every byte is a symbol, so every text has ids.
// The vocabulary spells bytes with visible letters; translated once, all work is on the bytes themselves.

/// The visible alphabet of GPT-2: one printable scalar for each byte.
enum ByteAlphabet {
  /// The scalar of every byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (0..<256).map { byte -> Unicode.Scalar in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(UInt8(byte))
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? " "
      }
    }
  }()
  private static let bytes: [UInt32: UInt8] = {
    var table: [UInt32: UInt8] = [:]
    for (byte, scalar) in scalars.enumerated() { table[scalar.value] = UInt8(byte) }
    return table
  }()
  /// The bytes that a token spells, or nil where it has a scalar outside the alphabet.
  static func bytes(of token: String) -> [UInt8]? {
    var out: [UInt8] = []
    out.reserveCapacity(token.utf8.count)
    for scalar in token.unicodeScalars {
      guard let byte = bytes[scalar.value] else { return nil }
      out.append(byte)
    }
    return out
  }
  static func text(of byte: UInt8) -> String { String(Character(scalars[Int(byte)])) }
}

final class ByteLevelBPE: TokenizerModel {
  private let rules: BytePairRules
  /// The id of every byte; -1 where the vocabulary lacks it.
  private let atoms: [Int32]
  private let hasAllAtoms: Bool
  /// Whole words, where the model takes them before any merge.
  private let words: TokenizerByteMap?

  init(_ rules: BytePairRules, _ field: TokenizerField, vocabulary: TokenizerVocabulary)
    throws(TokenizerError)
  {
    self.rules = rules
    atoms = (0..<256).map { vocabulary.id(ByteAlphabet.text(of: UInt8($0))) ?? -1 }
    hasAllAtoms = !atoms.contains(-1)
    if rules.fallsBackToBytes, !hasAllAtoms {
      throw field["byte_fallback"].unsupported(
        "falling back to bytes in a byte-level vocabulary that lacks bytes")
    }
    guard rules.ignoresMerges else {
      words = nil
      return
    }
    var map = TokenizerByteMap(minimumCapacity: vocabulary.size)
    vocabulary.forEach { text, id in
      if let bytes = ByteAlphabet.bytes(of: text) { _ = map.insert(bytes, id) }
    }
    words = map
  }

  func encode(_ word: UnsafeBufferPointer<UInt8>, into out: inout [Int32]) {
    if let id = words?.find(word) {
      out.append(id)
      return
    }
    var ids: [Int32]
    if hasAllAtoms {
      ids = word.map { atoms[Int($0)] }
    } else {
      var symbols = TokenizerSymbols(rules, capacity: word.count)
      for byte in word {
        if atoms[Int(byte)] >= 0 { symbols.known(atoms[Int(byte)]) } else { symbols.unknown() }
      }
      symbols.finish()
      ids = symbols.ids
    }
    rules.merges.apply(to: &ids)
    out += ids
  }
}
