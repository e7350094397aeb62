// Added and special tokens: found in the text before anything else looks at it, longest first.
// A trie and a table of first bytes keep the search near the speed of reading the text once.
import StrictJSON

struct TokenizerAddedToken: Sendable {
  let id: Int32
  let text: String
  let isSpecial: Bool
  let isNormalized: Bool
  let isSingleWord: Bool
  let stripsLeft: Bool
  let stripsRight: Bool
}

/// A set of byte patterns, each with a number.
struct TokenizerTrie: Sendable {
  private struct Node {
    var edges: [(byte: UInt8, node: Int)] = []
    var pattern = -1
  }
  private var nodes = [Node()]
  private var isFirst = [Bool](repeating: false, count: 256)
  var isEmpty: Bool { nodes.count == 1 }

  mutating func insert(_ bytes: [UInt8], pattern: Int) {
    guard let first = bytes.first else { return }
    isFirst[Int(first)] = true
    var node = 0
    for byte in bytes {
      if let edge = nodes[node].edges.first(where: { $0.byte == byte }) {
        node = edge.node
      } else {
        nodes.append(Node())
        nodes[node].edges.append((byte, nodes.count - 1))
        node = nodes.count - 1
      }
    }
    if nodes[node].pattern < 0 { nodes[node].pattern = pattern }
  }
  /// The first place at or after `start` where a pattern begins, with the longest pattern there.
  func next(in bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> (range: Range<Int>, pattern: Int)? {
    isFirst.withUnsafeBufferPointer { isFirst in
      var offset = start
      while offset < bytes.count {
        if isFirst[Int(bytes[offset])] {
          var node = 0
          var end = offset
          var found: (range: Range<Int>, pattern: Int)?
          while end < bytes.count, let edge = nodes[node].edges.first(where: { $0.byte == bytes[end] }) {
            node = edge.node
            end += 1
            if nodes[node].pattern >= 0 { found = (offset..<end, nodes[node].pattern) }
          }
          if let found { return found }
        }
        offset += 1
      }
      return nil
    }
  }
}

struct TokenizerAddedTokens: Sendable {
  let tokens: [TokenizerAddedToken]
  private static let largestText = 4 << 20
  private var raw = TokenizerTrie()
  private var normalized = TokenizerTrie()
  private let indexById: [Int32: Int]
  private let indexByText: [ByteKey: Int]

  init(_ field: TokenizerField, vocabulary: TokenizerVocabulary, normalizer: TokenizerNormalizer)
    throws(TokenizerError)
  {
    var tokens: [TokenizerAddedToken] = []
    var indexById: [Int32: Int] = [:]
    var indexByText: [ByteKey: Int] = [:]
    for item in field.isAbsent ? [] : try field.items() {
      guard item.value.members != nil else { throw item.invalid("must be an object") }
      let isSpecial = try item["special"].flag(default: false)
      let token = TokenizerAddedToken(
        id: try item["id"].id(), text: try item["content"].text(), isSpecial: isSpecial,
        isNormalized: try item["normalized"].flag(default: !isSpecial),
        isSingleWord: try item["single_word"].flag(default: false),
        stripsLeft: try item["lstrip"].flag(default: false),
        stripsRight: try item["rstrip"].flag(default: false))
      if token.text.isEmpty { throw item.invalid("an added token cannot be empty") }
      if indexById.updateValue(tokens.count, forKey: token.id) != nil {
        throw item.invalid("two added tokens have the id \(token.id)")
      }
      if indexByText.updateValue(tokens.count, forKey: ByteKey(token.text)) != nil {
        throw item.invalid("\"\(token.text)\" is added twice")
      }
      if let id = vocabulary.id(token.text), id != token.id {
        throw item.invalid("\"\(token.text)\" has the id \(id) in model.vocab and \(token.id) here")
      }
      if let text = vocabulary.text(Int(token.id)), ByteKey(text) != ByteKey(token.text) {
        throw item.invalid("the id \(token.id) of \"\(token.text)\" belongs to \"\(text)\" in model.vocab")
      }
      tokens.append(token)
    }
    guard tokens.reduce(0, { $0 + $1.text.utf8.count }) <= Self.largestText else {
      throw field.invalid("the added tokens together are longer than \(Self.largestText) bytes")
    }
    for (index, token) in tokens.enumerated() {
      let bytes = Array(token.text.utf8)
      if token.isNormalized {
        normalized.insert(normalizer.apply(bytes), pattern: index)
      } else {
        raw.insert(bytes, pattern: index)
      }
    }
    self.tokens = tokens
    self.indexById = indexById
    self.indexByText = indexByText
  }

  subscript(id: Int32) -> TokenizerAddedToken? { indexById[id].map { tokens[$0] } }
  subscript(text: String) -> TokenizerAddedToken? { indexByText[ByteKey(text)].map { tokens[$0] } }

  enum Part {
    case text(Range<Int>)
    case token(Int32)
  }
  /// Cuts a text at the tokens looked for before (`afterNormalizing` false) or after normalisation.
  func split(_ bytes: UnsafeBufferPointer<UInt8>, afterNormalizing: Bool, _ body: (Part) -> Void) {
    let trie = afterNormalizing ? normalized : raw
    var done = 0
    var search = 0
    while !trie.isEmpty, let (range, index) = trie.next(in: bytes, from: search) {
      search = range.upperBound
      let token = tokens[index]
      if token.isSingleWord, touchesWord(bytes, range) { continue }
      // A match inside the blanks that the one before took: only what is left of it counts.
      var (start, end) = (max(range.lowerBound, done), max(range.upperBound, done))
      if token.stripsLeft { start = blanks(bytes, before: start, downTo: done) }
      if token.stripsRight { end = blanks(bytes, after: end) }
      if done < start { body(.text(done..<start)) }
      body(.token(token.id))
      done = end
    }
    if done < bytes.count { body(.text(done..<bytes.count)) }
  }

  private func touchesWord(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
    let reader = ScalarReader(bytes)
    if range.lowerBound > 0 {
      let before = reader.kind(at: reader.start(before: range.lowerBound))
      if before.bits & UnicodeClass.word != 0 { return true }
    }
    return range.upperBound < bytes.count
      && reader.kind(at: range.upperBound).bits & UnicodeClass.word != 0
  }
  private func blanks(_ bytes: UnsafeBufferPointer<UInt8>, before start: Int, downTo limit: Int) -> Int {
    let reader = ScalarReader(bytes)
    var start = start
    while start > limit {
      let previous = reader.start(before: start)
      guard reader.kind(at: previous).bits & UnicodeClass.space != 0 else { break }
      start = previous
    }
    return start
  }
  private func blanks(_ bytes: UnsafeBufferPointer<UInt8>, after end: Int) -> Int {
    let reader = ScalarReader(bytes)
    var end = end
    while end < bytes.count {
      let (bits, length) = reader.kind(at: end)
      guard bits & UnicodeClass.space != 0 else { break }
      end += length
    }
    return end
  }
}
