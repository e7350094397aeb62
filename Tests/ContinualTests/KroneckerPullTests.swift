// K-FAC EWC as a pull: fixed points and clipping.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct KroneckerPullTests {
  private func consolidated(
    _ world: RowWorld, _ form: QuadraticPull.Form, strength: Double, storage: Precision = .fp32
  ) throws -> ElasticWeightConsolidation {
    let recipe = FisherRecipe(labels: .expected, unit: .sequence, structure: .kronecker, examples: 24)
    let ewc = ElasticWeightConsolidation(
      .init(strength: .fixed(strength), form: form, fisher: recipe, storage: storage), world.store, on: world.backend)
    try ewc.consolidate(world.past(0))
    try ewc.stageWillBegin(world.stage())
    return ewc
  }

  /// Both forms rest where the task's gradient and the pull balance: they end in one place, and for an immense strength at
  /// the anchor.
  @Test(arguments: [OptimizerSettings.Kind.sgd, .adamw]) func factoredFormsShareTheirFixedPoint(
    kind: OptimizerSettings.Kind
  ) throws {
    func end(_ form: QuadraticPull.Form, _ strength: Double) throws -> (moved: [Float], start: [Float]) {
      let world = RowWorld(hidden: [])
      // The anchor is an optimum of nothing: any place will do.
      let ewc = try consolidated(world, form, strength: strength)
      let start = world.store.values.toArray()
      let train = world.trainer(kind)
      for step in 0..<3000 {
        let rate = kind == .sgd ? 0.5 : 0.02 / (1 + 0.02 * Double(step))
        _ = train(world.batches(world.exemplars), learningRate: rate, maximumNorm: 0, methods: [ewc])
      }
      return (world.store.values.toArray(), start)
    }
    let (coupled, proximal) = (try end(.coupled, 1), try end(.proximal, 1))
    #expect(zip(coupled.moved, coupled.start).contains { abs($0.0 - $0.1) > 0.05 })
    // Both come to rest slowly where the penalty is flat.
    for (a, b) in zip(coupled.moved, proximal.moved) { #expect(abs(a - b) < 1e-2, "\(a) against \(b)") }
    // Where the coupled form would overshoot, the proximal one stands.
    let frozen = try end(.proximal, 1e8)
    let distance = zip(frozen.moved, frozen.start).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(distance.isFinite && distance < 0.02)
  }

  /// Saved, and read again within a stage of bf16 products: the step that a run without a break takes there, bit for bit.
  /// Mistake: what is derived from the state is derived in whichever precision products have at the moment.
  @Test(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here"), arguments: [Precision.fp32, .bf16])
  func restartsWithinRoundedStagesChangeNothing(storage: Precision) throws {
    // Sides of 160 have factors of low rank.
    let world = RowWorld(inputs: 160, hidden: [160])
    let recipe = FisherRecipe(labels: .sampled(count: 1), unit: .sequence, structure: .kronecker, examples: 24)
    let settings = ElasticWeightConsolidation.Settings(
      strength: .fixed(50), form: .proximal, fisher: recipe, storage: storage)
    let first = ElasticWeightConsolidation(settings, world.store, on: world.backend)
    try first.consolidate(world.past(0))
    let state = MemoryState()
    first.write(to: state)
    world.backend.precision = .bf16
    let second = ElasticWeightConsolidation(settings, world.store, on: world.backend)
    try second.restore(from: state)
    for index in world.store.values.buffer.indices { world.store.values.buffer[index] *= 1.1 }
    let start = world.store.values.toArray()
    func step(_ methods: [any ContinualMethod]) throws -> [UInt32] {
      world.store.values.assign(start)
      for method in methods { try method.stageWillBegin(world.stage()) }
      _ = world.trainer()(world.batches(world.exemplars), learningRate: 0.01, maximumNorm: 0, methods: methods)
      return world.store.values.toArray().map(\.bitPattern)
    }
    let (whole, resumed) = (try step([first]), try step([second]))
    #expect(try whole == resumed && whole != step([]))
  }

  /// In bf16 every kept number is a bfloat16 number, within 2⁻⁸ of what fp32 keeps, through merges and saving.
  @Test func roundedCurvatureStaysRounded() throws {
    func state(_ storage: Precision) throws -> (MemoryState, RowWorld) {
      let world = RowWorld()
      let ewc = try consolidated(world, .coupled, strength: 2, storage: storage)
      for index in world.store.values.buffer.indices { world.store.values.buffer[index] *= 1.1 }
      try ewc.consolidate(world.past(1))
      let state = MemoryState()
      ewc.write(to: state)
      let copy = MemoryState()
      let again = ElasticWeightConsolidation(ewc.settings, world.store, on: world.backend)
      try again.restore(from: state)
      again.write(to: copy)
      for path in state.tensorPaths { #expect(try state.floats(path) == copy.floats(path), "\(path)") }
      return (state, world)
    }
    let (exact, _) = try state(.fp32)
    let (rounded, _) = try state(.bf16)
    let curvatures = rounded.tensorPaths.filter { $0.hasPrefix("fisher/") || $0.hasPrefix("kronecker/") }
    #expect(curvatures.contains { $0.hasSuffix("/left") } && curvatures.contains { $0.hasPrefix("fisher/") })
    for path in curvatures {
      let largest = try exact.floats(path).map(abs).max() ?? 0
      for (a, b) in zip(try rounded.floats(path), try exact.floats(path)) {
        #expect(a.bitPattern & 0xFFFF == 0, "\(path)")
        #expect(abs(a - b) <= 0.01 * abs(b) + 0.004 * largest, "\(path): \(a) for \(b)")
      }
    }
  }

  /// θ − η(c·g + λGΔA): clipping scales the task's gradient and leaves the pull alone.
  @Test func factoredPullsAreNotClipped() throws {
    let world = RowWorld(hidden: [])
    let ewc = try consolidated(world, .coupled, strength: 2)
    let weight = try #require(world.store["heads.0.weight"])
    for index in weight.value.buffer.indices { weight.value.buffer[index] += 0.05 * Float(index % 3) }
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(
      world.batches(world.exemplars)[0], seed: CrossEntropySeed(scale: 1 / 24), sink: sink, on: world.backend)
    let norm = world.backend.dot(sink.gradient, sink.gradient).squareRoot()
    let (gradient, start) = (weight.view(of: sink.gradient).toArray(), weight.value.toArray())
    let whole = world.store.values.toArray()
    func update(_ maximumNorm: Double, _ methods: [any ContinualMethod]) -> [Float] {
      world.store.values.assign(whole)
      let report = world.trainer(.sgd)(
        world.batches(world.exemplars), learningRate: 0.1, maximumNorm: maximumNorm, methods: methods)
      #expect((report.penalty > 0) == !methods.isEmpty)
      return zip(weight.value.toArray(), start).map { $0.0 - $0.1 }
    }
    let pull = zip(update(0, [ewc]), update(0, [])).map { $0.0 - $0.1 }
    let clipped = update(norm / 4, [ewc])
    for i in clipped.indices { #expect(abs(clipped[i] - (pull[i] - 0.1 * gradient[i] / 4)) < 2e-6) }
    #expect(pull.contains { abs($0) > 1e-3 })
  }

  /// A penalty is reported beside the loss, never inside, whether it is diagonal, factored, or pulls from outside.
  @Test(arguments: [QuadraticPull.Form.coupled, .proximal]) func lossesAreTheTasksAlone(form: QuadraticPull.Form) throws
  {
    let world = RowWorld()
    let ewc = try consolidated(world, form, strength: 5)
    for index in world.store.values.buffer.indices { world.store.values.buffer[index] += 0.1 * Float(index % 3) }
    let pull = QuadraticPull(strength: 1, curvature: nil, anchor: world.backend.zeros(1, world.store.count), form: form)
    let report = world.trainer()(
      world.compose(world.exemplars, [ewc]), learningRate: 0, maximumNorm: 0, pulls: [pull], methods: [ewc])
    #expect(abs(report.loss - world.loss(world.exemplars)) <= 1e-6 * report.loss)
    #expect(report.penalty > 0.01 && report.isPulled && report.softLoss == 0)
  }
}
