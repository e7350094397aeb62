// One chain from the base through all stages, under one stack of methods; it continues where a checkpoint stands.
import Archive
import Continual
import Corpus
import Experiment
import Foundation
import Glibc
import Layers
import Ledger
import Models
import Probes
import StrictJSON
import TensorCPU
import TensorCore
import Training

/// How a chain ended.
public enum ChainOutcome: Sendable, Equatable {
  case finished
  /// Saved and resumable.
  case interrupted(String)
  case diverged(stage: String, step: Int)
}

/// What a chain leaves out when only its measurements are wanted.
public struct ChainOptions: Sendable, Equatable {
  /// False: the last stage's Fisher and exemplars, which only a further stage would need, are not made.
  public var consolidatesLastStage: Bool
  /// False: no checkpoint of the base and of stage ends unless the run stops there; results.json then names
  /// no final checkpoint.
  public var savesStageEnds: Bool
  public init(consolidatesLastStage: Bool = true, savesStageEnds: Bool = true) {
    self.consolidatesLastStage = consolidatesLastStage
    self.savesStageEnds = savesStageEnds
  }
}

/// Runs, saves and resumes one variant of an experiment.
public final class ChainRun {
  let plan: ExperimentPlan
  let variant: String
  let assembly: Assembly
  let directory: RunDirectory
  let observer: any RunObserver
  let options: ChainOptions
  let backend: CPUBackend
  let store: ParameterStore
  let root: RandomStream
  /// Distinct methods of all stages' stacks, each with its name in checkpoints.
  var methods: [(key: String, plan: MethodPlan, method: any ContinualMethod)] = []
  var matrix = RetentionMatrix()
  var ledger: LedgerWriter
  var position = ChainPosition(stage: 0, step: 0)
  /// The archive a resumed stage still has to read from.
  var resumedFrom: ArchiveReader?
  var progress = StageProgress()
  /// Of the stage before, where the next one goes on with its moments.
  var previousOptimizer: Optimizer?
  /// Adapters of earlier stages; nil where no stage keeps away from them.
  let adapters: AdapterHistory?
  /// Seconds and tokens of earlier processes of this run.
  var earlierSeconds = 0.0
  var trainedTokens = 0
  /// Training seconds, for the speed in results.json.
  var trainingSeconds = 0.0
  let started = Machine.seconds
  let deadline: Double?

  public init(
    _ plan: ExperimentPlan, variant: String, assembly: Assembly, observer: any RunObserver, deadline: Double?,
    options: ChainOptions = ChainOptions()
  ) throws {
    self.plan = plan
    self.variant = variant
    self.assembly = assembly
    self.observer = observer
    self.deadline = deadline
    self.options = options
    directory = RunDirectory(plan.outputDirectory)
    backend = assembly.backend
    store = assembly.subject.network.parameters
    root = RandomStream(seed: plan.seed)
    let remembers = plan.stages.contains { $0.training.adapter == .lora && $0.training.loraOrthogonality > 0 }
    adapters = remembers ? AdapterHistory(on: backend) : nil
    // Found now rather than when the stage begins.
    if let problem = assembly.problems(of: plan).first { throw problem }
    try directory.create()
    ledger = try LedgerWriter(path: directory.ledger, truncatingTo: nil)
    for stack in [plan.methods] + plan.stages.compactMap(\.methods) {
      for method in stack where !methods.contains(where: { $0.plan == method }) {
        let same = methods.filter { $0.plan.name == method.name }.count
        let key = same == 0 ? method.name : "\(method.name)-\(same + 1)"
        methods.append((key, method, try assembly.method(method)))
      }
    }
  }

  var stageNames: [String] { plan.stages.map(\.name) }

  /// The methods that guard a stage.
  func stack(_ stage: Int) -> [(plan: MethodPlan, method: any ContinualMethod)] {
    let wanted = plan.stages[stage].methods ?? plan.methods
    return wanted.compactMap { plan in methods.first { $0.plan == plan }.map { (plan, $0.method) } }
  }

  /// Runs to the end, or to a signal or the time limit.
  public func execute() throws -> ChainOutcome {
    _ = assembly.origins
    if !(try resume()), let stop = try begin() { return try finish(stop) }
    while position.stage < plan.stages.count {
      if let stop = try runStage(position.stage) { return try finish(stop) }
    }
    return try finish(.finished)
  }

  // MARK: The base

