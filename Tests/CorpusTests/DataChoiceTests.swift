// Choices with labels of their own, as ARC and OpenBookQA publish them, and the split of images.
import Corpus
import TestKit
import Testing

@Suite struct DataChoiceTests {
  @Test func labelledChoicesAreRead() throws {
    let cases: [(String, Int)] = [
      (#"{"id":"1","question":"q","choices":{"text":["w","x","y"],"label":["A","B","C"]},"answerKey":"C"}"#, 2),
      // Labels name choices, and are no places.
      (#"{"question":"q","choices":{"text":["w","x","y"],"label":["1","2","3"]},"answerKey":"2"}"#, 1),
      (#"{"question":"q","choices":{"label":[1,2,3],"text":["w","x","y"]},"answerKey":3}"#, 2),
      (#"{"question_stem":"q","choices":{"text":["w","x","y"],"label":["A","B","C"]},"answerKey":"A"}"#, 0),
    ]
    for (line, answer) in cases {
      let wanted = Sample.multipleChoice(question: "q", isContext: false, choices: ["w", "x", "y"], answer: answer)
      #expect(try readRows(line).map(\.sample) == [wanted], "\(line)")
    }
    // The other object form, from letters to texts, stays.
    let letters = try readRows(#"{"question":"q","choices":{"A":"x","B":"y"},"answerKey":"B"}"#)
    #expect(letters.first?.sample.answer == 1)
  }

  @Test func badLabelsAreLocated() throws {
    let cases = [
      (#"{"question":"q","choices":{"text":["x","y"],"label":["A","B"]},"answerKey":"C"}"#, "`answerKey` names none"),
      (#"{"question":"q","choices":{"text":["x","y"],"label":["1","2"]},"answerKey":"0"}"#, "`answerKey` names none"),
      (#"{"question":"q","choices":{"text":["x","y"],"label":["A"]},"answerKey":"A"}"#, "as long as its list `text`"),
      (#"{"question":"q","choices":{"text":["x",""],"label":["A","B"]},"answerKey":"A"}"#, "`choices.text[1]`"),
      (#"{"question":"q","choices":{"text":["x","y"],"label":["A",null]},"answerKey":"A"}"#, "`choices.label[1]`"),
    ]
    for (line, words) in cases {
      let error = try #require(try readFailure(line), "\(line)")
      #expect(error.kind == .bad && error.line == 1 && error.reason.contains(words), "\(error)")
    }
  }

  /// Equal images have equal hashes wherever they lie; others do not.
  @Test func imagesAreToldApartByTheirPixels() throws {
    let header: [UInt8] = [0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2]
    try withTemporaryDirectory { folder in
      let images = try writeFile(header + [0, 9, 9, 0, 0, 0, 0, 9], to: "i", in: folder)
      let labels = try writeFile([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1], to: "l", in: folder)
      let hashes = try IdxImages.read(images: images, labels: labels).hashes
      #expect(hashes.count == 4 && hashes[0] == hashes[3] && Set(hashes).count == 3)
    }
    let hashes: [UInt64] = [1 << 63, 1 << 60, 1 << 62, 1 << 60]
    #expect(Holdout.split(hashes: hashes, fraction: 0.1).validation == [1, 3])
    #expect(Holdout.split(hashes: hashes, fraction: 0.3).train == [0])
    #expect(Holdout.split(hashes: hashes, fraction: 0.01).validation == [1, 3], "at least one")
    #expect(Holdout.split(hashes: hashes, fraction: 0).train == [0, 1, 2, 3])
  }
}
