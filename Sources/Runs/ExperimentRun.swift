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
  private let freeDisk: (String) -> Int?
  private let started = Machine.seconds

  /// - Parameter freeDisk: bytes that may still be written below a path; nil where nobody knows
  public init(
    _ plan: ExperimentPlan, observer: any RunObserver, freeDisk: @escaping (String) -> Int? = Resources.freeDisk
  ) {
    self.plan = plan
    self.observer = observer
    self.freeDisk = freeDisk
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
    if let assembled { try requireFit(assembled) }
    if fresh {
      // A variant's own plan.yaml may be running by itself.
      for own in variants.flatMap({ seedPlans($0.plan) }) where own.outputDirectory != plan.outputDirectory {
        if FileManager.default.fileExists(atPath: own.outputDirectory) {
          _ = try DirectoryLock(directory: own.outputDirectory)
        }
      }
      try clear()
    }
    try refuseOtherPlan(directory)
    if try variants.allSatisfy({ variant in try seedPlans(variant.plan).allSatisfy { try isFinished($0) } }) {
      observer.message("already complete: \(plan.outputDirectory)")
      if !FileManager.default.fileExists(atPath: directory.plan) {
        try AtomicFile.write(plan.yaml(), to: directory.plan)
      }
      try conclude()
      return try exitCode()
    }
    let deadline = plan.timeLimitSeconds.map { started + $0 }
    var (isAdopted, ranOne) = (false, false)
    for (turn, seed) in plan.seeds.enumerated() {
      let pending = try variants.filter { try !isFinished($0.plan.withSeed(seed)) }
      if pending.isEmpty { continue }
      if ranOne, let reason = stopReason(deadline) { return stopped(reason) }
      if plan.seeds.count > 1 { observer.message("seed \(seed)") }
      // A new model's weights depend on the seed; so does what variants share of the base.
      let assembly =
        try (turn == 0 ? assembled : nil) ?? Assembly(plan.withSeed(seed), reuse: variants.count > 1)
      observer.assembled(assembly)
      try requireFit(assembly)
      for (_, variant) in variants {
        for finished in plan.seeds { try checkOrigins(variant.withSeed(finished), assembly, isOther: finished != seed) }
      }
      try refuseWithoutMemory(assembly, variants.map { ($0.name, $0.plan.withSeed(seed)) })
      if !isAdopted {
        try requireDisk(assembly)
        try adopt(assembly)
      }
      isAdopted = true
      for (name, variantPlan) in pending {
        if ranOne, let reason = stopReason(deadline) { return stopped(reason) }
        ranOne = true
        let own = variantPlan.withSeed(seed)
        if variants.count > 1 { observer.message("variant \(name)") }
        try RunDirectory(own.outputDirectory).create()
        // A variant's own plan.yaml can be run by itself.
        let isElsewhere = own.outputDirectory != plan.outputDirectory
        let ownLock = isElsewhere ? try DirectoryLock(directory: own.outputDirectory) : nil
        defer { withExtendedLifetime(ownLock) {} }
        if plan.seeds.count > 1 { try write(own, assembly) }
        for folder in [own.outputDirectory, own.outputDirectory + "/checkpoints"] { removeStale(in: folder) }
        let chain = try ChainRun(own, variant: name, assembly: assembly, observer: observer, deadline: deadline)
        switch try chain.execute() {
        case .finished: break
        case .interrupted(let reason): return stopped(reason)
        case .diverged(let stage, let step):
          observer.warning("variant \(name) diverged in stage \(stage) at step \(step)")
        }
      }
    }
    try conclude()
    return try exitCode()
  }

  /// Before the first variant trains, not when the turn of the one with the mistake has come.
  private func requireFit(_ assembly: Assembly) throws {
    for (_, variant) in variants {
      if let problem = assembly.problems(of: variant).first { throw problem }
    }
  }

  private func stopped(_ reason: String) -> Int32 {
    observer.message("stopped (\(reason)); run the same command again to continue")
    return ExitCode.resumable
  }

  /// Why no further chain may begin; the first always makes a step, so that every call gets further.
  private func stopReason(_ deadline: Double?) -> String? {
    if StopSignal.stopRequested { return "signal" }
    if let deadline, Machine.seconds >= deadline { return "time limit" }
    return nil
  }

  /// 80 where the main stack diverged, in this process or an earlier one.
  private func exitCode() throws -> Int32 {
    let diverged = try seedPlans(plan).contains {
      try RunResults.read(RunDirectory($0.outputDirectory).results).status == .diverged
    }
    return diverged ? ExitCode.diverged : ExitCode.done
  }

  /// The main stack first, then every entry of `compare`.
  private var variants: [(name: String, plan: ExperimentPlan)] {
    [(plan.mainVariantName, plan)]
      + plan.compare.compactMap { entry in plan.variant(entry.name).map { (entry.name, $0) } }
  }
  private func seedPlans(_ plan: ExperimentPlan) -> [ExperimentPlan] { plan.seeds.map(plan.withSeed) }

  /// Writes a folder's plan.yaml.
  private func write(_ plan: ExperimentPlan, _ assembly: Assembly) throws {
    let notes = ["written by retain \(Machine.version)"] + assembly.origins.lines(of: plan)
    try AtomicFile.write(plan.yaml(notes: notes), to: RunDirectory(plan.outputDirectory).plan)
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

  /// - Throws: `RunError` (73) where not even one checkpoint finds room; warns where not all will
  private func requireDisk(_ assembly: Assembly) throws {
    guard let free = freeDisk(plan.outputDirectory) else { return }
    let pending = try variants.filter { try seedPlans($0.plan).contains { try !isFinished($0) } }
    let estimates = pending.map { DiskEstimate($0.plan, assembly: assembly) }
    let largest = estimates.map(\.largest).max() ?? 0
    guard free >= largest else {
      throw RunError(
        ExitCode.cannotCreate,
        "\(plan.outputDirectory): the disk has \(free >> 20) MiB, one checkpoint needs about \(largest >> 20) MiB",
        hint: "free some, or choose another output_dir")
    }
    let wanted = largest + plan.seeds.count * estimates.reduce(0) { $0 + $1.bytes }
    let there = pending.flatMap { seedPlans($0.plan) }.reduce(0) {
      $0 + RunDirectory($1.outputDirectory).checkpointBytes
    }
    if free < wanted - there {
      observer.warning(
        "the disk has \(free >> 20) MiB, all checkpoints of the run need about \((wanted - there) >> 20) MiB")
    }
  }

  /// Whether any chain of a plan, wherever its `outputDirectory` was, has come as far as a checkpoint in a folder.
  public static func hasBegun(_ plan: ExperimentPlan, at folder: String) throws -> Bool {
    var here = plan
    here.outputDirectory = folder
    let variants = [here] + plan.compare.compactMap { here.variant($0.name) }
    return try variants.contains { variant in
      try plan.seeds.contains { seed in
        try RunDirectory(variant.withSeed(seed).outputDirectory).hasBegun(stages: plan.stages.map(\.name))
      }
    }
  }

  /// Refuses to continue a run of another plan, if it came as far as a checkpoint.
  private func refuseOtherPlan(_ directory: RunDirectory) throws {
    guard FileManager.default.fileExists(atPath: directory.plan) else { return try refuseOtherCheckpoints() }
    let earlier = try ExperimentPlan.load(directory.plan, checkingFiles: false)
    guard try Self.hasBegun(earlier, at: plan.outputDirectory) else { return }
    let differences = plan.resumeCompatibilityDifferences(earlier)
    guard differences.isEmpty else {
      throw RunError(
        ExitCode.configuration,
        "\(plan.outputDirectory) holds a run of another plan; these keys differ:\n  "
          + differences.joined(separator: "\n  "),
        hint: "run with --fresh to start over, or choose another output_dir")
    }
  }

  /// As `refuseOtherPlan`, where plan.yaml is gone: the newest checkpoint of each chain has the plan inside.
  private func refuseOtherCheckpoints() throws {
    for own in variants.flatMap({ seedPlans($0.plan) }) {
      let folder = RunDirectory(own.outputDirectory)
      guard let file = try folder.checkpointFiles(stages: own.stages.map(\.name)).first else { continue }
      let path = folder.checkpoints + "/" + file.name
      do {
        try ChainRun.refuseOtherPlan(than: own, ArchiveStateReader(ArchiveReader(path: path)), path: path)
      } catch let error as ArchiveError where error.kind == .damaged {
        // Its turn is when the chain resumes.
        continue
      }
    }
  }

  /// Writes plan.yaml of the main stack and of every variant, once nothing stands in the way of training.
  private func adopt(_ assembly: Assembly) throws {
    for (_, variant) in variants {
      try RunDirectory(variant.outputDirectory).create()
      try write(variant, assembly)
    }
  }

  /// The main stack's plan goes last: whatever an interruption leaves of the old run, it says of which.
  private func clear() throws {
    for (_, variant) in variants.reversed() {
      for own in seedPlans(variant) { try RunDirectory(own.outputDirectory).clear() }
      try RunDirectory(variant.outputDirectory).clear()
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
  ///
  /// - Parameter isOther: it ran under another seed than the assembly's, so that a new model began elsewhere
  private func checkOrigins(_ plan: ExperimentPlan, _ assembly: Assembly, isOther: Bool) throws {
    guard try isFinished(plan), let final = try RunResults.read(RunDirectory(plan.outputDirectory).results).final
    else { return }
    let path = plan.outputDirectory + "/" + final.checkpoint
    do {
      try assembly.origins.check(
        ArchiveStateReader(ArchiveReader(path: path)), path: path, begun: plan.stages.count, of: plan,
        ignoringBase: isOther && plan.baseModel.isNew)
    } catch let error as ArchiveError where error.kind == .damaged {
      // Its results stand; nothing else here needs the file.
      observer.warning("\(error)")
    }
  }

  /// Means over seeds, comparison.json and the reports, from what is on disk.
  private func conclude() throws {
    for (name, variant) in variants where plan.seeds.count > 1 {
      let runs = try seedPlans(variant).map { try RunResults.read(RunDirectory($0.outputDirectory).results) }
      guard var mean = RunResults.averaged(runs) else {
        throw RunError(ExitCode.bug, "the seeds of variant \(name) measured different things")
      }
      // The first seed's model, seen from here.
      if let final = mean.final {
        let folder = (variant.withSeed(plan.seeds[0]).outputDirectory as NSString).lastPathComponent
        mean.final = .init(checkpoint: folder + "/" + final.checkpoint, parametersSHA256: final.parametersSHA256)
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
