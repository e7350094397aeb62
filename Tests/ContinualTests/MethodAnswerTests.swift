// Methods against answers that are known: by hand, by closed forms, by brute force.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A classifier on rows of numbers, with everything a method asks for.
struct RowWorld {
  let backend = CPUBackend(threads: 2)
  let network: MLP
  let rows: [[Float]]
  let labels: [Int32]
  var store: ParameterStore { network.parameters }

  init(inputs: Int = 4, hidden: [Int] = [6], classes: Int = 3, rows count: Int = 24, seed: UInt64 = 1) {
    network = MLP(
      MLPConfiguration(inputs: inputs, hiddenSizes: hidden, classes: [classes]), random: RandomStream(seed: seed),
      on: backend)
    var stream = RandomStream(seed: seed + 100)
    rows = (0..<count).map { _ in (0..<inputs).map { _ in Float(stream.normal()) } }
    labels = (0..<count).map { _ in Int32(stream.integer(below: classes)) }
  }
  /// Each row under its number.
  var exemplars: [Exemplar] { rows.indices.map { Exemplar(inputs: [Int32($0)], targets: [labels[$0]]) } }
  func batches(_ exemplars: [Exemplar]) -> [Batch] {
    guard !exemplars.isEmpty else { return [] }
    let features = backend.tensor(
      exemplars.flatMap { rows[Int($0.inputs[0])] }, exemplars.count, rows[0].count)
    var batch = Batch(features: features, labels: exemplars.map { $0.targets[0] })
    batch.objectives = Objectives(exemplars)
    return [batch]
  }
  func stage(_ index: Int = 1) -> StageScope {
    StageScope(network: network, stage: index, name: "s", tokens: rows.count, random: RandomStream(seed: 5))
  }
  func past(_ index: Int, _ exemplars: [Exemplar]? = nil, batchTokens: Int = 8) -> ConsolidationScope {
    ConsolidationScope(
      network: network, backend: backend, past: index, name: "p\(index)", sequences: exemplars ?? self.exemplars,
      isReal: true, tokens: rows.count, batchTokens: batchTokens, makeBatches: { batches($0) },
      random: RandomStream(seed: 9 + UInt64(index)), note: { _ in })
  }
  func compose(_ exemplars: [Exemplar], _ methods: [any ContinualMethod]) -> [Batch] {
    var composition = Composition(
      exemplars, network: network, backend: backend, batchTokens: 8, makeBatches: { batches($0) })
    for method in methods { method.compose(&composition) }
    return composition.batches
  }
  func trainer(_ kind: OptimizerSettings.Kind = .adamw) -> TrainStep {
    TrainStep(network, optimizer: Optimizer(OptimizerSettings(kind: kind), store, on: backend), on: backend)
  }
  func loss(_ exemplars: [Exemplar]) -> Double {
    let values = batches(exemplars).flatMap { network.negativeLogLikelihoods($0, on: backend) }
    return values.reduce(0) { $0 + Double($1) } / Double(exemplars.count)
  }
}

@Suite struct MethodAnswerTests {
  // MARK: Optimizer

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

  // MARK: SI

  private func path(of si: SynapticIntelligence, _ world: RowWorld) throws -> [Float] {
    let state = MemoryState()
    si.write(to: state)
    let path = world.backend.empty(1, world.store.count)
    try world.store.restore(path, from: state, under: "path")
    return path.toArray()
  }

  /// With small full-batch steps Σω is what the loss lost.
  @Test func pathIntegralsAddUpToTheFallOfTheLoss() throws {
    let world = RowWorld()
    let si = SynapticIntelligence(strength: 1, xi: 0.1, world.store, on: world.backend)
    try si.consolidate(world.past(0))
    try si.stageWillBegin(world.stage())
    let train = world.trainer(.sgd)
    let before = world.loss(world.exemplars)
    for _ in 0..<200 {
      _ = train(world.compose(world.exemplars, [si]), learningRate: 2e-3, maximumNorm: 0.05, methods: [si])
    }
    let fall = before - world.loss(world.exemplars)
    let sum = try path(of: si, world).reduce(0) { $0 + Double($1) }
    #expect(fall > 0.001 && abs(sum - fall) < 0.01 * fall, "Σω = \(sum), the loss fell by \(fall)")
  }

