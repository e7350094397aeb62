// EWC and L2-SP against known answers: hand-computed penalties, fixed points, closed-form minimisers.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A parameter vector without a network, and the steps of an optimizer on it.
struct VectorWorld {
  let backend = CPUBackend(threads: 2)
  let store: ParameterStore
  init(_ values: [Float]) {
    store = ParameterStore([ParameterDeclaration("w", [1, values.count], .zeros)], on: backend)
    store.values.assign(values)
  }
  var values: [Float] { store.values.toArray() }
  func ewc(
    _ strength: Double, variant: ElasticWeightConsolidation.Variant = .online, decay: Double = 1,
    form: QuadraticPull.Form = .proximal
  )
    throws -> ElasticWeightConsolidation
  {
    let method = ElasticWeightConsolidation(
      .init(strength: .fixed(strength), variant: variant, decay: decay, form: form), store, on: backend)
    try method.stageWillBegin(scope)
    return method
  }
  var scope: StageScope {
    StageScope(network: Idle(store), stage: 1, name: "stage", tokens: 1, random: RandomStream(seed: 0))
  }
  func absorb(_ fisher: [Float], at anchor: [Float], into method: ElasticWeightConsolidation) {
    store.values.assign(anchor)
    method.absorb(backend.tensor(fisher, 1, fisher.count), weight: 1)
  }
  /// Steps along ∂ ½ Σ a (θ − b)², the new task.
  func descend(_ a: [Float], _ b: [Float], pulls: [QuadraticPull], steps: Int, adam: Bool, rate: Float) -> Double {
    let (m, v) = (backend.zeros(1, a.count), backend.zeros(1, a.count))
    var penalty = 0.0
    for step in 1...steps {
      let gradient = backend.tensor(zip(zip(a, b), values).map { $0.0 * ($1 - $0.1) }, 1, a.count)
      // Falling steps bring Adam to rest; the metric stays its own.
      let now = adam ? rate / (1 + 0.01 * Float(step)) : rate
      penalty =
        adam
        ? backend.adamW(
          store.values, gradient: gradient, firstMoment: m, secondMoment: v, pulls: pulls,
          step: AdamWStep(
            learningRate: now, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step: step, gradientScale: 1))
        : backend.sgd(
          store.values, gradient: gradient, momentumBuffer: nil, momentum: 0, learningRate: now, weightDecay: 0,
          gradientScale: 1, pulls: pulls)
    }
    return penalty
  }
}

/// A network that is never asked.
final class Idle: Network {
  let parameters: ParameterStore
  init(_ store: ParameterStore) { parameters = store }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    (backend.zeros(batch.count, 1), nil)
  }
  func head(_ index: Int) -> Head { Head(Linear(parameters.parameters[0])) }
}

@Suite struct QuadraticMethodTests {
  let a: [Float] = [1, 2, 0.5, 3]
  let b: [Float] = [1, -1, 2, 0.5]
  let f1: [Float] = [2, 0, 1, 0.25]
  let t1: [Float] = [0, 0.5, -1, 1]
  let f2: [Float] = [1, 0, 4, 0.5]
  let t2: [Float] = [0.5, 0.25, 0, -1]

