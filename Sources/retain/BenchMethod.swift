// What a continual-learning method adds to a step: its steps in turn with plain ones.
import Continual
import Experiment
import Layers
import Models
import Runs
import StrictJSON
import TensorCore
import Training

/// A method of the catalog with some options set.
struct BenchedMethod {
  let plan: MethodPlan
  var name: String { plan.name }

  /// - Parameter settings: `key=value`, keys dotted as in experiment files
  /// - Throws: `RunError` (64) for an unknown name, key or value
  init(_ name: String, _ settings: [String]) throws {
    let found: MethodPlan?
    do throws(ExperimentError) { found = try MethodPlan.read(name, settings: settings) } catch {
      let mistakes = error.issues.map { "--set \($0.sourceLine ?? ""): \($0.message)" }
      throw usage(mistakes.joined(separator: "\n"), hint: error.issues.first?.hint)
    }
    guard let plan = found else { throw usage("there is no method \(name)", hint: "retain list methods") }
    self.plan = plan
  }

  func make(_ store: ParameterStore, on backend: any Backend) -> (any ContinualMethod)? {
    plan.type?.init(MethodIngredients(plan.methodOptions, store: store, backend: backend))
  }
}

extension Bench {
  /// A step with the method, composition included, in turn with a plain one on the same sequences.
  ///
  /// The base is consolidated from 64 sequences of random ids, and a stage has begun.
  func method(_ benched: BenchedMethod) throws -> BenchResult {
    let model = try transformer()
    let store = model.parameters
    guard let method = benched.make(store, on: backend) else { throw usage("there is no method \(benched.name)") }
    let optimizer = Optimizer(OptimizerSettings(weightDecay: 0.01), store, on: backend)
    let trainStep = TrainStep(model, optimizer: optimizer, on: backend)
    let makeBatches: ([Exemplar]) -> [Batch] = { $0.isEmpty ? [] : [Batch($0)] }
    let past = sequences(64, from: RandomStream(seed: 17).forked("past"), length: length)
    var notes: [String] = []
    let begun = Machine.seconds
    try method.consolidate(
      ConsolidationScope(
        network: model, backend: backend, past: 0, name: "base", sequences: past, isReal: true,
        tokens: 64 * length, batchTokens: tokens, makeBatches: makeBatches,
        write: { [backend] prompts, length, temperature, random in
          model.sampleSequences(
            prompts: prompts, length: length, prefix: 0, temperature: temperature, random: random, on: backend
          ).map { Exemplar(inputs: [0] + $0.dropLast(), targets: $0) }
        }, random: RandomStream(seed: 17).forked("consolidation"), note: { notes.append($0) }))
    let consolidation = Machine.seconds - begun
    try method.stageWillBegin(
      StageScope(
        network: model, stage: 1, name: "bench", tokens: tokens, random: RandomStream(seed: 17), steps: steps))
    let stage = sequences(batch, from: RandomStream(seed: 17).forked("tokens"), length: length)
    var last: StepReport?
    func step(_ methods: [any ContinualMethod]) {
      var composition = Composition(
        stage, network: model, backend: backend, batchTokens: tokens, makeBatches: makeBatches,
        preview: { [learningRate] in
          trainStep.preview(along: $0, learningRate: learningRate, maximumNorm: 1, into: $1)
        })
      for method in methods { method.compose(&composition) }
      last = trainStep(composition.batches, learningRate: learningRate, maximumNorm: 1, methods: methods)
    }
    let (plain, seconds, ratio) = try medians({ step([]) }, { step([method]) })
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: nil, loss: last?.loss,
      details: [
        .init("method", .string(benched.name)), .init("plain_seconds_per_step", .number(plain)),
        .init("ratio_to_plain", .number(ratio)), .init("penalty", JSON(last?.penalty)),
        .init("consolidation_seconds", .number(consolidation)),
        .init("notes", .array(notes.map { .string($0) })),
      ])
  }

  /// Sequences of random ids.
  private func sequences(_ count: Int, from random: RandomStream, length: Int) -> [Exemplar] {
    var random = random
    return (0..<count).map { _ in
      let ids = (0...length).map { _ in Int32(random.integer(below: configuration.vocabularySize)) }
      return Exemplar(inputs: Array(ids.dropLast()), targets: Array(ids.dropFirst()))
    }
  }
}
