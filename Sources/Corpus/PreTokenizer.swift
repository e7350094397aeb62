// How a normalised text is cut into the words that the model sees: the `pre_tokenizer` of tokenizer.json.
// A list of steps, each handing its pieces to the next, so that no list of words is ever built.
import StrictJSON

/// What becomes of the places where a text is split.
enum TokenizerSplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case contiguous = "Contiguous"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
}

struct PreTokenizer: Sendable {
  enum Prepend: Sendable { case always, first, never }
  enum Step: Sendable {
    case pattern(TokenizerPattern)
    /// A space in front of a piece that has none.
    case prefixSpace
    case metaspace(marker: [UInt8], prepend: Prepend, splits: Bool)
    /// Splits at scalars that have one of the bits.
    case scalars(UInt16, TokenizerSplitBehavior)
    case text([UInt8], TokenizerSplitBehavior, isInverted: Bool)
    /// `\w+|[^\w\s]+`
    case words
    /// Cuts in front of every marker that follows something else; only where no merge crosses such a place.
    case beforeMarker([UInt8])
  }
  private(set) var steps: [Step] = []
  /// The model sees bytes through the visible alphabet of GPT-2.
  private(set) var isByteLevel = false

  init(_ field: TokenizerField) throws(TokenizerError) { try add(field) }

  mutating func append(_ step: Step) { steps.append(step) }

  private mutating func add(_ field: TokenizerField) throws(TokenizerError) {
    if field.isAbsent { return }
    let type = try field.type()
    guard !isByteLevel else { throw field.unsupported("\(type) behind ByteLevel") }
    switch type {
    case "Sequence":
      for item in try field["pretokenizers"].items() { try add(item) }
    case "ByteLevel":
      if try field["add_prefix_space"].flag(default: true) { steps.append(.prefixSpace) }
      if try field["use_regex"].flag(default: true) { steps.append(.pattern(.gpt2)) }
      isByteLevel = true
    case "Split": try addSplit(field)
    case "BertPreTokenizer":
      steps.append(.scalars(UnicodeClass.space, .removed))
      steps.append(.scalars(UnicodeClass.punctuation, .isolated))
    case "Whitespace": steps.append(.words)
    case "WhitespaceSplit": steps.append(.scalars(UnicodeClass.space, .removed))
    case "Digits":
      let isIndividual = try field["individual_digits"].flag(default: false)
      steps.append(.scalars(UnicodeClass.numeric, isIndividual ? .isolated : .contiguous))
    case "Punctuation":
      steps.append(.scalars(UnicodeClass.punctuation, try behavior(field["behavior"], default: .isolated)))
    case "CharDelimiterSplit":
      steps.append(.text(Array(try field["delimiter"].scalar().utf8), .removed, isInverted: false))
    case "Metaspace":
      let marker = Array(try field["replacement"].scalar().utf8)
      let scheme = try field["prepend_scheme"].text(default: "always")
      let adds = try field["add_prefix_space"].flag(default: true)
      let prepend: Prepend
      switch scheme {
      case "always": prepend = adds ? .always : .never
      case "first": prepend = adds ? .first : .never
      case "never": prepend = .never
      default: throw field["prepend_scheme"].unsupported("the scheme \"\(scheme)\"")
      }
      steps.append(
        .metaspace(marker: marker, prepend: prepend, splits: try field["split"].flag(default: true)))
    default: throw field.unsupported("the pre-tokenizer \(type)")
    }
  }

  private mutating func addSplit(_ field: TokenizerField) throws(TokenizerError) {
    let pattern = field["pattern"]
    let behavior = try behavior(field["behavior"], default: nil)
    let isInverted = try field["invert"].flag(default: false)
    if let text = pattern.value["String"]?.string {
      guard !text.isEmpty else { throw pattern.invalid("the text to split at is empty") }
      steps.append(.text(Array(text.utf8), behavior, isInverted: isInverted))
      return
    }
    let regex = try pattern["Regex"].text()
    guard let known = TokenizerPattern(regex: regex) else {
      throw pattern.unsupported(
        "the pattern \"\(regex)\"", hint: "the patterns of GPT-2, Llama 3 and Qwen 2 are")
    }
    // The known patterns cover every text, so isolating matches and removing what is between them are one.
    guard (behavior == .isolated && !isInverted) || (behavior == .removed && isInverted) else {
      throw field.unsupported("the behavior \(behavior.rawValue) with this pattern")
    }
    steps.append(.pattern(known))
  }
  private func behavior(_ field: TokenizerField, default fallback: TokenizerSplitBehavior?)
    throws(TokenizerError) -> TokenizerSplitBehavior
  {
    if field.isAbsent, let fallback { return fallback }
    let text = try field.text()
    guard let behavior = TokenizerSplitBehavior(rawValue: text) else {
      throw field.unsupported("the behavior \"\(text)\"")
    }
    return behavior
  }

  /// Hands every word of a piece to `body`, in order; `isFirst` says that the text begins with the piece.
  func forEachWord(
    in bytes: UnsafeBufferPointer<UInt8>, isFirst: Bool, _ body: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    walk(bytes, step: 0, isFirst: isFirst, body)
  }