  @Test func penaltyIsZeroAtTheAnchorAndHandComputedBesideIt() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(10)
    world.absorb(f1, at: t1, into: ewc)
    #expect(world.descend([0, 0, 0, 0], t1, pulls: ewc.pulls, steps: 1, adam: false, rate: 0.1) == 0)
    #expect(world.values == t1)
    world.store.values.assign([1, 0.5, -3, 1.5])
    // ½·10·(2·1² + 0 + 1·2² + 0.25·0.5²)
    let penalty = world.descend([0, 0, 0, 0], t1, pulls: ewc.pulls, steps: 1, adam: false, rate: 0)
    #expect(abs(penalty - 30.3125) < 1e-5)
  }

  /// Task 1 left F and θ*; the joint quadratic has its minimum at (a·b + λFθ*) / (a + λF).
  @Test(arguments: [true, false], [QuadraticPull.Form.coupled, .proximal]) func restsAtTheJointMinimum(
    adam: Bool, form: QuadraticPull.Form
  ) throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(3, form: form)
    world.absorb(f1, at: t1, into: ewc)
    _ = world.descend(a, b, pulls: ewc.pulls, steps: adam ? 20_000 : 2_000, adam: adam, rate: adam ? 0.02 : 0.05)
    for (i, theta) in world.values.enumerated() {
      let wanted = (a[i] * b[i] + 3 * f1[i] * t1[i]) / (a[i] + 3 * f1[i])
      #expect(abs(theta - wanted) < 2e-4, "\(i): \(theta), expected \(wanted)")
    }
  }

  /// Three data sets, each a diagonal least squares: with exact curvatures, learning them one after another equals
  /// learning them at once.
  @Test(arguments: [ElasticWeightConsolidation.Variant.separate, .online]) func sequentialEqualsJoint(
    variant: ElasticWeightConsolidation.Variant
  ) throws {
    let world = VectorWorld([0, 0, 0, 0])
    let ewc = try world.ewc(1, variant: variant)
    let tasks: [(a: [Float], b: [Float])] = [(a, b), ([0.5, 1, 2, 1], t1), ([1, 1, 1, 2], t2)]
    for task in tasks {
      _ = world.descend(task.a, task.b, pulls: ewc.pulls, steps: 4_000, adam: false, rate: 0.1)
      world.absorb(task.a, at: variant == .online ? world.values : task.b, into: ewc)
      if variant == .separate {
        // Each past keeps its own optimum; the merged anchor is where the next task starts from.
        world.store.values.assign(ewc.pulls[0].anchor.toArray())
      }
    }
    for i in 0..<4 {
      let weight = tasks.reduce(0) { $0 + $1.a[i] }
      let joint = tasks.reduce(0) { $0 + $1.a[i] * $1.b[i] } / weight
      #expect(abs(world.values[i] - joint) < 1e-5, "\(variant) \(i): \(world.values[i]), joint \(joint)")
    }
  }

  /// What is kept of two pasts, solved in double for a third task, is the joint optimum: with numbers that Float32 holds
  /// exactly nothing is lost.
  @Test(arguments: [ElasticWeightConsolidation.Variant.separate, .online]) func keptPastsLoseNothing(
    variant: ElasticWeightConsolidation.Variant
  ) throws {
    let world = VectorWorld([0, 0])
    let ewc = try world.ewc(1, variant: variant)
    let pasts: [(a: [Float], b: [Float])] = [([1, 2], [0.5, -1.25]), ([3, 2], [1.5, 0.75])]
    let (a, b): ([Double], [Double]) = ([1.7, 0.3], [0.9, -2.1])
    // Online holds on to where the second past was learned under the first: at the optimum of both.
    let both: [Float] = [1.25, -0.25]
    world.absorb(pasts[0].a, at: pasts[0].b, into: ewc)
    world.absorb(pasts[1].a, at: variant == .online ? both : pasts[1].b, into: ewc)
    let pull = try #require(ewc.pulls.first)
    let (kept, anchor) = (
      try #require(pull.curvature).toArray().map(Double.init), pull.anchor.toArray().map(Double.init)
    )
    for i in 0..<2 {
      let sequential =
        (a[i] * b[i] + Double(pull.strength) * kept[i] * anchor[i]) / (a[i] + Double(pull.strength) * kept[i])
      let weight = pasts.reduce(a[i]) { $0 + Double($1.a[i]) }
      let joint = pasts.reduce(a[i] * b[i]) { $0 + Double($1.a[i]) * Double($1.b[i]) } / weight
      #expect(abs(sequential - joint) <= 1e-8 * abs(joint), "\(variant) \(i): \(sequential), joint \(joint)")
    }
  }

  @Test func mergedPastsPullLikeEachPast() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(2, variant: .separate)
    world.absorb(f1, at: t1, into: ewc)
    world.absorb(f2, at: t2, into: ewc)
    let separate = [
      QuadraticPull(
        strength: 2, curvature: world.backend.tensor(f1, 1, 4), anchor: world.backend.tensor(t1, 1, 4), form: .coupled),
      QuadraticPull(
        strength: 2, curvature: world.backend.tensor(f2, 1, 4), anchor: world.backend.tensor(t2, 1, 4), form: .coupled),
    ]
    let start: [Float] = [3, 2, 1, -2]
    world.store.values.assign(start)
    let merged = ewc.pulls.map {
      QuadraticPull(strength: $0.strength, curvature: $0.curvature, anchor: $0.anchor, form: .coupled)
    }
    _ = world.descend(a, b, pulls: merged, steps: 1, adam: false, rate: 0.1)
    let one = world.values
    world.store.values.assign(start)
    _ = world.descend(a, b, pulls: separate, steps: 1, adam: false, rate: 0.1)
    for (x, y) in zip(one, world.values) { #expect(abs(x - y) < 1e-5) }
    #expect(merged.count == 1)
    // Where nothing is known the newest anchor stands.
    #expect(merged[0].anchor.toArray()[1] == t2[1])
  }

  /// Ten pasts: one pull, whose penalty is the sum of ten penalties wherever the parameters are.
  @Test func tenPastsCostOnePullAndReportTheSumOfTheirPenalties() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(3, variant: .separate)
    let pasts = tenPasts
    for past in pasts { world.absorb(past.fisher, at: past.anchor, into: ewc) }
    #expect(ewc.pulls.count == 1)
    for place in [t1, t2, [3, 2, 1, -2], ewc.pulls[0].anchor.toArray()] {
      world.store.values.assign(place)
      let merged = world.descend([0, 0, 0, 0], t1, pulls: ewc.pulls, steps: 1, adam: false, rate: 0)
      var sum = 0.0
      for past in pasts {
        for i in 0..<4 {
          let displacement = Double(place[i]) - Double(past.anchor[i])
          sum += 1.5 * Double(past.fisher[i]) * displacement * displacement
        }
      }
      let reported = merged + ewc.pulls[0].constant
      #expect(abs(reported - sum) < 1e-5 * sum, "\(reported), sum of ten \(sum)")
    }
  }

  @Test(arguments: [ElasticWeightConsolidation.Variant.separate, .online]) func tenPastsResumeBitForBit(
    variant: ElasticWeightConsolidation.Variant
  ) throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(3, variant: variant)
    let again = try world.ewc(3, variant: variant)
    for (number, past) in tenPasts.enumerated() {
      world.absorb(past.fisher, at: past.anchor, into: ewc)
      // The other one is saved and restored after every fifth past.
      world.absorb(past.fisher, at: past.anchor, into: again)
      if number % 5 == 4 {
        let state = MemoryState()
        again.write(to: state)
        try again.restore(from: state)
      }
    }
    let (one, other) = (ewc.pulls[0], again.pulls[0])
    #expect(one.constant == other.constant)
    #expect((one.constant > 0) == (variant == .separate))
    #expect(one.curvature?.toArray() == other.curvature?.toArray())
    #expect(one.anchor.toArray() == other.anchor.toArray())
  }

  /// Saved and read again after every past: what a decay weighs and joins is the same, bit for bit, and Σ γ⁹⁻ᵏF_k.
  @Test func decayingPastsResumeBitForBit() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(3, decay: 0.7)
    var again = try world.ewc(3, decay: 0.7)
    for past in tenPasts {
      world.absorb(past.fisher, at: past.anchor, into: ewc)
      world.absorb(past.fisher, at: past.anchor, into: again)
      let state = MemoryState()
      again.write(to: state)
      again = try world.ewc(3, decay: 0.7)
      try again.restore(from: state)
      let (one, other) = (ewc.pulls[0], again.pulls[0])
      #expect(one.curvature?.toArray().map(\.bitPattern) == other.curvature?.toArray().map(\.bitPattern))
      #expect(one.anchor.toArray().map(\.bitPattern) == other.anchor.toArray().map(\.bitPattern))
    }
    let found = try #require(again.pulls[0].curvature?.toArray())
    for i in found.indices {
      let wanted = tenPasts.reduce(0.0) { 0.7 * $0 + Double($1.fisher[i]) }
      #expect(abs(Double(found[i]) - wanted) < 1e-5 * wanted)
    }
  }

  /// A past consolidated after a restart leaves the bits that it leaves without one, the earlier past weighed by γ.
  @Test(arguments: [FisherRecipe.Structure.diagonal, .kronecker], [Precision.fp32, .bf16])
  func consolidationGoesOnAfterARestart(structure: FisherRecipe.Structure, storage: Precision) throws {
    let world = RowWorld()
    func make(_ decay: Double) -> ElasticWeightConsolidation {
      ElasticWeightConsolidation(
        .init(strength: .fixed(2), decay: decay, fisher: expected(world, structure), storage: storage), world.store,
        on: world.backend)
    }
    func state(_ method: ElasticWeightConsolidation) -> MemoryState {
      let state = MemoryState()
      method.write(to: state)
      return state
    }
    let (whole, before, forgetful) = (make(0.6), make(0.6), make(0))
    for method in [whole, before, forgetful] { try method.consolidate(world.past(0)) }
    let restored = make(0.6)
    try restored.restore(from: state(before))
    for index in world.store.values.buffer.indices { world.store.values.buffer[index] += 0.1 * Float(index % 3) }
    for method in [whole, restored, forgetful] { try method.consolidate(world.past(1)) }
    let (one, other, last) = (state(whole), state(restored), state(forgetful))
    #expect(one.tensorPaths == other.tensorPaths && one.tensorPaths.contains { $0.hasPrefix("fisher/") })
    #expect(one.tensorPaths.contains { $0.hasPrefix("kronecker/") } == (structure == .kronecker))
    for path in one.tensorPaths {
      #expect(try one.floats(path).map(\.bitPattern) == other.floats(path).map(\.bitPattern), "\(path)")
    }
    #expect(try one.tensorPaths.contains { try one.floats($0) != last.floats($0) })
  }

  /// Files of before the constant was kept are read; their penalty lacks it.
  @Test func stateWithoutAConstantIsRead() throws {
    let world = VectorWorld(t1)
    let old = try world.ewc(3, variant: .online)
    world.absorb(f1, at: t1, into: old)
    let state = MemoryState()
    old.write(to: state)
    let ewc = try world.ewc(3, variant: .separate)
    try ewc.restore(from: state)
    #expect(ewc.pulls[0].constant == 0)
  }

  /// Ten Fishers and anchors, some of the curvatures 0.
  var tenPasts: [(fisher: [Float], anchor: [Float])] {
    var random = RandomStream(seed: 4)
    return (0..<10).map { number in
      (
        (0..<4).map { $0 == number % 5 ? 0 : Float(random.uniform()) },
        (0..<4).map { _ in Float(2 * random.uniform() - 1) }
      )
    }
  }

  @Test func onlineForgetsByItsDecay() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(1, variant: .online, decay: 0.5)
    world.absorb(f1, at: t1, into: ewc)
    world.absorb(f2, at: t2, into: ewc)
    #expect(ewc.pulls[0].curvature?.toArray() == zip(f1, f2).map { 0.5 * $0 + $1 })
    #expect(ewc.pulls[0].anchor.toArray() == t2)
  }

  @Test(arguments: [QuadraticPull.Form.coupled, .proximal]) func zeroStrengthChangesNoBit(form: QuadraticPull.Form)
    throws
  {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(0, form: form)
    world.absorb(f1, at: t2, into: ewc)
    world.store.values.assign(t1)
    _ = world.descend(a, b, pulls: ewc.pulls, steps: 50, adam: true, rate: 0.01)
    let guarded = world.values
    world.store.values.assign(t1)
    _ = world.descend(a, b, pulls: [], steps: 50, adam: true, rate: 0.01)
    #expect(guarded.map(\.bitPattern) == world.values.map(\.bitPattern))
  }

  @Test func infiniteStrengthFreezesWhatIsKnown() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(1e20)
    world.absorb(f1, at: t1, into: ewc)
    _ = world.descend(a, b, pulls: ewc.pulls, steps: 100, adam: true, rate: 0.05)
    for i in 0..<4 { #expect((world.values[i] == t1[i]) == (f1[i] > 0), "\(i)") }
  }

  @Test func curvatureOfOneEqualsL2SP() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(0.3)
    world.absorb([1, 1, 1, 1], at: t1, into: ewc)
    _ = world.descend(a, b, pulls: ewc.pulls, steps: 40, adam: true, rate: 0.02)
    let first = world.values
    world.store.values.assign(t1)
    let l2sp = L2SP(strength: 0.3, form: .proximal, anchor: .previous, world.store, on: world.backend)
    try l2sp.consolidate(consolidation(world))
    _ = world.descend(a, b, pulls: l2sp.pulls, steps: 40, adam: true, rate: 0.02)
    #expect(first.map(\.bitPattern) == world.values.map(\.bitPattern))
  }

  @Test func posteriorStrengthIsTheRatioOfTokens() throws {
    let world = VectorWorld(t1)
    let ewc = ElasticWeightConsolidation(.init(strength: .posterior), world.store, on: world.backend)
    ewc.absorb(world.backend.tensor(f1, 1, 4), weight: 4000)
    try ewc.stageWillBegin(
      StageScope(network: Idle(world.store), stage: 1, name: "s", tokens: 100, random: RandomStream(seed: 0)))
    let pull = ewc.pulls[0]
    for (i, value) in (pull.curvature?.toArray() ?? []).enumerated() {
      #expect(abs(pull.strength * value - 40 * f1[i]) < 1e-4)
    }
  }

  @Test func savedStateReproducesTheNextStep() throws {
    let world = VectorWorld(t1)
    let ewc = try world.ewc(5, variant: .separate)
    world.absorb(f1, at: t1, into: ewc)
    world.absorb(f2, at: t2, into: ewc)
    let state = MemoryState()
    ewc.write(to: state)
    let again = try world.ewc(5, variant: .separate)
    try again.restore(from: state)
    var results: [[UInt32]] = []
    for method in [ewc, again] {
      world.store.values.assign(t1)
      _ = world.descend(a, b, pulls: method.pulls, steps: 3, adam: true, rate: 0.05)
      results.append(world.values.map(\.bitPattern))
    }
    #expect(results[0] == results[1])
    #expect(throws: MemoryState.Missing.self) { try again.restore(from: MemoryState()) }
  }

  // MARK: What consolidation takes

  private func expected(_ world: RowWorld, _ structure: FisherRecipe.Structure = .diagonal) -> FisherRecipe {
    FisherRecipe(labels: .expected, unit: .sequence, structure: structure, examples: 100)
  }

  /// F of each past is taken at the parameters as they are then, by the task alone: no pull, no leftover of the past before.
  @Test func eachPastsFisherIsItsOwn() throws {
    let world = RowWorld()
    let ewc = ElasticWeightConsolidation(
      .init(strength: .fixed(50), fisher: expected(world)), world.store, on: world.backend)
    func fisher() throws -> [Float] {
      try DiagonalFisher.estimate(
        world.network, over: world.batches(world.exemplars), recipe: expected(world), random: RandomStream(seed: 3),
        on: world.backend
      ).values.toArray()
    }
    var wanted = [Float](repeating: 0, count: world.store.count)
    for past in 0..<3 {
      if past > 0 {
        try ewc.stageWillBegin(world.stage(past))
        let train = world.trainer()
        for _ in 0..<5 {
          _ = train(world.batches(world.exemplars), learningRate: 0.05, maximumNorm: 0, methods: [ewc])
        }
      }
      for (i, value) in try fisher().enumerated() { wanted[i] += value }
      try ewc.consolidate(world.past(past))
      let found = try #require(ewc.pulls[0].curvature?.toArray())
      for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 1e-5 * b + 1e-10) }
      #expect(ewc.pulls[0].anchor.toArray() == world.store.values.toArray())
    }
    #expect(wanted.contains { $0 > 1e-4 })
  }

  /// Posterior units from consolidation itself: Σ γᵏ N_k F_k over N_new, also for factors.
  @Test(arguments: [FisherRecipe.Structure.diagonal, .kronecker]) func pastsWeighAsTheirTokens(
    structure: FisherRecipe.Structure
  ) throws {
    let world = RowWorld(hidden: [])
    func method(_ strength: ElasticWeightConsolidation.Strength) -> ElasticWeightConsolidation {
      ElasticWeightConsolidation(
        .init(strength: strength, decay: 0.5, form: .coupled, fisher: expected(world, structure)), world.store,
        on: world.backend)
    }
    let posterior = method(.posterior)
    // The same place twice: 0.5·3000·F + 500·F over 24 tokens of the stage.
    try posterior.consolidate(world.past(0, tokens: 3000))
    try posterior.consolidate(world.past(1, tokens: 500))
    let once = method(.fixed(2000 / 24.0))
    try once.consolidate(world.past(0, tokens: 7))
    for index in world.store.values.buffer.indices { world.store.values.buffer[index] += 0.1 * Float(index % 3) }
    let penalties = try [posterior, once].map { method in
      try method.stageWillBegin(world.stage())
      return world.trainer(.sgd)(
        world.batches(world.exemplars), learningRate: 0, maximumNorm: 0, methods: [method]
      ).penalty
    }
    #expect(penalties[0] > 0.01 && abs(penalties[0] - penalties[1]) < 1e-4 * penalties[1], "\(penalties)")
  }

  /// A curvature of which a number is infinite or undefined is refused by name, not held on to.
  @Test(arguments: ["diagonal", "kronecker", "mas"]) func whatIsNotFiniteIsRefused(kind: String) throws {
    let world = RowWorld(hidden: [])
    let method: any ContinualMethod =
      kind == "mas"
      ? MemoryAwareSynapses(strength: 1, examples: 100, world.store, on: world.backend)
      : ElasticWeightConsolidation(
        .init(
          strength: .fixed(1), fisher: expected(world, kind == "kronecker" ? .kronecker : .diagonal)),
        world.store, on: world.backend)
    let weight = try #require(world.store.parameters.first { $0.shape.count == 2 })
    weight.value.buffer[1] = .nan
    #expect {
      try method.consolidate(world.past(0))
    } throws: { error in
      // With one undefined logit no gradient of the layer is defined.
      "\(error)".contains("heads.0.") && "\(error)".contains("not finite")
    }
  }

  // MARK: The self-test

  /// Predicted and measured divergence agree along a random direction, over a few classes and over many of which none is
  /// likely; the reading is told and kept.
  @Test(arguments: [FisherRecipe.Structure.diagonal, .kronecker], [12, 1500]) func theSelfTestMeasuresWhatIsPredicted(
    structure: FisherRecipe.Structure, classes: Int
  ) throws {
    let world = RowWorld(inputs: 6, hidden: [], classes: classes, rows: 8)
    // Nearly uniform: no short list of classes holds much of the divergence.
    world.backend.scale(world.store.values, by: 0.05)
    var notes: [String] = []
    let ewc = ElasticWeightConsolidation(
      .init(strength: .fixed(1), fisher: expected(world, structure)), world.store, on: world.backend)
    try ewc.consolidate(world.past(0) { notes.append($0) })
    let state = MemoryState()
    ewc.write(to: state)
    let reading = try state.doubles("divergence")
    #expect(reading.count == 2 && notes.contains { $0.contains("self-test") })
    let ratio = reading[1] / reading[0]
    #expect((0.6...1.6).contains(ratio), "measured \(reading[1]), predicted \(reading[0])")
    let again = ElasticWeightConsolidation(ewc.settings, world.store, on: world.backend)
    try again.restore(from: state)
    let copy = MemoryState()
    again.write(to: copy)
    #expect(try copy.doubles("divergence") == reading)
  }

  func consolidation(_ world: VectorWorld) -> ConsolidationScope {
    ConsolidationScope(
      network: Idle(world.store), backend: world.backend, past: 0, name: "base", sequences: [], isReal: true, tokens: 1,
      batchTokens: 16, makeBatches: { _ in [] }, random: RandomStream(seed: 0), note: { _ in })
  }
}
