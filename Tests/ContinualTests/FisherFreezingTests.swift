// Freezing by Fisher mass over two pasts: who stands still, since when, and where; alone and in stacks.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct FisherFreezingTests {
  private let first: [Float] = [1, 2, 3, 4, 5, 6, 7, 8]
  private let second: [Float] = [10, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
  private func freezing(_ world: VectorWorld) -> FisherFreezing {
    FisherFreezing(mass: 0.5, world.store, on: world.backend)
  }
  private func hold(_ fisher: [Float], at values: [Float], _ freezing: FisherFreezing, _ world: VectorWorld) {
    world.store.values.assign(values)
    freezing.hold(world.backend.tensor(fisher, 1, fisher.count))
  }
  private func state(_ freezing: FisherFreezing) throws -> (held: [Float], anchor: [Float]) {
    (try #require(freezing.held?.toArray()), try #require(freezing.anchor?.toArray()))
  }

  /// Half of 16 is the first number alone; of the second past's 16 it counts 6, so the fourth's 5 joins it. Mistakes: a
  /// second past that replaces the first, moves its anchor, or counts the mass of free numbers only.
  @Test(arguments: [true, false]) func secondPastsJoinTheFirst(adam: Bool) throws {
    let world = VectorWorld(first)
    let freezing = freezing(world)
    hold([8, 4, 2, 1, 1, 0, 0, 0], at: first, freezing, world)
    #expect(try state(freezing).held == [1, 0, 0, 0, 0, 0, 0, 0])
    // The held one has been moved meanwhile, as by weights that are interpolated.
    hold([6, 1, 1, 5, 3, 0, 0, 0], at: second, freezing, world)
    let (held, anchor) = try state(freezing)
    #expect(held == [1, 0, 0, 1, 0, 0, 0, 0])
    #expect(anchor[0] == 1 && anchor[3] == 4.5)
    let (slopes, goals) = ([Float](repeating: 1, count: 8), [Float](repeating: 0, count: 8))
    let step = StepScope(
      network: Idle(world.store), backend: world.backend, accumulator: Accumulator(world.store, on: world.backend),
      optimizer: Optimizer(OptimizerSettings(kind: .sgd), world.store, on: world.backend), learningRate: 0.05,
      gradientScale: 1, targets: 1, isObserved: false)
    for _ in 0..<20 {
      _ = world.descend(slopes, goals, pulls: freezing.pulls, steps: 1, adam: adam, rate: 0.05)
      freezing.settle(step)
    }
    for (i, value) in world.values.enumerated() {
      switch i {
      case 0, 3: #expect(value == anchor[i])
      default: #expect(value < second[i] - 0.1, "\(i) is free")
      }
    }
  }

  /// A third past after a restart does what it does without one. Mistake: state that lacks anchors or what is held.
  @Test func restoredFreezingGoesOn() throws {
    let world = VectorWorld(first)
    let (whole, restored) = (freezing(world), freezing(world))
    hold([8, 4, 2, 1, 1, 0, 0, 0], at: first, whole, world)
    hold([6, 1, 1, 5, 3, 0, 0, 0], at: second, whole, world)
    let saved = MemoryState()
    whole.write(to: saved)
    try restored.restore(from: saved)
    let third = first.map { $0 - 20 }
    for freezing in [whole, restored] { hold([0, 0, 0, 1, 0, 1, 3, 3], at: third, freezing, world) }
    let (one, other) = (try state(whole), try state(restored))
    // Of equal ones the first; 3 of 8 are not half, 6 are.
    #expect(one.held == [1, 0, 0, 1, 0, 0, 1, 1])
    #expect(one.anchor[0] == 1 && one.anchor[3] == 4.5 && one.anchor[6] == -13 && one.anchor[7] == -12)
    #expect(one.held == other.held)
    for i in one.held.indices where one.held[i] == 1 { #expect(one.anchor[i] == other.anchor[i]) }
  }

  /// With Fishers of their own: what the base held stands through both stages, what the first stage added through the
  /// second.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd]) func heldNumbersStandThroughStages(
    kind: OptimizerSettings.Kind
  ) throws {
    let world = RowWorld()
    let freezing = FisherFreezing(mass: 0.5, examples: 24, world.store, on: world.backend)
    var pasts: [(held: [Float], values: [Float])] = []
    for past in 0...1 {
      try freezing.consolidate(world.past(past))
      pasts.append((try state(freezing).held, world.store.values.toArray()))
      try freezing.stageWillBegin(world.stage(past + 1))
      let rows = world.exemplars.map {
        Exemplar(inputs: $0.inputs, targets: [($0.targets[0] + Int32(past) + 1) % 3])
      }
      let train = world.trainer(kind)
      for _ in 0..<6 { _ = train(world.batches(rows), learningRate: 0.05, maximumNorm: 1, methods: [freezing]) }
    }
    let end = world.store.values.toArray()
    for (held, values) in pasts {
      for i in end.indices where held[i] == 1 { #expect(end[i].bitPattern == values[i].bitPattern, "\(i)") }
    }
    #expect(zip(pasts[0].held, pasts[1].held).allSatisfy { $0.0 <= $0.1 } && pasts[0].held.contains(1))
    #expect(end.indices.contains { pasts[1].held[$0] == 0 && abs(end[$0] - pasts[1].values[$0]) > 1e-3 })
  }

  enum Company: CaseIterable { case proximalKFAC, agem, gem, ogd, all }
  private func methods(_ company: Company, _ world: RowWorld) -> [any ContinualMethod] {
    let (store, backend) = (world.store, world.backend)
    let recipe = FisherRecipe(labels: .expected, unit: .sequence, structure: .kronecker, examples: 24)
    switch company {
    case .proximalKFAC:
      return [
        ElasticWeightConsolidation(.init(strength: .fixed(2), form: .proximal, fisher: recipe), store, on: backend)
      ]
    case .agem: return [AveragedGradientEpisodicMemory(budgetTokens: 200, sampleTokens: 200, store, on: backend)]
    case .gem: return [GradientEpisodicMemory(budgetTokens: 200, margin: 0.5, store, on: backend)]
    case .ogd: return [OrthogonalGradientDescent(directions: 3, examples: 24, store, on: backend)]
    case .all: return [Company.proximalKFAC, .agem, .gem, .ogd].flatMap { methods($0, world) }
    }
  }

  /// Factored pulls and projections move parameters behind the optimizer, held ones included: every bit of these is put
  /// back, wherever freezing stands in the stack, and no penalty tells of it.
  @Test(arguments: Company.allCases, [true, false]) func heldNumbersStandInStacks(_ company: Company, isFirst: Bool)
    throws
  {
    for kind in [OptimizerSettings.Kind.adamw, .sgd] {
      let world = RowWorld(classes: 2)
      let freezing = FisherFreezing(mass: 0.5, examples: 24, world.store, on: world.backend)
      let others = methods(company, world)
      let stack: [any ContinualMethod] = isFirst ? [freezing] + others : others + [freezing]
      for method in stack {
        try method.consolidate(world.past(0))
        try method.stageWillBegin(world.stage())
      }
      let held = try #require(freezing.held?.toArray())
      let start = world.store.values.toArray()
      let opposed = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [1 - $0.targets[0]]) }
      let train = world.trainer(kind)
      for step in 0..<6 {
        let report = train(world.compose(opposed, stack), learningRate: 0.05, maximumNorm: 1, methods: stack)
        // Only the factored pull has a penalty, and none where it begins.
        let isPulled = step > 0 && (company == .proximalKFAC || company == .all)
        #expect(isPulled ? report.penalty > 0 && report.penalty < 100 : report.penalty == 0, "\(report.penalty)")
      }
      let end = world.store.values.toArray()
      for i in end.indices where held[i] == 1 { #expect(end[i].bitPattern == start[i].bitPattern, "\(kind) \(i)") }
      #expect(held.contains(1) && end.indices.contains { held[$0] == 0 && end[$0] != start[$0] })
    }
  }
}
