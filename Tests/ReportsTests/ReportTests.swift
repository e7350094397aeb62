// Reports from run directories: the right numbers, whole pages, nothing that runs, nothing fetched.
import Foundation
import Ledger
import Reports
import StrictJSON
import TestKit
import Testing

@Suite struct ReportTests {
  static func withSample(_ body: (String) throws -> Void) throws {
    try withTemporaryDirectory { folder in
      try SampleRun.write(to: folder) {
        try FileManager.default.createDirectory(atPath: $0, withIntermediateDirectories: true)
      }
      try body(folder)
    }
  }

  @Test func thePageIsWholeAndHarmless() throws {
    try ReportTests.withSample { folder in
      let page = try Report.html(runDirectory: folder)
      #expect(WellFormedness.violation(page) == nil)
      #expect(page.contains("clinic &lt;script&gt;alert(1)&lt;/script&gt; &amp; court"))
      for forbidden in [
        "<script", "<img", "<link", "<iframe", "javascript:", " src=\"", " href=\"", "url(", "\u{1B}",
      ] {
        #expect(!page.contains(forbidden), "\(forbidden)")
      }
      #expect(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"))
      #expect(page.components(separatedBy: "<svg viewBox=\"0 0 340").count - 1 == SampleRun.probes.count)
      #expect(page.contains("What this does not prove") && page.contains("One seed was run"))
      #expect(!page.contains("NaN") && !page.contains("nan,") && !page.contains("infinite"))
    }
  }