  /// A pull that drags parameters is in the update but not in the gradient: ω is g·Δθ with the task's g alone.
  @Test func pathUsesTheTaskGradientAndTheWholeUpdate() throws {
    let world = RowWorld()
    let si = SynapticIntelligence(strength: 1, xi: 0.1, world.store, on: world.backend)
    try si.consolidate(world.past(0))
    try si.stageWillBegin(world.stage())
    let far = world.backend.copied(world.store.values)
    world.backend.fill(far, 3)
    let pull = QuadraticPull(strength: 5, curvature: nil, anchor: far, form: .coupled)
    let train = world.trainer(.sgd)
    let start = world.store.values.toArray()
    let accumulator = Accumulator(world.store, on: world.backend)
    for batch in world.batches(world.exemplars) {
      _ = world.network.backward(
        batch, seed: CrossEntropySeed(scale: 1 / Float(world.rows.count)), sink: accumulator, on: world.backend)
    }
    let gradient = accumulator.gradient.toArray()
    _ = train(
      world.batches(world.exemplars), learningRate: 0.01, maximumNorm: 1e-3, pulls: [pull], methods: [si])
    let end = world.store.values.toArray()
    let path = try path(of: si, world)
    for i in path.indices {
      let wanted = -gradient[i] * (end[i] - start[i])
      #expect(abs(path[i] - wanted) <= 1e-4 * abs(wanted) + 1e-9)
    }
    // Ω = max(0, ω) / (Δ² + ξ), and never below 0.
    try si.consolidate(world.past(1))
    let omega = try #require(si.pulls.first?.curvature?.toArray())
    for i in omega.indices {
      let moved = end[i] - start[i]
      let wanted = max(0, path[i]) / (moved * moved + 0.1)
      #expect(abs(omega[i] - wanted) <= 1e-5 * wanted + 1e-9)
    }
    #expect(path.contains { $0 < 0 } && omega.allSatisfy { $0 >= 0 })
    #expect(si.pulls[0].strength == 2)
  }

