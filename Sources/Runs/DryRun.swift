// What a run will take, before it takes it: steps, tokens, memory, disk and time of every variant.
// Steps and tokens are exact; time comes from a short calibration on the run's own data.
import Continual
import Curvature
import Experiment
import Foundation
import Layers
import Models
import StrictJSON
import TensorCPU
import TensorCore
import Training

/// The forecast of an experiment.
public struct DryRun: Sendable {
  public struct Stage: Sendable {
    public let name: String
    public let steps: Int
    /// Input tokens of stage rows, and of replayed sequences that join them.
    public let stageTokens: Int
    public let replayedTokens: Int
    public let seconds: Double
  }
  public struct Variant: Sendable {
    public let name: String
    public let stages: [Stage]
    /// Fisher passes at the base and at every stage end.
    public let consolidationSeconds: Double
    /// All probes at the base and at every stage end.
    public let measuringSeconds: Double
    public let memory: MemoryEstimate
    public let disk: DiskEstimate
    public var seconds: Double { stages.reduce(consolidationSeconds + measuringSeconds) { $0 + $1.seconds } }
  }
  public let variants: [Variant]
  /// Runs of every variant.
  public let seeds: Int
  /// Bytes of one checkpoint while it is written beside the others.
  public var largestCheckpoint: Int { variants.map(\.disk.largest).max() ?? 0 }
  /// Speed of a training step without a penalty, from the calibration.
  public let tokensPerSecond: Double
  public let freeDisk: Int?
  public let availableMemory: Int?

  public var seconds: Double { Double(seeds) * variants.reduce(0) { $0 + $1.seconds } }
  public var diskBytes: Int { largestCheckpoint + seeds * variants.reduce(0) { $0 + $1.disk.bytes } }
  public var memoryBytes: Int { variants.map(\.memory.bytes).max() ?? 0 }

  /// Makes the forecast of a plan and all its variants; the model in memory is not changed.
  ///
  /// - Cost: a few steps, one batch of a Fisher pass and the first items of every probe
  public init(_ plan: ExperimentPlan, assembly: Assembly) throws {
    let all =
      [(plan.mainVariantName, plan)]
      + plan.compare.compactMap { entry in
        plan.variant(entry.name).map { (entry.name, $0) }
      }
    let calibration = Calibration(assembly)
    let perToken = try calibration.secondsPerToken(plan)
    let measuring = try calibration.secondsOfProbes(plan)
    var variants: [Variant] = []
    var baseMeasured = false
    // Variants share what they compute from the same base.
    var baseFishers: [FisherRecipe] = []
    for (name, variant) in all {
      var stages: [Stage] = []
      var seconds = 0.0
      let methods = variant.methods + variant.stages.flatMap { $0.methods ?? [] }
      for (index, stage) in variant.stages.enumerated() {
        let schedule = assembly.schedule(index, of: variant)
        let pasts = index + (assembly.data.base.examples.isEmpty ? 0 : 1)
        let outline = StepOutline(
          tokens: schedule.inputTokens / max(1, schedule.steps), pasts: pasts,
          store: assembly.subject.network.parameters)
        let replayed = pasts > 0 ? Int(Double(schedule.inputTokens) * variant.rehearsedPerToken(stage: index)) : 0
        stages.append(
          Stage(
            name: stage.name, steps: schedule.steps, stageTokens: schedule.inputTokens,
            replayedTokens: replayed,
            seconds: (Double(schedule.inputTokens) * (1 + variant.addedWork(stage: index, outline)) + Double(replayed))
              * perToken)
        )
      }
      for recipe in Set(
        methods.compactMap { try? assembly.method($0) as? ElasticWeightConsolidation }.map(\.settings.fisher))
      {
        let perSequence = try calibration.secondsPerFisherToken(recipe, plan)
        for past in 0...variant.stages.count {
          if past == 0, baseFishers.contains(recipe) { continue }
          seconds += perSequence * calibration.fisherTokens(recipe, past: past, plan)
        }
        baseFishers.append(recipe)
      }
      let rounds =
        (variant.evaluate.at.contains(.base) && !baseMeasured ? 1 : 0)
        + (variant.evaluate.at.contains(.stageEnd) ? variant.stages.count : 1)
      baseMeasured = true
      variants.append(
        Variant(
          name: name, stages: stages, consolidationSeconds: seconds,
          measuringSeconds: Double(rounds) * measuring,
          memory: MemoryEstimate(variant, assembly: assembly, isReused: all.count > 1),
          disk: DiskEstimate(variant, assembly: assembly)))
    }
    self.variants = variants
    seeds = plan.seeds.count
    tokensPerSecond = perToken > 0 ? 1 / perToken : 0
    freeDisk = Resources.freeDisk(at: plan.outputDirectory)
    availableMemory = Resources.availableMemory.map { $0 + (Resources.residentMemory ?? 0) }
  }

