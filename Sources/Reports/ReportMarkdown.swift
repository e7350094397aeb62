// report.md: the same story as the page, for terminals, reviews and version control.
// Tables only; the charts live in report.html.

import Ledger

struct ReportMarkdown {
  let run: RunFolder
  let paired: [String: PairedRuns]
  /// Of EWC's score less that of L2-SP.
  let curvature: Interval?

  var document: String {
    let results = run.results
    var text = "# \(Format.markdown(results.name))\n\n"
    text += Format.markdown(Narrative.head(results)) + "\n\n"
    text += "**\(Format.markdown(Narrative.headline(results)))**\n\n"
    let verdict = Narrative.verdict(run, paired: paired, curvature: curvature)
    text += Format.markdown(verdict.joined(separator: " ")) + "\n\n"
    text += list(run.notes)
    text += "## Retention matrix\n\n"
    text += Tables.retention(results, firstMetricsOnly: false).markdown + "\n"
    if let terms = Tables.terms(results.summary) {
      text += "Summary by probe, in \(Format.markdown(Format.unit(results.summary.metric))):\n\n"
      text += terms.markdown + "\n"
    }
    if let comparison = run.comparison, !comparison.variants.isEmpty {
      text += "## The same chain under other methods\n\n"
      text += Tables.comparison(comparison, own: run.ownVariant?.name, paired: paired).markdown + "\n"
    }
    if let tune = run.tune { text += TunePage.markdown(tune) + "\n" }
    if let gates = Tables.gates(results) { text += "## Gates\n\n" + gates.markdown + "\n" }
    text += "## What this does not prove\n\n" + list(Narrative.limits(run))
    text += "## What the words mean\n\n"
    text += list(Narrative.definitions(results.summary).map { "\($0.term): \($0.meaning)" })
    text += "## Cost and environment\n\n" + Tables.cost(results).markdown
    return text
  }

  private func list(_ lines: [String]) -> String {
    lines.isEmpty ? "" : lines.map { "- \(Format.markdown($0))\n" }.joined() + "\n"
  }
}
