// report.html: verdict first, then the matrix, the comparison, the curves, and what they do not prove.
// Sections without data are left out.

import Ledger
import StrictJSON

struct ReportHTML {
  let run: RunFolder
  let paired: [String: PairedRuns]
  /// Of EWC's score less that of L2-SP.
  let curvature: Interval?

  var document: String {
    let results = run.results
    return Page.document(title: "\(results.name): what was learned and what was forgotten") { page in
      page.element("header") { page in
        page.element("h1", results.name)
        page.element(
          "p", ["class": "soft"],
          Narrative.head(results))
        page.element("p", ["class": "headline"], Narrative.headline(results))
        page.element(
          "p", Narrative.verdict(run, paired: paired, curvature: curvature).joined(separator: " "))
        if !run.notes.isEmpty { Page.list(&page, run.notes) }
      }
      matrix(&page)
      curves(&page)
      comparison(&page)
      losses(&page)
      if let tune = run.tune { TunePage.section(&page, tune) }
      if let gates = Tables.gates(results) {
        Page.section(&page, "Gates") { page in gates.write(to: &page) }
      }
      Page.section(&page, "What this does not prove") { page in Page.list(&page, Narrative.limits(run)) }
      Self.definitions(&page, results.summary)
      Page.section(&page, "Cost and environment") { page in
        Tables.cost(results).write(to: &page)
        if let samples = run.samples { Page.folded(&page, "Samples before and after each stage", samples) }
        if let plan = run.plan { Page.folded(&page, "The plan, every default filled in", plan) }
      }
    }
  }

  private func matrix(_ page: inout Markup) {
    let results = run.results
    Page.section(&page, "Retention matrix") { page in
      Tables.retention(results, firstMetricsOnly: false, heat: true).write(
        to: &page,
        caption:
          "Blue is better than the base model, orange is worse; a frame marks a probe after its own stage.")
      if let terms = Tables.terms(results.summary) {
        page.element("h3", "Summary by probe, in \(Format.unit(results.summary.metric))")
        terms.write(to: &page)
      }
      if results.seedRuns.count > 1 {
        var table = Table(["seed", "forgetting", "retention", "plasticity"])
        for seed in results.seedRuns {
          table.add([
            "\(seed.seed)",
            Format.number(seed.summary.forgetting) + Tables.interval(seed.summary.forgettingCI),
            Format.percent(seed.summary.retention), Format.number(seed.summary.plasticity),
          ])
        }
        page.element("h3", "By seed")
        table.write(to: &page)
      }
    }
  }

  private func curves(_ page: inout Markup) {
    let results = run.results
    let own = run.ownVariant?.name ?? "this run"
    // In the order of the comparison, so that a variant keeps its colour and shape over the page.
    var lines = (run.comparison?.variants ?? []).map { (name: $0.name, matrix: $0.matrix) }
    if run.ownVariant == nil { lines.append((own, results.matrix)) }
    let positions = ["base"] + results.stages
    guard results.matrix.count > 1 else { return }
    Page.section(&page, "Learned and forgotten, probe by probe") { page in
      Chart.legend(&page, lines.map(\.name))
      page.element("div", ["class": "small"]) { page in
        for probe in results.probes {
          let series = lines.enumerated().map { index, line in
            LineChart.Series(
              name: line.name,
              points: positions.enumerated().compactMap { row, name in
                line.matrix.first { $0.after == name }?.cell(probe.key).map {
                  LineChart.Point(x: Double(row), y: $0.value, error: line.name == own ? $0.stderr : nil)
                }
              }, index: index, isMain: line.name == own)
          }
          guard series.contains(where: { !$0.points.isEmpty }) else { continue }
          page.element("figure", ["style": "margin:0"]) { page in
            page.element("h3", probe.name + (probe.home.map { " (taught in \($0))" } ?? " (known before)"))
            LineChart(
              title: "\(probe.name) after each stage",
              yName: Format.unit(probe.metric)
                + (probe.higherIsBetter ? ", up is better" : ", down is better"),
              series: series, positions: positions, width: 340, height: 220
            ).write(to: &page)
          }
        }
      }
    }
  }

