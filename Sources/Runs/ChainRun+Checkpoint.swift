// Saving and resuming a chain: everything that decides what happens next, in one file.
import Archive
import Continual
import Experiment
import Foundation
import Ledger
import Models
import StrictJSON
import TensorCPU
import TensorCore
import Training

extension ChainRun {
  static let schema = 1

  /// Writes a checkpoint of the position, then forgets old ones.
  ///
  /// - Parameter adapter: the running stage's, which has its own optimizer
  func save(_ position: ChainPosition, optimizer: Optimizer? = nil, adapter: LowRankAdapter? = nil) throws {
    let begun = Machine.seconds
    try ledger.synchronize()
    let writer = ArchiveStateWriter()
    try assembly.subject.describe(in: &writer.archive)
    store.write(
      store.values, to: writer, under: "model/parameters", description: "weights under their Hugging Face names")
    progress.write(to: writer)
    if adapter != nil || adapters != nil { writer.group("adapter", description: "low-rank changes of weights") }
    if let adapters {
      writer.group("adapter/earlier", description: "adapters of earlier stages")
      adapters.write(to: ScopedStateWriter(writer, "adapter/earlier"))
    }
    if let adapter {
      adapter.write(to: ScopedStateWriter(writer, "adapter"))
    } else if let optimizer {
      writer.group("optimizer", description: "state of the optimizer")
      writer.integers(
        "optimizer/steps", optimizer.steps, description: "steps of each parameter since its moments were new")
      if let first = optimizer.first {
        store.write(first, to: writer, under: "optimizer/first_moment", description: "m of AdamW, or SGD's momentum")
      }
      if let second = optimizer.second {
        store.write(second, to: writer, under: "optimizer/second_moment", description: "v of AdamW")
      }
    }
    writer.group("methods", description: "state of each continual-learning method")
    for (key, _, method) in methods {
      writer.group("methods/\(key)", description: type(of: method).card.title)
      method.write(to: ScopedStateWriter(writer, "methods/\(key)"))
    }
    writer.group("measurements", description: "every probe after the base and each stage, sums per document")
    writer.text("measurements/matrix.json", matrix.json.compact, description: "rows of the retention matrix")
    assembly.origins.write(to: writer)
    writer.group("plan", description: "the experiment with every default filled in")
    writer.text("plan/plan.yaml", plan.yaml(), description: "plan.yaml of the run")
    let name = directory.checkpointName(stages: stageNames, position)
    try writer.archive.write(
      to: directory.checkpoints + "/" + name,
      metadata: [
        "kind": "checkpoint", "schema": .integer(Self.schema), "name": .string(plan.name), "variant": .string(variant),
        "stage_index": .integer(position.stage),
        "stage": position.stage < plan.stages.count ? .string(stageNames[position.stage]) : nil,
        "step": .integer(position.step), "seed": .string(String(plan.seed)), "ledger_offset": .integer(ledger.offset),
        "wall_seconds": .number(earlierSeconds + Machine.seconds - started), "train_tokens": .integer(trainedTokens),
        "train_seconds": .number(trainingSeconds), "version": .string(Machine.version),
        "blas_core": .string(BLASCore.name), "random_key": .string(String(root.key)),
      ])
    // For people alone.
    try? AtomicFile.write(name + "\n", to: directory.pointer)
    let bytes = (try? FileManager.default.attributesOfItem(atPath: directory.checkpoints + "/" + name))?[.size] as? Int
    try ledger.append(
      .checkpoint(
        path: "checkpoints/" + name, stage: position.step > 0 ? stageNames[position.stage] : "", step: position.step,
        bytes: bytes ?? 0, seconds: Machine.seconds - begun))
    directory.prune(stages: stageNames, keeping: plan.checkpoint.saveTotalLimit)
    observer.activity("saved \(name)")
  }

  /// Goes to the newest whole checkpoint of this run, if there is any.
  ///
  /// A damaged one is set aside under another name and the one before is tried.
  /// - Returns: false where the run must begin
  /// - Throws: `RunError` (66) where checkpoints exist but none is whole
  func resume() throws -> Bool {
    let files = try directory.checkpointFiles(stages: stageNames)
    for file in files {
      let path = directory.checkpoints + "/" + file.name
      do {
        try restore(path)
        position = file.position
        observer.message("resuming from \(file.name) at step \(position.step)")
        return true
      } catch let error where Self.isDamage(error) {
        let aside = path + RunDirectory.damagedMark + LedgerWriter.universalTime().replacing(":", with: "")
        observer.warning("\(error); set aside as \(aside)")
        try? FileManager.default.moveItem(atPath: path, toPath: aside)
      }
    }
    // Asked again with the damaged ones set aside, the answer is the same.
    guard try files.isEmpty && !directory.holdsDamaged() else {
      throw RunError(
        ExitCode.missingInput, "\(directory.checkpoints): no checkpoint is whole", hint: "start over with --fresh")
    }
    return false
  }

  /// Whether an error is about the file rather than about what it is asked for.
  private static func isDamage(_ error: any Error) -> Bool {
    if error is StateError { return true }
    return (error as? ArchiveError).map { [.damaged, .missing].contains($0.kind) } ?? false
  }