  @Test func theNumbersOfTheTablesAreThoseOfTheFiles() throws {
    try ReportTests.withSample { folder in
      let results = try RunResults.read(folder + "/results.json")
      let text = try Report.markdown(runDirectory: folder)
      let page = try Report.html(runDirectory: folder)
      let table = Report.retentionTable(results)
      for row in results.matrix {
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("| \(row.after) |") })
        for cell in row.cells {
          let value = String(format: "%.3f", cell.value)
          let error = String(format: "%.3f", try #require(cell.stderr))
          #expect(line.contains("\(value) ±\(error)"), "\(row.after) \(cell.key)")
          #expect(page.contains(">\(value) ±\(error)"))
          #expect(table.contains("\(value) ±\(error)"))
        }
      }
      let base = try #require(results.cell("general.bits_per_byte", after: "base")?.value)
      let last = try #require(results.cell("general.bits_per_byte", after: "legal")?.value)
      #expect(text.contains("(+\(String(format: "%.1f", 100 * (last / base - 1)))%)"))
      let forgetting = try #require(results.summary.forgetting)
      #expect(text.contains("The model forgot \(String(format: "%.3f", forgetting)) bits per byte"))
      #expect(text.contains("forgetting is beyond chance"))
      #expect(table.contains("gates  1 passed, 0 broken") && table.contains("forgetting 0.0"))
      #expect(!text.contains("<script>"))
    }
  }

  @Test func theComparisonSaysWhoWins() throws {
    try ReportTests.withSample { folder in
      let comparison = try Comparison.read(folder + "/comparison.json")
      let own = try #require(comparison.variant("ewc-replay"))
      let text = try Report.markdown(runDirectory: folder)
      let share = String(format: "%.1f%%", 100 * (try #require(own.plasticityShare)))
      let avoided = String(format: "%.1f%%", 100 * (try #require(own.forgettingAvoided)))
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("| ewc-replay (this run)") })
      #expect(line.contains("| \(share) | \(avoided) |"))
      #expect(text.contains("this run avoided \(avoided) of that at \(share) of its plasticity"))
      #expect(text.contains("difference is beyond chance on these documents"), "paired by the ledgers")
      let terminal = Report.comparisonTable(comparison)
      #expect(terminal.contains(share) && terminal.contains("the Fisher information helped here"))
      #expect(terminal.split(separator: "\n").count == 6)
      // Swapped, L2-SP wins, and the report has to say so.
      let swapped = Comparison(
        try [("naive", "naive"), ("l2sp", "ewc"), ("ewc", "l2sp")].map { name, path in
          (name, try RunResults.read("\(folder)/\(path)/results.json"))
        })
      #expect(Report.comparisonTable(swapped).contains("adds nothing over plain L2-SP"))
    }
  }

  /// The summaries of a sample's variants, some of them changed.
  private func comparison(_ folder: String, _ change: (String, inout Summary) -> Void) throws -> Comparison {
    Comparison(
      try ["naive", "l2sp", "ewc", "ewc-replay"].map { name in
        let path = name == "ewc-replay" ? folder : folder + "/" + name
        var results = try RunResults.read(path + "/results.json")
        change(name, &results.summary)
        return (name: name, results: results)
      })
  }

  /// EWC's score is above that of L2-SP in all of these; the report says that this means something only where intervals
  /// say so, of the difference on the same documents where the ledgers give it.
  @Test func aHigherScoreIsNoProofByItself() throws {
    try ReportTests.withSample { folder in
      let (helped, noise) = ("the Fisher information helped here", "the difference is within the noise")
      #expect(try Report.markdown(runDirectory: folder).contains("\(helped) (paired interval of the difference"))
      // Whatever shows the verdict, it is the same one.
      let stored = try Comparison.read(folder + "/comparison.json")
      for shown in [
        Report.comparisonTable(stored, runDirectory: folder),
        Report.comparisonHTML(stored, name: "sample", runDirectory: folder),
      ] { #expect(shown.contains("\(helped) (paired interval of the difference")) }
      let apart = Report.comparisonTable(try comparison(folder) { _, _ in })
      #expect(apart.contains("\(helped) (their intervals are apart)"))
      let wide = Report.comparisonTable(
        try comparison(folder) { name, summary in
          if name == "ewc" { summary.plasticityCI = Interval(0.01, 1) }
        })
      #expect(wide.contains("\(noise) (their intervals overlap)") && !wide.contains(helped))
      let bare = Report.comparisonTable(
        try comparison(folder) { name, summary in
          if name == "l2sp" { summary.forgettingCI = nil }
        })
      #expect(bare.contains("without intervals nobody can say") && !bare.contains(helped))
      // The same documents gave the same values: the interval of the difference is [0, 0], whatever the summaries say.
      try FileManager.default.removeItem(atPath: folder + "/l2sp/ledger.jsonl")
      try FileManager.default.copyItem(atPath: folder + "/ewc/ledger.jsonl", toPath: folder + "/l2sp/ledger.jsonl")
      let same = try Report.markdown(runDirectory: folder)
      #expect(same.contains("\(noise) (paired interval of the difference") && !same.contains(helped))
    }
  }

  /// Where naive fine-tuning gained on old ground there is no share of its forgetting, and no sentence made from one.
  @Test func nothingIsAvoidedWhereNothingWasLost() throws {
    try ReportTests.withSample { folder in
      let gained = try comparison(folder) { name, summary in
        if name == "naive" { (summary.forgetting, summary.forgettingCI) = (-0.1, Interval(-0.2, -0.05)) }
      }
      try TextFile.replace(folder + "/comparison.json", with: gained.json.pretty)
      let text = try Report.markdown(runDirectory: folder)
      #expect(text.contains("Naive fine-tuning on the same data forgot nothing that was measured (-0.100)."))
      #expect(!text.contains("this run avoided") && !text.contains("EWC scores"))
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("| ewc-replay (this run)") })
      let share = String(format: "%.1f%%", 100 * (try #require(gained.variant("ewc-replay")?.plasticityShare)))
      #expect(line.contains("| \(share) | – |"))
      #expect(WellFormedness.violation(try Report.html(runDirectory: folder)) == nil)
      #expect(!Report.comparisonTable(gained).contains("EWC scores"))
    }
  }

  @Test func brokenNeighboursBecomeNotes() throws {
    try ReportTests.withSample { folder in
      try TextFile.replace(folder + "/comparison.json", with: "{ nonsense")
      try TextFile.replace(folder + "/ledger.jsonl", with: "x\n")
      let text = try Report.markdown(runDirectory: folder)
      #expect(text.contains("comparison.json, line 1") && text.contains("ledger.jsonl, line 1"))
      #expect(WellFormedness.violation(try Report.html(runDirectory: folder)) == nil)
      try TextFile.replace(folder + "/results.json", with: "{\"schema\":1}")
      let broken = #expect(throws: LedgerError.self) { try Report.markdown(runDirectory: folder) }
      #expect(broken?.kind == .malformed && broken?.what.contains("'name'") == true)
      let absent = #expect(throws: LedgerError.self) { try Report.html(runDirectory: folder + "/nowhere") }
      #expect(absent?.kind == .missing)
    }
  }

  @Test func anUnfinishedRunIsReportedFromItsLedger() throws {
    try ReportTests.withSample { folder in
      try FileManager.default.removeItem(atPath: folder + "/results.json")
      let lines = String(decoding: try TextFile.read(folder + "/ledger.jsonl"), as: UTF8.self)
        .split(separator: "\n", omittingEmptySubsequences: false)
      let cut = try #require(lines.firstIndex { $0.hasPrefix("{\"event\":\"stage_ended\"") })
      try TextFile.replace(
        folder + "/ledger.jsonl", with: lines[...cut].joined(separator: "\n") + "\n{\"event\":\"step\",\"st")
      let text = try Report.markdown(runDirectory: folder)
      #expect(text.contains("| medical |") && !text.contains("| legal | 1."))
      #expect(text.contains("ledger of an unfinished run") && text.contains("not finished"))
      let page = try Report.html(runDirectory: folder)
      #expect(WellFormedness.violation(page) == nil)
    }
  }

  @Test func thinDataStillMakesPages() throws {
    let nothing = RunResults(
      name: "empty", status: .diverged, seed: 1, stages: ["s"], probes: [], matrix: [],
      summary: Summary(stages: ["s"], probes: [], matrix: RetentionMatrix()))
    var one = RetentionMatrix()
    let probe = ProbeInfo(name: "p", metric: "bits_per_byte", higherIsBetter: false)
    for (row, value) in [("base", 1.0), ("s", Double.nan)] {
      one.add(
        Measurement(
          probe: "p", metric: "bits_per_byte", higherIsBetter: false, numerators: [value], denominators: [1]),
        after: row)
    }
    let diverged = RunResults(
      name: "nan", status: .diverged, seed: 1, stages: ["s"], probes: [probe], matrix: one.table,
      summary: Summary(stages: ["s"], probes: [probe], matrix: one))
    for results in [nothing, diverged] {
      try withTemporaryDirectory { folder in
        try TextFile.replace(folder + "/results.json", with: results.json.pretty)
        let paths = try Report.write(runDirectory: folder)
        let page = String(decoding: try TextFile.read(paths.html), as: UTF8.self)
        #expect(WellFormedness.violation(page) == nil)
        #expect(page.contains("diverged") && TextFile.exists(paths.markdown))
        #expect(!Report.retentionTable(results).isEmpty)
        #expect(!Report.comparisonTable(Comparison([("ewc", results)])).isEmpty)
      }
    }
  }

  @Test func runsAreComparedOnTheSameDocuments() throws {
    try ReportTests.withSample { folder in
      let text = try Report.compare(runDirectories: [folder + "/naive", folder + "/ewc"])
      #expect(text.contains("## ewc against naive"))
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("| forgetting |") })
      #expect(line.hasSuffix("| better |"))
      let json = try Report.compareJSON(runDirectories: [folder + "/naive", folder + "/ewc"])
      let term = try #require(json["runs"]?[1]?["against_first"]?["forgetting"])
      let interval = try #require(Interval(term["ci"]))
      let value = try #require(term["value"]?.double)
      #expect(interval.lower < value && value < interval.upper && interval.upper < 0)
      let unpaired = try #require(Interval(json["runs"]?[0]?["summary"]?["forgetting_ci"]))
      #expect(interval.upper - interval.lower < 2 * (unpaired.upper - unpaired.lower))
      try FileManager.default.removeItem(atPath: folder + "/ewc/ledger.jsonl")
      #expect(
        try Report.compare(runDirectories: [folder + "/naive", folder + "/ewc"]).contains("not paired"))
    }
  }

  @Test func tunePages() throws {
    let tune = SampleRun.tune
    let page = TunePage.html(tune, name: "a <b>")
    #expect(WellFormedness.violation(page) == nil)
    #expect(
      page.contains("methods.ewc.&lt;lambda&gt; = 1 was chosen (knee)") && page.contains("class=\"chosen\""))
    let best = try #require(tune.trials.first { $0.value == 1.0 }?.plasticityShare)
    #expect(TunePage.terminal(tune).contains(String(format: "%.1f%%", 100 * best)))
    #expect(TunePage.markdown(tune).contains("1 (chosen)"))
    try withTemporaryDirectory { folder in
      try TextFile.replace(folder + "/tune.json", with: tune.json.pretty)
      #expect(try TunePage.html(directory: folder, name: "a <b>") == page)
    }
    let bare = TuneResults(key: "k", naive: nil, trials: [], chosen: nil, reason: "")
    #expect(WellFormedness.violation(TunePage.html(bare, name: "x")) == nil)
  }

  @Test func wideTablesAreCutIntoBlocks() throws {
    let matrix = SampleRun.matrix(drift: 0.05, learned: 1)
    let results = SampleRun.results(matrix, seconds: 1)
    let narrow = Report.retentionTable(results, width: 60)
    let body = narrow.components(separatedBy: "forgetting ")[0]
    #expect(body.split(separator: "\n").allSatisfy { $0.count <= 60 })
    #expect(body.components(separatedBy: "after ").count == 3, "two blocks, each with its header")
    #expect(narrow.contains("1 broken") && narrow.contains("allowed 5.0%"))
  }
}
