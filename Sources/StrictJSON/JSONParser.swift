// Bytes to JSON, by RFC 8259 and nothing beyond it: no comments, no trailing commas, no NaN, no duplicate keys.
// Written by hand because Foundation folds canonically equal keys and reports no offsets.

/// Where and why a text is not JSON.
public struct JSONError: Error, Sendable, CustomStringConvertible {
  /// Byte offset from the start of the text.
  public let offset: Int
  public let reason: String
  public var description: String { "byte \(offset): \(reason)" }
}

/// What a text may ask of the reader before it is refused.
public struct JSONLimits: Sendable {
  public var depth = 64
  public var bytes = 1 << 30
  public init() {}
  public init(depth: Int, bytes: Int) {
    self.depth = depth
    self.bytes = bytes
  }
}

extension JSON {
  /// Parses one JSON value that fills the whole text.
  ///
  /// - Throws: `JSONError` with the byte offset of the first violation.
  /// - Cost: linear; one pass.
  public static func parse(_ bytes: [UInt8], limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    var failure: JSONError?
    let value = bytes.withUnsafeBufferPointer { buffer -> JSON? in
      do throws(JSONError) { return try JSON.parse(buffer, limits: limits) } catch {
        failure = error
        return nil
      }
    }
    if let failure { throw failure }
    return value ?? .null
  }
  public static func parse(_ text: String, limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSON {
    try parse(Array(text.utf8), limits: limits)
  }
  public static func parse(_ bytes: UnsafeBufferPointer<UInt8>, limits: JSONLimits = JSONLimits())
    throws(JSONError) -> JSON
  {
    guard bytes.count <= limits.bytes else {
      throw JSONError(offset: limits.bytes, reason: "longer than \(limits.bytes) bytes")
    }
    var parser = JSONParser(bytes: bytes, limits: limits)
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF { parser.position = 3 }
    parser.skipSpace()
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.position == bytes.count else { throw parser.error("text after the value") }
    return value
  }
}

private struct JSONParser {
  let bytes: UnsafeBufferPointer<UInt8>
  let limits: JSONLimits
  var position = 0

  init(bytes: UnsafeBufferPointer<UInt8>, limits: JSONLimits) {
    self.bytes = bytes
    self.limits = limits
  }

  func error(_ reason: String, at offset: Int? = nil) -> JSONError {
    JSONError(offset: offset ?? position, reason: reason)
  }
  var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  mutating func value(depth: Int) throws(JSONError) -> JSON {
    guard depth < limits.depth else { throw error("nested deeper than \(limits.depth) levels") }
    guard let byte = peek else { throw error("the text ends where a value is expected") }
    switch byte {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), 0x30...0x39: return try number()
    default: throw error("a value cannot start with \(printable(byte))")
    }
  }

  mutating func word(_ text: StaticString, _ value: JSON) throws(JSONError) -> JSON {
    let count = text.utf8CodeUnitCount
    guard position + count <= bytes.count,
      (0..<count).allSatisfy({ bytes[position + $0] == text.utf8Start[$0] })
    else { throw error("expected \(text)") }
    position += count
    return value
  }

  mutating func array(depth: Int) throws(JSONError) -> JSON {
    position += 1
    var values: [JSON] = []
    skipSpace()
    if peek == UInt8(ascii: "]") {
      position += 1
      return .array(values)
    }
    while true {
      skipSpace()
      values.append(try value(depth: depth + 1))
      skipSpace()
      guard let byte = peek else { throw error("the text ends inside an array") }
      position += 1
      if byte == UInt8(ascii: "]") { return .array(values) }
      guard byte == UInt8(ascii: ",") else { throw error("expected , or ] in an array", at: position - 1) }
    }
  }