  /// - Returns: why the chain stops before anything is trained, or nil
  private func begin() throws -> ChainOutcome? {
    assembly.restoreBase()
    // What an earlier variant's last stage froze is not frozen for this base.
    _ = store.freeze([])
    ledger = try LedgerWriter(path: directory.ledger, truncatingTo: 0)
    try ledger.append(
      .runStarted(
        name: plan.name, seed: Int(truncatingIfNeeded: plan.seed), stages: stageNames, probes: probeInfo,
        confidence: plan.evaluate.confidence, bootstrap: plan.evaluate.bootstrap,
        more: [.init("variant", .string(variant)), .init("parameters", .integer(store.count))],
        environment: Machine.environment(threads: backend.threads, precision: precision.rawValue)))
    for fact in assembly.data.notes { try note(fact) }
    try notePrecision()
    // Before what may take minutes; nothing is lost but measuring.
    if StopSignal.stopRequested { return try stopAtBase() }
    if plan.evaluate.at.contains(.base) { try measure(after: "base") }
    if StopSignal.stopRequested { return try stopAtBase() }
    try consolidate(past: 0, name: "base")
    if options.savesStageEnds { try save(position) }
    return nil
  }

  private func stopAtBase() throws -> ChainOutcome {
    try ledger.append(.interrupted(reason: "signal", stage: "", step: 0))
    return .interrupted("signal")
  }

  // MARK: Measuring

  var probeInfo: [ProbeInfo] {
    zip(plan.probes, assembly.probes).compactMap { plan, probe in
      probe.metrics.first.map {
        ProbeInfo(name: plan.name, metric: $0.name, higherIsBetter: $0.higherIsBetter, home: plan.home)
      }
    }
  }

  // MARK: A stage

  /// - Returns: why the chain stops here, or nil when the stage is done
  private func runStage(_ stage: Int) throws -> ChainOutcome? {
    defer { backend.precision = .fp32 }
    let schedule = schedule(stage)
    let begun = Machine.seconds
    // In a function of its own: gradient and moments are gone before the past is consolidated.
    if let stop = try train(stage, schedule) { return stop }
    return try endStage(stage, schedule, seconds: Machine.seconds - begun)
  }

