// `retain demo`: the whole story on embedded data, found wherever the program was installed or built.
import ArgumentParser
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON

struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "The whole story on embedded data: two stages, several guards, one report.",
    discussion: """
      Examples:
        retain demo
        retain demo --out runs/first

      Finds Checkpoints/base-en.h5 and Experiments/demo through RETAIN_HOME, then
      PREFIX/share/retain, then upward from the executable.
      Run again after an interruption, it continues.
      """)

  @Option(help: ArgumentHelp("Where results go.", valueName: "dir"), completion: .directory)
  var out = "runs/demo"
  @Flag(help: "Forget what the output directory holds and start over.")
  var fresh = false

  func run() throws {
    let home = try DemoHome.find()
    let folder = out.hasPrefix("/") ? out : FileManager.default.currentDirectoryPath + "/" + out
    // Quoted, so that any path is one YAML text.
    let source = try ExperimentFile.read(
      home + "/" + DemoHome.experiment, overrides: ["output_dir=" + JSON.string(folder).compact])
    let session = RunSession(plan: source.plan, warnings: source.warnings)
    Terminal.out(Story.before(source.plan))
    let code = try session.execute(fresh: fresh)
    guard code != Runs.ExitCode.resumable else { throw ArgumentParser.ExitCode(code) }
    try session.close()
    if let comparison = try session.comparison { Terminal.out(Story.after(source.plan, comparison)) }
    if code != Runs.ExitCode.done { throw ArgumentParser.ExitCode(code) }
  }
}

/// The folder that holds the demo's model and experiment.
enum DemoHome {
  static let experiment = "Experiments/demo/experiment.yaml"
  static let model = "Checkpoints/base-en.h5"

  /// - Throws: `RunError` (66) naming the places that were looked at
  static func find() throws -> String {
    if let home = Terminal.environment("RETAIN_HOME"), !home.isEmpty {
      let missing = [experiment, model].filter { !FileManager.default.fileExists(atPath: home + "/" + $0) }
      guard missing.isEmpty else {
        throw RunError(
          Runs.ExitCode.missingInput,
          "RETAIN_HOME is \(home), but there is no \(missing.joined(separator: " and no "))",
          hint: "point it to a checkout of retain or to PREFIX/share/retain, or unset it")
      }
      return home
    }
    let candidates = places
    for place in candidates where isHome(place) { return place }
    throw RunError(
      Runs.ExitCode.missingInput,
      "\(model) and \(experiment) are not to be found; looked in\n  " + candidates.joined(separator: "\n  "),
      hint: "set RETAIN_HOME to a checkout of retain")
  }

  private static func isHome(_ place: String) -> Bool {
    [experiment, model].allSatisfy { FileManager.default.fileExists(atPath: place + "/" + $0) }
  }

  /// PREFIX/share/retain, then every folder above the executable.
  private static var places: [String] {
    let executable =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    var folder = (executable as NSString).deletingLastPathComponent
    var places = [(folder as NSString).deletingLastPathComponent + "/share/retain"]
    while folder != "/", !folder.isEmpty {
      places.append(folder)
      folder = (folder as NSString).deletingLastPathComponent
    }
    return places
  }
}

/// What the demo says around its tables; every figure comes from the run.
enum Story {
  static func before(_ plan: ExperimentPlan) -> String {
    let chain = plan.stages.map(\.name).joined(separator: ", then ")
    let variants = (plan.compare.map(\.name) + [plan.mainVariantName]).joined(separator: ", ")
    return """
      A small model that knows everyday English is trained on \(chain).
      The same chain runs \(plan.compare.count + 1) times from the same start, with the same texts in the same order;
      only what guards the past differs: \(variants).
      Before training and after every stage the same probes are asked.

      """
  }

  static func after(_ plan: ExperimentPlan, _ comparison: Comparison) -> String {
    var lines = ["", Style.bold.paint("What it shows")]
    let unit = comparison.variants.first?.summary.metric == "bits_per_byte" ? " bits per byte" : ""
    if let naive = comparison.variant("naive")?.summary, let forgot = naive.forgetting,
      let learned = naive.plasticity
    {
      lines.append(
        "  naive: learned \(Figures.fixed(learned, 3))\(unit) of the new domains and lost \(Figures.fixed(forgot, 3)) of what it knew."
      )
    }
    for variant in comparison.variants {
      guard let share = variant.plasticityShare, let avoided = variant.forgettingAvoided, variant.name != "naive" else {
        continue
      }
      lines.append(
        "  \(variant.name): \(Figures.fixed(100 * avoided, 0))% of that loss avoided, with \(Figures.fixed(100 * share, 0))% of the learning."
      )
    }
    lines += [
      "", Style.bold.paint("What it does not show"),
      "  A tiny model and short generated texts, \(plan.stages.count) stages, one seed: the order of the guards may differ on",
      "  your model and data. Strengths were set for this experiment; retain tune finds them for yours.",
      "", Terminal.plain("The report with charts and intervals: \(plan.outputDirectory)/report.html"),
    ]
    return lines.joined(separator: "\n")
  }
}
