// `retain run`: the chain of an experiment, from wherever it stands.
import ArgumentParser
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run an experiment; run again after any interruption, it continues.",
    discussion: """
      Examples:
        retain run experiment.yaml
        retain run experiment.yaml training.learning_rate=1e-5 methods.ewc.lambda=30
        retain run experiment.yaml --dry-run
        retain run runs/clinic-court/plan.yaml

      Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 finish the step, save and exit with 75;
      a second Ctrl-C leaves at once with 130. SIGUSR2 saves and goes on.
      Off a terminal there is one plain line per logging_steps.
      """)

  @Argument(
    help: "Experiment file, or the plan.yaml of a run.", completion: .file(extensions: ["yaml", "yml"]))
  var file: String
  @Argument(help: ArgumentHelp("Keys to override.", valueName: "key=value"))
  var overrides: [String] = []
  @Flag(help: "Forget what the output directory holds and start over.")
  var fresh = false
  @Flag(help: "Read everything, print steps, tokens, memory, disk and time, train nothing.")
  var dryRun = false
  @Flag(name: .shortAndLong, help: "Print warnings and errors only.")
  var quiet = false
  @Flag(help: "Print JSON: the forecast of --dry-run, else results.json when the run has ended.")
  var json = false

  func run() throws {
    let source = try ExperimentFile.read(file, overrides: overrides)
    if dryRun { return try forecast(source) }
    try requirePlace(source.plan)
    let session = RunSession(plan: source.plan, warnings: source.warnings, isQuiet: quiet || json)
    let code = try session.execute(fresh: fresh)
    if code != Runs.ExitCode.resumable {
      if json {
        Terminal.out(try RunResults.read(source.plan.outputDirectory + "/results.json").json)
      } else if !quiet {
        try session.close()
      }
    }
    if code != Runs.ExitCode.done { throw ArgumentParser.ExitCode(code) }
  }

  /// A run that was moved or copied has a plan that names the old place, where it would silently begin anew.
  private func requirePlace(_ plan: ExperimentPlan) throws {
    func real(_ path: String) -> String { URL(fileURLWithPath: path).resolvingSymlinksInPath().path }
    // A written plan names the experiment file that it came from.
    guard real(plan.file) != real(file), !overrides.contains(where: { $0.hasPrefix("output_dir=") }) else { return }
    let folder = URL(fileURLWithPath: real(file)).deletingLastPathComponent().path
    guard folder != real(plan.outputDirectory), try ExperimentRun.hasBegun(plan, at: folder) else { return }
    throw RunError(
      Runs.ExitCode.configuration, "\(file): the run that lies here was at \(plan.outputDirectory)",
      hint: "add output_dir=\(folder) to go on here, or another one to start anew")
  }

  private func forecast(_ source: ExperimentFile) throws {
    for issue in source.warnings { Terminal.warning(issue.description) }
    for text in RunSession.environmentWarnings(source.plan) { Terminal.warning(text) }
    let assembly = try Assembly(source.plan, reuse: false)
    let forecast = try DryRun(source.plan, assembly: assembly)
    if json { Terminal.out(forecast.json) } else { Terminal.out(Forecast(forecast, plan: source.plan).text) }
    if let free = forecast.freeDisk, forecast.diskBytes > free {
      Terminal.warning(
        "the disk has \(Figures.bytes(free)), the run needs \(Figures.bytes(forecast.diskBytes))")
    }
    if let available = forecast.availableMemory, forecast.memoryBytes > available {
      Terminal.warning(
        "\(Figures.bytes(available)) of memory can be had, the run needs about \(Figures.bytes(forecast.memoryBytes)); "
          + "lower training.micro_batch_size or sequence_len")
    }
  }
}

/// The forecast as tables.
struct Forecast {
  private let forecast: DryRun
  private let plan: ExperimentPlan
  init(_ forecast: DryRun, plan: ExperimentPlan) {
    self.forecast = forecast
    self.plan = plan
  }

  var text: String {
    var stages = [["variant", "stage", "steps", "stage tokens", "replayed", "time"]]
    for variant in forecast.variants {
      for stage in variant.stages {
        stages.append([
          variant.name, stage.name, Figures.count(stage.steps), Figures.count(stage.stageTokens),
          Figures.count(stage.replayedTokens), Figures.duration(stage.seconds),
        ])
      }
    }
    var totals = [
      ["variant", "training", "consolidation", "measuring", "total", "memory", "checkpoints", "on disk"]
    ]
    for variant in forecast.variants {
      totals.append([
        variant.name, Figures.duration(variant.stages.reduce(0) { $0 + $1.seconds }),
        Figures.duration(variant.consolidationSeconds), Figures.duration(variant.measuringSeconds),
        Figures.duration(variant.seconds), Figures.bytes(variant.memory.bytes), "\(variant.disk.checkpoints)",
        Figures.bytes(variant.disk.bytes),
      ])
    }
    let largest = forecast.variants.max { $0.memory.bytes < $1.memory.bytes }
    let parts = (largest?.memory.parts ?? []).sorted { $0.bytes > $1.bytes }.prefix(6)
      .map { "\($0.name) \(Figures.bytes($0.bytes))" }.joined(separator: ", ")
    let memory = forecast.availableMemory.map { " of \(Figures.bytes($0)) that can be had" } ?? ""
    let seeds = forecast.seeds > 1 ? " for all \(forecast.seeds) seeds" : ""
    let disk = forecast.freeDisk.map { " of \(Figures.bytes($0)) free" } ?? ""
    return """
      \(plan.name): nothing was trained

      \(Figures.columns(stages))

      \(Figures.columns(totals))

      time    about \(Figures.duration(forecast.seconds))\(seeds), from \(Figures.count(Int(forecast.tokensPerSecond))) tokens/s in a short calibration
      memory  about \(Figures.bytes(forecast.memoryBytes))\(memory): \(parts)
      disk    \(Figures.bytes(forecast.diskBytes))\(disk), one checkpoint being written included
      """
  }
}
