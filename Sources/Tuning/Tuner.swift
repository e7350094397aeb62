// `retain tune`: short runs of every value, the best few in full, the choice and its pages.
// Base model, data, probes and the base's Fisher are made once for all trials.
import Archive
import Experiment
import Foundation
import Ledger
import Reports
import Runs
import StrictJSON

/// How a search ended.
public enum TuneOutcome: Sendable, Equatable {
  case finished(TuneResults)
  /// Saved and resumable.
  case interrupted(String)
}

/// Searches the strength of a method, or any other numeric key; called again it continues.
///
/// A trial runs the stages up to the tuned one under the main stack with a value in place, beside naive
/// fine-tuning of the same length. A finished trial keeps plan.yaml, ledger.jsonl and results.json and no
/// checkpoint; an unfinished one keeps the newest checkpoint within a stage.
public final class Tuner {
  private struct Interruption: Error { let reason: String }
  private struct Measured {
    let results: RunResults
    let replicates: SummaryReplicates?
    let steps: Int
    var isDiverged: Bool { results.status == .diverged }
  }

  /// Where everything is written: the experiment's `output_dir`.
  public var directory: String { plans.experiment.outputDirectory }
  private let plans: TrialPlans
  private let observer: any RunObserver
  private let deadline: Double?
  private var shared: (part: AssemblyPart, assembly: Assembly)?
  private var ranOne = false

  /// Reads the experiment; nothing is written yet.
  ///
  /// - Throws: `ExperimentError`; `RunError` (78) where there is nothing to search
  public init(path: String, overrides: [String] = [], observer: any RunObserver) throws {
    plans = try TrialPlans(path: path, overrides: overrides)
    self.observer = observer
    deadline = plans.experiment.timeLimitSeconds.map { Machine.seconds + $0 }
  }

  /// Searches to the end, or to a signal or the time limit.
  ///
  /// Writes tune.json, tune.html, tune.md and tuned.yaml into `directory`.
  /// - Parameter fresh: forget earlier trials
  /// - Throws: `RunError` 80 where naive fine-tuning or every trial diverges, 78 where naive fine-tuning
  ///   learns or forgets nothing that a choice could be made by
  public func execute(fresh: Bool = false) throws -> TuneOutcome {
    do {
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    } catch {
      throw RunError(ExitCode.cannotCreate, "\(directory): cannot be created: \(error.localizedDescription)")
    }
    let lock = try DirectoryLock(directory: directory)
    defer { withExtendedLifetime(lock) {} }
    if fresh { try clear() }
    do { return .finished(try search()) } catch let stop as Interruption {
      return .interrupted(stop.reason)
    }
  }

  private func clear() throws {
    for name in ["trials", "tune.json", "tune.html", "tune.md", "tuned.yaml"] {
      let path = "\(directory)/\(name)"
      guard FileManager.default.fileExists(atPath: path) else { continue }
      do { try FileManager.default.removeItem(atPath: path) } catch {
        throw RunError(ExitCode.permission, "\(path): cannot be removed: \(error.localizedDescription)")
      }
    }
  }

  // MARK: The search

  private func search() throws -> TuneResults {
    let candidates = try plans.candidates()
    var folders = TrialFolders(directory + "/trials")
    let fullSteps = try steps(plans.naive)
    let ladder = HalvingLadder(
      candidates: candidates.count, steps: fullSteps, halves: plans.tune.sampler == .halving)
    observer.message(
      "searching \(plans.key): \(candidates.count) values, rungs of "
        + ladder.divisors.map { "\(HalvingLadder.steps(fullSteps, divisor: $0))" }.joined(separator: ", ")
        + " steps")

    var naive: [Measured] = []
    for divisor in ladder.divisors.reversed() {
      naive.insert(
        try run(
          plans.naive, divisor: divisor, variant: "naive",
          label: divisor == 1 ? "naive" : "naive-\(divisor)", &folders), at: 0)
    }
    try judge(naive[naive.count - 1])

    let choice = TuneChoice(plans.tune.pick, metric: naive[0].results.summary.metric)
    var trials: [TuneResults.Trial] = []
    func attempt(_ index: Int, rung: Int) throws -> TuneResults.Trial {
      let (point, plan) = candidates[index]
      let name = plans.arguments(point).joined(separator: " ")
      let run = try run(plan, divisor: ladder.divisors[rung], variant: name, label: nil, &folders)
      let trial = trial(plans.json(point), rung: rung, run, naive: naive[rung])
      trials.append(trial)
      observer.message(
        "\(name), \(run.steps) steps: " + (run.isDiverged ? "diverged" : Self.describe(trial)))
      return trial
    }

    var climbing = Array(candidates.indices)
    let last = ladder.divisors.count - 1
    for rung in 0..<last {
      guard informative(naive[rung]) else {
        observer.warning(
          "naive fine-tuning forgets nothing measurable in \(naive[rung].steps) steps: this rung is left out")
        continue
      }
      let measured = try climbing.map { try attempt($0, rung: rung) }
      let best = choice.ranking(measured, allowance: allowance(short: naive[rung], full: naive[last]))
        .prefix(HalvingLadder.survivors(of: climbing.count)).map { climbing[$0] }
      climbing = climbing.filter { best.contains($0) }
    }
    var full: [Int: TuneResults.Trial] = [:]
    for index in climbing { full[index] = try attempt(index, rung: last) }
    let order = plans.ordered(candidates.map(\.point))
    func trained() -> Int { trials.reduce(0) { $0 + $1.steps } + naive.reduce(0) { $0 + $1.steps } }
    let grid = (candidates.count + 1) * fullSteps
    while let next = choice.untriedNeighbour(full, order: order), plans.hasOrder,
      trained() + fullSteps < grid
    {
      full[next] = try attempt(next, rung: last)
    }
    observer.message("\(trained()) steps were trained; every value in full would have taken \(grid)")
    let inOrder = order.compactMap { index in full[index].map { (index: index, trial: $0) } }
    return try conclude(
      candidates.map(\.point), order: order, full: inOrder, trials: trials,
      naive: trial(nil, rung: last, naive[last], naive: naive[last]), choice)
  }

