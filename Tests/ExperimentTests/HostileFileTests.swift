// Files that are no experiments at all: bombs, pipes, other encodings, depth, size.
// Each must be answered at once and with the documented exit code.
import Experiment
import Foundation
import TestKit
import Testing

@Suite struct HostileFileTests {
  private func exit(_ bytes: [UInt8]) throws -> (Int32, String) {
    try withTemporaryDirectory { directory in
      let path = directory + "/x.yaml"
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      do throws(ExperimentError) {
        _ = try ExperimentFile.read(path)
        return (0, "")
      } catch { return (error.exitCode, error.description) }
    }
  }
  private func exit(_ text: String) throws -> (Int32, String) { try exit(Array(text.utf8)) }

  @Test(.timeLimit(.minutes(1))) func aliasBombs() throws {
    var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...40 {
      let row = [String](repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      bomb += "a\(level): &a\(level) [\(row)]\n"
    }
    #expect(try exit(bomb).0 == 78)
    // As a key, a bomb would be hashed before anybody sees it.
    let result = try exit(bomb + "k: { ? *a40 : 1, ? *a40 : 2 }\n")
    #expect(result.0 == 78 && result.1.contains("aliases"))
    #expect(try exit("a: &a [1]\nb: *a\n").1.contains(":1:4: error: anchors"))
  }

  @Test func depth() throws {
    for text in [
      String(repeating: "[", count: 5000), String(repeating: "- ", count: 5000),
      String(repeating: "{a: ", count: 100_000),
    ] {
      #expect(try exit(text).0 == 78)
    }
    let deep = "a: " + String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
    #expect(try exit(deep).1.contains("nested deeper than 32 levels"))
  }

  @Test func emptyAndLists() throws {
    for text in ["", "\n", "# nothing\n", "- a\n", "a", "~", "''", "---\n", "...\n"] {
      let result = try exit(text)
      #expect(result.0 == 78, "\(text): \(result.1)")
    }
  }

  @Test func encodings() throws {
    let invalid = try exit(Array("name: ".utf8) + [0xC3, 0x28])
    #expect(invalid.0 == 65 && invalid.1.contains("byte 6"))
    #expect(try exit([0xFF, 0xFE, 0x61, 0x00]).1.contains("UTF-16"))
    #expect(try exit("name: a\0b\n").0 == 78)
    #expect(try exit("name: \"\\uD800\"\n").0 == 78)
  }

  @Test func kindsOfFiles() throws {
    try withTemporaryDirectory { directory in
      func code(_ path: String) -> Int32 {
        do throws(ExperimentError) { _ = try ExperimentFile.read(path) } catch { return error.exitCode }
        return 0
      }
      let pipe = directory + "/pipe.yaml"
      #expect(mkfifo(pipe, 0o600) == 0)
      #expect(code(pipe) == 78)
      #expect(code(directory) == 78)
      #expect(code("/dev/zero") == 78)
      #expect(code(directory + "/none.yaml") == 66)
      let big = directory + "/big.yaml"
      try Data(repeating: 0x20, count: (1 << 20) + 1).write(to: URL(fileURLWithPath: big))
      #expect(code(big) == 78)
    }
  }

  @Test func manyMistakesAndLongLines() throws {
    let keys = (0..<20_000).map { "key\($0): 1" }.joined(separator: "\n")
    #expect(try exit(keys).0 == 78)
    let long = try exit("name: {" + String(repeating: "a", count: 500_000) + ": 1}\n")
    #expect(long.0 == 78 && long.1.utf8.count < 2000)
    #expect(try exit(String(repeating: "k", count: 900) + ": 1\n").0 == 78)
  }

  @Test func randomDamageNeverCrashes() throws {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    func next(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(bound))
    }
    let alphabet = Array("[]{}:,-?&*!|>'\"%@`#\n\t \\~<0123abc_.\u{85}é".utf8)
    let context = PathContext(
      directory: "/nowhere", workingDirectory: "/nowhere", environment: [:], checksFiles: false)
    for _ in 0..<400 {
      var bytes = Array(full.utf8)
      for _ in 0...next(6) {
        let index = next(bytes.count)
        switch next(3) {
        case 0: bytes[index] = alphabet[next(alphabet.count)]
        case 1: bytes.remove(at: index)
        default: bytes.insert(alphabet[next(alphabet.count)], at: index)
        }
      }
      let text = String(decoding: bytes, as: UTF8.self)
      do throws(ExperimentError) {
        let plan = try ExperimentFile.parse(text, context: context).plan
        _ = plan.yaml()
      } catch { #expect(!error.issues.isEmpty) }
    }
  }
}