  /// A large ξ makes Ω proportional to ω: ξ·Ω → max(0, ω).
  @Test func largeXiLeavesThePathAlone() throws {
    let world = RowWorld()
    let si = SynapticIntelligence(strength: 1, xi: 1e6, world.store, on: world.backend)
    try si.consolidate(world.past(0))
    try si.stageWillBegin(world.stage())
    let train = world.trainer()
    for _ in 0..<5 {
      _ = train(world.compose(world.exemplars, [si]), learningRate: 0.05, maximumNorm: 1, methods: [si])
    }
    let path = try path(of: si, world)
    try si.consolidate(world.past(1))
    let omega = try #require(si.pulls.first?.curvature?.toArray())
    for (a, b) in zip(omega, path) { #expect(abs(1e6 * a - max(0, b)) <= 1e-4 * abs(b) + 1e-9) }
  }

  // MARK: K-FAC

  private func consolidated(_ world: RowWorld, _ form: QuadraticPull.Form, strength: Double) throws
    -> ElasticWeightConsolidation
  {
    let recipe = FisherRecipe(labels: .expected, unit: .sequence, structure: .kronecker, examples: 24)
    let ewc = ElasticWeightConsolidation(
      .init(strength: .fixed(strength), form: form, fisher: recipe), world.store, on: world.backend)
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

  // MARK: RWalk, freezing, annealing

  /// Two steps in a window of two: F and s by hand, each scaled by its own maximum.
  @Test func walkScoresByHand() throws {
    let world = RowWorld()
    let walk = RiemannianWalk(
      strength: 0.5, alpha: 0.25, window: 2, epsilon: 1e-4, examples: 24, world.store, on: world.backend)
    try walk.consolidate(world.past(0))
    var f = try DiagonalFisher.estimate(
      world.network, over: world.exemplars.runs(ofTokens: 8).flatMap { world.batches(Array($0)) },
      recipe: FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: 24),
      random: world.past(0).random.forked("fisher"), on: world.backend
    ).values.toArray()
    // The choice of all examples is a shuffle, and draws belong to places: only sums over all agree, up to the draws.
    let first = try #require(walk.pulls.first?.curvature?.toArray())
    #expect(abs((first.max() ?? 0) - 1) < 1e-6)
    f = first
    try walk.stageWillBegin(world.stage())
    let train = world.trainer(.sgd)
    var path = [Float](repeating: 0, count: f.count)
    let start = world.store.values.toArray()
    // The running F starts unscaled: its scale is read off the state.
    let state = MemoryState()
    walk.write(to: state)
    let running = world.backend.empty(1, world.store.count)
    try world.store.restore(running, from: state, under: "fisher")
    f = running.toArray()
    for _ in 0..<2 {
      let sink = Accumulator(world.store, on: world.backend)
      _ = world.network.backward(
        world.batches(world.exemplars)[0], seed: CrossEntropySeed(scale: 1 / 24), sink: sink, on: world.backend)
      let (g, before) = (sink.gradient.toArray(), world.store.values.toArray())
      _ = train(world.compose(world.exemplars, [walk]), learningRate: 0.05, maximumNorm: 0, methods: [walk])
      let after = world.store.values.toArray()
      for i in f.indices {
        f[i] = 0.75 * f[i] + 0.25 * 24 * g[i] * g[i]
        path[i] -= g[i] * (after[i] - before[i])
      }
    }
    let end = world.store.values.toArray()
    let scores = f.indices.map { i in
      max(0, path[i]) / (0.5 * f[i] * (end[i] - start[i]) * (end[i] - start[i]) + 1e-4)
    }
    try walk.consolidate(world.past(1))
    let found = try #require(walk.pulls.first?.curvature?.toArray())
    let (largestF, largestS) = (f.max() ?? 1, scores.max() ?? 1)
    for i in f.indices {
      let wanted = f[i] / largestF + scores[i] / largestS
      #expect(abs(found[i] - wanted) < 1e-3 * max(1, wanted), "\(i): \(found[i]) against \(wanted)")
    }
    #expect(walk.pulls[0].strength == 1)
  }

  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd]) func frozenMassStandsStill(kind: OptimizerSettings.Kind) throws
  {
    let world = RowWorld()
    let freezing = FisherFreezing(mass: 0.5, world.store, on: world.backend)
    let fisher = (0..<world.store.count).map { Float($0 % 10) }
    freezing.hold(world.backend.tensor(fisher, 1, fisher.count))
    let held = try #require(freezing.pulls.first?.curvature?.toArray())
    let (total, inHeld) = (fisher.reduce(0, +), zip(fisher, held).reduce(0) { $0 + $1.0 * $1.1 })
    // At least half of the mass, and without the smallest of them less than half.
    #expect(inHeld >= total / 2 && inHeld - 9 < total / 2)
    #expect(zip(fisher, held).allSatisfy { $0.0 >= 8 ? $0.1 == 1 : true } && held.contains(0))
    let start = world.store.values.toArray()
    let train = world.trainer(kind)
    for _ in 0..<5 {
      _ = train(world.batches(world.exemplars), learningRate: 0.05, maximumNorm: 1, methods: [freezing])
    }
    for (i, (a, b)) in zip(start, world.store.values.toArray()).enumerated() where held[i] == 1 {
      #expect(abs(a - b) <= 1e-6 * max(abs(a), 1e-3), "\(i)")
    }
    #expect(zip(start, world.store.values.toArray()).contains { $0.0 != $0.1 })
  }

  @Test func annealingLetsGo() throws {
    let world = RowWorld()
    let l2sp = L2SP(
      strength: 3, form: .coupled, anchor: .previous, annealing: .init(at: 0.5, rate: 2), world.store,
      on: world.backend)
    try l2sp.consolidate(world.past(0))
    try l2sp.stageWillBegin(
      StageScope(network: world.network, stage: 1, name: "s", tokens: 1, random: RandomStream(seed: 1), steps: 8))
    let train = world.trainer()
    for step in 0..<8 {
      let wanted = 3 / (1 + Maths.exp(2 * (Double(step) - 4)))
      #expect(abs(Double(l2sp.pulls[0].strength) - wanted) < 1e-5)
      _ = train(world.batches(world.exemplars), learningRate: 0.01, maximumNorm: 0, methods: [l2sp])
    }
  }

  // MARK: MAS

  /// f = Wx + b: ∂‖f‖²/∂W = 2 f xᵀ, its magnitude averaged over examples.
  @Test func masOfALinearMapIsClosedForm() throws {
    let world = RowWorld(hidden: [])
    let mas = MemoryAwareSynapses(strength: 1, examples: 100, world.store, on: world.backend)
    try mas.consolidate(world.past(0))
    let found = try #require(mas.pulls.first?.curvature)
    let weight = try #require(world.store["heads.0.weight"])
    let bias = try #require(world.store["heads.0.bias"])
    let (w, b) = (weight.value.toArray(), bias.value.toArray())
    var (wantedW, wantedB) = ([Float](repeating: 0, count: 12), [Float](repeating: 0, count: 3))
    for x in world.rows {
      for o in 0..<3 {
        let f = (0..<4).reduce(b[o]) { $0 + w[o * 4 + $1] * x[$1] }
        wantedB[o] += abs(2 * f) / 24
        for i in 0..<4 { wantedW[o * 4 + i] += abs(2 * f * x[i]) / 24 }
      }
    }
    for (a, b) in zip(weight.view(of: found).toArray() + bias.view(of: found).toArray(), wantedW + wantedB) {
      #expect(abs(a - b) <= 1e-5 * b)
    }
    // The magnitude of the batch's mean gradient, a known mistake, is smaller.
    let sink = Accumulator(world.store, on: world.backend)
    struct Norm: HeadSeed {
      mutating func seed(
        _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
      ) { backend.scale(logits, by: 2 / 24) }
    }
    _ = world.network.backward(world.batches(world.exemplars)[0], seed: Norm(), sink: sink, on: world.backend)
    let mistaken = weight.view(of: sink.gradient).toArray().reduce(0) { $0 + abs($1) }
    #expect(mistaken < 0.8 * wantedW.reduce(0, +))
  }

  @Test func masDoesNotDependOnBatchesOrLabels() throws {
    func importance(_ batchTokens: Int, _ shift: Int32) throws -> [Float] {
      let world = RowWorld()
      let mas = MemoryAwareSynapses(strength: 1, examples: 100, world.store, on: world.backend)
      let rows = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [($0.targets[0] + shift) % 3]) }
      try mas.consolidate(world.past(0, rows, batchTokens: batchTokens))
      try mas.consolidate(world.past(1, rows, batchTokens: batchTokens))
      return try #require(mas.pulls.first?.curvature?.toArray())
    }
    let one = try importance(24, 0)
    for (a, b) in zip(try importance(1, 1), one) { #expect(abs(a - b) <= 2e-5 * abs(b) + 1e-8) }
  }

  // MARK: Distillation

  /// A student that is its own teacher has neither loss nor gradient, for lists of any length and any temperature.
  @Test(arguments: [1, 2, 3, 64], [1.0, 2.0, 5.0]) func studentAsTeacherIsAtRest(topK: Int, temperature: Double) throws
  {
    let world = RowWorld()
    let lwf = LearningWithoutForgetting(
      alpha: 1, temperature: temperature, topK: topK, world.store, on: world.backend)
    try lwf.consolidate(world.past(0))
    try lwf.stageWillBegin(world.stage())
    var taught = world.exemplars
    var composition = Composition(
      taught, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
    lwf.compose(&composition)
    taught = composition.stage
    for index in taught.indices { taught[index].weight = 0 }
    let seed = ObjectiveSeed(try #require(Objectives(taught)), scale: 1)
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(world.batches(taught)[0], seed: seed, sink: sink, on: world.backend)
    #expect(abs(seed.sums.soft) < 1e-4)
    #expect(world.backend.dot(sink.gradient, sink.gradient).squareRoot() < 1e-4)
    #expect(taught.allSatisfy { $0.soft?.width == min(topK, 3) })
  }

  /// The divergence is KL(teacher ‖ student), not the other way round, and never below 0; lists of all classes equal the
  /// sum over classes; with T² the gradient keeps its size as T grows, without it falls as 1/T².
  @Test func divergenceHasTheTeacherFirst() throws {
    let backend = CPUBackend(threads: 1)
    let (teacher, student): ([Float], [Float]) = ([2, 0, -1, 0.5], [-0.5, 1, 0.3, 0])
    func probabilities(_ z: [Float], _ t: Double) -> [Double] {
      let e = z.map { Maths.exp(Double($0) / t) }
      return e.map { $0 / e.reduce(0, +) }
    }
    var norms: [Double] = []
    for temperature in [1.0, 4.0, 16.0] {
      let (classes, values) = backend.likeliest(
        backend.tensor(teacher, 1, 4), count: 4, temperature: Float(temperature))
      var soft = SoftRows()
      soft.append(hard: 0, soft: 1, temperature: Float(temperature), classes: classes, values: values)
      let logits = backend.tensor(student, 1, 4)
      let (losses, softLosses) = (backend.empty(1, 1), backend.empty(1, 1))
      backend.blend(logits, targets: [0], soft: soft, scale: 1, losses: losses, softLosses: softLosses)
      let (q, p) = (probabilities(teacher, temperature), probabilities(student, temperature))
      let wanted = temperature * temperature * zip(q, p).reduce(0) { $0 + $1.0 * Maths.log($1.0 / $1.1) }
      let swapped = temperature * temperature * zip(p, q).reduce(0) { $0 + $1.0 * Maths.log($1.0 / $1.1) }
      #expect(abs(Double(softLosses.toArray()[0]) - wanted) < 1e-4 * wanted)
      #expect(abs(wanted - swapped) > 1e-3 * wanted)
      norms.append(backend.dot(logits, logits).squareRoot())
    }
    // T·(p^T − q^T) tends to the difference of centred logits ÷ V.
    #expect(norms[2] > 0.5 * norms[0] && norms[2] < 2 * norms[0])
    #expect(abs(norms[2] / norms[1] - 1) < 0.2)
  }

  /// A model without a past is nobody's teacher.
  @Test func noPastNoTeacher() throws {
    let world = RowWorld()
    let lwf = LearningWithoutForgetting(alpha: 1, world.store, on: world.backend)
    try lwf.stageWillBegin(world.stage())
    #expect(world.compose(world.exemplars, [lwf])[0].objectives == nil)
    try lwf.consolidate(world.past(1))
    try lwf.stageWillBegin(world.stage(2))
    #expect(world.compose(world.exemplars, [lwf])[0].objectives != nil)
  }

  // MARK: DER

  /// Stored logits that the model still gives cost nothing; moved ones cost the mean squared difference.
  @Test func derHoldsLogitsWhereTheyWere() throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 1, beta: 0, ratio: 0.5, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let batches = world.compose(Array(world.exemplars.prefix(6)), [der])
    let objectives = try #require(batches[0].objectives)
    #expect(objectives.counted == 6 && objectives.rows.count == 12)
    #expect(objectives.rows.soft == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    #expect(objectives.rows.hard == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    func soft() -> Double {
      let seed = ObjectiveSeed(objectives, scale: 1)
      _ = world.network.backward(
        batches[0], seed: seed, sink: Accumulator(world.store, on: world.backend), on: world.backend)
      return seed.sums.soft
    }
    #expect(soft() < 1e-8)
    // One logit of every row moves by 0.6: (0.6)²/3 a row.
    let bias = try #require(world.store["heads.0.bias"])
    bias.value.buffer[1] += 0.6
    #expect(abs(soft() - 6 * 0.36 / 3) < 1e-4)
  }

  /// α and β weigh means: at r = ½ a drawn row weighs as much as one of the stage, at r = ⅕ four times as much.
  @Test(arguments: [0.5, 0.2]) func derWeighsMeans(ratio: Double) throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 0.5, beta: 2, ratio: ratio, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let rows = try #require(world.compose(Array(world.exemplars.prefix(8)), [der])[0].objectives).rows
    let expected: Double = 8 * ratio / (1 - ratio)
    let drawn = Int((expected + 1e-9).rounded(.down))
    #expect(rows.count == 8 + 2 * drawn)
    let sums = (rows.soft.reduce(0, +) / 8, rows.hard.dropFirst(8).reduce(0, +) / 8)
    #expect(abs(Double(sums.0) - 0.5) < 1e-5 && abs(Double(sums.1) - 2) < 1e-5)
  }

  // MARK: Gradient constraints

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

  // MARK: Rehearsal

  @Test func surpriseKeepsTheHardest() throws {
    let world = RowWorld()
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 6, selection: .surprise)
    try replay.consolidate(world.past(0))
    try replay.stageWillBegin(world.stage())
    let losses = world.batches(world.exemplars).flatMap { world.network.negativeLogLikelihoods($0, on: world.backend) }
    let hardest = Set(losses.indices.sorted { losses[$0] > losses[$1] }.prefix(6).map { Int32($0) })
    #expect(Set(replay.rehearse(stageTokens: 6).map { $0.inputs[0] }) == hardest)
  }

  /// Rehearsed rows learned by distillation carry no loss of their own, and still count in the mean.
  @Test func distilledRowsFollowTheTeacherAlone() throws {
    let world = RowWorld()
    let replay = ExperienceReplay(
      ratio: 0.5, budgetTokens: 12, selection: .reservoir, distillation: Distillation(weight: 3, topK: 3))
    try replay.consolidate(world.past(0))
    try replay.stageWillBegin(world.stage())
    let batch = world.compose(Array(world.exemplars.prefix(6)), [replay])[0]
    let objectives = try #require(batch.objectives)
    #expect(objectives.counted == 12)
    #expect(objectives.rows.hard == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    #expect(objectives.rows.soft == [0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3])
    let report = world.trainer()([batch], learningRate: 0, maximumNorm: 0)
    #expect(abs(report.softLoss) < 1e-5)
    #expect(abs(report.loss - world.loss(Array(world.exemplars.prefix(6)))) < 1e-5)
  }
}
