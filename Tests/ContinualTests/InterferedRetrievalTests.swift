// Interfered retrieval against brute force: where the virtual step leads, whose loss rises most, how much is rehearsed.
import Continual
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// The rows of a `RowWorld` in sequences of any length, token i standing for row i, and an optimizer's steps on them.
private struct SequenceWorld {
  static let rate = 0.05
  let rows = RowWorld()
  let train: TrainStep
  var backend: CPUBackend { rows.backend }
  var store: ParameterStore { rows.store }

  init(_ kind: OptimizerSettings.Kind = .adamw) {
    let settings = OptimizerSettings(kind: kind, weightDecay: 0.1, momentum: 0.9)
    train = TrainStep(
      rows.network, optimizer: Optimizer(settings, rows.store, on: rows.backend), on: rows.backend)
  }
  func sequence(from first: Int, length: Int) -> Exemplar {
    let places = (first..<first + length).map { $0 % rows.rows.count }
    return Exemplar(inputs: places.map(Int32.init), targets: places.map { rows.labels[$0] })
  }
  /// The first rows under other labels: what the past knows is contradicted.
  func opposed(_ count: Int) -> [Exemplar] {
    rows.exemplars.prefix(count).map { Exemplar(inputs: $0.inputs, targets: [($0.targets[0] + 1) % 3]) }
  }
  func batches(_ exemplars: [Exemplar]) -> [Batch] {
    guard !exemplars.isEmpty else { return [] }
    let places = exemplars.flatMap(\.inputs)
    let features = backend.tensor(
      places.flatMap { rows.rows[Int($0)] }, places.count, rows.rows[0].count)
    var batch = Batch(features: features, labels: exemplars.flatMap(\.targets))
    batch.segments = Segments(lengths: exemplars.map(\.inputs.count))
    batch.objectives = Objectives(exemplars)
    return [batch]
  }
  func step(_ batches: [Batch]) { _ = train(batches, learningRate: Self.rate, maximumNorm: 1) }
  /// Of every row under its own label.
  func losses() -> [Double] {
    batches(rows.exemplars).flatMap { rows.network.negativeLogLikelihoods($0, on: backend) }.map(Double.init)
  }

  /// At the beginning of a stage; without candidates the shuffled order.
  func replay(_ ratio: Double, budget: Int, candidates: Int?, _ past: [Exemplar]) throws -> ExperienceReplay {
    let replay = ExperienceReplay(
      ratio: ratio, budgetTokens: budget, selection: .reservoir, candidates: candidates)
    try replay.consolidate(
      ConsolidationScope(
        network: rows.network, backend: backend, past: 0, name: "base", sequences: past, isReal: true, tokens: 1,
        batchTokens: 16, makeBatches: { batches($0) }, random: RandomStream(seed: 3), note: { _ in }))
    try replay.stageWillBegin(rows.stage())
    return replay
  }
  func compose(_ stage: [Exemplar], _ replay: ExperienceReplay) -> Composition {
    var composition = Composition(
      stage, network: rows.network, backend: backend, batchTokens: 16, makeBatches: { batches($0) },
      preview: { [train] in train.preview(along: $0, learningRate: Self.rate, maximumNorm: 1, into: $1) })
    replay.compose(&composition)
    return composition
  }
}

@Suite struct InterferedRetrievalTests {
  private func facts(_ replay: ExperienceReplay) -> [String: Double] {
    Dictionary(uniqueKeysWithValues: replay.facts.map { ($0.name, $0.value) })
  }

  // MARK: The virtual step

