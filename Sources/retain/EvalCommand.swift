// `retain eval`: asks any model the questions of probes. The form of its JSON is a contract.
import ArgumentParser
import Corpus
import Foundation
import Ledger
import Models
import Probes
import Runs
import StrictJSON

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Measure any model on probes.",
    discussion: """
      MODEL is a Hugging Face folder or a Retain checkpoint (.h5). TYPE is text, minimal_pairs or
      multiple_choice; without it the shape of the rows decides.
      """)

  @Argument(help: "Hugging Face folder or Retain .h5 file.")
  var model: String
  @Option(
    name: .customLong("probe"), help: ArgumentHelp("A probe; may be repeated.", valueName: "name=path[:type]")
  )
  var probes: [String] = []
  @Option(
    help: ArgumentHelp("Metrics, comma-separated; default: all of each probe's type.", valueName: "a,b"))
  var metrics: String?
  @Option(help: ArgumentHelp("Most tokens fed at a time; default: the model's context.", valueName: "n"))
  var window: Int?
  @OptionGroup var precision: PrecisionOption
  @OptionGroup var threads: ThreadOption
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard !probes.isEmpty else { throw usage("eval needs at least one --probe NAME=PATH[:TYPE]") }
    let asked = try ProbeArgument.read(probes)
    let chosen = try chosenMetrics()
    let backend = try threads.backend()
    try precision.apply(to: backend)
    let loaded = try LoadedModel.load(model, on: backend)
    let prepared = try askingProbes { try asked.map { try PreparedProbe($0.definition, model: loaded) } }
    var measurements: [Ledger.Measurement] = []
    for probe in prepared {
      for note in probe.notes { Say.note("probe \(probe.name): \(note)") }
      if let chosen, !probe.metrics.contains(where: { chosen.contains($0.name) }) {
        throw usage(
          "probe \(probe.name) has none of the metrics \(chosen.joined(separator: ", "))",
          hint: "it has " + probe.metrics.map(\.name).joined(separator: ", "))
      }
    }
    for probe in prepared {
      let found = try askingProbes { try probe.measure(loaded.transformer, window: window, on: backend) }
      if let chosen {
        for name in chosen { measurements += found.filter { $0.metric == name } }
      } else {
        measurements += found
      }
    }
    if json {
      Say.json(["schema": 1, "model": .string(model), "measurements": .array(measurements.map(\.shortJSON))])
    } else {
      Terminal.out(Self.table(measurements))
    }
  }

  /// The wanted metrics, each of which some kind of probe must know; nil for all.
  private func chosenMetrics() throws -> [String]? {
    guard let metrics else { return nil }
    var known: [String] = []
    for metric in ProbeCatalog.cards.flatMap(\.metrics) where !known.contains(metric.name) {
      known.append(metric.name)
    }
    var chosen: [String] = []
    for part in metrics.split(separator: ",") {
      let name = part.trimmingCharacters(in: .whitespaces)
      guard known.contains(name) else {
        throw usage(
          "--metrics: there is no metric \(name)", hint: "metrics: " + known.joined(separator: ", "))
      }
      if !chosen.contains(name) { chosen.append(name) }
    }
    guard !chosen.isEmpty else { throw usage("--metrics names nothing") }
    return chosen
  }

  private static func table(_ measurements: [Ledger.Measurement]) -> String {
    var table = AlignedTable(
      ["probe", "metric", "", "value", "± stderr", "n", "tokens", "bytes", "window"],
      numeric: [3, 4, 5, 6, 7, 8])
    for one in measurements {
      table.add(
        one.probe, one.metric, one.higherIsBetter ? "↑" : "↓", Show.fixed(one.value, 4),
        one.stderr.map { "± " + Show.fixed($0, 4) } ?? "–", Show.count(one.n), Show.count(one.tokens),
        Show.count(one.bytes), Show.count(one.window))
    }
    return table.text + "\n↑ higher is better, ↓ lower is better; stderr over the n documents or items"
  }
}