  mutating func object(depth: Int) throws(JSONError) -> JSON {
    let start = position
    position += 1
    var members: [JSON.Member] = []
    skipSpace()
    if peek == UInt8(ascii: "}") {
      position += 1
      return .object(members)
    }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw error("expected a key in quotes") }
      let key = try string()
      skipSpace()
      guard peek == UInt8(ascii: ":") else { throw error("expected : after a key") }
      position += 1
      skipSpace()
      members.append(JSON.Member(key, try value(depth: depth + 1)))
      skipSpace()
      guard let byte = peek else { throw error("the text ends inside an object") }
      position += 1
      if byte == UInt8(ascii: "}") { break }
      guard byte == UInt8(ascii: ",") else { throw error("expected , or } in an object", at: position - 1) }
    }
    if members.count <= 8 {
      for i in 1..<max(1, members.count) {
        for j in 0..<i where members[i].key.utf8.elementsEqual(members[j].key.utf8) {
          throw error("the key \"\(members[i].key)\" occurs twice in one object", at: start)
        }
      }
    } else {
      var seen = Set<ByteKey>(minimumCapacity: members.count)
      for member in members where !seen.insert(ByteKey(member.key)).inserted {
        throw error("the key \"\(member.key)\" occurs twice in one object", at: start)
      }
    }
    return .object(members)
  }

  mutating func number() throws(JSONError) -> JSON {
    let start = position
    var isInteger = true
    if peek == UInt8(ascii: "-") { position += 1 }
    guard let first = peek, (0x30...0x39).contains(first) else { throw error("expected a digit") }
    position += 1
    if first == 0x30 {
      if let next = peek, (0x30...0x39).contains(next) { throw error("a number cannot start with 0", at: start) }
    } else {
      digits()
    }
    if peek == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      guard let next = peek, (0x30...0x39).contains(next) else { throw error("expected a digit after the point") }
      digits()
    }
    if let byte = peek, byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E") {
      isInteger = false
      position += 1
      if let sign = peek, sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { position += 1 }
      guard let next = peek, (0x30...0x39).contains(next) else { throw error("expected a digit in the exponent") }
      digits()
    }
    let text = String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let double = Double(text), double.isFinite else { throw error("\(text) is out of range", at: start) }
    return .number(double)
  }
  mutating func digits() {
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
  }

  mutating func string() throws(JSONError) -> String {
    position += 1
    let start = position
    // Most strings have no escape: find the end, validate once, copy once.
    while position < bytes.count, bytes[position] != UInt8(ascii: "\""), bytes[position] != UInt8(ascii: "\\") {
      guard bytes[position] >= 0x20 else { throw error("a control character must be escaped in a string") }
      position += 1
    }
    guard position < bytes.count else { throw error("the text ends inside a string") }
    if bytes[position] == UInt8(ascii: "\"") {
      let slice = UnsafeBufferPointer(rebasing: bytes[start..<position])
      position += 1
      return try validated(slice, at: start)
    }
    var buffer = Array(bytes[start..<position])
    while true {
      guard let byte = peek else { throw error("the text ends inside a string") }
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        var failure: JSONError?
        let text = buffer.withUnsafeBufferPointer { slice -> String? in
          do throws(JSONError) { return try validated(slice, at: start) } catch {
            failure = error
            return nil
          }
        }
        if let failure { throw failure }
        return text ?? ""
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &buffer)
      case 0..<0x20: throw error("a control character must be escaped in a string")
      default:
        buffer.append(byte)
        position += 1
      }
    }
  }

  func validated(_ slice: UnsafeBufferPointer<UInt8>, at start: Int) throws(JSONError) -> String {
    guard let text = String(validating: slice, as: UTF8.self) else {
      throw error("a string is not valid UTF-8", at: start)
    }
    return text
  }

  mutating func escape(into buffer: inout [UInt8]) throws(JSONError) {
    guard let byte = peek else { throw error("the text ends inside an escape") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): buffer.append(byte)
    case UInt8(ascii: "b"): buffer.append(0x08)
    case UInt8(ascii: "f"): buffer.append(0x0C)
    case UInt8(ascii: "n"): buffer.append(0x0A)
    case UInt8(ascii: "r"): buffer.append(0x0D)
    case UInt8(ascii: "t"): buffer.append(0x09)
    case UInt8(ascii: "u"):
      let start = position - 2
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code) {
        guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw error("a lone surrogate", at: start) }
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw error("a lone surrogate", at: start) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("a lone surrogate", at: start) }
      buffer.append(contentsOf: UTF8.encode(scalar).map(Array.init) ?? [])
    default: throw error("unknown escape \\\(printable(byte))", at: position - 1)
    }
  }

  mutating func hexadecimal() throws(JSONError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw error("the text ends inside an escape") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      let byte = bytes[position]
      let digit: UInt8
      switch byte {
      case 0x30...0x39: digit = byte - 0x30
      case 0x41...0x46: digit = byte - 0x41 + 10
      case 0x61...0x66: digit = byte - 0x61 + 10
      default: throw error("expected four hexadecimal digits")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  func printable(_ byte: UInt8) -> String {
    (0x21...0x7E).contains(byte) ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x" + String(byte, radix: 16)
  }
}

/// A string as a dictionary key by its bytes, not by canonical equivalence.
public struct ByteKey: Hashable, Sendable {
  public let text: String
  public init(_ text: String) { self.text = text }
  public static func == (left: ByteKey, right: ByteKey) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }
  public func hash(into hasher: inout Hasher) {
    var copy = text
    copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
