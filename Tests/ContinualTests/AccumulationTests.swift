// How a step's sequences are cut into micro-batches decides no more than the last digits of what AdamW makes of them.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A tiny language model and tasks that contradict one another, in sequences of unlike lengths.
private struct CutWorld {
  let backend = CPUBackend(threads: 2)
  let network: Transformer
  var store: ParameterStore { network.parameters }

  init() throws {
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: 13, hiddenSize: 8, intermediateSize: 12, layers: 2, heads: 2, keyHeads: 1,
      contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
    c.initializerRange = 0.3
    network = try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
  }
  /// Eight sequences of one to nine tokens; the task says what follows a token, and every third place is not scored.
  func sequences(task: Int, step: Int) -> [Exemplar] {
    var random = RandomStream(seed: 40).forked("task \(task)", step)
    var sequences: [Exemplar] = []
    for _ in 0..<8 {
      let length = 1 + random.integer(below: 9)
      var (inputs, targets): ([Int32], [Int32]) = ([], [])
      for place in 0..<length {
        let token = random.integer(below: 13)
        inputs.append(Int32(token))
        targets.append(place % 3 == 2 ? -1 : Int32(((2 * task + 3) * token + task) % 13))
      }
      sequences.append(Exemplar(inputs: inputs, targets: targets))
    }
    return sequences
  }
  func batches(_ sequences: [Exemplar]) -> [Batch] { sequences.isEmpty ? [] : [Batch(sequences)] }
  /// Steps of AdamW with decay and clipping, `cut` sequences a micro-batch.
  func train(task: Int, steps: Int, cut: Int, rate: Double, _ methods: [any ContinualMethod]) {
    let settings = OptimizerSettings(weightDecay: 0.05)
    let train = TrainStep(network, optimizer: Optimizer(settings, store, on: backend), on: backend)
    for step in 0..<steps {
      let rows = sequences(task: task, step: step)
      var parts: [Batch] = []
      for first in stride(from: 0, to: rows.count, by: cut) {
        var composition = Composition(
          Array(rows[first..<min(rows.count, first + cut)]), network: network, backend: backend, batchTokens: 40,
          makeBatches: { batches($0) })
        for method in methods { method.compose(&composition) }
        parts += composition.batches
      }
      _ = train(parts, learningRate: rate, maximumNorm: 0.5, methods: methods)
    }
  }
  /// Consolidates what was learned last, and begins the next stage.
  func turn(to stage: Int, _ method: any ContinualMethod) throws {
    let past = (0..<3).flatMap { sequences(task: stage - 1, step: $0) }
    try method.consolidate(
      ConsolidationScope(
        network: network, backend: backend, past: stage - 1, name: "past", sequences: past, isReal: true,
        tokens: past.reduce(0) { $0 + $1.scored }, batchTokens: 40, makeBatches: { batches($0) },
        random: RandomStream(seed: UInt64(9 + stage)), note: { _ in }))
    try method.stageWillBegin(
      StageScope(network: network, stage: stage, name: "s", tokens: 100, random: RandomStream(seed: 5), steps: 4))
  }
}

@Suite struct AccumulationTests {
  enum Guardian: CaseIterable {
    case plain, coupledEWC, proximalEWC, coupledKFAC, proximalKFAC, si, replay, der, agem, gem, ogd
  }
  private func method(_ guardian: Guardian, _ world: CutWorld) -> (any ContinualMethod)? {
    let (store, backend) = (world.store, world.backend)
    func ewc(_ form: QuadraticPull.Form, _ structure: FisherRecipe.Structure, _ strength: Double)
      -> ElasticWeightConsolidation
    {
      let recipe = FisherRecipe(labels: .observed, unit: .sequence, structure: structure, examples: 100)
      return ElasticWeightConsolidation(
        .init(strength: .fixed(strength), form: form, fisher: recipe), store, on: backend)
    }
    switch guardian {
    case .plain: return nil
    case .coupledEWC: return ewc(.coupled, .diagonal, 100)
    case .proximalEWC: return ewc(.proximal, .diagonal, 100)
    case .coupledKFAC: return ewc(.coupled, .kronecker, 30)
    case .proximalKFAC: return ewc(.proximal, .kronecker, 30)
    case .si: return SynapticIntelligence(strength: 10, xi: 1e-3, store, on: backend)
    case .replay: return ExperienceReplay(ratio: 0.5, budgetTokens: 500, selection: .reservoir)
    case .der:
      return DarkExperienceReplay(
        alpha: 1, beta: 0.5, ratio: 0.5, budgetTokens: 500, selection: .reservoir, isSquared: false, topK: 5)
    case .agem: return AveragedGradientEpisodicMemory(budgetTokens: 500, sampleTokens: 40, store, on: backend)
    case .gem: return GradientEpisodicMemory(budgetTokens: 500, margin: 0.5, store, on: backend)
    case .ogd: return OrthogonalGradientDescent(directions: 3, examples: 100, store, on: backend)
    }
  }

  private struct Course {
    /// The parameters at the end, and what two stages added to those of the base.
    let end: [Double]
    let update: [Double]
    let facts: [String: Double]
  }
  /// A base that knows task 0 learns tasks 1 and 2, four steps each.
  private func course(_ guardian: Guardian, cut: Int) throws -> Course {
    let world = try CutWorld()
    world.train(task: 0, steps: 40, cut: 8, rate: 1e-2, [])
    let start = world.store.values.toArray()
    let method = method(guardian, world)
    for stage in 1...2 {
      if let method { try world.turn(to: stage, method) }
      world.train(task: stage, steps: 4, cut: cut, rate: 2e-3, method.map { [$0] } ?? [])
    }
    let end = world.store.values.toArray()
    return Course(
      end: end.map { Double($0) }, update: zip(end, start).map { Double($0.0) - Double($0.1) },
      facts: Dictionary(uniqueKeysWithValues: (method?.facts ?? []).map { ($0.name, $0.value) }))
  }
  private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
  private func distance(_ x: [Double], _ y: [Double]) -> Double { length(zip(x, y).map { $0.0 - $0.1 }) }

  /// 2 × 4, 3 + 3 + 2, 4 × 2 and 8 × 1 sequences against 1 × 8. Mistakes: the mean of micro-batch means; a pull, a draw
  /// of the memory or moments that move once a micro-batch; importance or constraints from the last micro-batch alone.
  ///
  /// Vectors are compared by their lengths, not number by number: AdamW divides a gradient by its own size, so where
  /// the true one is next to nothing rounding decides its sign, and single numbers may differ by a whole step.
  @Test(arguments: Guardian.allCases) func cutsDecideLastDigitsOnly(_ guardian: Guardian) throws {
    let whole = try course(guardian, cut: 8)
    if guardian != .plain {
      let free = try course(.plain, cut: 8)
      #expect(distance(whole.update, free.update) > 1e-3 * length(free.update), "the guard did nothing")
    }
    if guardian == .agem || guardian == .gem { #expect((whole.facts["projected_steps"] ?? 0) > 0) }
    if guardian == .ogd { #expect((whole.facts["removed_share"] ?? 0) > 0) }
    for cut in [4, 3, 2, 1] {
      let parts = try course(guardian, cut: cut)
      #expect(parts.facts["projected_steps"] == whole.facts["projected_steps"])
      let parameters = distance(parts.end, whole.end) / length(whole.end)
      #expect(parameters <= 1e-6, "cut into \(cut): parameters differ by \(parameters) of their length")
      let update = distance(parts.update, whole.update) / length(whole.update)
      #expect(update <= 1e-4, "cut into \(cut): updates differ by \(update) of their length")
    }
  }
}
