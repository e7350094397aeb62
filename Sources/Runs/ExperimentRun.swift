// A whole experiment: the main stack and every entry of `compare`, then the comparison and the reports.
import Archive
import Experiment
import Foundation
import Ledger
import Reports
import StrictJSON

/// Runs a plan; called again after any interruption it continues.
public final class ExperimentRun {
  private let plan: ExperimentPlan
  private let observer: any RunObserver
  private let started = Machine.seconds

  public init(_ plan: ExperimentPlan, observer: any RunObserver) {
    self.plan = plan
    self.observer = observer
  }

  /// - Parameter fresh: forget what is there and start over
  /// - Returns: the exit code: 0, 75 where stopped, 80 where the main stack diverged
  public func execute(fresh: Bool) throws -> Int32 {
    let directory = RunDirectory(plan.outputDirectory)
    try directory.create()
    let lock = try DirectoryLock(directory: plan.outputDirectory)
    defer { withExtendedLifetime(lock) {} }
    // What is there goes only once the inputs of the new run have been read.
    let assembled = fresh ? try Assembly(plan.withSeed(plan.seeds[0]), reuse: !plan.compare.isEmpty) : nil
    if fresh { try clear() }
    try adopt(directory)
    if try variants.allSatisfy({ variant in try seedPlans(variant.plan).allSatisfy { try isFinished($0) } }) {
      observer.message("already complete: \(plan.outputDirectory)")
      try conclude()
      return ExitCode.done
    }
    let deadline = plan.timeLimitSeconds.map { started + $0 }
    var mainDiverged = false
    for (turn, seed) in plan.seeds.enumerated() {
      let pending = try variants.filter { try !isFinished($0.plan.withSeed(seed)) }
      if pending.isEmpty { continue }
      if plan.seeds.count > 1 { observer.message("seed \(seed)") }
      // A new model's weights depend on the seed; so does what variants share of the base.
      let assembly =
        try (turn == 0 ? assembled : nil) ?? Assembly(plan.withSeed(seed), reuse: variants.count > 1)
      observer.assembled(assembly)
      for (_, finished) in variants { try checkOrigins(finished.withSeed(seed), assembly) }
      try refuseWithoutMemory(assembly, variants.map { ($0.name, $0.plan.withSeed(seed)) })
      for (name, variantPlan) in pending {
        let own = variantPlan.withSeed(seed)
        if variants.count > 1 { observer.message("variant \(name)") }
        if plan.seeds.count > 1 { try prepare(own) }
        removeStale(in: own.outputDirectory + "/checkpoints")
        let chain = try ChainRun(own, variant: name, assembly: assembly, observer: observer, deadline: deadline)
        switch try chain.execute() {
        case .finished: break
        case .interrupted(let reason):
          observer.message("stopped (\(reason)); run the same command again to continue")
          return ExitCode.resumable
        case .diverged(let stage, let step):
          observer.warning("variant \(name) diverged in stage \(stage) at step \(step)")
          if name == plan.mainVariantName { mainDiverged = true }
        }
      }
    }
    try conclude()
    return mainDiverged ? ExitCode.diverged : ExitCode.done
  }

  /// The main stack first, then every entry of `compare`.
  private var variants: [(name: String, plan: ExperimentPlan)] {
    [(plan.mainVariantName, plan)]
      + plan.compare.compactMap { entry in plan.variant(entry.name).map { (entry.name, $0) } }
  }
  private func seedPlans(_ plan: ExperimentPlan) -> [ExperimentPlan] { plan.seeds.map(plan.withSeed) }

  /// A seed's folder with the plan that it runs.
  private func prepare(_ plan: ExperimentPlan) throws {
    let own = RunDirectory(plan.outputDirectory)
    try own.create()
    try AtomicFile.write(plan.yaml(), to: own.plan)
  }

