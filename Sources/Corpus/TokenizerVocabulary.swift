// The tokens of a model: text to id and id to text, checked once at loading.
// Everything later relies on these checks, so that encoding never has to fail.
import StrictJSON

struct TokenizerVocabulary: Sendable {
  private let ids: TokenizerByteMap
  /// Texts by id; nil where the id belongs to an added token only.
  private var texts: [String?]

  /// How many ids added tokens may take; larger holes are damage, not vocabularies.
  private static let room = 1 << 20

  init(_ field: TokenizerField) throws(TokenizerError) {
    guard let members = field.value.members else { throw field.invalid("must be an object of token: id") }
    var ids = TokenizerByteMap(minimumCapacity: members.count)
    var texts = [String?](repeating: nil, count: members.count)
    let limit = min(members.count + Self.room, Int(Int32.max))
    for member in members {
      guard let number = member.value.int, number >= 0, number < limit else {
        throw field.invalid(
          "the id of \"\(member.key)\" must be a whole number from 0 to \(limit - 1)",
          hint: "ids of \(members.count) tokens have no large gaps")
      }
      if number >= texts.count {
        texts.append(contentsOf: repeatElement(nil, count: max(number + 1 - texts.count, texts.count / 2)))
      }
      if let other = texts[number] {
        throw field.invalid("\"\(other)\" and \"\(member.key)\" have the same id \(number)")
      }
      texts[number] = member.key
      var key = member.key
      guard key.withUTF8({ ids.insert($0, Int32(number)) }) else {
        throw field.invalid("\"\(member.key)\" occurs twice")
      }
    }
    while let last = texts.last, last == nil { texts.removeLast() }
    self.ids = ids
    self.texts = texts
  }

  /// Highest id + 1.
  var size: Int { texts.count }
  var longestToken: Int { ids.longest }
  func id(_ text: String) -> Int32? { ids.find(text) }
  @inline(__always) func id(_ bytes: UnsafeBufferPointer<UInt8>) -> Int32? { ids.find(bytes) }
  func text(_ id: Int) -> String? { texts.indices.contains(id) ? texts[id] : nil }
  /// Every token with its id, by id.
  func forEach(_ body: (String, Int32) -> Void) {
    for (id, text) in texts.enumerated() {
      if let text { body(text, Int32(id)) }
    }
  }
}