  private static func describe(_ trial: TuneResults.Trial) -> String {
    func percent(_ value: Double?) -> String { value.map { String(format: "%.1f %%", 100 * $0) } ?? "–" }
    return "plasticity share \(percent(trial.plasticityShare)), forgetting avoided "
      + "\(percent(trial.forgettingAvoided)), sum \(trial.score.map { String(format: "%.3f", $0) } ?? "–")"
  }

  /// Whether shares of a naive run mean anything.
  private func informative(_ naive: Measured) -> Bool {
    let summary = naive.results.summary
    return !naive.isDiverged && (summary.forgetting ?? 0) > 0 && (summary.plasticity ?? 0) > 0
  }

  /// Refuses to search where the full naive run leaves nothing to weigh.
  private func judge(_ naive: Measured) throws {
    if naive.isDiverged {
      throw RunError(
        ExitCode.diverged, "naive fine-tuning diverges, so there is nothing to measure trials against",
        hint: "lower training.learning_rate")
    }
    if case .knee = plans.tune.pick, !informative(naive) {
      let summary = naive.results.summary
      func number(_ value: Double?) -> String { value.map { String(format: "%.4f", $0) } ?? "unmeasured" }
      throw RunError(
        ExitCode.configuration,
        "naive fine-tuning leaves nothing to weigh: plasticity \(number(summary.plasticity)), "
          + "forgetting \(number(summary.forgetting)) \(summary.metric ?? "")",
        hint: "train longer, or choose probes that the stage changes; without forgetting no guard is needed")
    }
  }

  /// The short naive run's loss of retention as a share of the full one's, 1 where that is no measure.
  private func allowance(short: Measured, full: Measured) -> Double {
    guard let some = short.results.summary.retention, let all = full.results.summary.retention, all < 1,
      some < 1
    else { return 1 }
    return min(1, (1 - some) / (1 - all))
  }

  private func trial(_ value: JSON?, rung: Int, _ run: Measured, naive: Measured) -> TuneResults.Trial {
    var trial = TuneResults.Trial(
      value: value, rung: rung, steps: run.steps, summary: run.results.summary,
      naive: informative(naive) ? naive.results.summary : nil, seconds: run.results.cost.wallSeconds)
    if value != nil, trial.score != nil, let own = run.replicates, let reference = naive.replicates {
      trial.scoreCI = ScoreInterval.of(
        own, naive: reference, confidence: plans.experiment.evaluate.confidence)
    }
    return trial
  }

  // MARK: One trial

  private func assembly(for plan: ExperimentPlan) throws -> Assembly {
    let part = AssemblyPart(plan)
    if let shared, shared.part == part { return shared.assembly }
    let backend = shared?.assembly.backend
    shared = nil
    let assembly = try Assembly(plan, backend: backend, reuse: true)
    shared = (part, assembly)
    return assembly
  }

  /// Steps of the tuned stage.
  private func steps(_ plan: ExperimentPlan) throws -> Int {
    try assembly(for: plan).schedule(plans.stages - 1, of: plan).steps
  }

