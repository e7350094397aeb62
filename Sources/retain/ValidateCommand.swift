// `retain validate`: reads all that a run would read and reports every mistake; trains nothing, writes nothing.
import ArgumentParser
import Experiment
import Ledger
import Probes
import Runs
import StrictJSON

struct ValidateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Read everything a run would read and report every mistake at once.",
    discussion: """
      Examples:
        retain validate experiment.yaml
        retain validate experiment.yaml stages.medical.training.num_epochs=2

      Reads the experiment, the model with its tokenizer, all training rows and
      probes, and looks for probe documents among the training rows.
      Exit code 78: mistakes in the experiment; 69: something unsupported;
      66: files missing; 65: bad data.
      """)

  @Argument(help: "Experiment file.", completion: .file(extensions: ["yaml", "yml"]))
  var file: String
  @Argument(help: ArgumentHelp("Keys to override.", valueName: "key=value"))
  var overrides: [String] = []
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let source: ExperimentFile
    do { source = try ExperimentFile.read(file, overrides: overrides) } catch {
      if json { Terminal.out(Self.json(errors: error.issues.map(\.description))) }
      throw error
    }
    for issue in source.warnings { Terminal.warning(issue.description) }
    let check = ExperimentCheck(source.plan)
    guard let assembly = check.assembly else {
      if json { Terminal.out(Self.json(errors: check.errors.map(Failure.text))) }
      Failure.say(all: check.errors)
      throw ArgumentParser.ExitCode(check.exitCode)
    }
    let warnings =
      assembly.data.notes + assembly.probes.flatMap { probe in probe.notes.map { "probe \(probe.name): \($0)" } }
    if json {
      Terminal.out(Self.json(assembly, warnings: warnings + source.warnings.map(\.description)))
    } else {
      for text in warnings { Terminal.out(Terminal.plain("note: \(text)")) }
      Terminal.out(Self.summary(assembly))
    }
  }

  private static func json(errors: [String]) -> JSON {
    ["schema": 1, "valid": false, "errors": .array(errors.map { .string($0) })]
  }

  private static func json(_ assembly: Assembly, warnings: [String]) -> JSON {
    func set(_ name: String, _ text: TextSet) -> JSON {
      [
        "name": .string(name), "rows": .integer(text.report.rows), "sequences": .integer(text.examples.count),
        "tokens": .integer(text.inputTokens), "scored_tokens": .integer(text.scoredTokens),
        "validation_sequences": .integer(text.validation.count),
      ]
    }
    let model = assembly.subject.facts
    return [
      "schema": 1, "valid": true, "errors": [], "warnings": .array(warnings.map { .string($0) }),
      "model": [
        "path": .string(model.path), "architecture": .string(model.architecture),
        "parameters": .integer(assembly.subject.network.parameters.count),
        "vocabulary": .integer(model.vocabulary), "context": .integer(model.context),
      ],
      "base": set("base", assembly.data.base),
      "stages": .array(zip(assembly.plan.stages, assembly.data.stages).map { set($0.name, $1) }),
      "probes": .array(
        assembly.probes.map { probe in
          [
            "name": .string(probe.name), "kind": .string(probe.kind.rawValue), "items": .integer(probe.items),
            "metrics": .array(probe.metrics.map { .string($0.name) }),
          ]
        }),
    ]
  }

  private static func summary(_ assembly: Assembly) -> String {
    let model = assembly.subject.facts
    var rows = [["", "rows", "sequences", "tokens", "scored", "held out"]]
    func add(_ name: String, _ text: TextSet) {
      rows.append([
        name, Figures.count(text.report.rows), Figures.count(text.examples.count),
        Figures.count(text.inputTokens),
        Figures.count(text.scoredTokens), Figures.count(text.validation.count),
      ])
    }
    if !assembly.data.base.examples.isEmpty { add("base_data", assembly.data.base) }
    for (stage, text) in zip(assembly.plan.stages, assembly.data.stages) { add("stage \(stage.name)", text) }
    var probes = [["", "kind", "items", "metrics"]]
    for probe in assembly.probes {
      probes.append([
        "probe \(probe.name)", probe.kind.rawValue, Figures.count(probe.items),
        probe.metrics.map(\.name).joined(separator: ", "),
      ])
    }
    return Terminal.plain(
      """
      model  \(model.path): \(model.architecture), \(Figures.count(assembly.subject.network.parameters.count)) parameters, \
      vocabulary \(Figures.count(model.vocabulary)), context \(Figures.count(model.context))
      guard  \(RunSession.describe(assembly.plan.methods))

      \(Figures.columns(rows))

      \(Figures.columns(probes))

      No mistakes found. Nothing was trained.
      """)
  }
}