  /// - Throws: `RunError` (71) where the estimate exceeds what this process may take
  private func refuseWithoutMemory(_ assembly: Assembly, _ variants: [(String, ExperimentPlan)]) throws {
    guard let available = Resources.availableMemory else { return }
    let needed =
      variants.map { MemoryEstimate($0.1, assembly: assembly, isReused: variants.count > 1).bytes }.max() ?? 0
    let reachable = available + (Resources.residentMemory ?? 0)
    guard needed > reachable else { return }
    throw RunError(
      ExitCode.resources, "the run needs about \(needed >> 20) MiB of memory, \(reachable >> 20) MiB can be had",
      hint:
        "lower training.micro_batch_size (and raise gradient_accumulation_steps) or sequence_len; retain run --dry-run lists what takes how much"
    )
  }

  /// Writes plan.yaml, or refuses to continue a run of another plan.
  private func adopt(_ directory: RunDirectory) throws {
    if FileManager.default.fileExists(atPath: directory.plan) {
      let earlier = try ExperimentPlan.load(directory.plan, checkingFiles: false)
      let differences = plan.resumeCompatibilityDifferences(earlier)
      guard differences.isEmpty else {
        throw RunError(
          ExitCode.configuration,
          "\(plan.outputDirectory) holds a run of another plan; these keys differ:\n  "
            + differences.joined(separator: "\n  "),
          hint: "run with --fresh to start over, or choose another output_dir")
      }
    }
    try AtomicFile.write(plan.yaml(), to: directory.plan)
    for entry in plan.compare {
      guard let variant = plan.variant(entry.name) else { continue }
      let own = RunDirectory(variant.outputDirectory)
      try own.create()
      try AtomicFile.write(variant.yaml(), to: own.plan)
    }
  }

  private func clear() throws {
    for (_, variant) in variants {
      try RunDirectory(variant.outputDirectory).clear()
      for own in seedPlans(variant) { try RunDirectory(own.outputDirectory).clear() }
    }
  }

  private func removeStale(in directory: String) {
    for name in (try? removeStaleTemporaries(in: directory)) ?? [] {
      observer.warning("removed an unfinished file: \(name)")
    }
  }

  /// Whether a variant has reached its end (or diverged, which running again would repeat).
  private func isFinished(_ plan: ExperimentPlan) throws -> Bool {
    let path = RunDirectory(plan.outputDirectory).results
    guard FileManager.default.fileExists(atPath: path), let results = try? RunResults.read(path) else { return false }
    guard results.status == .finished || results.status == .diverged else { return false }
    guard let final = results.final else { return results.status == .diverged }
    return FileManager.default.fileExists(atPath: plan.outputDirectory + "/" + final.checkpoint)
  }

  /// What a finished variant learned from must be what the others will learn from.
  private func checkOrigins(_ plan: ExperimentPlan, _ assembly: Assembly) throws {
    guard try isFinished(plan), let final = try RunResults.read(RunDirectory(plan.outputDirectory).results).final
    else { return }
    let path = plan.outputDirectory + "/" + final.checkpoint
    let stages = plan.stages.map(\.name)
    try assembly.origins.check(
      ArchiveStateReader(ArchiveReader(path: path)), path: path, begun: stages.count, stageNames: stages)
  }

  /// Means over seeds, comparison.json and the reports, from what is on disk.
  private func conclude() throws {
    for (name, variant) in variants where plan.seeds.count > 1 {
      let runs = try seedPlans(variant).map { try RunResults.read(RunDirectory($0.outputDirectory).results) }
      guard let mean = RunResults.averaged(runs) else {
        throw RunError(ExitCode.bug, "the seeds of variant \(name) measured different things")
      }
      try AtomicFile.write(mean.json.pretty, to: RunDirectory(variant.outputDirectory).results)
    }
    if variants.count > 1 {
      let results = try variants.map {
        (name: $0.name, results: try RunResults.read(RunDirectory($0.plan.outputDirectory).results))
      }
      try AtomicFile.write(Comparison(results).json.pretty, to: RunDirectory(plan.outputDirectory).comparison)
    }
    for (_, variant) in variants.reversed() {
      for folder in (plan.seeds.count > 1 ? seedPlans(variant).map(\.outputDirectory) : []) + [variant.outputDirectory]
      {
        try AtomicFile.write(Report.markdown(runDirectory: folder), to: folder + "/report.md")
        try AtomicFile.write(Report.html(runDirectory: folder), to: folder + "/report.html")
      }
    }
  }
}
