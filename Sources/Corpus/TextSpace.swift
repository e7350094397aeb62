// White space at the ends of texts, by Unicode's White_Space property, fast where the ends are ASCII.
// Used by the reader (documents, blank lines) and by the comparison of rows.

extension String {
  /// The string without white space at both ends.
  var trimmed: String {
    let scalars = unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }) else { return "" }
    guard let last = scalars.lastIndex(where: { !$0.properties.isWhitespace }) else { return "" }
    if first == scalars.startIndex, scalars.index(after: last) == scalars.endIndex { return self }
    return String(scalars[first...last])
  }

  /// Whether the string is empty or only white space.
  var isBlank: Bool { unicodeScalars.allSatisfy(\.properties.isWhitespace) }
}

/// Whether a line of UTF-8 is empty or only white space; invalid UTF-8 is not blank.
func isBlankLine(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
  for byte in bytes {
    switch byte {
    case 0x20, 0x09...0x0D: continue
    case 0x80...: return String(validating: bytes, as: UTF8.self)?.isBlank ?? false
    default: return false
    }
  }
  return true
}
