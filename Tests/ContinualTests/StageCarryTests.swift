// What a stage hands to the next: step counts of moments, interpolated weights, one schedule.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct StageCarryTests {
  /// Bias corrections go by each parameter's own steps: a head that begins late moves like one that begins at once.
  @Test func lateHeadsBeginLikeEarlyOnes() throws {
    let backend = CPUBackend(threads: 1)
    func network() -> MLP {
      MLP(MLPConfiguration(inputs: 2, hiddenSizes: [], classes: [2, 2]), random: RandomStream(seed: 1), on: backend)
    }
    func batch(_ head: Int) -> Batch { Batch(features: backend.tensor([0.4, -1], 1, 2), labels: [1], head: head) }
    func moved(_ network: MLP, after idle: Int) -> [Float] {
      let train = TrainStep(
        network, optimizer: Optimizer(OptimizerSettings(), network.parameters, on: backend), on: backend)
      for _ in 0..<idle { _ = train([batch(0)], learningRate: 0.01, maximumNorm: 0) }
      let head = network.parameters["heads.1.weight"]?.value
      let start = head?.toArray() ?? []
      _ = train([batch(1)], learningRate: 0.01, maximumNorm: 0)
      return zip(head?.toArray() ?? [], start).map { $0.0 - $0.1 }
    }
    let (early, late) = (moved(network(), after: 0), moved(network(), after: 40))
    #expect(early == late && early.allSatisfy { abs(abs($0) - 0.01) < 1e-4 })
  }

  /// θ₀ + α(θ₁ − θ₀) after the last step, whatever the steps were; α = 1 keeps every bit.
  @Test(arguments: [0, 0.3, 1]) func stagesGoPartOfTheWay(alpha: Double) throws {
    let world = RowWorld()
    let method = WeightInterpolation(alpha: alpha, world.store, on: world.backend)
    try method.consolidate(world.past(0))
    for stage in 1...2 {
      try method.stageWillBegin(world.stage(stage))
      let before = world.store.values.toArray()
      let train = world.trainer()
      for _ in 0..<5 {
        _ = train(world.batches(world.exemplars), learningRate: 0.02, maximumNorm: 0, methods: [method])
      }
      let after = world.store.values.toArray()
      try method.stageDidTrain(world.stage(stage))
      let kept = world.store.values.toArray()
      for (i, value) in kept.enumerated() {
        if alpha == 1 { #expect(value == after[i]) }
        #expect(abs(value - (before[i] + Float(alpha) * (after[i] - before[i]))) <= 1e-6)
      }
      let way = zip(after, before).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
      #expect(abs(try #require(method.facts.first).value - way) <= 1e-5 * way)
      try method.consolidate(world.past(stage))
    }
  }

  /// A new model has nothing to go back to, whether its base is consolidated or not; what its first stage trained has
  /// from the second on.
  @Test(arguments: [true, false]) func newParametersStayWhereTheyWereTrained(isConsolidated: Bool) throws {
    let world = RowWorld()
    _ = world.store.freeze(["layers.*"])
    let method = WeightInterpolation(alpha: 0.5, world.store, on: world.backend)
    if isConsolidated { try method.consolidate(world.past(0, isUntrained: true)) }
    func stage(_ index: Int) throws -> (before: [Float], after: [Float], kept: [Float]) {
      try method.stageWillBegin(world.stage(index))
      let before = world.store.values.toArray()
      _ = world.trainer()(world.batches(world.exemplars), learningRate: 0.1, maximumNorm: 0, methods: [method])
      let after = world.store.values.toArray()
      try method.stageDidTrain(world.stage(index))
      try method.consolidate(world.past(index))
      return (before, after, world.store.values.toArray())
    }
    let first = try stage(1)
    #expect(first.kept == first.after && first.after != first.before)
    _ = world.store.freeze([])
    let second = try stage(2)
    for parameter in world.store.parameters {
      let isNew = parameter.name.hasPrefix("layers.")
      #expect((second.kept[parameter.range] == second.after[parameter.range]) == isNew, "\(parameter.name)")
    }
  }

  /// One warm-up and one annealing for the whole chain, and no jump between stages.
  @Test func infiniteScheduleHasNoSeams() {
    func stage(_ isFirst: Bool, _ isLast: Bool) -> [Double] {
      let schedule = Schedule(
        shape: .infinite, peak: 2, steps: 100, warmupRatio: 0.1, minimumRatio: 0.1, constantRatio: 0.4,
        place: .init(isFirst: isFirst, isLast: isLast))
      return (0..<100).map(schedule.learningRate)
    }
    let (first, middle, last) = (stage(true, false), stage(false, false), stage(false, true))
    #expect(abs(first[0] - 0.2) < 1e-12 && abs(first[9] - 2) < 1e-12 && abs(first[10] - 2) < 1e-12)
    #expect(zip(first[10...], first[11...]).allSatisfy { $0 >= $1 - 1e-12 })
    #expect(first[55...].allSatisfy { abs($0 - 0.8) < 1e-12 })
    #expect(middle.allSatisfy { abs($0 - 0.8) < 1e-12 })
    #expect(last[..<90].allSatisfy { abs($0 - 0.8) < 1e-12 } && abs(last[95] - 0.5) < 1e-12)
    #expect(last[99] > 0.2 && last[99] < 0.3)
  }

  /// peak·(s + 1)/W in the warm-up, then by the shape, x the share of the steps after it.
  @Test(arguments: [Schedule.Shape.constant, .linear, .cosine, .wsd]) func schedulesByFormula(shape: Schedule.Shape) {
    let schedule = Schedule(shape: shape, peak: 0.5, steps: 43, warmupRatio: 0.05, minimumRatio: 0.2)
    // ⌈0.05 · 43⌉ = ⌈2.15⌉
    #expect(schedule.warmupSteps == 3)
    func factor(_ x: Double) -> Double {
      switch shape {
      case .constant, .infinite: return 1
      case .linear: return 0.2 + 0.8 * (1 - x)
      case .cosine:
        let sine = Maths.sin(Double.pi * x / 2)
        return 0.2 + 0.8 * (1 - sine * sine)
      case .wsd: return x < 0.9 ? 1 : 0.2 + 0.8 * (1 - x) / 0.1
      }
    }
    for step in 0..<3 {
      let wanted = 0.5 * Double(step + 1) / 3
      #expect(abs(schedule.learningRate(step) - wanted) < 1e-12)
    }
    for step in 3..<43 {
      let wanted = 0.5 * factor(Double(step - 3) / 40)
      #expect(abs(schedule.learningRate(step) - wanted) < 1e-12, "\(step)")
    }
    // x = 0, ½, 39/40, and 1, which no step reaches: there and beyond lies the floor.
    let values: [Double]
    switch shape {
    case .constant, .infinite: values = [0.5, 0.5, 0.5, 0.5]
    case .linear: values = [0.5, 0.3, 0.11, 0.1]
    case .cosine: values = [0.5, 0.3, 0.1 + 0.4 * 0.001541333133436, 0.1]
    case .wsd: values = [0.5, 0.5, 0.2, 0.1]
    }
    for (step, wanted) in zip([3, 23, 42, 43], values) {
      #expect(abs(schedule.learningRate(step) - wanted) < 1e-12, "\(step)")
    }
    #expect(schedule.learningRate(1000) == schedule.learningRate(43))
    // Without a warm-up the first step has the whole rate.
    let sudden = Schedule(shape: shape, peak: 0.5, steps: 43, warmupRatio: 0, minimumRatio: 0.2)
    #expect(sudden.warmupSteps == 0 && sudden.learningRate(0) == 0.5)
  }
}