  public var json: JSON {
    [
      "schema": 1, "seconds": .number(seconds), "seeds": .integer(seeds), "memory_bytes": .integer(memoryBytes),
      "available_memory_bytes": JSON(availableMemory), "disk_bytes": .integer(diskBytes),
      "free_disk_bytes": JSON(freeDisk), "tokens_per_second": .number(tokensPerSecond),
      "variants": .array(
        variants.map { variant in
          [
            "name": .string(variant.name),
            "stages": .array(
              variant.stages.map { stage in
                [
                  "name": .string(stage.name), "steps": .integer(stage.steps),
                  "stage_tokens": .integer(stage.stageTokens),
                  "replayed_tokens": .integer(stage.replayedTokens),
                  "seconds": .number(stage.seconds),
                ]
              }),
            "consolidation_seconds": .number(variant.consolidationSeconds),
            "measuring_seconds": .number(variant.measuringSeconds), "seconds": .number(variant.seconds),
            "memory_bytes": .integer(variant.memory.bytes),
            "memory": .object(variant.memory.parts.map { .init($0.name, .integer($0.bytes)) }),
            "checkpoints": .integer(variant.disk.checkpoints),
            "checkpoint_bytes": .integer(variant.disk.bytes),
          ]
        }),
    ]
  }
}

/// Short measurements on the run's own data.
private struct Calibration {
  let assembly: Assembly
  init(_ assembly: Assembly) { self.assembly = assembly }

  /// Steps of learning rate 0 on the first rows, until the figure is steady or a second is over.
  func secondsPerToken(_ plan: ExperimentPlan) throws -> Double {
    guard let stage = plan.stages.first else { return 0 }
    var rows = assembly.schedule(0, of: plan).stream(from: .start)
    var training = stage.training
    training.weightDecay = 0
    // An adapter's steps are those of full fine-tuning without moments for every weight.
    if training.adapter == .lora { training.optimizer = .sgd }
    assembly.prepare(for: training)
    defer { assembly.backend.precision = .fp32 }
    let step = TrainStep(
      assembly.subject.network, optimizer: assembly.optimizer(training), on: assembly.backend)
    var best = Double.infinity
    let begun = Machine.seconds
    // The first step fills the buffer pool.
    for turn in 0..<8 {
      let packed = (0..<training.microBatchSize).compactMap { _ in rows.next() }
      let batches = assembly.subject.batches(packed.flatMap(Exemplar.parts), on: assembly.backend)
      let tokens = batches.reduce(0) { $0 + $1.count }
      guard tokens > 0 else { break }
      let start = Machine.seconds
      _ = step(batches, learningRate: 0, maximumNorm: 0, pulls: [])
      if turn > 0 { best = min(best, (Machine.seconds - start) / Double(tokens)) }
      if turn > 0, Machine.seconds - begun > 1 { break }
    }
    return best.isFinite ? best : 0
  }

  /// All probes once, from their first items.
  func secondsOfProbes(_ plan: ExperimentPlan) throws -> Double {
    try assembly.probes.reduce(0) { sum, probe in
      let items = min(16, probe.items)
      guard items > 0 else { return sum }
      let start = Machine.seconds
      _ = try probe.measure(
        assembly.subject.network, window: plan.evaluate.window, items: items,
        batchTokens: ChainRun.scoringTokens, on: assembly.backend)
      return sum + (Machine.seconds - start) * Double(probe.items) / Double(items)
    }
  }

  private func sequences(past: Int) -> [Exemplar] {
    let set = past == 0 ? assembly.data.base : assembly.data.stages[past - 1]
    return set.examples.isEmpty ? assembly.data.stages[0].sequences : set.sequences
  }

  /// Tokens of the sequences that a Fisher of one past looks at.
  func fisherTokens(_ recipe: FisherRecipe, past: Int, _ plan: ExperimentPlan) -> Double {
    let set = past == 0 ? assembly.data.base : assembly.data.stages[past - 1]
    guard !set.examples.isEmpty else {
      // A new model has nothing to keep; another one writes as many texts as are asked for.
      guard !plan.baseModel.isNew else { return 0 }
      let written = recipe.examples == .max ? ChainRun.sampledExamples : recipe.examples
      return Double(written) * Double(min(plan.training.sequenceLength, assembly.subject.contextLength))
    }
    let share = min(1, Double(recipe.examples) / Double(set.examples.count))
    return Double(set.inputTokens) * share
  }

  func secondsPerFisherToken(_ recipe: FisherRecipe, _ plan: ExperimentPlan) throws -> Double {
    let limit =
      max(1, plan.training.microBatchSize)
      * min(plan.training.sequenceLength, assembly.subject.contextLength)
    var (chosen, tokens): ([Exemplar], Int) = ([], 0)
    for sequence in sequences(past: 0) {
      if tokens > 0, tokens + sequence.inputs.count > limit { break }
      chosen.append(sequence)
      tokens += sequence.inputs.count
    }
    guard tokens > 0 else { return 0 }
    assembly.prepare(for: plan.training)
    defer { assembly.backend.precision = .fp32 }
    var best = Double.infinity
    for _ in 0..<2 {
      let start = Machine.seconds
      _ = try DiagonalFisher.estimate(
        assembly.subject.network, over: [Batch(chosen)], recipe: recipe, random: RandomStream(seed: 0),
        on: assembly.backend)
      best = min(best, Machine.seconds - start)
    }
    return best / Double(tokens)
  }
}
