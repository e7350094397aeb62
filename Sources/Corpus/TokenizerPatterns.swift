// The split patterns of GPT-2, Llama 3 and Qwen 2 as hand-written scanners over the pinned category table.
// They need no regular-expression engine, cannot backtrack, and run at the speed of reading the text.

/// A known split pattern; every pattern covers the whole text with consecutive matches.
enum TokenizerPattern: Sendable, Equatable {
  case gpt2
  /// Llama 3 takes up to three digits at once, Qwen 2 one.
  case modern(digits: Int)

  static let gpt2Text = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  private static let modernHead = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"#
  private static let modernTail = #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  init?(regex: String) {
    switch regex {
    case Self.gpt2Text: self = .gpt2
    case Self.modernHead + #"\p{N}{1,3}"# + Self.modernTail: self = .modern(digits: 3)
    case Self.modernHead + #"\p{N}"# + Self.modernTail: self = .modern(digits: 1)
    default: return nil
    }
  }

  /// Calls `body` with every match, in order; together they are the whole text.
  @inline(__always)
  func forEach(in bytes: UnsafeBufferPointer<UInt8>, _ body: (UnsafeBufferPointer<UInt8>) -> Void) {
    let reader = ScalarReader(bytes)
    var start = 0
    while start < bytes.count {
      let end: Int
      switch self {
      case .gpt2: end = reader.gpt2End(from: start)
      case .modern(let digits): end = reader.modernEnd(from: start, digits: digits)
      }
      body(UnsafeBufferPointer(rebasing: bytes[start..<end]))
      start = end
    }
  }
}

extension ScalarReader {
  private static let other = UnicodeClass.letter | UnicodeClass.number | UnicodeClass.space

  /// The end of the run of scalars that have one of `bits`.
  @inline(__always) private func run(_ bits: UInt16, from start: Int) -> Int {
    var offset = start
    while offset < count {
      let (kind, length) = kind(at: offset)
      guard kind & bits != 0 else { break }
      offset += length
    }
    return offset
  }
  /// The end of the run of scalars that are no letter, number or space.
  @inline(__always) private func otherRun(from start: Int) -> Int {
    var offset = start
    while offset < count {
      let (kind, length) = kind(at: offset)
      guard kind & Self.other == 0 else { break }
      offset += length
    }
    return offset
  }

  /// The end of `'s 't 're 've 'm 'll 'd` at `start`, or nil.
  private func contractionEnd(from start: Int, foldsCase: Bool) -> Int? {
    guard bytes[start] == UInt8(ascii: "'"), start + 1 < count else { return nil }
    let fold: UInt8 = foldsCase ? 0x20 : 0
    func letter(_ offset: Int) -> UInt8 {
      guard offset < count else { return 0 }
      let byte = bytes[offset]
      return (0x41...0x5A).contains(byte) ? byte | fold : byte
    }
    switch letter(start + 1) {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"): return letter(start + 2) == UInt8(ascii: "e") ? start + 3 : nil
    case UInt8(ascii: "l"): return letter(start + 2) == UInt8(ascii: "l") ? start + 3 : nil
    // The long s folds to s.
    case 0xC5: return foldsCase && start + 2 < count && bytes[start + 2] == 0xBF ? start + 3 : nil
    default: return nil
    }
  }

  /// `\s+(?!\S)|\s+` at a space: a run leaves its last scalar to the word behind it.
  private func spaceEnd(from start: Int) -> Int {
    let end = run(UnicodeClass.space, from: start)
    if end == count { return end }
    let last = self.start(before: end)
    return last > start ? last : end
  }

  @inline(__always) func gpt2End(from start: Int) -> Int {
    let (first, length) = kind(at: start)
    if bytes[start] == UInt8(ascii: "'"), let end = contractionEnd(from: start, foldsCase: false) {
      return end
    }
    var body = start
    var bits = first
    if bytes[start] == 0x20, start + 1 < count {
      body = start + 1
      bits = kind(at: body).bits
    } else if first & UnicodeClass.space == 0 {
      // The scalar at `start` belongs to the run whatever follows.
      if first & UnicodeClass.letter != 0 { return run(UnicodeClass.letter, from: start + length) }
      if first & UnicodeClass.number != 0 { return run(UnicodeClass.number, from: start + length) }
      return otherRun(from: start + length)
    }
    if bits & UnicodeClass.letter != 0 { return run(UnicodeClass.letter, from: body) }
    if bits & UnicodeClass.number != 0 { return run(UnicodeClass.number, from: body) }
    if bits & UnicodeClass.space == 0 { return otherRun(from: body) }
    return spaceEnd(from: start)
  }

  @inline(__always) func modernEnd(from start: Int, digits: Int) -> Int {
    if bytes[start] == UInt8(ascii: "'"), let end = contractionEnd(from: start, foldsCase: true) {
      return end
    }
    let (first, length) = kind(at: start)
    if first & UnicodeClass.letter != 0 { return run(UnicodeClass.letter, from: start + length) }
    if first & UnicodeClass.number != 0 {
      var end = start + length
      for _ in 1..<max(digits, 1) where end < count {
        let (bits, length) = kind(at: end)
        guard bits & UnicodeClass.number != 0 else { break }
        end += length
      }
      return end
    }
    let isBreak = bytes[start] == 0x0A || bytes[start] == 0x0D
    let next = start + length < count ? kind(at: start + length).bits : UnicodeClass.space
    if !isBreak, next & UnicodeClass.letter != 0 { return run(UnicodeClass.letter, from: start + length) }
    let isOther = first & Self.other == 0
    if isOther || (bytes[start] == 0x20 && next & Self.other == 0) {
      var end = otherRun(from: start + length)
      while end < count, bytes[end] == 0x0A || bytes[end] == 0x0D { end += 1 }
      return end
    }
    // A run of spaces with a line break in it ends behind its last break.
    let end = run(UnicodeClass.space, from: start)
    var afterBreak = end
    while afterBreak > start, bytes[afterBreak - 1] != 0x0A, bytes[afterBreak - 1] != 0x0D { afterBreak -= 1 }
    if afterBreak > start { return afterBreak }
    return spaceEnd(from: start)
  }
}
