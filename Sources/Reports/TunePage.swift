// The page of a strength search: every trial, the front, the choice, and how the strength acts.
// Also a section of the run's own report where tune.json lies beside it.

import Glibc
import Ledger
import StrictJSON

/// Pages made from tune.json.
public enum TunePage {
  /// A whole page.
  public static func html(_ tune: TuneResults, name: String) -> String {
    Page.document(title: "\(name): search for \(tune.key)") { page in
      page.element("header") { page in
        page.element("h1", "\(name): search for \(tune.key)")
        page.element("p", ["class": "headline"], sentence(tune))
      }
      section(&page, tune)
    }
  }

  /// The page of the tune.json in a directory.
  public static func html(directory: String, name: String) throws(LedgerError) -> String {
    html(try TuneResults.read(directory + "/tune.json"), name: name)
  }

  /// The same as Markdown, under a heading of the second level.
  public static func markdown(_ tune: TuneResults) -> String {
    "## Search for \(Format.markdown(tune.key))\n\n\(Format.markdown(sentence(tune)))\n\n"
      + table(tune).markdown
  }

  /// The trials for a terminal.
  public static func terminal(_ tune: TuneResults, width: Int = 110) -> String {
    table(tune).terminal(width: width) + Format.plain(sentence(tune)) + "\n"
  }

  static func sentence(_ tune: TuneResults) -> String {
    let reason = tune.reason.isEmpty ? "" : " (\(tune.reason))"
    return "Of \(tune.trials.count) trials, \(tune.key) = \(text(tune.chosen)) was chosen\(reason)."
  }

  static func section(_ page: inout Markup, _ tune: TuneResults) {
    Page.section(&page, "Search for \(tune.key)") { page in
      page.element("p", sentence(tune))
      scatter(&page, tune)
      response(&page, tune)
      table(tune).write(to: &page)
    }
  }

  private static func text(_ value: JSON?) -> String {
    switch value {
    case nil: "naive"
    case .number(let number)?: shortest(number)
    case .string(let text)?: text
    case .some(let other): other.compact
    }
  }

  /// Four significant digits, without an exponent where that is readable.
  private static func shortest(_ value: Double) -> String {
    guard value != 0, value.isFinite, abs(value) >= 1e-4, abs(value) < 1e6 else { return "\(value)" }
    var text = Format.fixed(value, abs(value) >= 1000 ? 0 : abs(value) >= 1 ? 3 : 6)
    if text.contains(".") {
      while text.last == "0" { text.removeLast() }
      if text.last == "." { text.removeLast() }
    }
    return text
  }

  private static func table(_ tune: TuneResults) -> Table {
    var table = Table([
      tune.key, "rung", "steps", "forgetting ↓", "plasticity ↑", "retention ↑", "plasticity share",
      "forgetting avoided", "sum", "time",
    ])
    let last = tune.trials.map(\.rung).max() ?? 0
    for trial in (tune.naive.map { [$0] } ?? []) + tune.trials {
      let isChosen = trial.value == tune.chosen && trial.rung == last
      table.add([
        text(trial.value) + (isChosen ? " (chosen)" : ""), "\(trial.rung)", "\(trial.steps)",
        Format.number(trial.forgetting), Format.number(trial.plasticity), Format.percent(trial.retention),
        Format.percent(trial.plasticityShare), Format.percent(trial.forgettingAvoided),
        Format.number(trial.score), Format.duration(trial.seconds),
      ])
    }
    return table
  }

  private static func scatter(_ page: inout Markup, _ tune: TuneResults) {
    let last = tune.trials.map(\.rung).max() ?? 0
    var points = tune.trials.filter { $0.rung == last }.compactMap { trial -> ScatterChart.Point? in
      guard let plasticity = trial.plasticity, let retention = trial.retention else { return nil }
      return ScatterChart.Point(
        name: text(trial.value), x: plasticity, y: 100 * retention, index: 0,
        isChosen: trial.value == tune.chosen)
    }
    if let naive = tune.naive, let plasticity = naive.plasticity, let retention = naive.retention {
      points.append(
        ScatterChart.Point(name: "naive", x: plasticity, y: 100 * retention, index: 1, isLabelBelow: true))
    }
    guard points.count > 1 else { return }
    page.element("h3", "Plasticity against stability: right and up is better")
    ScatterChart(
      title: "Plasticity against retention of the trials of the last rung", xName: "plasticity",
      yName: "retention, %", points: points
    ).write(to: &page)
    page.element(
      "p", ["class": "soft"],
      "Trials of the last rung, labelled with their value; the dotted line joins those that no other beats on "
        + "both axes; the ring is the choice.")
  }

  /// Shares over the logarithm of the value, where values are positive numbers.
  private static func response(_ page: inout Markup, _ tune: TuneResults) {
    let last = tune.trials.map(\.rung).max() ?? 0
    let trials = tune.trials.filter { $0.rung == last }.compactMap { trial in
      trial.value?.double.flatMap { $0 > 0 ? (exponent: log10($0), trial: trial) : nil }
    }.sorted { $0.exponent < $1.exponent }
    guard trials.count > 1 else { return }
    func series(_ name: String, _ index: Int, _ value: (TuneResults.Trial) -> Double?) -> LineChart.Series {
      LineChart.Series(
        name: name,
        points: trials.compactMap { entry in
          value(entry.trial).map { LineChart.Point(x: entry.exponent, y: 100 * $0) }
        }, index: index)
    }
    let lines = [
      series("plasticity share", 0, \.plasticityShare), series("forgetting avoided", 1, \.forgettingAvoided),
    ]
    guard lines.contains(where: { $0.points.count > 1 }) else { return }
    page.element("h3", "How the strength acts")
    Chart.legend(&page, lines.map(\.name))
    LineChart(
      title: "Plasticity share and forgetting avoided over the strength", xName: "log10 of \(tune.key)",
      yName: "% of naive fine-tuning", series: lines
    ).write(to: &page)
  }
}