  private func walk(
    _ bytes: UnsafeBufferPointer<UInt8>, step: Int, isFirst: Bool,
    _ body: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    if bytes.isEmpty { return }
    guard step < steps.count else { return body(bytes) }
    let isLast = step + 1 == steps.count
    func piece(_ start: Int, _ end: Int) {
      guard start < end else { return }
      walk(
        UnsafeBufferPointer(rebasing: bytes[start..<end]), step: step + 1, isFirst: isFirst && start == 0,
        body)
    }
    switch steps[step] {
    case .pattern(let pattern):
      if isLast {
        pattern.forEach(in: bytes, body)
      } else {
        var start = 0
        pattern.forEach(in: bytes) { word in
          piece(start, start + word.count)
          start += word.count
        }
      }
    case .prefixSpace:
      if bytes[0] == 0x20 {
        piece(0, bytes.count)
      } else {
        let copy = [0x20] + Array(bytes)
        copy.withUnsafeBufferPointer { walk($0, step: step + 1, isFirst: isFirst, body) }
      }
    case .metaspace(let marker, let prepend, let splits):
      var copy = TokenizerNormalizer.replacing(Array(bytes), [0x20], with: marker)
      if prepend == .always || (prepend == .first && isFirst), !copy.starts(with: marker) {
        copy = marker + copy
      }
      copy.withUnsafeBufferPointer { copy in
        guard splits else { return walk(copy, step: step + 1, isFirst: isFirst, body) }
        Self.cut(copy, before: marker, onlyAfterOthers: false) { start, end in
          walk(
            UnsafeBufferPointer(rebasing: copy[start..<end]), step: step + 1, isFirst: isFirst && start == 0,
            body)
        }
      }
    case .beforeMarker(let marker): Self.cut(bytes, before: marker, onlyAfterOthers: true, piece)
    case .scalars(let bits, let behavior):
      let reader = ScalarReader(bytes)
      var matches: [Range<Int>] = []
      var offset = 0
      while offset < bytes.count {
        let (kind, length) = reader.kind(at: offset)
        if kind & bits != 0 { matches.append(offset..<(offset + length)) }
        offset += length
      }
      Self.split(bytes.count, matches, behavior, isInverted: false, piece)
    case .text(let text, let behavior, let isInverted):
      var matches: [Range<Int>] = []
      var offset = 0
      while offset + text.count <= bytes.count {
        if Self.holds(bytes, text, at: offset) {
          matches.append(offset..<(offset + text.count))
          offset += text.count
        } else {
          offset += 1
        }
      }
      Self.split(bytes.count, matches, behavior, isInverted: isInverted, piece)
    case .words:
      let reader = ScalarReader(bytes)
      var offset = 0
      while offset < bytes.count {
        let (kind, length) = reader.kind(at: offset)
        let start = offset
        offset += length
        if kind & (UnicodeClass.word | UnicodeClass.space) == UnicodeClass.space { continue }
        while offset < bytes.count {
          let (next, length) = reader.kind(at: offset)
          let isSame =
            kind & UnicodeClass.word != 0
            ? next & UnicodeClass.word != 0 : next & (UnicodeClass.word | UnicodeClass.space) == 0
          guard isSame else { break }
          offset += length
        }
        piece(start, offset)
      }
    }
  }

  private static func holds(_ bytes: UnsafeBufferPointer<UInt8>, _ text: [UInt8], at offset: Int) -> Bool {
    guard offset + text.count <= bytes.count, bytes[offset] == text[0] else { return false }
    for index in text.indices where bytes[offset + index] != text[index] { return false }
    return true
  }
  /// Cuts in front of every marker, or only of those that do not follow another marker.
  private static func cut(
    _ bytes: UnsafeBufferPointer<UInt8>, before marker: [UInt8], onlyAfterOthers: Bool,
    _ body: (Int, Int) -> Void
  ) {
    var start = 0
    var offset = 0
    var lastEnd = -1
    while offset < bytes.count {
      guard holds(bytes, marker, at: offset) else {
        offset += 1
        continue
      }
      if offset > start, !(onlyAfterOthers && lastEnd == offset) {
        body(start, offset)
        start = offset
      }
      offset += marker.count
      lastEnd = offset
    }
    if start < bytes.count { body(start, bytes.count) }
  }
  /// Turns matches into pieces.
  private static func split(
    _ count: Int, _ matches: [Range<Int>], _ behavior: TokenizerSplitBehavior, isInverted: Bool,
    _ body: (Int, Int) -> Void
  ) {
    var parts: [(start: Int, end: Int, isMatch: Bool)] = []
    var done = 0
    for match in matches {
      if done < match.lowerBound { parts.append((done, match.lowerBound, isInverted)) }
      parts.append((match.lowerBound, match.upperBound, !isInverted))
      done = match.upperBound
    }
    if done < count { parts.append((done, count, isInverted)) }
    switch behavior {
    case .isolated: for part in parts { body(part.start, part.end) }
    case .removed: for part in parts where !part.isMatch { body(part.start, part.end) }
    case .contiguous:
      var index = 0
      while index < parts.count {
        var end = index + 1
        while end < parts.count, parts[end].isMatch == parts[index].isMatch { end += 1 }
        body(parts[index].start, parts[end - 1].end)
        index = end
      }
    case .mergedWithPrevious:
      var index = 0
      while index < parts.count {
        // Only the first of several matches joins what is in front of them.
        let joins = !parts[index].isMatch && index + 1 < parts.count && parts[index + 1].isMatch
        body(parts[index].start, parts[joins ? index + 1 : index].end)
        index += joins ? 2 : 1
      }
    case .mergedWithNext:
      var index = 0
      while index < parts.count {
        let joins = parts[index].isMatch && index + 1 < parts.count && !parts[index + 1].isMatch
        body(parts[index].start, parts[joins ? index + 1 : index].end)
        index += joins ? 2 : 1
      }
    }
  }
}
