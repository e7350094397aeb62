// idx images: pixel values, class filters, permutation, and headers that lie.
// The files are built here byte by byte.
import Corpus
import TestKit
import Testing

@Suite struct DataIdxTests {
  let images: [UInt8] = [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 0, 255, 255]
  let labels: [UInt8] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 1, 7]

  func read(_ images: [UInt8], _ labels: [UInt8], classes: [Int]? = nil, first: Int? = nil) throws -> IdxImages {
    try withTemporaryDirectory { directory in
      try IdxImages.read(
        images: writeFile(images, to: "i", in: directory), labels: writeFile(labels, to: "l", in: directory),
        classes: classes, first: first)
    }
  }

  @Test func pixelsAndLabelsAreRead() throws {
    for (images, labels) in [(images, labels), (storedGzip(images), storedGzip(labels))] {
      let all = try read(images, labels)
      #expect(all.rows == 1 && all.columns == 2 && all.labels == [7, 1, 7])
      #expect(all.pixels == [0, 1, 0.2, 0, 1, 1])
    }
    let some = try read(images, labels, classes: [1])
    #expect(some.labels == [1] && some.pixels == [0.2, 0])
  }

  @Test func theFirstOfTheWantedClassesAreKept() throws {
    #expect(try read(images, labels, first: 2).labels == [7, 1])
    #expect(try read(images, labels, classes: [7], first: 1).pixels == [0, 1])
    #expect(try read(images, labels, classes: [7], first: 9).pixels == [0, 1, 1, 1])
  }

  @Test func aFrameIsBlackAndNormalizedWithTheRest() throws {
    let image = try read(images, labels, classes: [1])
    let framed = image.padded(by: 1)
    #expect(framed.rows == 3 && framed.columns == 4 && framed.labels == [1])
    #expect(framed.pixels == [0, 0, 0, 0, 0, 0.2, 0, 0, 0, 0, 0, 0])
    #expect(image.padded(by: 0).pixels == image.pixels)
    let scaled = framed.normalized(mean: 0.1, std: 0.5).pixels
    #expect(scaled[0] == (0 - 0.1) / 0.5 as Float && scaled[5] == (0.2 - 0.1) / 0.5 as Float)
    // Both images of two get frames of their own.
    let both = try read(images, labels, first: 2).padded(by: 1).pixels
    #expect(both[5...6] == [0, 1] && both[17...18] == [0.2, 0] && both.filter { $0 != 0 }.count == 2)
  }

  @Test func permutationMovesPixelsAlike() throws {
    let large: [UInt8] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 8] + (0..<128).map { UInt8($0 % 64) }
    let all = try read(large, [0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
    let moved = all.permuted(seed: 3)
    #expect(moved.pixels != all.pixels && moved.pixels.sorted() == all.pixels.sorted())
    #expect(Array(moved.pixels[..<64]) == Array(moved.pixels[64...]))
    #expect(moved.pixels == all.permuted(seed: 3).pixels && moved.pixels != all.permuted(seed: 4).pixels)
  }

  @Test func lyingHeadersAreRefused() throws {
    var huge = images
    for place in 4..<16 { huge[place] = 0xFF }
    let cases: [([UInt8], [UInt8])] = [
      (labels, images), (Array(images.dropLast()), labels), (images, Array(labels.dropLast())), (huge, labels),
      (images, [0, 0, 8, 1, 0, 0, 0, 2, 7, 1]), (Array(images[..<10]), labels), ([], []),
    ]
    for (images, labels) in cases { #expect(throws: DataError.self) { try read(images, labels) } }
    #expect(throws: DataError.self) { try read(images, labels, classes: [5]) }
  }
}
