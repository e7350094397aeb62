// Benchmarks of what surrounds training: writing and reading checkpoints, encoding text.
import Archive
import Corpus
import Foundation
import Runs
import StrictJSON
import TensorCore

extension Bench {
  /// Parameters and both moments to a file and back, every checksum included, in a folder of its own.
  func checkpoint() throws -> BenchResult {
    let folder =
      FileManager.default.temporaryDirectory.path
      + "/retain-bench-\(ProcessInfo.processInfo.processIdentifier)"
    try OutputFolder.create(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let vectors = ["parameters", "first_moment", "second_moment"].map { ($0, uniform(1, parameters)) }
    let path = folder + "/bench.h5"
    let written = try median {
      var archive = ArchiveWriter()
      for (name, tensor) in vectors {
        archive.add(
          name, type: .float32, shape: [tensor.count], description: nil,
          bytes: UnsafeRawBufferPointer(tensor.buffer))
      }
      try archive.write(to: path, metadata: ["kind": "bench"])
    }
    let target = backend.empty(1, parameters)
    let read = try median {
      let archive = try ArchiveReader(path: path)
      for (name, _) in vectors { try archive.floats(name, into: target.buffer) }
    }
    let bytes = Double(3 * 4 * parameters)
    return BenchResult(
      seconds: written, tokens: nil, operations: nil,
      details: [
        .init("bytes", .number(bytes)), .init("write_mb_per_second", .number(bytes / written / 1e6)),
        .init("read_mb_per_second", .number(bytes / read / 1e6)),
      ])
  }

  /// Byte-level BPE on made-up words with the frequencies of a language; one thread.
  func tokenize() throws -> BenchResult {
    let documents = madeUpText(words: 400_000)
    let made = try TokenizerTrainer.byteLevelBPE(
      vocabularySize: 4096, specialTokens: ["<|endoftext|>"], documents: documents)
    let tokenizer = try Tokenizer(json: made.json, configuration: made.configuration)
    var count = 0
    let seconds = median { count = documents.reduce(0) { $0 + tokenizer.encode($1).count } }
    let bytes = documents.reduce(0) { $0 + $1.utf8.count }
    return BenchResult(
      seconds: seconds, tokens: count, operations: nil,
      details: [
        .init("bytes", .integer(bytes)), .init("mb_per_second", .number(Double(bytes) / seconds / 1e6)),
        .init("vocabulary", .integer(tokenizer.vocabularySize)),
      ])
  }

  /// Documents of 200 words; word r of 20,000 comes with a frequency of about 1/r.
  private func madeUpText(words: Int) -> [String] {
    var random = RandomStream(seed: 17).forked("text")
    let (starts, vowels) = (Array("bcdfghjklmnprstvwz"), Array("aeiou"))
    let lexicon = (0..<20_000).map { _ in
      (0...random.integer(below: 4)).map { _ in
        String([starts[random.integer(below: starts.count)], vowels[random.integer(below: vowels.count)]])
      }.joined()
    }
    return (0..<words / 200).map { _ in
      (0..<200).map { _ in
        // Uniform in the logarithm of the rank.
        lexicon[min(lexicon.count - 1, Int(Maths.exp(random.uniform() * Maths.log(Double(lexicon.count)))))]
      }.joined(separator: " ") + "."
    }
  }
}
