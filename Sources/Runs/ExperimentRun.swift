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
    let assembled = fresh ? try Assembly(plan, reuse: !plan.compare.isEmpty) : nil
    if fresh { try clear() }
    try adopt(directory)
    let variants =
      [(plan.mainVariantName, plan)]
      + plan.compare.compactMap { entry in
        plan.variant(entry.name).map { (entry.name, $0) }
      }
    if try variants.allSatisfy({ try isFinished($0.1) }) {
      observer.message("already complete: \(plan.outputDirectory)")
      try conclude(variants)
      return ExitCode.done
    }
    let assembly = try assembled ?? Assembly(plan, reuse: variants.count > 1)
    observer.assembled(assembly)
    try refuseWithoutMemory(assembly, variants)
    let deadline = plan.timeLimitSeconds.map { started + $0 }
    var mainDiverged = false
    for (index, (name, variantPlan)) in variants.enumerated() {
      if try isFinished(variantPlan) { continue }
      if variants.count > 1 { observer.message("variant \(name)") }
      removeStale(in: variantPlan.outputDirectory + "/checkpoints")
      let chain = try ChainRun(
        variantPlan, variant: name, assembly: assembly, observer: observer, deadline: deadline)
      switch try chain.execute() {
      case .finished: break
      case .interrupted(let reason):
        observer.message("stopped (\(reason)); run the same command again to continue")
        return ExitCode.resumable
      case .diverged(let stage, let step):
        observer.warning("variant \(name) diverged in stage \(stage) at step \(step)")
        if index == 0 { mainDiverged = true }
      }
    }
    try conclude(variants)
    return mainDiverged ? ExitCode.diverged : ExitCode.done
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
    try RunDirectory(plan.outputDirectory).clear()
    for entry in plan.compare {
      if let variant = plan.variant(entry.name) { try RunDirectory(variant.outputDirectory).clear() }
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

  /// comparison.json and the reports, from what is on disk.
  private func conclude(_ variants: [(String, ExperimentPlan)]) throws {
    if variants.count > 1 {
      let results = try variants.map {
        (name: $0.0, results: try RunResults.read(RunDirectory($0.1.outputDirectory).results))
      }
      try AtomicFile.write(Comparison(results).json.pretty, to: RunDirectory(plan.outputDirectory).comparison)
    }
    for (_, variant) in variants.reversed() {
      try AtomicFile.write(
        Report.markdown(runDirectory: variant.outputDirectory), to: variant.outputDirectory + "/report.md")
      try AtomicFile.write(
        Report.html(runDirectory: variant.outputDirectory), to: variant.outputDirectory + "/report.html")
    }
  }
}
