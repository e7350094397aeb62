// What a run directory holds, read once for a report: results, comparison, ledger, samples, plan.
// Only the results are needed; anything else that is absent or broken becomes a note in the report.

import Ledger
import StrictJSON

struct RunFolder {
  let path: String
  let results: RunResults
  let comparison: Comparison?
  let tune: TuneResults?
  let events: [JSON]
  /// From the ledger, with sums per document; nil where it does not tell.
  let matrix: RetentionMatrix?
  let samples: String?
  let plan: String?
  /// What could not be read, and what was used in its place.
  let notes: [String]

  /// Reads a run directory.
  ///
  /// - Throws: `LedgerError` where neither results.json nor the ledger gives results.
  init(_ path: String) throws(LedgerError) {
    self.path = path
    var notes: [String] = []
    func optional<Value>(_ name: String, _ read: (String) throws(LedgerError) -> Value) -> Value? {
      let file = path + "/" + name
      guard TextFile.exists(file) else { return nil }
      do throws(LedgerError) { return try read(file) } catch {
        let line = error.line.map { ", line \($0)" } ?? ""
        notes.append("\(name)\(line): \(error.what). This page was made without it.")
        return nil
      }
    }
    func text(_ file: String) throws(LedgerError) -> String {
      String(decoding: try TextFile.read(file), as: UTF8.self)
    }
    events = optional("ledger.jsonl", LedgerReader.events) ?? []
    comparison = optional("comparison.json", Comparison.read)
    tune = optional("tune.json", TuneResults.read)
    samples = optional("samples.md", text)
    plan = optional("plan.yaml", text)
    var matrix: RetentionMatrix?
    var recovered: RunResults?
    do throws(ShapeError) {
      matrix = try LedgerReader.matrix(events)
      if !TextFile.exists(path + "/results.json") { recovered = try LedgerReader.results(events) }
    } catch {
      notes.append("ledger.jsonl: \(error). Its measurements were not used.")
    }
    self.matrix = matrix?.rows.isEmpty == false ? matrix : nil
    if let recovered {
      results = recovered
      notes.append("There is no results.json yet: the figures come from the ledger of an unfinished run.")
    } else {
      do throws(LedgerError) { results = try RunResults.read(path + "/results.json") } catch {
        guard error.kind == .missing else { throw error }
        throw LedgerError(
          .missing, path: error.path, what: error.what,
          hint: "a run directory has results.json once its first measurement is made")
      }
    }
    self.notes = notes
  }

  /// The variant of the comparison that is this run, by its summary.
  var ownVariant: Comparison.Variant? { comparison?.variants.first { $0.summary == results.summary } }

  /// A variant's own folder, or this run where the variant is this run.
  func folder(of variant: Comparison.Variant) -> RunFolder? {
    if variant.name == ownVariant?.name { return self }
    // Names come from a file: nothing that could leave this directory is followed.
    guard !variant.name.contains("/"), variant.name != "..", variant.name != "." else { return nil }
    return try? RunFolder(path + "/" + variant.name)
  }
}

/// Differences between two runs on the same documents.
struct PairedRuns {
  struct Term {
    var value: Double
    var interval: Interval?
  }
  /// Second minus first, in units of the summary's metric.
  let forgetting: Term?
  let plasticity: Term?
  /// Last rows of the probes that both have, by `probe.metric`, second minus first.
  let probes: [(info: ProbeInfo, difference: Bootstrap.Difference)]

  init(_ first: RunFolder, _ second: RunFolder, count: Int = 2000) {
    let confidence = first.results.summary.confidence
    let mine = PairedRuns.replicates(first, count: count)
    let theirs = PairedRuns.replicates(second, count: count)
    let sameDocuments = PairedRuns.sameDocuments(first, second)
    func term(
      _ value: (Summary) -> Double?, _ values: (SummaryReplicates) -> [Double]?
    ) -> Term? {
      guard first.results.summary.metric == second.results.summary.metric,
        let left = value(first.results.summary), let right = value(second.results.summary)
      else { return nil }
      var interval: Interval?
      if sameDocuments, let left = mine.flatMap(values), let right = theirs.flatMap(values) {
        interval = Bootstrap.interval(zip(left, right).map { $1 - $0 }, confidence: confidence)
      }
      return Term(value: right - left, interval: interval)
    }
    forgetting = term(\.forgetting, \.forgetting)
    plasticity = term(\.plasticity, \.plasticity)
    var probes: [(ProbeInfo, Bootstrap.Difference)] = []
    if let left = first.matrix, let right = second.matrix, let leftRow = first.results.lastRow,
      let rightRow = second.results.lastRow
    {
      for info in first.results.probes {
        guard let before = left.measurement(info.key, after: leftRow),
          let after = right.measurement(info.key, after: rightRow)
        else { continue }
        probes.append(
          (info, Bootstrap.difference(before, after, confidence: confidence, count: count)))
      }
    }
    self.probes = probes
  }

  /// Plasticity share + forgetting avoided of one run less that of another, both as shares of naive's figures; nil
  /// where the documents differ or naive has nothing to take shares of.
  static func scoreDifference(
    _ first: RunFolder, minus second: RunFolder, naive: Summary, count: Int = 2000
  ) -> Interval? {
    guard sameDocuments(first, second), let most = naive.plasticity, let worst = naive.forgetting, most > 0, worst > 0,
      let mine = replicates(first, count: count), let theirs = replicates(second, count: count),
      let learned = mine.plasticity, let forgot = mine.forgetting, let otherLearned = theirs.plasticity,
      let otherForgot = theirs.forgetting
    else { return nil }
    let differences = learned.indices.map { index in
      let gained = (learned[index] - otherLearned[index]) / most
      let lost = (forgot[index] - otherForgot[index]) / worst
      return gained - lost
    }
    return Bootstrap.interval(differences, confidence: first.results.summary.confidence)
  }

  /// Resampled terms of a run, the same seed for all: replicate b then draws the same documents in every run.
  private static func replicates(_ run: RunFolder, count: Int) -> SummaryReplicates? {
    run.matrix.map {
      SummaryReplicates(stages: run.results.stages, probes: run.results.probes, matrix: $0, count: count, seed: 0)
    }
  }

  private static func sameDocuments(_ first: RunFolder, _ second: RunFolder) -> Bool {
    guard let left = first.matrix, let right = second.matrix, first.results.probes == second.results.probes,
      first.results.stages.count == second.results.stages.count
    else { return false }
    return first.results.probes.allSatisfy { info in
      guard let before = left.measurement(info.key, after: "base"),
        let after = right.measurement(info.key, after: "base")
      else { return false }
      return before.isPaired(with: after)
    }
  }
}

extension RunResults {
  /// `base` or the last stage that has a row.
  var lastRow: String? { (["base"] + stages).last { name in matrix.contains { $0.after == name } } }

  /// Number of the home stage, 0 for none, nil for one that is not in the chain.
  func home(_ probe: ProbeInfo) -> Int? {
    guard let home = probe.home else { return 0 }
    return stages.firstIndex(of: home).map { $0 + 1 }
  }
}
