// A value of tokenizer.json together with the place it came from.
// Every mistake in a tokenizer file is reported with a path such as `model.vocab` or `decoder.decoders[2]`.
import StrictJSON

struct TokenizerField {
  let place: String
  let value: JSON

  /// The member `key`; absent members are null fields.
  subscript(key: String) -> TokenizerField {
    TokenizerField(place: place.isEmpty ? key : "\(place).\(key)", value: value[key] ?? .null)
  }
  /// Null and absent are one: so the libraries that write these files treat them.
  var isAbsent: Bool { value.isNull }

  func text() throws(TokenizerError) -> String {
    guard let text = value.string else { throw invalid("must be a string") }
    return text
  }
  func text(default fallback: String) throws(TokenizerError) -> String {
    isAbsent ? fallback : try text()
  }
  func flag(default fallback: Bool) throws(TokenizerError) -> Bool {
    if isAbsent { return fallback }
    guard let flag = value.bool else { throw invalid("must be true or false") }
    return flag
  }
  func count() throws(TokenizerError) -> Int {
    guard let count = value.int, count >= 0 else { throw invalid("must be a whole number of at least 0") }
    return count
  }
  /// A token id: 0 ..< 2^31.
  func id() throws(TokenizerError) -> Int32 {
    guard let number = value.int, number >= 0, let id = Int32(exactly: number) else {
      throw invalid("must be a token id from 0 to 2147483647")
    }
    return id
  }
  /// A string of exactly one scalar.
  func scalar() throws(TokenizerError) -> String {
    let text = try text()
    guard text.unicodeScalars.count == 1 else { throw invalid("must be one character, not \"\(text)\"") }
    return text
  }
  func items() throws(TokenizerError) -> [TokenizerField] {
    guard let values = value.array else { throw invalid("must be a list") }
    return values.enumerated().map { TokenizerField(place: "\(place)[\($0.offset)]", value: $0.element) }
  }
  func type() throws(TokenizerError) -> String {
    guard value.members != nil else { throw invalid("must be an object with a type") }
    return try self["type"].text()
  }

  func invalid(_ reason: String, hint: String? = nil) -> TokenizerError {
    TokenizerError(kind: .invalid, reason: "\(place): \(reason)", hint: hint)
  }
  func unsupported(_ what: String, hint: String? = nil) -> TokenizerError {
    TokenizerError(kind: .unsupported, reason: "\(place): \(what) is not supported", hint: hint)
  }
}
