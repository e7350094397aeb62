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

  // MARK: Steps against brute force

  private func inner(_ a: some Sequence<Double>, _ b: some Sequence<Double>) -> Double {
    zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
  }
  /// The gradient of the mean loss on some rows.
  private func meanGradient(_ world: RowWorld, _ rows: [Exemplar]) -> [Double] {
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(
      world.batches(rows)[0], seed: CrossEntropySeed(scale: 1 / Float(rows.count)), sink: sink, on: world.backend)
    return sink.gradient.toArray().map { Double($0) }
  }
  private func opposed(_ world: RowWorld) -> [Exemplar] {
    world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [1 - $0.targets[0]]) }
  }
  /// Rows without a target: their gradient is zero.
  private func silent(_ world: RowWorld) -> [Exemplar] {
    world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [-1]) }
  }
  /// What one first step adds to the parameters, which go back to where they were.
  private func update(
    _ world: RowWorld, _ rows: [Exemplar], _ methods: [any ContinualMethod], _ kind: OptimizerSettings.Kind,
    rate: Double, maximumNorm: Double = 0
  ) -> [Double] {
    let before = world.store.values.toArray()
    _ = world.trainer(kind)(
      world.compose(rows, methods), learningRate: rate, maximumNorm: maximumNorm, methods: methods)
    let after = world.store.values.toArray()
    world.store.values.assign(before)
    return zip(after, before).map { Double($0.0) - Double($0.1) }
  }

  /// x of matrix·x = right, by elimination; the matrix is positive definite.
  private func solve(_ matrix: [[Double]], _ right: [Double]) -> [Double] {
    var (a, b) = (matrix, right)
    for step in b.indices {
      for row in b.indices where row != step {
        let factor: Double = a[row][step] / a[step][step]
        for column in b.indices { a[row][column] -= factor * a[step][column] }
        b[row] -= factor * b[step]
      }
    }
    return b.indices.map { b[$0] / a[$0][$0] }
  }
  /// argmin over w ≥ bound of ½ wᵀMw − wᵀs: every choice of free weights with the others at the bound, and the best.
  private func dualMinimum(_ gram: [[Double]], _ slopes: [Double], bound: Double) -> [Double] {
    var best: (value: Double, weights: [Double]) = (.infinity, [])
    for mask in 0..<(1 << slopes.count) {
      let free = slopes.indices.filter { mask >> $0 & 1 == 1 }
      let held = slopes.indices.filter { mask >> $0 & 1 == 0 }
      let right = free.map { i in held.reduce(slopes[i]) { $0 - gram[i][$1] * bound } }
      let solution = solve(free.map { i in free.map { gram[i][$0] } }, right)
      guard solution.allSatisfy({ $0 >= bound }) else { continue }
      var weights = [Double](repeating: bound, count: slopes.count)
      for (i, weight) in zip(free, solution) { weights[i] = weight }
      var value = 0.0
      for i in slopes.indices { value += weights[i] * (0.5 * inner(gram[i], weights) - slopes[i]) }
      if value < best.value { best = (value, weights) }
    }
    return best.weights
  }

  /// With a margin the weights stay above it; some rest there, and no constraint is violated.
  @Test func marginsBoundTheDualMinimum() {
    var stream = RandomStream(seed: 17)
    var (atBound, above) = (0, 0)
    for trial in 0..<60 {
      let count = 1 + trial % 3
      let g = (0..<count).map { _ in (0..<5).map { _ in stream.normal() } }
      let u = (0..<5).map { _ in stream.normal() }
      let bound = 0.1 * Double(1 + trial % 4)
      let gram = g.map { a in g.map { inner(a, $0) } }
      let slopes = g.map { inner($0, u) }
      let found = GradientMemory.weights(gram, slopes, floor: bound)
      let wanted = dualMinimum(gram, slopes, bound: bound)
      for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 1e-9, "\(a) against \(b)") }
      let projected = (0..<5).map { i in (0..<count).reduce(u[i]) { $0 - found[$1] * g[$1][i] } }
      for (gradient, weight) in zip(g, found) {
        let slope = inner(gradient, projected)
        #expect(slope <= 1e-9 && (weight == bound || abs(slope) <= 1e-9))
        if weight == bound { atBound += 1 } else { above += 1 }
      }
    }
    #expect(atBound > 20 && above > 20)
  }

  /// u′ = u − Σ w_k g_k with w ≥ η/2, the margin of experiment files that name none: ⟨u′, g_k⟩ ≤ 0 for both pasts.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd]) func theDefaultMarginHoldsTheStep(
    kind: OptimizerSettings.Kind
  ) throws {
    let world = RowWorld(classes: 2)
    let defaults: [String: OptionValue] = Dictionary(
      uniqueKeysWithValues: GradientEpisodicMemory.schema.options.map { ($0.key, $0.defaultValue) })
    let gem = GradientEpisodicMemory(
      MethodIngredients(MethodOptions { defaults[$0] }, store: world.store, backend: world.backend))
    let memories = [world.exemplars, Array(world.exemplars.prefix(5))]
    for (past, memory) in memories.enumerated() { try gem.consolidate(world.past(past, memory)) }
    try gem.stageWillBegin(world.stage())
    let rate = kind == .sgd ? 0.1 : 0.01
    let g = memories.map { meanGradient(world, $0) }
    let plain = update(world, opposed(world), [], kind, rate: rate)
    let held = update(world, opposed(world), [gem], kind, rate: rate)
    let gram = g.map { a in g.map { inner(a, $0) } }
    let slopes = g.map { inner($0, plain) }
    let weights = dualMinimum(gram, slopes, bound: 0.5 * rate)
    for i in plain.indices {
      let wanted = plain[i] - weights[0] * g[0][i] - weights[1] * g[1][i]
      #expect(abs(held[i] - wanted) <= 1e-6)
    }
    let size = inner(held, held).squareRoot()
    for gradient in g {
      #expect(inner(gradient, held) <= 1e-5 * size * inner(gradient, gradient).squareRoot())
    }
    // The margin decides: without it the weights are others.
    #expect(slopes.contains { $0 > 0 } && weights.contains(0.5 * rate))
    #expect(abs(dualMinimum(gram, slopes, bound: 0)[1] - weights[1]) > 0.1 * rate)
  }

  /// A memory whose gradient is zero has no part in the step, and one that is there twice has the part of one.
  @Test(arguments: [0, 0.25, 0.5]) func degenerateMemoriesLeaveTheNearestStep(margin: Double) throws {
    let world = RowWorld(classes: 2)
    let gem = GradientEpisodicMemory(budgetTokens: 200, margin: margin, world.store, on: world.backend)
    try gem.consolidate(world.past(0, silent(world)))
    for past in 1...2 { try gem.consolidate(world.past(past)) }
    try gem.stageWillBegin(world.stage())
    let gradient = meanGradient(world, world.exemplars)
    let plain = update(world, opposed(world), [], .sgd, rate: 0.1)
    let held = update(world, opposed(world), [gem], .sgd, rate: 0.1)
    let along = inner(plain, gradient) / inner(gradient, gradient)
    // Both weights of the twins are η·margin at least.
    let weight = max(along, 2 * 0.1 * margin)
    #expect(along > 0.06 && along < 0.1)
    for i in plain.indices {
      #expect(held[i].isFinite && abs(held[i] - (plain[i] - weight * gradient[i])) <= 1e-6)
    }
  }

  /// Steps that raise no memory's loss, as they go its way or its gradient is zero, are those of plain training.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd], [true, false]) func harmlessStepsKeepEveryBit(
    kind: OptimizerSettings.Kind, isSingle: Bool
  ) throws {
    let world = RowWorld(classes: 2)
    let start = world.store.values.toArray()
    let (own, without) = (world.exemplars, silent(world))
    let cases: [(pasts: [[Exemplar]], rows: [Exemplar])] = [
      ([own], own), ([without], opposed(world)), ([without, own, own], own),
    ]
    for (pasts, rows) in cases {
      let method: any ContinualMethod =
        isSingle
        ? AveragedGradientEpisodicMemory(budgetTokens: 200, sampleTokens: 200, world.store, on: world.backend)
        : GradientEpisodicMemory(budgetTokens: 200, margin: 0.5, world.store, on: world.backend)
      for (index, past) in pasts.enumerated() { try method.consolidate(world.past(index, past)) }
      try method.stageWillBegin(world.stage())
      var ends: [[UInt32]] = []
      for methods in [[], [method]] as [[any ContinualMethod]] {
        world.store.values.assign(start)
        _ = world.trainer(kind)(
          world.compose(rows, methods), learningRate: 0.01, maximumNorm: 0.1, methods: methods)
        ends.append(world.store.values.toArray().map(\.bitPattern))
      }
      world.store.values.assign(start)
      #expect(ends[0] == ends[1] && ends[0] != start.map(\.bitPattern))
      let facts = Dictionary(uniqueKeysWithValues: method.facts.map { ($0.name, $0.value) })
      #expect(facts["constrained_steps"] == 1 && facts["projected_steps"] == 0)
    }
  }

  /// The whole step is projected: one weight for all parameters, not one for each tensor.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd]) func allParametersShareOneWeight(
    kind: OptimizerSettings.Kind
  ) throws {
    let world = RowWorld(classes: 2)
    let agem = AveragedGradientEpisodicMemory(
      budgetTokens: 200, sampleTokens: 200, world.store, on: world.backend)
    try agem.consolidate(world.past(0))
    try agem.stageWillBegin(world.stage())
    let gradient = meanGradient(world, world.exemplars)
    let plain = update(world, opposed(world), [], kind, rate: 0.01, maximumNorm: 0.1)
    let held = update(world, opposed(world), [agem], kind, rate: 0.01, maximumNorm: 0.1)
    let weight = inner(plain, gradient) / inner(gradient, gradient)
    #expect(weight > 1e-3)
    for i in plain.indices { #expect(abs(held[i] - (plain[i] - weight * gradient[i])) <= 5e-7) }
    // Tensor by tensor the weights would be others.
    let apart = world.store.parameters.map { parameter in
      inner(plain[parameter.range], gradient[parameter.range])
        / inner(gradient[parameter.range], gradient[parameter.range])
    }
    #expect(apart.contains { $0 > 2 * weight })
  }
}
