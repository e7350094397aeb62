// A-GEM and GEM on the step that is really taken, against brute force.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct GradientConstraintTests {
  /// Two tasks that contradict one another: after the step, Adam and clipping included, no memory's loss rises to
  /// first order, and a step that raises none is left alone.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd], [true, false]) func projectedStepsRaiseNoMemory(
    kind: OptimizerSettings.Kind, isSingle: Bool
  ) throws {
    let world = RowWorld(classes: 2)
    let method: any ContinualMethod =
      isSingle
      ? AveragedGradientEpisodicMemory(budgetTokens: 200, sampleTokens: 200, world.store, on: world.backend)
      : GradientEpisodicMemory(budgetTokens: 200, margin: 0, world.store, on: world.backend)
    try method.consolidate(world.past(0))
    if !isSingle { try method.consolidate(world.past(1, Array(world.exemplars.prefix(5)))) }
    try method.stageWillBegin(world.stage())
    let train = world.trainer(kind)
    let opposed = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [1 - $0.targets[0]]) }
    let memories = isSingle ? [world.exemplars] : [world.exemplars, Array(world.exemplars.prefix(5))]
    for step in 0..<12 {
      let gradients = memories.map { memory in
        let sink = Accumulator(world.store, on: world.backend)
        _ = world.network.backward(
          world.batches(memory)[0], seed: CrossEntropySeed(scale: 1 / Float(memory.count)), sink: sink,
          on: world.backend)
        return sink.gradient
      }
      let before = world.backend.copied(world.store.values)
      let rows = step % 3 == 2 ? world.exemplars : opposed
      _ = train(world.compose(rows, [method]), learningRate: 0.01, maximumNorm: 0.1, methods: [method])
      let update = world.backend.copied(world.store.values)
      world.backend.add(before, scaled: -1, into: update)
      let size = world.backend.dot(update, update).squareRoot()
      for gradient in gradients {
        let slope = world.backend.dot(gradient, update)
        #expect(slope <= 1e-5 * size * world.backend.dot(gradient, gradient).squareRoot() + 1e-9, "\(slope)")
      }
    }
    let facts = Dictionary(uniqueKeysWithValues: method.facts.map { ($0.name, $0.value) })
    #expect(facts["constrained_steps"] == 12)
    #expect((facts["projected_steps"] ?? 0) >= 6 && (facts["projected_steps"] ?? 0) < 12)
  }

  /// One past and no margin: GEM and A-GEM take the same step.
  @Test func gemWithOnePastIsAveragedGEM() throws {
    func course(_ make: (RowWorld) -> any ContinualMethod) throws -> [Float] {
      let world = RowWorld(classes: 2)
      let method = make(world)
      try method.consolidate(world.past(0))
      try method.stageWillBegin(world.stage())
      let train = world.trainer()
      let opposed = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [1 - $0.targets[0]]) }
      for _ in 0..<6 {
        _ = train(world.compose(opposed, [method]), learningRate: 0.01, maximumNorm: 0, methods: [method])
      }
      return world.store.values.toArray()
    }
    let gem = try course { GradientEpisodicMemory(budgetTokens: 24, margin: 0, $0.store, on: $0.backend) }
    let averaged = try course {
      AveragedGradientEpisodicMemory(budgetTokens: 24, sampleTokens: 24, $0.store, on: $0.backend)
    }
    let plain = try course { L2SP(strength: 0, form: .coupled, anchor: .previous, $0.store, on: $0.backend) }
    // The sample comes in another order, so sums differ in their last digits.
    for (a, b) in zip(gem, averaged) { #expect(abs(a - b) < 1e-5) }
    #expect(zip(gem, plain).contains { abs($0.0 - $0.1) > 1e-3 })
  }

  /// The dual's minimum against every active set, and its Karush–Kuhn–Tucker conditions.
  @Test func gemWeightsAreTheDualMinimum() {
    var stream = RandomStream(seed: 3)
    for trial in 0..<60 {
      let count = 1 + trial % 3
      let g = (0..<count).map { _ in (0..<5).map { _ in stream.normal() } }
      let u = (0..<5).map { _ in stream.normal() }
      func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
      let gram = g.map { a in g.map { dot(a, $0) } }
      let slopes = g.map { dot($0, u) }
      let w = GradientMemory.weights(gram, slopes, floor: 0)
      func projected(_ w: [Double]) -> [Double] {
        (0..<5).map { i in u[i] - (0..<count).reduce(0) { $0 + w[$1] * g[$1][i] } }
      }
      let best = projected(w)
      for (index, gradient) in g.enumerated() {
        #expect(w[index] >= 0 && dot(gradient, best) <= 1e-8)
        #expect(abs(w[index] * dot(gradient, best)) <= 1e-7)
      }
      // Every subset held with equality: no feasible point is nearer.
      let distance = dot(zip(best, u).map { $0.0 - $0.1 }, zip(best, u).map { $0.0 - $0.1 })
      for mask in 0..<(1 << count) {
        let active = (0..<count).filter { mask >> $0 & 1 == 1 }
        var weights = [Double](repeating: 0, count: count)
        // Gauss–Seidel without bounds solves the equalities of a positive definite system.
        for _ in 0..<20_000 {
          for i in active {
            weights[i] = (slopes[i] - active.reduce(0) { $1 == i ? $0 : $0 + gram[i][$1] * weights[$1] }) / gram[i][i]
          }
        }
        let point = projected(weights)
        guard g.allSatisfy({ dot($0, point) <= 1e-6 }) else { continue }
        let other = dot(zip(point, u).map { $0.0 - $0.1 }, zip(point, u).map { $0.0 - $0.1 })
        #expect(other >= distance - 1e-6)
      }
    }
  }
}