  /// Bit for bit, in the midst of training, weight decay and clipping included; nothing moves before the step.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd], [0, 0.01]) func previewIsTheNextStep(
    kind: OptimizerSettings.Kind, maximumNorm: Double
  ) {
    let world = SequenceWorld(kind)
    let optimizer = world.train.optimizer
    for _ in 0..<3 { world.step(world.batches(world.opposed(8))) }
    let batch = world.batches(world.opposed(12))[0]
    let gradient = Accumulator(world.store, on: world.backend)
    _ = world.rows.network.backward(batch, seed: CrossEntropySeed(scale: 1 / 12), sink: gradient, on: world.backend)
    func state() -> [[Float]] {
      [world.store.values, optimizer.first, optimizer.second].compactMap { $0?.toArray() }
    }
    let (before, steps) = (state(), optimizer.steps)
    let values = world.backend.empty(1, world.store.count)
    world.train.preview(along: gradient, learningRate: 0.02, maximumNorm: maximumNorm, into: values)
    #expect(state() == before && optimizer.steps == steps)
    let previewed = values.toArray()
    _ = world.train([batch], learningRate: 0.02, maximumNorm: maximumNorm)
    #expect(previewed == world.store.values.toArray() && previewed != before[0])
  }

  /// A head whose first gradient comes late has bias corrections of its own, and one without a gradient stands still.
  @Test func previewKnowsEachParametersSteps() {
    let backend = CPUBackend(threads: 1)
    let network = MLP(
      MLPConfiguration(inputs: 2, hiddenSizes: [3], classes: [2, 2]), random: RandomStream(seed: 1), on: backend)
    let train = TrainStep(
      network, optimizer: Optimizer(OptimizerSettings(), network.parameters, on: backend), on: backend)
    func batch(_ head: Int) -> Batch { Batch(features: backend.tensor([0.4, -1], 1, 2), labels: [1], head: head) }
    for _ in 0..<5 { _ = train([batch(0)], learningRate: 0.01, maximumNorm: 0) }
    let gradient = Accumulator(network.parameters, on: backend)
    _ = network.backward(batch(1), seed: CrossEntropySeed(scale: 1), sink: gradient, on: backend)
    let values = backend.empty(1, network.parameters.count)
    train.preview(along: gradient, learningRate: 0.01, maximumNorm: 0, into: values)
    let previewed = values.toArray()
    _ = train([batch(1)], learningRate: 0.01, maximumNorm: 0)
    #expect(previewed == network.parameters.values.toArray())
  }

  // MARK: What is drawn

  /// A twin takes the step and measures every row before and after: what is drawn rises at least as much as what is not.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd], [1, 2, 4]) func theHighestRisesAreDrawn(
    kind: OptimizerSettings.Kind, factor: Int
  ) throws {
    let (world, twin) = (SequenceWorld(kind), SequenceWorld(kind))
    let stage = world.opposed(6)
    for _ in 0..<3 {
      world.step(world.batches(stage))
      twin.step(twin.batches(stage))
    }
    let replay = try world.replay(0.5, budget: 24, candidates: factor, world.rows.exemplars)
    let shuffled = try twin.replay(0.5, budget: 24, candidates: nil, twin.rows.exemplars)
    let before = twin.losses()
    twin.step(twin.batches(stage))
    let rises = zip(twin.losses(), before).map { $0 - $1 }
    var (drawnRise, candidateRise) = (0.0, 0.0)
    for _ in 0..<3 {
      // The candidates are the next ones of the order in which the plain method draws.
      let candidates = Set(shuffled.rehearse(stageTokens: 6 * factor).map { Int($0.inputs[0]) })
      let drawn = world.compose(stage, replay).rehearsed.map { Int($0.inputs[0]) }
      #expect(drawn.count == 6 && Set(drawn).count == 6 && Set(drawn).isSubset(of: candidates))
      let lowest = drawn.map { rises[$0] }.min() ?? 0
      #expect(candidates.subtracting(drawn).allSatisfy { rises[$0] <= lowest + 1e-5 })
      drawnRise += drawn.reduce(0) { $0 + rises[$1] } / 18
      candidateRise += candidates.reduce(0) { $0 + rises[$1] } / Double(18 * factor)
    }
    let facts = facts(replay)
    #expect(facts["retrieval_candidates"] == Double(18 * factor) && facts["replayed_tokens"] == 18)
    #expect(abs((facts["retrieval_rise"] ?? -1) - (drawnRise - candidateRise)) < 1e-5)
    #expect(factor == 1 || drawnRise > candidateRise + 1e-3)
  }

  /// Retrieval looks and leaves everything as it was.
  @Test func retrievalMovesNothing() throws {
    let world = SequenceWorld()
    let replay = try world.replay(0.5, budget: 24, candidates: 4, world.rows.exemplars)
    world.step(world.batches(world.opposed(6)))
    let optimizer = world.train.optimizer
    func state() -> [[Float]] {
      [world.store.values, optimizer.first, optimizer.second].compactMap { $0?.toArray() }
    }
    let (before, steps) = (state(), optimizer.steps)
    #expect(world.compose(world.opposed(6), replay).rehearsed.count == 6)
    #expect(state() == before && optimizer.steps == steps)
  }

  /// Where more is owed than the buffer holds, all of it is rehearsed, and what rises most once more.
  @Test func aSmallBufferComesRoundAgain() throws {
    let world = SequenceWorld()
    let replay = try world.replay(0.5, budget: 4, candidates: 4, Array(world.rows.exemplars.prefix(4)))
    let drawn = world.compose(world.opposed(10), replay).rehearsed.map { $0.inputs[0] }
    try #require(drawn.count == 10)
    #expect(Set(drawn).count == 4)
    #expect(Array(drawn[4..<8]) == Array(drawn[..<4]) && Array(drawn[8...]) == Array(drawn[..<2]))
  }

  // MARK: Accounting

  private func past(_ world: SequenceWorld) -> [Exemplar] {
    (0..<60).map { world.sequence(from: $0, length: 1 + $0 % 9) }
  }

  @Test(arguments: [0.1, 0.25, 0.5]) func shareIsExactToWithinOneSequence(ratio: Double) throws {
    let world = SequenceWorld()
    let replay = try world.replay(ratio, budget: 300, candidates: 3, past(world))
    var (stage, replayed) = (0, 0)
    var random = RandomStream(seed: 1)
    for _ in 0..<200 {
      let composition = world.compose(world.opposed(1 + random.integer(below: 24)), replay)
      stage += composition.stageTokens
      replayed += composition.rehearsed.reduce(0) { $0 + $1.inputs.count }
      let owed = Double(stage) * ratio / (1 - ratio)
      #expect(Double(replayed) <= owed + 1e-6 && Double(replayed) > owed - 9 - 1e-6)
    }
    let facts = facts(replay)
    #expect(facts["replayed_tokens"] == Double(replayed) && facts["replay_stage_tokens"] == Double(stage))
  }

  @Test func interruptionsChangeNoChoice() throws {
    let (world, twin) = (SequenceWorld(), SequenceWorld())
    let whole = try world.replay(0.3, budget: 200, candidates: 3, past(world))
    var cut = try twin.replay(0.3, budget: 200, candidates: 3, past(twin))
    for step in 0..<40 {
      if step % 7 == 6 {
        let state = MemoryState()
        cut.write(to: state)
        cut = ExperienceReplay(ratio: 0.3, budgetTokens: 200, selection: .reservoir, candidates: 3)
        try cut.stageWillBegin(twin.rows.stage())
        try cut.restore(from: state)
      }
      let stage = world.opposed(4 + step % 9)
      let (one, other) = (world.compose(stage, whole), twin.compose(stage, cut))
      #expect(one.rehearsed == other.rehearsed)
      world.step(one.batches)
      twin.step(other.batches)
    }
    #expect(facts(whole) == facts(cut) && (facts(whole)["retrieval_candidates"] ?? 0) > 0)
    #expect(world.store.values.toArray() == twin.store.values.toArray())
  }

  @Test func damagedStateIsRefused() throws {
    let world = SequenceWorld()
    let state = MemoryState()
    try world.replay(0.3, budget: 200, candidates: 3, past(world)).write(to: state)
    state.doubles("rises", [1], description: nil)
    #expect(throws: StateError.self) {
      try ExperienceReplay(ratio: 0.3, budgetTokens: 200, selection: .reservoir, candidates: 3).restore(from: state)
    }
  }

  /// Where the virtual step is no number, candidates are drawn all the same, and the stage's figures do not know of it.
  @Test func aStepThatIsNoNumberLeavesNoMark() throws {
    let world = SequenceWorld()
    let replay = try world.replay(0.5, budget: 24, candidates: 4, world.rows.exemplars)
    _ = world.compose(world.opposed(4), replay)
    let before = facts(replay)
    let values = world.store.values.toArray()
    world.store.values.assign(values.map { _ in Float.nan })
    #expect(world.compose(world.opposed(4), replay).rehearsed.count == 4)
    world.store.values.assign(values)
    #expect(facts(replay)["retrieval_candidates"] == before["retrieval_candidates"])
    #expect(facts(replay)["retrieval_rise"] == before["retrieval_rise"])
    _ = world.compose(world.opposed(4), replay)
    #expect(facts(replay)["retrieval_rise"]?.isFinite == true)
  }
}
