// What happens to a text before it is cut into words: the `normalizer` of tokenizer.json.
// Each case does to bytes what the Hugging Face library does to its strings, so that ids agree.
import StrictJSON

indirect enum TokenizerNormalizer: Sendable {
  case none
  case sequence([TokenizerNormalizer])
  case nfc, nfd, lowercase, stripAccents
  case bert(cleans: Bool, spacesIdeographs: Bool, stripsAccents: Bool, lowercases: Bool)
  case prepend([UInt8])
  case replace([UInt8], with: [UInt8])
  /// Spaces at the two ends, each run as one match: `\A +| +\z`.
  case replaceOuterSpaces(with: [UInt8])
  /// Runs of two and more spaces: ` {2,}`.
  case replaceSpaceRuns(with: [UInt8])
  case strip(left: Bool, right: Bool)

  static func parse(_ field: TokenizerField) throws(TokenizerError) -> TokenizerNormalizer {
    if field.isAbsent { return .none }
    let type = try field.type()
    switch type {
    case "Sequence":
      var parts: [TokenizerNormalizer] = []
      for item in try field["normalizers"].items() { parts.append(try parse(item)) }
      return .sequence(parts)
    case "NFC": return .nfc
    case "NFD": return .nfd
    case "Lowercase": return .lowercase
    case "StripAccents": return .stripAccents
    case "BertNormalizer":
      let lowercases = try field["lowercase"].flag(default: true)
      return .bert(
        cleans: try field["clean_text"].flag(default: true),
        spacesIdeographs: try field["handle_chinese_chars"].flag(default: true),
        stripsAccents: try field["strip_accents"].flag(default: lowercases), lowercases: lowercases)
    case "Prepend": return .prepend(Array(try field["prepend"].text().utf8))
    case "Strip":
      return .strip(
        left: try field["strip_left"].flag(default: true), right: try field["strip_right"].flag(default: true)
      )
    case "Replace":
      let content = Array(try field["content"].text().utf8)
      let pattern = field["pattern"]
      if let text = pattern.value["String"]?.string {
        guard !text.isEmpty else { throw pattern.invalid("the text to replace is empty") }
        return .replace(Array(text.utf8), with: content)
      }
      let regex = try pattern["Regex"].text()
      switch regex {
      case #"\A +| +\z"#: return .replaceOuterSpaces(with: content)
      case " {2,}": return .replaceSpaceRuns(with: content)
      default: throw pattern.unsupported("the pattern \"\(regex)\"")
      }
    default: throw field.unsupported("the normalizer \(type)")
    }
  }

  var isNone: Bool {
    switch self {
    case .none: true
    case .sequence(let parts): parts.allSatisfy(\.isNone)
    default: false
    }
  }

  /// The normalised text; valid UTF-8 stays valid.
  func apply(_ text: [UInt8]) -> [UInt8] {
    switch self {
    case .none: text
    case .sequence(let parts): parts.reduce(text) { $1.apply($0) }
    case .nfc: UnicodeNormalization.normalized(text, composes: true)
    case .nfd: UnicodeNormalization.normalized(text, composes: false)
    case .lowercase: UnicodeNormalization.lowercased(text)
    case .stripAccents: Self.without(UnicodeClass.mark, text)
    case .bert(let cleans, let spaces, let strips, let lowercases):
      Self.bert(text, cleans: cleans, spaces: spaces, strips: strips, lowercases: lowercases)
    case .prepend(let prefix): text.isEmpty ? text : prefix + text
    case .replace(let pattern, let content): Self.replacing(text, pattern, with: content)
    case .replaceOuterSpaces(let content): Self.replacingOuterSpaces(text, with: content)
    case .replaceSpaceRuns(let content): Self.replacingSpaceRuns(text, with: content)
    case .strip(let left, let right): Self.stripped(text, left: left, right: right)
    }
  }

  private static func bert(
    _ text: [UInt8], cleans: Bool, spaces: Bool, strips: Bool, lowercases: Bool
  ) -> [UInt8] {
    var text = text
    if cleans || spaces {
      text = mapped(text) { value, bits, out in
        if cleans {
          let isBreak = value == 0x09 || value == 0x0A || value == 0x0D
          if value == 0 || value == 0xFFFD || (!isBreak && bits & UnicodeClass.control != 0) { return }
          if bits & UnicodeClass.space != 0 {
            out.append(0x20)
            return
          }
        }
        let isSpaced = spaces && bits & UnicodeClass.ideograph != 0
        if isSpaced { out.append(0x20) }
        appendUTF8(value, to: &out)
        if isSpaced { out.append(0x20) }
      }
    }
    if strips {
      text = without(UnicodeClass.nonspacing, UnicodeNormalization.normalized(text, composes: false))
    }
    return lowercases ? UnicodeNormalization.lowercased(text) : text
  }
  private static func without(_ marks: UInt16, _ text: [UInt8]) -> [UInt8] {
    guard text.contains(where: { $0 >= 0x80 }) else { return text }
    return mapped(text) { value, bits, out in
      if bits & marks == 0 { appendUTF8(value, to: &out) }
    }
  }
  private static func mapped(_ text: [UInt8], _ body: (UInt32, UInt16, inout [UInt8]) -> Void) -> [UInt8] {
    text.withUnsafeBufferPointer { bytes in
      let reader = ScalarReader(bytes)
      var out: [UInt8] = []
      out.reserveCapacity(text.count)
      var offset = 0
      while offset < bytes.count {
        let (value, length) = reader.scalar(at: offset)
        body(value, reader.classes[Int(value)], &out)
        offset += length
      }
      return out
    }
  }

  static func replacing(_ text: [UInt8], _ pattern: [UInt8], with content: [UInt8]) -> [UInt8] {
    guard let first = pattern.first, text.count >= pattern.count else { return text }
    var out: [UInt8] = []
    out.reserveCapacity(text.count + text.count / 4)
    var offset = 0
    while offset < text.count {
      if text[offset] == first, text.count - offset >= pattern.count,
        pattern.indices.allSatisfy({ text[offset + $0] == pattern[$0] })
      {
        out += content
        offset += pattern.count
      } else {
        out.append(text[offset])
        offset += 1
      }
    }
    return out
  }
  private static func replacingOuterSpaces(_ text: [UInt8], with content: [UInt8]) -> [UInt8] {
    var start = 0
    var end = text.count
    while start < end, text[start] == 0x20 { start += 1 }
    while end > start, text[end - 1] == 0x20 { end -= 1 }
    return (start > 0 ? content : []) + text[start..<end] + (end < text.count ? content : [])
  }
  private static func replacingSpaceRuns(_ text: [UInt8], with content: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    var offset = 0
    while offset < text.count {
      guard text[offset] == 0x20 else {
        out.append(text[offset])
        offset += 1
        continue
      }
      var end = offset + 1
      while end < text.count, text[end] == 0x20 { end += 1 }
      if end - offset > 1 { out += content } else { out.append(0x20) }
      offset = end
    }
    return out
  }
  private static func stripped(_ text: [UInt8], left: Bool, right: Bool) -> [UInt8] {
    text.withUnsafeBufferPointer { bytes in
      let reader = ScalarReader(bytes)
      var start = 0
      var end = bytes.count
      while left, start < end {
        let (bits, length) = reader.kind(at: start)
        guard bits & UnicodeClass.space != 0 else { break }
        start += length
      }
      while right, end > start {
        let previous = reader.start(before: end)
        guard reader.kind(at: previous).bits & UnicodeClass.space != 0 else { break }
        end = previous
      }
      return Array(bytes[start..<end])
    }
  }
}
