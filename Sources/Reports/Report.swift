// The door of the target: a run directory in, Markdown, HTML and terminal tables out.
// Everything is made from files on disk; nothing here can reach into training.

import Ledger
import StrictJSON

/// Reports on runs, from what they left on disk.
public enum Report {
  /// report.md of a run directory.
  ///
  /// - Throws: `LedgerError` where neither results.json nor ledger.jsonl gives results; anything else that is
  ///   absent or broken becomes a note in the report.
  public static func markdown(runDirectory: String) throws(LedgerError) -> String {
    let run = try RunFolder(runDirectory)
    return ReportMarkdown(run: run, paired: paired(run), curvature: curvature(run)).document
  }

  /// report.html of a run directory: one file without scripts or anything fetched.
  public static func html(runDirectory: String) throws(LedgerError) -> String {
    let run = try RunFolder(runDirectory)
    return ReportHTML(run: run, paired: paired(run), curvature: curvature(run)).document
  }

  /// Writes report.md and report.html into the run directory and returns their paths.
  @discardableResult
  public static func write(runDirectory: String) throws(LedgerError) -> (markdown: String, html: String) {
    let run = try RunFolder(runDirectory)
    let paired = paired(run)
    let curvature = curvature(run)
    let paths = (markdown: runDirectory + "/report.md", html: runDirectory + "/report.html")
    try TextFile.replace(
      paths.markdown, with: ReportMarkdown(run: run, paired: paired, curvature: curvature).document)
    try TextFile.replace(paths.html, with: ReportHTML(run: run, paired: paired, curvature: curvature).document)
    return paths
  }

  /// The retention table for a terminal, with the summary and the gates below.
  ///
  /// - Parameter width: columns of the terminal; wider tables are cut into blocks.
  public static func retentionTable(_ results: RunResults, width: Int = 100) -> String {
    let summary = results.summary
    var text = Tables.retention(results, firstMetricsOnly: true).terminal(width: width)
    let unit = Format.plain(Format.unit(summary.metric))
    text += "forgetting \(Format.number(summary.forgetting))\(Tables.interval(summary.forgettingCI)) \(unit)"
    text += " · retention \(Format.percent(summary.retention))"
    text += " · plasticity \(Format.number(summary.plasticity))"
    text += " · BWT \(Format.signed(summary.bwt)) · FWT \(Format.signed(summary.fwt))\n"
    if !results.gates.isEmpty {
      let broken = results.gates.filter { !$0.passed }
      text += "gates  \(results.gates.count - broken.count) passed, \(broken.count) broken\n"
      for gate in broken {
        text += "       \(Format.plain(gate.probe)) \(Format.percent(gate.observed, signed: true))"
        text +=
          " after \(Format.plain(gate.after ?? Format.nothing)), allowed \(Format.percent(gate.limit))\n"
      }
    }
    return text
  }

  /// The comparison table for a terminal, with a verdict on EWC against L2-SP where both ran.
  ///
  /// - Parameter runDirectory: where the variants' documents are, for the paired interval that reports have, too
  public static func comparisonTable(
    _ comparison: Comparison, runDirectory: String? = nil, width: Int = 120
  ) -> String {
    let paired = curvature(in: runDirectory)
    let verdict = Narrative.curvatureVerdict(comparison, paired: paired).map { $0 + "\n" } ?? ""
    return Tables.comparison(comparison).terminal(width: width) + verdict
  }

  static func curvature(in runDirectory: String?) -> Interval? {
    runDirectory.flatMap { try? RunFolder($0) }.flatMap(curvature)
  }

  /// The paired interval of EWC's score less that of L2-SP, where their folders are on disk.
  private static func curvature(_ run: RunFolder) -> Interval? {
    guard let comparison = run.comparison, let naive = comparison.variant("naive")?.summary,
      let ewc = comparison.variant("ewc").flatMap({ run.folder(of: $0) }),
      let plain = comparison.variant("l2sp").flatMap({ run.folder(of: $0) })
    else { return nil }
    return PairedRuns.scoreDifference(ewc, minus: plain, naive: naive)
  }

  /// Paired differences of every other variant against this run, by variant, where folders are on disk.
  private static func paired(_ run: RunFolder) -> [String: PairedRuns] {
    guard let own = run.ownVariant, let comparison = run.comparison, run.matrix != nil else { return [:] }
    var paired: [String: PairedRuns] = [:]
    for variant in comparison.variants where variant.name != own.name {
      if let other = run.folder(of: variant), other.matrix != nil {
        paired[variant.name] = PairedRuns(run, other)
      }
    }
    return paired
  }
}