  private func restore(_ path: String) throws {
    let archive = try ArchiveReader(path: path)
    try archive.verify()
    var sense = SenseCheck(archive)
    try sense.run(vocabulary: assembly.subject.languageModel?.configuration.vocabularySize)
    guard sense.faults.isEmpty else {
      throw ArchiveError(
        .damaged, path: path, reason: sense.faults.joined(separator: "; "),
        hint: "no run of this program writes such numbers")
    }
    let metadata = archive.metadata
    guard metadata["schema"]?.int == Self.schema, metadata["kind"]?.string == "checkpoint" else {
      throw RunError(
        ExitCode.badData, "\(path): schema \(metadata["schema"]?.compact ?? "?") cannot be read by this version")
    }
    guard metadata["random_key"]?.string == String(root.key), metadata["variant"]?.string == variant else {
      throw RunError(
        ExitCode.configuration, "\(path): written by another run (seed or variant differ)", hint: "use --fresh")
    }
    if let core = metadata["blas_core"]?.string, core != BLASCore.name {
      observer.warning(
        "the checkpoint was made with OpenBLAS core \(core), this machine uses \(BLASCore.name): bits may differ")
    }
    let reader = ArchiveStateReader(archive)
    try Self.refuseOtherPlan(than: plan, reader, path: path)
    let (stage, step) = (metadata["stage_index"]?.int ?? 0, metadata["step"]?.int ?? 0)
    try assembly.origins.check(
      reader, path: path, begun: stage + (step > 0 ? 1 : 0), of: plan)
    try store.restore(store.values, from: reader, under: "model/parameters")
    progress = try StageProgress.read(from: reader)
    matrix = try RetentionMatrix(JSON.parse(reader.text("measurements/matrix.json")))
    for (key, _, method) in methods { try method.restore(from: ScopedStateReader(reader, "methods/\(key)")) }
    try adapters?.restore(from: ScopedStateReader(reader, "adapter/earlier"))
    earlierSeconds = metadata["wall_seconds"]?.double ?? 0
    trainedTokens = metadata["train_tokens"]?.int ?? 0
    trainingSeconds = metadata["train_seconds"]?.double ?? 0
    ledger = try LedgerWriter(path: directory.ledger, truncatingTo: metadata["ledger_offset"]?.int ?? 0)
    if ledger.shortfall > 0 {
      observer.warning(
        "the ledger lacks \(ledger.shortfall) bytes that the checkpoint counted on; the losses of those steps are gone")
    }
    try ledger.append(
      .resumed(
        checkpoint: (path as NSString).lastPathComponent,
        stage: metadata["stage"]?.string ?? stageNames.last ?? "", step: step))
    resumedFrom = archive
  }

  /// The plan inside the checkpoint decides: plan.yaml beside it may be gone or another.
  ///
  /// - Throws: `RunError` (78) with the keys that differ
  static func refuseOtherPlan(than plan: ExperimentPlan, _ reader: ArchiveStateReader, path: String) throws {
    let context = PathContext(
      directory: plan.outputDirectory, workingDirectory: plan.outputDirectory, environment: [:], checksFiles: false)
    let earlier = try ExperimentFile.parse(reader.text("plan/plan.yaml"), named: "plan.yaml", context: context).plan
    let differences = plan.resumeCompatibilityDifferences(earlier)
    guard differences.isEmpty else {
      throw RunError(
        ExitCode.configuration,
        "\(path): written by a run of another plan; these keys differ:\n  " + differences.joined(separator: "\n  "),
        hint: "run with --fresh to start over, or choose another output_dir")
    }
  }

  /// Moments and method state of the running stage, once the stage has begun again.
  func restoreRunningStage(_ optimizer: Optimizer, _ adapter: LowRankAdapter?) throws {
    guard let resumedFrom else { return }
    let reader = ArchiveStateReader(resumedFrom)
    if let adapter {
      try adapter.restore(from: ScopedStateReader(reader, "adapter"))
    } else {
      try restore(optimizer, from: reader)
    }
    for (key, _, method) in methods { try method.restore(from: ScopedStateReader(reader, "methods/\(key)")) }
    self.resumedFrom = nil
  }

  private func restore(_ optimizer: Optimizer, from reader: ArchiveStateReader) throws {
    let steps = try reader.integers("optimizer/steps")
    guard steps.count == 1 || steps.count == store.parameters.count else {
      throw RunError(ExitCode.badData, "the checkpoint's optimizer belongs to another model")
    }
    optimizer.resume(steps: steps)
    if let first = optimizer.first { try store.restore(first, from: reader, under: "optimizer/first_moment") }
    if let second = optimizer.second { try store.restore(second, from: reader, under: "optimizer/second_moment") }
  }

  /// Goes on with the moments of the stage before: from memory, or from the checkpoint of its end.
  func inheritMoments(_ optimizer: Optimizer) throws {
    if let previousOptimizer {
      optimizer.resume(steps: previousOptimizer.steps)
      for (mine, theirs) in [(optimizer.first, previousOptimizer.first), (optimizer.second, previousOptimizer.second)] {
        if let mine, let theirs { backend.copy(theirs, into: mine) }
      }
    } else if let resumedFrom {
      try restore(optimizer, from: ArchiveStateReader(resumedFrom))
    }
    previousOptimizer = nil
  }
}