  private func comparison(_ page: inout Markup) {
    guard let comparison = run.comparison, !comparison.variants.isEmpty else { return }
    Page.section(&page, "The same chain under other methods") { page in
      Tables.comparison(comparison, own: run.ownVariant?.name, paired: paired).write(to: &page)
      Self.scatter(
        &page, comparison.variants.map { ($0.name, $0.summary) }, of: "variants", own: run.ownVariant?.name)
    }
  }

  /// Plasticity against retention, where two summaries or more have both in one unit.
  ///
  /// - Parameter kind: what is shown, as its caption says it
  static func scatter(
    _ page: inout Markup, _ summaries: [(name: String, summary: Summary)], of kind: String, own: String? = nil
  ) {
    guard let first = summaries.first?.summary, summaries.allSatisfy({ $0.summary.metric == first.metric }) else {
      return
    }
    let points = summaries.enumerated().compactMap { index, entry -> ScatterChart.Point? in
      let summary = entry.summary
      guard let plasticity = summary.plasticity, let retention = summary.retention else { return nil }
      return ScatterChart.Point(
        name: entry.name, x: plasticity, y: 100 * retention,
        xInterval: summary.plasticityCI.map { ($0.lower, $0.upper) },
        yInterval: summary.retentionCI.map { (100 * $0.lower, 100 * $0.upper) }, index: index,
        isChosen: entry.name == own)
    }
    guard points.count > 1 else { return }
    page.element("h3", "Plasticity against stability: right and up is better")
    ScatterChart(
      title: "Plasticity against retention of the \(kind)", xName: "plasticity, \(Format.unit(first.metric))",
      yName: "retention, %", points: points
    ).write(to: &page)
    page.element(
      "p", ["class": "soft"],
      "Bars are \(Narrative.level(first)) intervals over documents; the dotted line joins \(kind) that no other beats "
        + "on both axes" + (own == nil ? "." : "; the ring is this run."))
  }

  static func definitions(_ page: inout Markup, _ summary: Summary) {
    Page.section(&page, "What the words mean") { page in
      page.element("dl") { page in
        for (term, meaning) in Narrative.definitions(summary) {
          page.element("dt", term)
          page.element("dd", meaning)
        }
      }
    }
  }

  private func losses(_ page: inout Markup) {
    let curves = LossCurves(run.events)
    guard curves.loss.count > 1 else { return }
    Page.section(&page, "Losses") { page in
      var series = [
        LineChart.Series(
          name: "training, as logged", points: LineChart.thinned(curves.loss), index: 0, hasMarkers: false,
          isFaint: true)
      ]
      series += curves.stages.map { stage in
        LineChart.Series(
          name: "training, smoothed",
          points: LineChart.thinned(
            LineChart.smoothed(stage.loss, span: max(1, Double(stage.loss.count) / 15))),
          index: 0, hasMarkers: false)
      }
      let validated = curves.stages.filter { !$0.validation.isEmpty }
      series += validated.map { LineChart.Series(name: "validation", points: $0.validation, index: 1) }
      Chart.legend(&page, validated.isEmpty ? ["training"] : ["training", "validation"])
      LineChart(
        title: "Loss over the steps of all stages", xName: "step",
        yName: "nats per token, without the penalty",
        series: series, bands: curves.bands, marks: curves.resumed
      ).write(to: &page)
      if curves.penalty.contains(where: { $0.y != 0 }) {
        LineChart(
          title: "Penalty over the steps of all stages", xName: "step", yName: "penalty of the methods",
          series: curves.stages.map {
            LineChart.Series(
              name: "penalty", points: LineChart.thinned($0.penalty), index: 0, hasMarkers: false)
          }, bands: curves.bands, marks: curves.resumed, height: 200
        ).write(to: &page)
        if let share = curves.penaltyShare {
          page.element(
            "p", ["class": "soft"],
            "On average the penalty was \(Format.percent(share)) of the loss."
              + (share < 0.001
                ? " That little has no effect." : share > 0.5 ? " That much dominates it." : ""))
        }
      }
    }
  }
}
