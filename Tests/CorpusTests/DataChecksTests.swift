// Duplicates, leaks and the hold-out split on texts made to order.
// Overlap is checked against a plain reading of its definition.
import Corpus
import Testing

@Suite struct DataChecksTests {
  @Test func repeatedRowsAreFound() {
    let rows = textRows(["a", "b", " a\n", "A", "\u{E9}", "e\u{301}", "b"])
    let report = DuplicateFinder.find(rows)
    #expect(report.kept == [0, 1, 3, 4, 5])
    #expect(report.repeated.map(\.first) == [0, 1] && report.repeated.map(\.again) == [2, 6])
    #expect(
      report.summary(of: rows)
        == "2 of 7 rows repeat an earlier one: a.jsonl:3 repeats a.jsonl:1, a.jsonl:7 repeats a.jsonl:2")
    let pairs = [("a", "bc"), ("ab", "c"), ("a", "bc")].map {
      SourceRow(sample: .pair(prompt: $0.0, completion: $0.1), file: "p", line: 1)
    }
    #expect(DuplicateFinder.find(pairs).repeated.count == 1)
    #expect(DuplicateFinder.find([]).summary(of: []) == "")
  }

  @Test func copiedRunsLeak() throws {
    let probe = textRows([wordText(32), wordText(32, from: 1000), "The short one!"], file: "probe.jsonl")
    // 20 runs a document; training holds 15 and 13 words in a row: 3 and 1 of 20 runs.
    let training = textRows(
      [
        wordText(5, from: 7000), wordText(17, from: 3) + " end",
        wordText(13, from: 1010), "the SHORT one", "the short one more",
      ])
    var finder = OverlapFinder(probes: [("p", probe), ("none", [])])
    finder.scan(training)
    let result = finder.result()
    let found = result[0]
    #expect(found.documents == 3 && found.leaks.map(\.document) == [0, 2] && found.leaks.map(\.share) == [0.25, 1])
    #expect(found.leaks.map(\.trainingLine) == [2, 4] && found.leaks.map(\.line) == [1, 3])
    #expect(found.runShare == 6.0 / 40 && abs(found.leakedShare - 2.0 / 3) < 1e-12)
    #expect(result[1].leakedShare == 0)
  }

  @Test func caseAndPunctuationDoNotHideALeak() {
    let text =
      "It's the \u{201C}ÉCOLE\u{201D} — a well-known case, no. 12 of many that we, the others, have seen before."
    let copy = "its the école a wellknown case no 12 of many that we the others have seen before"
    var finder = OverlapFinder(probes: [("p", textRows([text]))])
    finder.scan(textRows([copy]))
    #expect(finder.result()[0].leaks.map(\.share) == [1])
    var other = OverlapFinder(probes: [("p", textRows([text]))])
    other.scan(textRows([copy.replacing("case", with: "cause")]))
    #expect(other.result()[0].leaks.isEmpty)
  }

  @Test func overlapEqualsItsDefinition() {
    // Few different words, so that runs of three repeat by chance.
    var generator = ShuffleGenerator(seed: 12)
    func text() -> [String] { (0..<(1 + generator.below(40))).map { _ in "w\(generator.below(9))" } }
    let (probe, training) = ((0..<60).map { _ in text() }, (0..<12).map { _ in text() })
    func runs(_ words: [String]) -> [[String]] {
      words.count < 3 ? [] : (0...(words.count - 3)).map { Array(words[$0..<($0 + 3)]) }
    }
    let seen = Set(training.flatMap(runs))
    var finder = OverlapFinder(
      probes: [("p", textRows(probe.map { $0.joined(separator: " ") }))], ngram: 3, documentShare: 0.3)
    for row in training { finder.scan(textRows([row.joined(separator: ", ")])) }
    let expected = probe.enumerated().filter { _, words in
      let all = runs(words)
      if all.isEmpty { return training.contains(words) }
      return Double(all.filter(seen.contains).count) / Double(all.count) >= 0.3
    }.map(\.offset)
    #expect(finder.result()[0].leaks.map(\.document) == expected)
    #expect(!expected.isEmpty && expected.count < 60)
  }

  @Test func theSplitDependsOnTheTextOnly() {
    let rows = textRows((0..<2000).map { "document \($0 % 1900)" })
    let (train, validation) = Holdout.split(rows, fraction: 0.1)
    #expect((train + validation).sorted() == Array(rows.indices))
    #expect((150...250).contains(validation.count))
    let held = Set(validation)
    #expect((1900..<2000).allSatisfy { held.contains($0) == held.contains($0 - 1900) })
    let fewer = Set(Holdout.split(Array(rows[..<1000]), fraction: 0.1).validation)
    #expect(fewer == held.filter { $0 < 1000 })
    #expect(Holdout.split(textRows(["a", "b", "c"]), fraction: 1e-9).validation.count == 1)
    #expect(Holdout.split(rows, fraction: 0).validation.isEmpty)
  }
}
