// From tokens back to text: the `decoder` of tokenizer.json.
// Tokens are byte strings here; only the whole result becomes a String, with U+FFFD where bytes are no UTF-8.

indirect enum TokenizerDecoder: Sendable {
  /// No decoder: tokens stand side by side with spaces.
  case none
  case sequence([TokenizerDecoder])
  case byteLevel
  case byteFallback
  case fuse
  case replace([UInt8], with: [UInt8])
  case strip([UInt8], start: Int, stop: Int)
  case wordPiece(prefix: [UInt8], cleansUp: Bool)
  case metaspace([UInt8], dropsFirst: Bool)

  static func parse(_ field: TokenizerField) throws(TokenizerError) -> TokenizerDecoder {
    if field.isAbsent { return .none }
    let type = try field.type()
    switch type {
    case "Sequence":
      var parts: [TokenizerDecoder] = []
      for item in try field["decoders"].items() { parts.append(try parse(item)) }
      return .sequence(parts)
    case "ByteLevel": return .byteLevel
    case "ByteFallback": return .byteFallback
    case "Fuse": return .fuse
    case "Replace":
      guard let text = field["pattern"].value["String"]?.string else {
        throw field["pattern"].unsupported("a pattern other than a plain string")
      }
      guard !text.isEmpty else { throw field["pattern"].invalid("the text to replace is empty") }
      return .replace(Array(text.utf8), with: Array(try field["content"].text().utf8))
    case "Strip":
      return .strip(
        Array(try field["content"].scalar().utf8), start: try field["start"].count(),
        stop: try field["stop"].count())
    case "WordPiece":
      return .wordPiece(
        prefix: Array(try field["prefix"].text(default: "##").utf8),
        cleansUp: try field["cleanup"].flag(default: true))
    case "Metaspace":
      let scheme = try field["prepend_scheme"].text(default: "always")
      let adds = try field["add_prefix_space"].flag(default: true)
      return .metaspace(
        Array(try field["replacement"].scalar().utf8), dropsFirst: adds && scheme != "never")
    default: throw field.unsupported("the decoder \(type)")
    }
  }

  /// The text of tokens as they are spelled in the vocabulary.
  func text(of tokens: [[UInt8]]) -> String {
    if case .none = self { return String(decoding: Array(tokens.joined(separator: [0x20])), as: UTF8.self) }
    return String(decoding: Array(apply(tokens).joined()), as: UTF8.self)
  }

  private func apply(_ tokens: [[UInt8]]) -> [[UInt8]] {
    switch self {
    case .none: return tokens
    case .sequence(let parts): return parts.reduce(tokens) { $1.apply($0) }
    case .byteLevel:
      var bytes: [UInt8] = []
      for token in tokens { bytes += ByteAlphabet.bytes(of: String(decoding: token, as: UTF8.self)) ?? token }
      // Repaired here, so that steps behind this one see text.
      return [Array(String(decoding: bytes, as: UTF8.self).utf8)]
    case .byteFallback: return Self.joiningBytes(tokens)
    case .fuse: return [Array(tokens.joined())]
    case .replace(let pattern, let content):
      return tokens.map { TokenizerNormalizer.replacing($0, pattern, with: content) }
    case .strip(let content, let start, let stop):
      return tokens.map { Self.stripped($0, of: content, start: start, stop: stop) }
    case .wordPiece(let prefix, let cleansUp):
      return tokens.enumerated().map { index, token in
        var token = token
        if index > 0 {
          token = token.starts(with: prefix) ? Array(token.dropFirst(prefix.count)) : [0x20] + token
        }
        return cleansUp ? Self.cleanedUp(token) : token
      }
    case .metaspace(let marker, let dropsFirst):
      return tokens.enumerated().map { index, token in
        TokenizerNormalizer.replacing(token, marker, with: index == 0 && dropsFirst ? [] : [0x20])
      }
    }
  }

  /// `<0x41>` tokens become their bytes; a run of them that is no UTF-8 becomes one U+FFFD a byte.
  private static func joiningBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var out: [[UInt8]] = []
    var pending: [UInt8] = []
    func flush() {
      if pending.isEmpty { return }
      if String(validating: pending, as: UTF8.self) != nil {
        out.append(pending)
      } else {
        out += repeatElement([0xEF, 0xBF, 0xBD], count: pending.count)
      }
      pending.removeAll()
    }
    for token in tokens {
      if token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">"),
        let high = digit(token[3]), let low = digit(token[4])
      {
        pending.append(high << 4 | low)
      } else {
        flush()
        out.append(token)
      }
    }
    flush()
    return out
  }
  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }
  private static func stripped(_ token: [UInt8], of content: [UInt8], start: Int, stop: Int) -> [UInt8] {
    var rest = token[...]
    var left = start
    while left > 0, rest.starts(with: content) {
      rest = rest.dropFirst(content.count)
      left -= 1
    }
    var right = stop
    while right > 0, !rest.isEmpty, rest.suffix(content.count).elementsEqual(content) {
      rest = rest.dropLast(content.count)
      right -= 1
    }
    return Array(rest)
  }
  /// Removes the spaces that splitting put in front of English punctuation and contractions.
  private static func cleanedUp(_ token: [UInt8]) -> [UInt8] {
    guard token.contains(0x20) else { return token }
    return cleanUps.reduce(token) { TokenizerNormalizer.replacing($0, $1.0, with: $1.1) }
  }
  private static let cleanUps: [([UInt8], [UInt8])] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { (Array($0.0.utf8), Array($0.1.utf8)) }
}