  /// The steps of a stage.
  ///
  /// - Returns: why they stop before their end
  private func train(_ stage: Int, _ schedule: StageSchedule) throws -> ChainOutcome? {
    let stagePlan = plan.stages[stage]
    let training = stagePlan.training
    _ = store.freeze(training.freeze)
    assembly.prepare(for: training)
    let adapter = try assembly.adapter(stagePlan, random: root.forked("adapter", stage), earlier: adapters)
    let optimizer = adapter?.optimizer ?? assembly.optimizer(training)
    let stack = stack(stage).map(\.method)
    for (_, plan, method) in methods { try method.stageWillBegin(stageScope(stage, plan, steps: schedule.steps)) }
    if position.step > 0 {
      // The checkpoint's moments and method state, after the methods know which stage it is.
      try restoreRunningStage(optimizer, adapter)
    } else {
      if keepsOptimizer(into: stage) { try inheritMoments(optimizer) }
      progress = StageProgress()
      try ledger.append(
        .stageStarted(
          stagePlan.name, steps: schedule.steps,
          more: [
            .init("tokens", .integer(schedule.inputTokens)),
            .init("examples", .integer(assembly.data.stages[stage].examples.count)),
            .init("trainable_parameters", .integer(adapter?.factors.count ?? store.trainableCount)),
          ]))
      if adapter != nil { try noteProximal(stage) }
    }
    observer.message("stage \(stagePlan.name): \(schedule.steps) steps, \(schedule.inputTokens) tokens")
    let network = assembly.subject.network
    let trainStep =
      adapter.map { TrainStep(network, adapter: $0, on: backend) }
      ?? TrainStep(network, optimizer: optimizer, on: backend)
    let batchTokens = self.batchTokens(training)
    var rows = schedule.stream(from: progress.cursor)
    var (lastLogged, saidFull) = (Machine.seconds, false)
    var tokensSinceLog = 0
    let (stageStart, stepAtStart) = (Machine.seconds, progress.step)
    while progress.step < schedule.steps, !progress.stoppedEarly {
      let stepStart = Machine.seconds
      var batches: [Batch] = []
      var (stageTokens, replayed) = (0, 0)
      let learningRate = schedule.learningRate.learningRate(progress.step)
      for _ in 0..<training.gradientAccumulationSteps where progress.rows < schedule.rows {
        var packed: [PackedRow] = []
        while packed.count < training.microBatchSize, progress.rows < schedule.rows, let row = rows.next() {
          packed.append(row)
          progress.rows += 1
        }
        var composition = Composition(
          packed.flatMap(Exemplar.parts), network: trainStep.network, backend: backend, batchTokens: batchTokens,
          makeBatches: { [assembly, backend] in assembly.subject.batches($0, on: backend) },
          preview: {
            trainStep.preview(along: $0, learningRate: learningRate, maximumNorm: training.maxGradNorm, into: $1)
          })
        for method in stack { method.compose(&composition) }
        batches += composition.batches
        stageTokens += composition.stageTokens
        replayed += composition.rehearsed.reduce(0) { $0 + $1.inputs.count }
      }
      let report = trainStep(
        batches, learningRate: learningRate, maximumNorm: training.maxGradNorm, methods: stack)
      progress.step += 1
      progress.cursor = rows.cursor
      progress.stageTokens += stageTokens
      progress.replayedTokens += replayed
      trainedTokens += stageTokens + replayed
      tokensSinceLog += stageTokens + replayed
      let now = Machine.seconds
      trainingSeconds += now - stepStart
      let isLogged =
        progress.step % max(1, plan.logging.loggingSteps) == 0 || progress.step == schedule.steps || progress.step == 1
      let speed = Double(tokensSinceLog) / max(1e-9, now - lastLogged)
      if isLogged {
        try ledger.append(
          .step(
            StepRecord(
              stage: stagePlan.name, step: progress.step, loss: report.loss,
              penalty: report.isPulled ? report.penalty : nil, learningRate: report.learningRate,
              gradientNorm: report.gradientNorm, tokens: stageTokens, replayTokens: replayed,
              seconds: now - lastLogged, tokensPerSecond: speed)))
        lastLogged = now
        tokensSinceLog = 0
        if ledger.isWaiting, !saidFull {
          saidFull = true
          observer.warning("\(ledger.path): the disk is full; what happens is kept in memory until there is room")
        }
      }
      let perStep = (now - stageStart) / Double(progress.step - stepAtStart)
      observer.progress(
        StepProgress(
          variant: variant, stage: stagePlan.name, step: progress.step, steps: schedule.steps, loss: report.loss,
          penalty: report.penalty, learningRate: report.learningRate, gradientNorm: report.gradientNorm,
          tokens: stageTokens + replayed, tokensPerSecond: speed,
          secondsLeft: perStep * Double(schedule.steps - progress.step), isLogged: isLogged))
      if let reason = divergence(report, threshold: training.lossWatchdogThreshold) {
        try ledger.append(.diverged(stage: stagePlan.name, step: progress.step, reason: reason))
        return .diverged(stage: stagePlan.name, step: progress.step)
      }
      let isLast = progress.step == schedule.steps
      if plan.evaluate.evalSteps > 0, progress.step % plan.evaluate.evalSteps == 0, !isLast {
        try check(stage, training)
      }
      if isLast || progress.stoppedEarly { break }
      let stop = stopReason()
      if stop != nil || StopSignal.takeSaveRequest()
        || (plan.checkpoint.saveSteps > 0 && progress.step % plan.checkpoint.saveSteps == 0)
      {
        do {
          try save(ChainPosition(stage: stage, step: progress.step), optimizer: optimizer, adapter: adapter)
        } catch let error where stop == nil && Self.isFullDisk(error) {
          observer.warning("\(error); training goes on, and the next checkpoint is tried in its turn")
        }
      }
      if let stop {
        try ledger.append(.interrupted(reason: stop, stage: stagePlan.name, step: progress.step))
        return .interrupted(stop)
      }
    }
    previousOptimizer = keepsOptimizer(into: stage + 1) ? optimizer : nil
    if let adapter {
      adapters?.add(adapter)
      // What the adapter left out may be trained again.
      _ = store.freeze(training.freeze)
    }
    return nil
  }

  /// Whether a stage goes on with the moments and the step count of the one before.
  private func keepsOptimizer(into stage: Int) -> Bool {
    stage > 0 && stage < plan.stages.count && plan.stages[stage].training.keepsOptimizerState
      && plan.stages[stage].training.optimizer == plan.stages[stage - 1].training.optimizer
  }

  /// Says whose exact steps become gradients under an adapter.
  private func noteProximal(_ stage: Int) throws {
    let names = (plan.stages[stage].methods ?? plan.methods).filter { $0.string("form") == "proximal" }.map(\.name)
    guard !names.isEmpty else { return }
    try note(
      "stage \(stageNames[stage]): the pulls of \(names.joined(separator: ", ")) go through the adapter's optimizer, as form: coupled does; an exact step on a penalty has no closed form in the factors"
    )
  }

  func schedule(_ stage: Int) -> StageSchedule { assembly.schedule(stage, of: plan) }

  private func stageScope(_ stage: Int, _ method: MethodPlan, steps: Int) -> StageScope {
    StageScope(
      network: assembly.subject.network, stage: stage + 1, name: stageNames[stage],
      tokens: assembly.data.stages[stage].scoredTokens, random: root.forked("stage.\(method.name)", stage),
      steps: steps)
  }

