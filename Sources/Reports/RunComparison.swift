// Several runs beside each other, wherever they lie: `retain compare RUN RUN …`.
// Differences are paired over documents where both ledgers hold values for the same documents.

import Ledger
import StrictJSON

extension Report {
  /// Markdown that sets runs beside each other and tests every later one against the first.
  ///
  /// - Throws: `LedgerError` for the first directory that gives no results.
  public static func compare(runDirectories: [String]) throws(LedgerError) -> String {
    var runs: [RunFolder] = []
    for path in runDirectories { runs.append(try RunFolder(path)) }
    guard let first = runs.first else { return "" }
    let names = labels(runDirectories)
    var text = "# Comparison of \(runs.count) runs\n\n"
    text += overview(runs, names).markdown + "\n"
    for (run, name) in zip(runs, names).dropFirst() {
      text += "## \(Format.markdown(name)) against \(Format.markdown(names[0]))\n\n"
      text += differences(first, run)
    }
    for (run, name) in zip(runs, names) {
      for note in run.notes { text += "- \(Format.markdown(name)): \(Format.markdown(note))\n" }
    }
    return text
  }

  /// The figures behind `compare`, for `--json`: summaries by run and paired differences against the first.
  public static func compareJSON(runDirectories: [String]) throws(LedgerError) -> JSON {
    var runs: [RunFolder] = []
    for path in runDirectories { runs.append(try RunFolder(path)) }
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

  private static func differences(_ first: RunFolder, _ second: RunFolder) -> String {
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
    guard !table.rows.isEmpty else { return "The two runs share no probe and no metric.\n\n" }
    return table.markdown + "\n"
      + "Intervals draw the same documents for both runs; 'not paired' means that a ledger is absent or the "
      + "documents differ. They do not cover the randomness of training.\n\n"
  }

  /// Last parts of the paths, longer where those are equal.
  private static func labels(_ paths: [String]) -> [String] {
    let short = paths.map { path in
      path.split(separator: "/").last(where: { $0 != "." }).map(String.init) ?? path
    }
    return Set(short).count == short.count ? short : paths
  }
}
