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

/// Searches the strength of a method, or any other numeric key; called again after an interruption it continues.
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
  /// - Throws: `RunError` 80 where naive fine-tuning or every trial diverges, 78 where naive fine-tuning learns or
  ///   forgets nothing that a choice could be made by
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
        + ladder.divisors.map { "\(HalvingLadder.steps(fullSteps, divisor: $0)) steps" }.joined(separator: " and "))

    var naive: [Measured] = []
    for divisor in ladder.divisors.reversed() {
      naive.insert(
        try run(plans.naive, divisor: divisor, variant: "naive", label: divisor == 1 ? "naive" : "naive-\(divisor)", &folders),
        at: 0)
    }
    try judge(naive[naive.count - 1])

    let choice = TuneChoice(plans.tune.pick, metric: naive[0].results.summary.metric)
    var climbing = Array(candidates.indices)
    var trials: [TuneResults.Trial] = []
    for (rung, divisor) in ladder.divisors.enumerated() {
      let reference = naive[rung]
      var measured: [TuneResults.Trial] = []
      for (place, index) in climbing.enumerated() {
        let candidate = candidates[index]
        let name = plans.arguments(candidate.point).joined(separator: " ")
        let run = try run(candidate.plan, divisor: divisor, variant: name, label: nil, &folders)
        let trial = self.trial(plans.json(candidate.point), rung: rung, run, naive: reference)
        measured.append(trial)
        observer.message(
          "rung \(rung), \(place + 1) of \(climbing.count): \(name), \(run.steps) steps: "
            + (run.isDiverged ? "diverged" : Self.describe(trial)))
      }
      trials += measured
      guard divisor > 1 else { break }
      guard informative(reference) else {
        observer.warning("naive fine-tuning forgets nothing measurable in \(reference.steps) steps: every value goes on")
        continue
      }
      let allowance = allowance(short: reference, full: naive[naive.count - 1])
      let best = choice.ranking(measured, allowance: allowance)
        .prefix(HalvingLadder.survivors(of: climbing.count)).map { climbing[$0] }
      climbing = climbing.filter { best.contains($0) }
    }
    return try conclude(
      candidates.map(\.point), climbing: climbing, trials: trials, naive: naive[naive.count - 1], rung: ladder.divisors.count - 1,
      choice)
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
    guard let some = short.results.summary.retention, let all = full.results.summary.retention, all < 1, some < 1
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
    if let known = try measured(plan) { return known }
    if ranOne, StopSignal.stopRequested { throw Interruption(reason: "signal") }
    if ranOne, let deadline, Machine.seconds >= deadline { throw Interruption(reason: "time limit") }
    ranOne = true
    for name in (try? removeStaleTemporaries(in: RunDirectory(plan.outputDirectory).checkpoints)) ?? [] {
      observer.warning("removed an unfinished file: \(name)")
    }
    let chain = try ChainRun(
      plan, variant: variant, assembly: assembly, observer: observer, deadline: deadline,
      options: ChainOptions(consolidatesLastStage: false, savesStageEnds: false))
    if case .interrupted(let reason) = try chain.execute() { throw Interruption(reason: reason) }
    guard let result = try measured(plan) else {
      throw RunError(ExitCode.bug, "\(plan.outputDirectory): the trial ended without results")
    }
    return result
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
    _ points: [TunePoint], climbing: [Int], trials: [TuneResults.Trial], naive: Measured, rung: Int,
    _ choice: TuneChoice
  ) throws -> TuneResults {
    // In the order of values, where there is one: neighbours are then neighbours, and ties go to the smaller.
    func ordered(_ indices: [Int]) -> [Int] {
      plans.tune.search.count == 1 ? indices.sorted { points[$0].values[0] < points[$1].values[0] } : indices
    }
    let order = ordered(climbing)
    let full = order.compactMap { index in
      trials.first { $0.rung == rung && $0.value == plans.json(points[index]) }
    }
    guard let best = choice.ranking(full).first, choice.isUsable(full[best]) else {
      throw RunError(
        ExitCode.diverged, "no trial of full length could be measured: all diverged",
        hint: "lower training.learning_rate, or search smaller values")
    }
    let reason = choice.reason(
      full, chosen: best, candidates: ordered(Array(points.indices)).map { plans.json(points[$0]) })
    let results = TuneResults(
      key: plans.key, naive: trial(nil, rung: rung, naive, naive: naive), trials: trials,
      chosen: full[best].value ?? .null, reason: reason)
    try TextFile.replace(
      directory + "/tuned.yaml", with: plans.tunedFile(points[order[best]], reason: reason))
    try TextFile.replace(directory + "/tune.html", with: TunePage.html(results, name: plans.experiment.name))
    try TextFile.replace(directory + "/tune.md", with: TunePage.markdown(results))
    try TextFile.replace(directory + "/tune.json", with: results.json.pretty + "\n")
    return results
  }
}