  private func endStage(_ stage: Int, _ schedule: StageSchedule, seconds: Double) throws -> ChainOutcome? {
    let name = stageNames[stage]
    // What training leaves in the pool would stand beside the Fisher pass.
    backend.pool.trim()
    for (plan, method) in stack(stage) {
      try method.stageDidTrain(stageScope(stage, plan, steps: schedule.steps))
    }
    if !assembly.data.stages[stage].validation.isEmpty { _ = try validate(stage) }
    var facts: [JSON.Member] = []
    for (_, method) in stack(stage) {
      let owner = type(of: method).card.name
      for fact in method.facts {
        let isTaken = facts.contains { $0.key == fact.name }
        facts.append(JSON.Member(isTaken ? "\(owner).\(fact.name)" : fact.name, .number(fact.value)))
      }
    }
    try ledger.append(
      .stageEnded(
        name, steps: progress.step, tokens: progress.stageTokens,
        seconds: seconds,
        more: [.init("replayed_tokens", .integer(progress.replayedTokens)), .init("facts", .object(facts))]))
    if plan.evaluate.at.contains(.stageEnd) || stage == plan.stages.count - 1 { try measure(after: name) }
    let isLast = stage + 1 == plan.stages.count
    if !isLast || options.consolidatesLastStage { try consolidate(past: stage + 1, name: name) }
    position = ChainPosition(stage: stage + 1, step: 0)
    let stop = isLast ? nil : stopReason()
    if options.savesStageEnds || stop != nil { try save(position, optimizer: previousOptimizer) }
    if let stop {
      try ledger.append(.interrupted(reason: stop, stage: name, step: progress.step))
      return .interrupted(stop)
    }
    return nil
  }

  /// Why the run cannot go on, or nil.
  private func divergence(_ report: StepReport, threshold: Double) -> String? {
    guard report.isFinite else {
      progress.nonFiniteInARow += 1
      return progress.nonFiniteInARow >= 3 ? "loss or gradient not finite in three steps in a row" : nil
    }
    progress.nonFiniteInARow = 0
    if threshold > 0, progress.meanSteps >= 10, report.loss > threshold * progress.meanLoss {
      return "loss \(report.loss) is more than \(threshold) times its running mean \(progress.meanLoss)"
    }
    progress.meanSteps += 1
    progress.meanLoss += (report.loss - progress.meanLoss) / Double(min(progress.meanSteps, 50))
    return nil
  }

  private func stopReason() -> String? {
    if StopSignal.stopRequested { return "signal" }
    if let deadline, Machine.seconds >= deadline { return "time limit" }
    return nil
  }

  /// Whether room made on the disk is all that an operation lacks.
  private static func isFullDisk(_ error: any Error) -> Bool {
    if let error = error as? ArchiveError { return error.kind == .full }
    guard case .io(let code) = (error as? LedgerError)?.kind else { return false }
    return [ENOSPC, EDQUOT, EFBIG].contains(code)
  }

  func note(_ text: String) throws {
    try ledger.append(LedgerEvent("note", [.init("text", .string(text))]))
    observer.message(text)
  }

  // MARK: The end

  private func finish(_ outcome: ChainOutcome) throws -> ChainOutcome {
    let status: RunResults.Status =
      switch outcome {
      case .finished: .finished
      case .interrupted: .interrupted
      case .diverged: .diverged
      }
    let seconds = earlierSeconds + Machine.seconds - started
    if outcome == .finished { try ledger.append(.runFinished(status: status, seconds: seconds)) }
    try ledger.synchronize()
    let results = RunResults(
      name: plan.name, status: status, seed: Int(truncatingIfNeeded: plan.seed), stages: stageNames, probes: probeInfo,
      matrix: matrix.table,
      summary: Summary(
        stages: stageNames, probes: probeInfo, matrix: matrix, confidence: plan.evaluate.confidence,
        bootstrap: plan.evaluate.bootstrap, seed: Int(truncatingIfNeeded: plan.seed)),
      final: outcome == .finished && options.savesStageEnds
        ? .init(
          checkpoint: "checkpoints/" + directory.checkpointName(stages: stageNames, position),
          parametersSHA256: assembly.parametersHash()) : nil,
      cost: .init(
        wallSeconds: seconds, trainTokens: trainedTokens,
        tokensPerSecond: trainingSeconds > 0 ? Double(trainedTokens) / trainingSeconds : 0,
        peakRSSBytes: Machine.peakBytes),
      environment: Machine.environment(threads: backend.threads, precision: precision.rawValue))
    try AtomicFile.write(results.json.pretty, to: directory.results)
    return outcome
  }
}

extension Exemplar {
  /// The sequences of a packed row.
  static func parts(_ row: PackedRow) -> [Exemplar] {
    var first = 0
    return row.segmentLengths.map { length in
      let range = first..<first + length
      first = range.upperBound
      return Exemplar(inputs: Array(row.inputs[range]), targets: Array(row.targets[range]))
    }
  }
}
