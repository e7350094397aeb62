// Several runs beside each other, wherever they lie: `retain compare RUN RUN …`.
// Differences are paired over documents where both ledgers hold values for the same documents.

import Ledger
import StrictJSON

extension Report {
  /// Markdown that sets runs beside each other and tests every later one against the first.
  ///
  /// - Throws: `LedgerError` for the first directory that gives no results.
  public static func compare(runDirectories: [String]) throws(LedgerError) -> String {
    let (runs, names) = try read(runDirectories)
    guard let first = runs.first else { return "" }
    var text = "# Comparison of \(runs.count) runs\n\n"
    text += overview(runs, names).markdown + "\n"
    for (run, name) in zip(runs, names).dropFirst() {
      text += "## \(Format.markdown(name)) against \(Format.markdown(names[0]))\n\n"
      text += (differences(first, run).map { "\($0.markdown)\n\(coverage)" } ?? nothingShared) + "\n\n"
    }
    for (run, name) in zip(runs, names) {
      for note in run.notes { text += "- \(Format.markdown(name)): \(Format.markdown(note))\n" }
    }
    return text
  }

  /// The same as one HTML page without scripts or anything fetched.
  ///
  /// - Throws: `LedgerError` for the first directory that gives no results.
  public static func compareHTML(runDirectories: [String]) throws(LedgerError) -> String {
    let (runs, names) = try read(runDirectories)
    return Page.document(title: "Comparison of \(runs.count) runs") { page in
      page.element("header") { page in
        page.element("h1", "Comparison of \(runs.count) runs")
        let notes = zip(runs, names).flatMap { run, name in run.notes.map { "\(name): \($0)" } }
        if !notes.isEmpty { Page.list(&page, notes) }
      }
      guard let first = runs.first else { return }
      Page.section(&page, "The runs beside each other") { page in
        overview(runs, names).write(to: &page)
        ReportHTML.scatter(&page, zip(names, runs).map { ($0, $1.results.summary) }, of: "runs")
      }
      for (run, name) in zip(runs, names).dropFirst() {
        Page.section(&page, "\(name) against \(names[0])") { page in
          guard let table = differences(first, run) else { return page.element("p", nothingShared) }
          table.write(to: &page)
          page.element("p", ["class": "soft"], coverage)
        }
      }
      ReportHTML.definitions(&page, first.results.summary)
    }
  }

  /// The variants of one experiment as a page of the same kind.
  public static func comparisonHTML(_ comparison: Comparison, name: String, runDirectory: String? = nil) -> String {
    Page.document(title: "\(name): the same chain under other methods") { page in
      page.element("header") { page in
        page.element("h1", name)
        if let verdict = Narrative.curvatureVerdict(comparison, paired: curvature(in: runDirectory)) {
          page.element("p", ["class": "headline"], verdict)
        }
      }
      Page.section(&page, "The same chain under other methods") { page in
        Tables.comparison(comparison).write(to: &page)
        ReportHTML.scatter(&page, comparison.variants.map { ($0.name, $0.summary) }, of: "variants")
      }
      if let summary = comparison.variants.first?.summary { ReportHTML.definitions(&page, summary) }
    }
  }

  private static func read(_ paths: [String]) throws(LedgerError) -> (runs: [RunFolder], names: [String]) {
    var runs: [RunFolder] = []
    for path in paths { runs.append(try RunFolder(path)) }
    return (runs, labels(paths))
  }

  /// The figures behind `compare`, for `--json`: summaries by run and paired differences against the first.
  public static func compareJSON(runDirectories: [String]) throws(LedgerError) -> JSON {
    let runs = try read(runDirectories).runs
    guard let first = runs.first else { return ["schema": 1, "runs": []] }
    func term(_ term: PairedRuns.Term?) -> JSON {
      term.map { ["value": .number($0.value), "ci": $0.interval?.json ?? .null] } ?? .null
    }
    return [
      "schema": 1,
      "runs": .array(
        runs.enumerated().map { index, run in
          let pair = index == 0 ? nil : PairedRuns(first, run)
          return [
            "path": .string(run.path), "name": .string(run.results.name),
            "status": .string(run.results.status.rawValue), "summary": run.results.summary.json,
            "cost": run.results.cost.json,
            "against_first": pair.map { pair in
              [
                "forgetting": term(pair.forgetting), "plasticity": term(pair.plasticity),
                "probes": .object(
                  pair.probes.map {
                    .init(
                      $0.info.key,
                      ["value": JSON($0.difference.value), "ci": $0.difference.interval?.json ?? .null])
                  }),
              ]
            } ?? .null,
          ]
        }),
    ]
  }

  private static func overview(_ runs: [RunFolder], _ names: [String]) -> Table {
    var table = Table([
      "run", "stages", "metric", "forgetting ↓", "plasticity ↑", "retention ↑", "status", "time", "tokens",
    ])
    for (run, name) in zip(runs, names) {
      let results = run.results
      table.add([
        name, results.stages.joined(separator: " → "), Format.unit(results.summary.metric),
        Format.number(results.summary.forgetting) + Tables.interval(results.summary.forgettingCI),
        Format.number(results.summary.plasticity), Format.percent(results.summary.retention),
        results.status.rawValue, Format.duration(results.cost.wallSeconds),
        Format.count(results.cost.trainTokens),
      ])
    }
    return table
  }

  private static let coverage =
    "Intervals draw the same documents for both runs; 'not paired' means that a ledger is absent or the "
    + "documents differ. They do not cover the randomness of training."
  private static let nothingShared = "The two runs share no probe and no metric."

  /// Second minus first with verdicts; nil where the two have nothing in common.
  private static func differences(_ first: RunFolder, _ second: RunFolder) -> Table? {
    let pair = PairedRuns(first, second)
    let confidence = Narrative.level(first.results.summary)
    var table = Table(["second minus first", "difference [\(confidence)]", "verdict"])
    func add(_ name: String, _ value: Double, _ interval: Interval?, higherIsBetter: Bool) {
      let verdict =
        interval.map { interval in
          !interval.excludesZero
            ? "no difference shown" : (interval.lower > 0) == higherIsBetter ? "better" : "worse"
        } ?? "not paired"
      table.add([name, Format.signed(value) + Tables.interval(interval), verdict])
    }
    if let term = pair.forgetting {
      add("forgetting", term.value, term.interval, higherIsBetter: false)
    }
    if let term = pair.plasticity {
      add("plasticity", term.value, term.interval, higherIsBetter: true)
    }
    for (info, difference) in pair.probes {
      add(
        "\(info.key) at the end", difference.value, difference.interval,
        higherIsBetter: info.higherIsBetter)
    }
    return table.rows.isEmpty ? nil : table
  }

  /// Last parts of the paths, longer where those are equal.
  private static func labels(_ paths: [String]) -> [String] {
    let short = paths.map { path in
      path.split(separator: "/").last(where: { $0 != "." }).map(String.init) ?? path
    }
    return Set(short).count == short.count ? short : paths
  }
}
