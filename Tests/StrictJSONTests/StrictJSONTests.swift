// JSON by the letter: what is accepted, what is refused and where, and that writing comes back.
import StrictJSON
import Testing

@Suite struct StrictJSONParserTests {
  static let good: [(String, JSON)] = [
    ("null", JSON.null), ("true", true), ("-0", 0), ("12", 12), ("-7.5e-1", -0.75), ("1E2", 100.0), ("\"\"", ""),
    ("[]", []), ("{}", [:]), (" [1 , 2]\n", [1, 2]), ("{\"a\":{\"b\":[null]}}", ["a": ["b": [nil]]]),
    ("\"\\u00e9\\ud83d\\ude00\\n\\/\"", "é😀\n/"),
  ]
  @Test(arguments: good) func accepts(text: String, value: JSON) throws { #expect(try JSON.parse(text) == value) }

  static let bad: [(String, Int)] = [
    ("", 0), ("nul", 0), ("[1,]", 3), ("{\"a\":1,}", 7), ("{a:1}", 1), ("01", 0), ("1.", 2), ("+1", 0), ("NaN", 0),
    ("1e999", 0), ("\"\u{01}\"", 1), ("\"\\x\"", 2), ("\"\\ud800\"", 1), ("\"open", 5), ("[1 2]", 3), ("1 2", 2),
    ("{\"k\":1,\"k\":2}", 0), ("'a'", 0), ("[1] // no", 4),
  ]
  @Test(arguments: bad) func refusesWithTheOffset(text: String, offset: Int) {
    #expect(performing: { try JSON.parse(text) }, throws: { ($0 as? JSONError)?.offset == offset })
  }

  @Test func depthIsBounded() throws {
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: JSONError.self) { try JSON.parse(deep) }
    let edge = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    _ = try JSON.parse(edge)
    #expect(throws: JSONError.self) { try JSON.parse("[" + edge + "]") }
  }

  /// é as one scalar and as two are equal Strings but different keys.
  @Test func keysAreBytes() throws {
    let json = try JSON.parse("{\"\\u00e9\": 1, \"e\\u0301\": 2}")
    #expect(json["\u{00e9}"]?.int == 1 && json["e\u{0301}"]?.int == 2)
    #expect(Set([ByteKey("\u{00e9}"), ByteKey("e\u{0301}")]).count == 2)
  }

  @Test func invalidUTF8IsRefused() {
    #expect(throws: JSONError.self) { try JSON.parse([0x22, 0xC3, 0x28, 0x22]) }
  }

  @Test func everyTruncationIsRefused() throws {
    let text = Array(#"{"a":[1,-2.5e3,"x\u00e9"],"b":{"c":null,"d":false}}"#.utf8)
    _ = try JSON.parse(text)
    for count in 0..<text.count { #expect(throws: JSONError.self) { try JSON.parse(Array(text[..<count])) } }
  }

  @Test func writingComesBack() throws {
    let value: JSON = [
      "text": "line\n\"quoted\" \\ \u{01} é", "numbers": [0, -1, 0.1, 1e-300, 123456789.125, 3.0],
      "nested": [["a": []], [:]],
      "null": nil,
    ]
    #expect(try JSON.parse(value.compact) == value)
    #expect(try JSON.parse(value.pretty) == value)
    #expect(JSON.number(.infinity).compact == "null")
    for number in [0.1, 1.0 / 3, Double.leastNonzeroMagnitude, 1.7976931348623157e308] {
      #expect(try JSON.parse(JSON.number(number).compact).double?.bitPattern == number.bitPattern)
    }
  }
}
