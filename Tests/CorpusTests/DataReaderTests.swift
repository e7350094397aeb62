// Reading files: shapes, documents, gzip, and the catalogue of bad rows with their places.
// Every case writes its own file; the shared corpora are read in DataSharedTests.
import Corpus
import Foundation
import TestKit
import Testing

@Suite struct DataReaderTests {
  @Test func textFilesEndDocumentsAtBlankLines() throws {
    let text = "\u{FEFF}\r\n  one\r\n two \r\n\t\r\n\u{3000}\nthree\n\n\n"
    let read = try readRows(text, name: "a.txt")
    #expect(read.map(\.sample) == [.text("one\n two"), .text("three")])
    #expect(read.map(\.line) == [2, 6])
    #expect(try readRows(text, name: "a.txt", documents: .line).map(\.line) == [2, 3, 6])
    #expect(
      try readRows(text, name: "a.txt", documents: .file).map(\.sample)
        == [.text("one\n two \n\t\n\u{3000}\nthree")])
  }

  @Test func shapesAreDetectedInTheDocumentedOrder() throws {
    let cases: [(String, Sample)] = [
      (#"{"text":"a","label":3}"#, .labelled(text: "a", label: "3")),
      (#"{"text":"a","title":"t"}"#, .text("a")),
      (#"{"text":"a","label":"x","prompt":"p ","completion":"c"}"#, .pair(prompt: "p ", completion: "c")),
      (#"{"prompt":"","completion":"c"}"#, .pair(prompt: "", completion: "c")),
      (#"{"sentence_good":"g","sentence_bad":"b","text":"t"}"#, .minimalPair(good: "g", bad: "b")),
      (
        #"{"question":"q","choices":["x","y"],"answer":"B","text":"t"}"#,
        .multipleChoice(question: "q", isContext: false, choices: ["x", "y"], answer: 1)
      ),
      (
        #"{"ctx":"c","endings":["x","y"],"label":"1"}"#,
        .multipleChoice(question: "c", isContext: true, choices: ["x", "y"], answer: 1)
      ),
      (
        #"{"goal":"g","sol1":"x","sol2":"y","label":0}"#,
        .multipleChoice(question: "g", isContext: false, choices: ["x", "y"], answer: 0)
      ),
      (
        #"{"question":"q","options":{"A":"x","B":"y"},"answer":"y","answer_idx":"B"}"#,
        .multipleChoice(question: "q", isContext: false, choices: ["x", "y"], answer: 1)
      ),
      (
        #"{"question":"q","options":["x","y"],"answer":"y"}"#,
        .multipleChoice(question: "q", isContext: false, choices: ["x", "y"], answer: 1)
      ),
      (
        #"{"sentence":"A _ is","option1":"x","option2":"y","answer":"2"}"#,
        .cloze(before: "A ", options: ["x", "y"], after: " is", answer: 1)
      ),
      (
        #"{"QUESTION":"Q?","CONTEXTS":["c","d"],"final_decision":"no"}"#,
        .multipleChoice(
          question: "Abstract: c\nd\nQuestion: Q?\nAnswer:", isContext: true, choices: ["yes", "no", "maybe"], answer: 1
        )
      ),
    ]
    for (line, sample) in cases { #expect(try readRows(line).map(\.sample) == [sample], "\(line)") }
    #expect(try readRows(#"{"text":"a","label":3}"#, shape: .text).map(\.sample) == [.text("a")])
  }

  @Test func candidatesAreWhatIsCompared() {
    let question = Sample.multipleChoice(question: "Q", isContext: false, choices: ["x", "y"], answer: 1)
    #expect(question.candidates.map(\.prompt) == ["Question: Q\nAnswer:", "Question: Q\nAnswer:"])
    #expect(question.candidates.map(\.continuation) == [" x", " y"])
    let gap = Sample.cloze(before: "A ", options: ["x", "y"], after: " is", answer: 0)
    #expect(gap.candidates[1] == Sample.Candidate(prompt: "A y", continuation: " is"))
    #expect(gap.plainText == "A x is")
  }

  @Test func chatAndInstructionRowsAreRefusedAsUnsupported() throws {
    for line in [#"{"messages":[]}"#, #"{"conversations":[],"text":"a"}"#, #"{"instruction":"i","output":"o"}"#] {
      let error = try #require(try readFailure(#"{"text":""}"# + "\n" + line))
      #expect(error.kind == .bad)
      let alone = try #require(try readFailure("\n" + line))
      #expect(alone.kind == .unsupported && alone.kind.exitCode == 69 && alone.line == 2)
    }
    #expect(try readFailure(#"{"text":"a"}"#, shape: .messages)?.kind == .unsupported)
  }

  /// J1–J11 and J16 of the catalogue: what each bad line is told, always with file and line.
  @Test func badRowsAreLocated() throws {
    let good = #"{"text":"fine"}"# + "\n"
    let deep = #"{"text":"a","x":"# + String(repeating: "[", count: 100_000)
    let many = "{" + (0..<300).map { #""k\#($0)":1"# }.joined(separator: ",") + #","text":"a"}"#
    let cases: [(line: [UInt8], words: String)] = [
      (Array(#"{"text":"a","text":"b"}"#.utf8), "occurs twice"),
      (Array(#"{"text":"a",}"#.utf8), "expected a key"),
      (Array("{\"text\":\"a\"}".utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }), "not valid JSON"),
      (Array(#"{"text":"\ud800"}"#.utf8), "lone surrogate"),
      ([0x7B, 0x22, 0x74, 0x65, 0x78, 0x74, 0x22, 0x3A, 0x22, 0xFF, 0x22, 0x7D], "not valid UTF-8"),
      (Array("{\"text\":\"a\u{1}\"}".utf8), "control character"),
      (Array(deep.utf8), "nested deeper than 64"),
      (Array(#"{"txt":"a"}"#.utf8), "`text` is missing"),
      (Array(#"{"text":null}"#.utf8), "`text` is null"),
      (Array(#"{"text":7}"#.utf8), "`text` is a number"),
      (Array(#"{"text":""}"#.utf8), "`text` is empty"),
      (Array(#"{"text":" \n\u3000"}"#.utf8), "`text` is only white space"),
      (Array(#"{"text":"a","x":NaN}"#.utf8), "not valid JSON"),
      (Array(many.utf8), "more than 256 keys"),
      (Array(#"["text"]"#.utf8), "not an object"),
      (Array(#"{"text":"a"#.utf8), "the text ends inside a string"),
    ]
    for (line, words) in cases {
      let error = try #require(try readFailure(Array(good.utf8) + line), "\(words)")
      #expect(error.kind == .bad && error.line == 2 && error.reason.contains(words), "\(error)")
      #expect(error.description.contains("data.jsonl:2: "))
    }
    #expect(
      try readRows("\u{FEFF}{\"text\":\"a\\u0000b\"}\r\n\r\n{\"text\":\"c\"}").map(\.sample)
        == [.text("a\0b"), .text("c")])
  }

  @Test func badChoicesAreLocated() throws {
    let cases = [
      (#"{"question":"q","choices":["x"],"answer":0}"#, "fewer than two"),
      (#"{"question":"q","choices":["x","y"],"answer":2}"#, "names none of the 2"),
      (#"{"question":"q","choices":["x","y"],"answer":"Z"}"#, "names none of the 2"),
      (#"{"question":"q","choices":["x",""],"answer":0}"#, "`choices[1]` is empty"),
      (#"{"question":"q","choices":"xy","answer":0}"#, "not a list"),
      (#"{"question":"q","choices":["x","y"],"answer":null}"#, "is missing"),
      (#"{"sentence":"no gap","option1":"x","option2":"y","answer":"1"}"#, "one gap"),
      (#"{"sentence":"a _ b","option1":"x","option2":"y","answer":"3"}"#, "neither 1 nor 2"),
      (#"{"QUESTION":"Q?","CONTEXTS":["c"],"final_decision":"perhaps"}"#, "`final_decision`"),
      (#"{"other":1}"#, "no known shape; its fields are `other`"),
    ]
    for (line, words) in cases {
      #expect(try readFailure(line)?.reason.contains(words) == true, "\(line)")
    }
  }

  @Test func offendersAreCountedByReason() throws {
    let lines = [#"{"text":"a"}"#] + Array(repeating: #"{"text":""}"#, count: 7) + [#"{"text":null}"#, "{", "}"]
    let error = try #require(try readFailure(lines.joined(separator: "\n")))
    #expect(error.offenders.map(\.line) == [2, 3, 4, 5, 6])
    #expect(error.counts.map(\.rows) == [7, 2, 1])
    #expect(error.counts.map(\.reason) == ["`text` is empty", "not valid JSON", "`text` is null"])
    #expect(error.description.contains("10 bad rows: 7 × `text` is empty"))
  }

  @Test func longLinesBombsAndOtherFormatsAreRefused() throws {
    let long = Array(#"{"text":""#.utf8) + [UInt8](repeating: 0x61, count: 16 << 20) + Array("\"}\n".utf8)
    let error = try #require(try readFailure(Array(#"{"text":"a"}"#.utf8) + [0x0A] + long))
    #expect(error.line == 2 && error.reason.contains("16777216"))
    var limits = DataLimits()
    limits.fileBytes = 1000
    let big = storedGzip([UInt8](repeating: 0x61, count: 2000))
    #expect(try readFailure(big, name: "a.txt.gz", limits: limits)?.reason.contains("after unpacking") == true)
    let formats: [([UInt8], String)] = [
      ([0x28, 0xB5, 0x2F, 0xFD, 0], "zstd"), ([0x50, 0x4B, 3, 4], "zip"), ([0xFF, 0xFE, 0x7B, 0], "UTF-16"),
    ]
    for (bytes, words) in formats { #expect(try readFailure(bytes)?.reason.contains(words) == true) }
    #expect(try readFailure([])?.reason == "the file holds no rows")
    #expect(try readFailure("a", name: "a.csv")?.kind == .unsupported)
    #expect(try readFailure("a", name: "a.txt", shape: .labelled)?.kind == .bad)
    let text = try #require(try readFailure([0x61, 0x0A, 0x62, 0xC3, 0x28, 0x0A], name: "a.txt"))
    #expect(text.line == 2 && text.reason == "not valid UTF-8 at byte 2 of the line")
  }

  @Test func missingFilesAndDirectoriesAreTold() throws {
    try withTemporaryDirectory { directory in
      let path = try writeFile(#"{"text":""}"#, to: "bad.jsonl", in: directory)
      let missing = #expect(throws: DataError.self) {
        try DataReader.read(paths: [path, directory + "/none.jsonl"])
      }
      #expect(missing?.kind == .missing && missing?.kind.exitCode == 66)
      let folder = directory + "/x.jsonl"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let refused = #expect(throws: DataError.self) { try DataReader.read(paths: [folder]) }
      #expect(refused?.kind == .bad && refused?.reason.contains("directory") == true)
      _ = try writeFile("a", to: "b.txt", in: directory)
      let names = try DataReader.expand(directory + "/*").map { $0.split(separator: "/").last }
      #expect(names == ["b.txt", "bad.jsonl", "x.jsonl"])
      #expect(throws: DataError.self) { try DataReader.expand(directory + "/*.gz") }
    }
  }

  /// J12: a file of the kernel says that it has no bytes and then has some, as a file does that grows.
  @Test func aFileThatGrowsIsRefused() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/grows.txt"
      try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/proc/version")
      let error = #expect(throws: DataError.self) { try DataReader.read(paths: [path]) }
      #expect(error?.kind == .bad && error?.reason.contains("changed while it was read") == true)
    }
  }

  @Test func gzipIsReadWholeOrRefused() throws {
    let plain = Array((0..<20_000).map { #"{"text":"row \#($0)"}"# }.joined(separator: "\n").utf8)
    let packed = storedGzip(plain)
    let expected = try readRows(plain).map(\.sample)
    #expect(expected.count == 20_000)
    // The name does not matter, and joined members are one stream.
    for name in ["a.jsonl.gz", "a.jsonl"] { #expect(try readRows(packed, name: name).map(\.sample) == expected) }
    #expect(try readRows(storedGzip(plain + [0x0A]) + packed).count == 40_000)
    for cut in [3, 12, packed.count / 2, packed.count - 9, packed.count - 1] {
      #expect(try readFailure(Array(packed[..<cut]))?.reason.contains("ends early") == true, "cut at \(cut)")
    }
    for place in [2, 13, 1000, packed.count - 6] {
      var damaged = packed
      damaged[place] ^= 0x55
      #expect(try readFailure(damaged)?.kind == .bad, "damaged at \(place)")
    }
    #expect(try readFailure(packed + [1, 2, 3])?.reason.contains("bytes follow") == true)
  }

  @Test func everyTruncationOfAFileIsHandled() throws {
    let text = Array("\u{FEFF}{\"text\":\"é\\u00e9\"}\r\n{\"text\":\"b\"}".utf8)
    for count in 0..<text.count {
      if let error = try readFailure(Array(text[..<count])) { #expect(error.kind == .bad) }
    }
  }

  @Test func randomDamageNeverTraps() throws {
    var generator = ShuffleGenerator(seed: 3)
    let lines = [
      #"{"text":"aé\u00e9\ud83d\ude00","label":1.5e3}"#, #"{"question":"q","options":{"A":"x","B":"y"},"answer":"A"}"#,
      #"{"sentence":"a _ b","option1":"x","option2":"y","answer":"2"}"#, "plain text\r\n\n more é text",
    ]
    for round in 0..<1200 {
      var bytes = Array(lines[round % lines.count].utf8)
      let packed = round % 3 == 0
      if packed { bytes = storedGzip(bytes) }
      for _ in 0...generator.below(4) { bytes[generator.below(bytes.count)] = UInt8(generator.below(256)) }
      let error = try readFailure(bytes, name: round % 4 == 3 ? "a.txt" : "a.jsonl")
      #expect(error.map { $0.kind == .bad || $0.kind == .unsupported } ?? true)
    }
  }
}