  /// Runs a trial, or reads it where it has run before.
  private func run(
    _ whole: ExperimentPlan, divisor: Int, variant: String, label: String?, _ folders: inout TrialFolders
  ) throws -> Measured {
    let assembly = try assembly(for: whole)
    let plan = try folders.place(TrialPlans.shortened(whole, by: divisor, assembly), label: label)
    try requireSameOrigins(plan, assembly)
    if let known = try measured(plan) { return known }
    if ranOne, StopSignal.stopRequested { throw Interruption(reason: "signal") }
    if ranOne, let deadline, Machine.seconds >= deadline { throw Interruption(reason: "time limit") }
    ranOne = true
    for name in (try? removeStaleTemporaries(in: RunDirectory(plan.outputDirectory).checkpoints)) ?? [] {
      observer.warning("removed an unfinished file: \(name)")
    }
    let names = plan.stages.map(\.name)
    if let file = try RunDirectory(plan.outputDirectory).checkpointFiles(stages: names).first {
      observer.message("\(variant): resuming from \(file.name) at step \(file.position.step)")
    }
    let chain = try ChainRun(
      plan, variant: variant, assembly: assembly, observer: TrialObserver(observer), deadline: deadline,
      options: ChainOptions(consolidatesLastStage: false, savesStageEnds: false))
    if case .interrupted(let reason) = try chain.execute() { throw Interruption(reason: reason) }
    guard let result = try measured(plan) else {
      throw RunError(ExitCode.bug, "\(plan.outputDirectory): the trial ended without results")
    }
    return result
  }

  /// Holds a trial to the base, data and probes that it began with: others' results beside it would mean nothing.
  private func requireSameOrigins(_ plan: ExperimentPlan, _ assembly: Assembly) throws {
    let path = plan.outputDirectory + "/origins.json"
    if FileManager.default.fileExists(atPath: path) {
      let earlier = try JSON.parse(String(contentsOfFile: path, encoding: .utf8))
      try assembly.origins.check(earlier, path: path, begun: plan.stages.count, of: plan)
    } else if !FileManager.default.fileExists(atPath: RunDirectory(plan.outputDirectory).results) {
      try TextFile.replace(path, with: assembly.origins.json.pretty)
    }
  }

  /// The results of a trial that has ended; its checkpoints are no longer needed then.
  private func measured(_ plan: ExperimentPlan) throws -> Measured? {
    let folder = RunDirectory(plan.outputDirectory)
    guard FileManager.default.fileExists(atPath: folder.results) else { return nil }
    let results = try RunResults.read(folder.results)
    guard results.status == .finished || results.status == .diverged else { return nil }
    try? FileManager.default.removeItem(atPath: folder.checkpoints)
    let matrix = try LedgerReader.matrix(LedgerReader.events(folder.ledger))
    return Measured(
      results: results,
      replicates: results.status == .finished
        ? SummaryReplicates(
          stages: results.stages, probes: results.probes, matrix: matrix, count: plan.evaluate.bootstrap,
          seed: results.seed) : nil,
      steps: try steps(plan))
  }

  // MARK: The end

  private func conclude(
    _ points: [TunePoint], order: [Int], full: [(index: Int, trial: TuneResults.Trial)],
    trials: [TuneResults.Trial], naive: TuneResults.Trial, _ choice: TuneChoice
  ) throws -> TuneResults {
    let inOrder = full.map(\.trial)
    guard let best = choice.ranking(inOrder).first, choice.isUsable(inOrder[best]) else {
      throw RunError(
        ExitCode.diverged, "no trial of full length could be measured: all diverged",
        hint: "lower training.learning_rate, or search smaller values")
    }
    let reason = choice.reason(inOrder, chosen: best, candidates: order.map { plans.json(points[$0]) })
    let results = TuneResults(
      key: plans.key, naive: naive, trials: trials, chosen: inOrder[best].value ?? .null, reason: reason)
    let name = plans.experiment.name
    try TextFile.replace(
      directory + "/tuned.yaml", with: plans.tunedFile(points[full[best].index], reason: reason))
    try TextFile.replace(directory + "/tune.html", with: TunePage.html(results, name: name))
    try TextFile.replace(directory + "/tune.md", with: TunePage.markdown(results))
    try TextFile.replace(directory + "/tune.json", with: results.json.pretty + "\n")
    return results
  }
}

/// Passes a trial's facts on as activity: twenty trials would repeat them twenty times.
private final class TrialObserver: RunObserver {
  private let observer: any RunObserver
  init(_ observer: any RunObserver) { self.observer = observer }
  func message(_ text: String) { observer.activity(text) }
  func warning(_ text: String) { observer.warning(text) }
  func progress(_ step: StepProgress) { observer.progress(step) }
  func activity(_ text: String) { observer.activity(text) }
}
