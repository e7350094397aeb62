// The real corpora and probes, where they are at hand: all readable, with figures for speed and packing.
// Absent data skips these tests; the same code runs on small files in the other suites.
import Corpus
import Foundation
import TestKit
import Testing

@Suite(.enabled(if: SharedData.path("data") != nil, "no shared data beside the checkout"), .serialized)
struct DataSharedTests {
  func files(below folder: String) -> [String] {
    guard let root = SharedData.path("data/" + folder) else { return [] }
    let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return names.sorted().map { root + "/" + $0 }.filter {
      $0.contains(".jsonl") || $0.hasSuffix(".txt")
    }
  }
  func name(_ path: String) -> String { path.split(separator: "/").suffix(2).joined(separator: "/") }

  @Test(arguments: ["general", "medical", "legal", "scientific"]) func corporaAreTexts(folder: String) throws {
    for path in files(below: folder) {
      let rows = try DataReader.read(paths: [path])
      #expect(rows.allSatisfy { if case .text = $0.sample { true } else { false } }, "\(path)")
    }
  }

  @Test func probesHaveTheirShapes() throws {
    var counts: [String: Int] = [:]
    for path in files(below: "probes") where !path.hasSuffix("paradigms.jsonl") {
      let rows = try DataReader.read(paths: [path])
      counts[name(path)] = rows.count
      #expect(
        rows.allSatisfy { row in
          path.contains("/lambada/") || row.sample.candidates.indices.contains(row.sample.answer ?? -1)
        }, "\(path)")
    }
    let expected = [
      "blimp/blimp.jsonl.gz": 52_000, "hellaswag/val.jsonl": 4000, "piqa/val.jsonl": 1838,
      "winogrande/val.jsonl": 1267, "arc_easy/test.jsonl": 2376, "mmlu_general/test.jsonl": 1297,
      "medqa_usmle/test.jsonl": 1273, "pubmedqa/test.jsonl": 500, "lambada/test.jsonl": 5153,
    ]
    for (name, count) in expected { #expect(counts[name] == count, "\(name)") }
  }

  @Test func labelledFilesAreReadOrExplained() throws {
    var read: [String] = []
    var refused: [String: String] = [:]
    for path in files(below: "labelled") {
      do throws(DataError) {
        _ = try DataReader.read(paths: [path])
        read.append(name(path))
      } catch { refused[name(path)] = error.reason }
    }
    #expect(read.contains("cuad_clauses/train.jsonl") && read.contains("tweeteval_irony/train.jsonl"))
    #expect(refused["instructions_alpaca_style/train.jsonl"] == "alpaca rows are not yet supported")
    #expect(refused["preferences_demo/train.jsonl"] == "sharegpt rows are not yet supported")
    #expect(refused["sst2/train.jsonl"]?.hasPrefix("no known shape; its fields are `sentence`, `label`") == true)
  }

  @Test func mnistIsRead() throws {
    guard let images = SharedData.path("data/mnist/t10k-images-idx3-ubyte.gz"),
      let labels = SharedData.path("data/mnist/t10k-labels-idx1-ubyte.gz")
    else { return }
    let all = try IdxImages.read(images: images, labels: labels)
    #expect(all.count == 10_000 && all.rows == 28 && all.columns == 28 && all.pixels.count == 7_840_000)
    #expect(Array(all.labels[..<5]) == [7, 2, 1, 0, 4])
    let pair = try IdxImages.read(images: images, labels: labels, classes: [0, 1])
    #expect(pair.count == 980 + 1135)
  }

  @Test func overlapOfTheSharedSplitsIsSmall() throws {
    let rows = try DataReader.read(paths: files(below: "medical/medquad").filter { $0.contains("train") }, shape: .text)
    let probes = files(below: "medical").filter { $0.contains("test") }
    let indexed = try probes.map { (name: name($0), rows: try DataReader.read(paths: [$0], shape: .text)) }
    var finder = OverlapFinder(probes: indexed)
    finder.scan(rows)
    // The data's README: test rows with 20 % or more of their runs in train were dropped.
    for overlap in finder.result() { #expect(overlap.leakedShare < 0.02, "\(overlap.probe): \(overlap.leaks)") }
  }

  @Test func packedRowsAreFull() throws {
    for folder in ["medical", "legal", "scientific", "general/tinystories_sample", "labelled/cuad_clauses"] {
      let paths = files(below: folder).filter { $0.contains("train") }
      let rows = try DataReader.read(paths: paths, shape: .text)
      let builder = ExampleBuilder(encode: encodeWords, prefixToken: 1, eosToken: 2, sequenceLength: 512)
      let (examples, report) = try builder.examples(from: rows)
      let lengths = examples.map(\.length)
      let plan = EpochPlan(lengths: lengths, sequenceLength: 512, packing: true, seed: 17, epoch: 0)
      let unpacked = Double(report.inputTokens) / Double(512 * max(1, examples.count))
      #expect(plan.fill(lengths: lengths) >= max(0.95, unpacked))
    }
  }
}
