// A-GEM, GEM and OGD on the step that is really taken, against brute force.
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

  /// Gradients of the logits of the true labels, one for each of three groups of rows.
  private func logitGradients(_ world: RowWorld, rows count: Int) -> [[Float]] {
    struct Logits: HeadSeed {
      mutating func seed(
        _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
      ) {
        backend.fill(losses, 0)
        backend.scale(logits, by: 0)
        for (row, target) in targets.enumerated() { logits.buffer[row * logits.columns + Int(target)] = 1 }
      }
    }
    return (0..<3).map { group in
      let sink = Accumulator(world.store, on: world.backend)
      let rows = Array(world.exemplars[count / 3 * group..<count / 3 * (group + 1)])
      _ = world.network.backward(world.batches(rows)[0], seed: Logits(), sink: sink, on: world.backend)
      return sink.gradient.toArray()
    }
  }

  /// Adam, clipping and all: no step has a part along what the outputs on the past depend on, where some parameters
  /// stand still as where none does.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd], [[], ["layers.*"]]) func stepsKeepAtRightAngles(
    kind: OptimizerSettings.Kind, frozen: [String]
  ) throws {
    let world = RowWorld()
    // Fewer rows than the head has parameters, so that there are steps left to take.
    let gradients = logitGradients(world, rows: 12)
    let method = OrthogonalGradientDescent(directions: 12, examples: 24, world.store, on: world.backend)
    // Groups of one row each span what any sum of them does.
    try method.consolidate(world.past(0, Array(world.exemplars.prefix(12))))
    _ = world.store.freeze(frozen)
    try method.stageWillBegin(world.stage())
    let train = world.trainer(kind)
    let opposed = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [2 - $0.targets[0]]) }
    for _ in 0..<6 {
      let before = world.store.values.toArray()
      _ = train(world.compose(opposed, [method]), learningRate: 0.01, maximumNorm: 0.1, methods: [method])
      let update = zip(world.store.values.toArray(), before).map { Double($0.0 - $0.1) }
      let size = update.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(size > 0)
      for gradient in gradients {
        let along = zip(update, gradient).reduce(0) { $0 + $1.0 * Double($1.1) }
        let length = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        #expect(abs(along) <= 2e-4 * size * length, "\(along) of \(size * length)")
      }
      for parameter in world.store.parameters where !parameter.isTrainable {
        #expect(update[parameter.range].allSatisfy { $0 == 0 })
      }
    }
    let facts = Dictionary(uniqueKeysWithValues: method.facts.map { ($0.name, $0.value) })
    #expect((facts["removed_share"] ?? 0) > 0.05)
  }

  /// What is left of a step is what brute force leaves: the step less its projection on the span of the gradients.
  @Test func theRestOfTheStepIsKept() throws {
    func course(_ isGuarded: Bool) throws -> (update: [Double], gradients: [[Float]]) {
      let world = RowWorld()
      // One group of all rows: its direction is the sum of the three groups' gradients.
      let method = OrthogonalGradientDescent(directions: 1, examples: 24, world.store, on: world.backend)
      let gradients = logitGradients(world, rows: 24)
      try method.consolidate(world.past(0))
      try method.stageWillBegin(world.stage())
      let before = world.store.values.toArray()
      let methods: [any ContinualMethod] = isGuarded ? [method] : []
      _ = world.trainer()(
        world.compose(world.exemplars, methods), learningRate: 0.1, maximumNorm: 0, methods: methods)
      return (zip(world.store.values.toArray(), before).map { Double($0.0 - $0.1) }, gradients)
    }
    let (plain, guarded) = (try course(false), try course(true))
    let sum = plain.gradients[0].indices.map { i in plain.gradients.reduce(0.0) { $0 + Double($1[i]) } }
    let along = zip(plain.update, sum).reduce(0) { $0 + $1.0 * $1.1 } / sum.reduce(0) { $0 + $1 * $1 }
    for i in sum.indices { #expect(abs(guarded.update[i] - (plain.update[i] - along * sum[i])) <= 1e-6) }
    #expect(zip(plain.update, guarded.update).contains { abs($0.0 - $0.1) > 1e-4 })
  }
}
