// Adapters against known answers: difference quotients, one step of gradient descent, ranks, fixed points.
import Continual
import Curvature
import Layers
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A product with a weight, stored one way or the other, and a head; smooth, so that difference quotients are exact.
private final class TwoProducts: Network {
  let parameters: ParameterStore
  private let inner: Linear
  private let last: Head
  init(_ layout: WeightLayout, on backend: any Backend) {
    let declarations = [
      ParameterDeclaration("inner.weight", layout == .outputByInput ? [6, 4] : [4, 6], .normal(deviation: 0.5)),
      ParameterDeclaration("inner.bias", [6], .normal(deviation: 0.5)),
      ParameterDeclaration("head.weight", [3, 6], .normal(deviation: 0.5)),
    ]
    parameters = ParameterStore(declarations, on: backend)
    parameters.initialize(declarations, from: RandomStream(seed: 3))
    let all = parameters.parameters
    inner = Linear(all[0], bias: all[1], layout: layout)
    last = Head(Linear(all[2]))
  }
  func head(_ index: Int) -> Head { last }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    guard let features = batch.features else { preconditionFailure("rows of numbers") }
    let (y, back) = inner(features, Context(batch, on: backend))
    return (y, recording ? NetworkPullback(batch, layers: [back], input: { _, _ in }) : nil)
  }
}

private struct AdapterWorld {
  let backend = CPUBackend(threads: 2)
  let network: TwoProducts
  let batch: Batch
  var store: ParameterStore { network.parameters }

  init(_ layout: WeightLayout = .outputByInput) {
    network = TwoProducts(layout, on: backend)
    var random = RandomStream(seed: 8)
    let rows = 20
    batch = Batch(
      features: backend.tensor((0..<rows * 4).map { _ in Float(random.normal()) }, rows, 4),
      labels: (0..<rows).map { _ in Int32(random.integer(below: 3)) })
  }
  func adapter(
    _ settings: AdapterSettings = AdapterSettings(rank: 2, alpha: 3),
    _ optimizer: OptimizerSettings = .init(kind: .sgd),
    earlier: AdapterHistory? = nil
  ) -> LowRankAdapter {
    LowRankAdapter(
      settings, store.matrices(settings.targets, except: []).chosen, of: store, optimizer: optimizer,
      random: RandomStream(seed: 5), earlier: earlier, on: backend)
  }
  func loss() -> Double {
    let losses = network.negativeLogLikelihoods(batch, on: backend)
    return losses.reduce(0) { $0 + Double($1) } / Double(losses.count)
  }
  func gradient() -> Accumulator {
    let accumulator = Accumulator(store, on: backend)
    _ = network.backward(batch, seed: CrossEntropySeed(scale: 1 / Float(batch.count)), sink: accumulator, on: backend)
    return accumulator
  }
  /// B at random, so that the gradient by A is not zero.
  func stir(_ adapter: LowRankAdapter) {
    var random = RandomStream(seed: 6)
    for factor in adapter.factors.parameters where factor.name.hasSuffix(".lora_B") {
      factor.value.assign((0..<factor.value.count).map { _ in Float(0.3 * random.normal()) })
    }
    adapter.merge()
  }
  /// Numbers that are not near one another, one for every parameter.
  func vector(_ seed: UInt64, positive: Bool = false) -> Tensor {
    var random = RandomStream(seed: seed)
    return backend.tensor(
      (0..<store.count).map { _ in Float(positive ? random.uniform() : random.normal()) }, 1, store.count)
  }
}

/// Rows of doubles, with what little linear algebra the tests ask for.
private struct Rows {
  var rows: [[Double]]
  init(_ tensor: Tensor) {
    rows = (0..<tensor.rows).map { tensor.rows($0..<$0 + 1).toArray().map(Double.init) }
  }
  init(_ rows: [[Double]]) { self.rows = rows }
  var turned: Rows { Rows(rows[0].indices.map { column in rows.map { $0[column] } }) }
  var largest: Double { rows.joined().map(abs).max() ?? 0 }
  static func * (a: Rows, b: Rows) -> Rows {
    let columns = b.turned.rows
    return Rows(a.rows.map { row in columns.map { zip(row, $0).reduce(0) { $0 + $1.0 * $1.1 } } })
  }
  static func * (scale: Double, a: Rows) -> Rows { Rows(a.rows.map { $0.map { scale * $0 } }) }
  static func + (a: Rows, b: Rows) -> Rows { Rows(zip(a.rows, b.rows).map { zip($0, $1).map { $0 + $1 } }) }
  static func - (a: Rows, b: Rows) -> Rows { a + (-1) * b }
  /// Pivots of elimination with full pivoting, falling: as many above rounding as the rank.
  var pivots: [Double] {
    var a = rows
    var found: [Double] = []
    for step in 0..<min(a.count, a[0].count) {
      var (row, column) = (step, step)
      for i in step..<a.count {
        for j in step..<a[0].count where abs(a[i][j]) > abs(a[row][column]) { (row, column) = (i, j) }
      }
      found.append(abs(a[row][column]))
      if a[row][column] == 0 { continue }
      a.swapAt(step, row)
      for i in a.indices { a[i].swapAt(step, column) }
      for i in step + 1..<max(step + 1, a.count) {
        let factor = a[i][step] / a[step][step]
        for j in step..<a[0].count { a[i][j] -= factor * a[step][j] }
      }
    }
    return found
  }
}

@Suite struct LowRankAdapterTests {
  static let layouts = [WeightLayout.outputByInput, .inputByOutput]

  @Test(arguments: layouts) func factorGradientsAreDifferenceQuotients(_ layout: WeightLayout) {
    let world = AdapterWorld(layout)
    let adapter = world.adapter(AdapterSettings(rank: 2, alpha: 3, targets: ["*.weight"]))
    world.stir(adapter)
    let norm = adapter.project(world.gradient())
    var sum = 0.0
    for factor in adapter.factors.parameters {
      let gradient = factor.view(of: adapter.gradients.gradient).toArray()
      sum += gradient.reduce(0) { $0 + Double($1) * Double($1) }
      #expect(gradient.contains { abs($0) > 1e-2 })
      let error = GradientCheck.worstError(of: factor.value, gradient: gradient) {
        adapter.merge()
        return world.loss()
      }
      #expect(error < 1e-4, "\(factor.name): \(error)")
    }
    #expect(abs(norm - sum.squareRoot()) < 1e-6 * norm)
  }

  /// B = 0: the merged weight is the base, bit for bit, and the gradient by A is zero.
  @Test(arguments: layouts) func anAdapterBeginsWithoutEffect(_ layout: WeightLayout) {
    let world = AdapterWorld(layout)
    let (before, loss) = (world.store.values.toArray(), world.loss())
    let adapter = world.adapter()
    adapter.merge()
    #expect(world.store.values.toArray() == before && world.loss() == loss)
    adapter.project(world.gradient())
    let a = adapter.factors.parameters[0]
    #expect(a.value.toArray().contains { $0 != 0 } && a.value.toArray().allSatisfy { abs($0) <= 0.5 })
    #expect(a.view(of: adapter.gradients.gradient).toArray().allSatisfy { $0 == 0 })
    #expect(adapter.factors.count == 2 * (4 + 6) && world.store.trainableCount == 24)
  }

  /// One step of gradient descent at B = 0 changes W by −η(α/r)²·dW·AᵀA, and nothing else at all.
  @Test(arguments: layouts) func oneStepIsTheProjectedGradient(_ layout: WeightLayout) {
    let world = AdapterWorld(layout)
    let adapter = world.adapter()
    let weight = world.store.parameters[0]
    func outputs(_ tensor: Tensor) -> Rows { layout == .outputByInput ? Rows(tensor) : Rows(tensor).turned }
    let (before, all) = (outputs(weight.value), world.store.values.toArray())
    let gradient = outputs(weight.view(of: world.gradient().gradient))
    let a = Rows(adapter.factors.parameters[0].value)
    _ = TrainStep(world.network, adapter: adapter, on: world.backend)([world.batch], learningRate: 0.1, maximumNorm: 0)
    let expected = (-0.1 * 1.5 * 1.5) * (gradient * a.turned * a)
    let change = outputs(weight.value) - before
    #expect(expected.largest > 1e-3 && (change - expected).largest < 1e-6)
    #expect(Array(world.store.values.toArray().dropFirst(24)) == Array(all.dropFirst(24)))
  }

  /// With A the identity and α = r, the first step is that of full fine-tuning.
  @Test func fullRankReproducesFullFineTuning() {
    let (low, full) = (AdapterWorld(), AdapterWorld())
    let adapter = low.adapter(AdapterSettings(rank: 4, alpha: 4))
    adapter.factors.parameters[0].value.assign((0..<16).map { $0 % 5 == 0 ? 1 : 0 })
    _ = full.store.freeze(["inner.bias", "head.*"])
    let optimizer = Optimizer(OptimizerSettings(kind: .sgd), full.store, on: full.backend)
    let one = TrainStep(low.network, adapter: adapter, on: low.backend)(
      [low.batch], learningRate: 0.2, maximumNorm: 0.01)
    let other = TrainStep(full.network, optimizer: optimizer, on: full.backend)(
      [full.batch], learningRate: 0.2, maximumNorm: 0.01)
    // B's gradient is then dW itself, so norms and clipping agree, too.
    #expect(abs(one.gradientNorm - other.gradientNorm) < 1e-6 && one.gradientNorm > 0.01)
    for (a, b) in zip(low.store.values.toArray(), full.store.values.toArray()) { #expect(abs(a - b) < 1e-6) }
  }

  @Test(arguments: layouts) func theChangeHasTheAdaptersRank(_ layout: WeightLayout) {
    let world = AdapterWorld(layout)
    let weight = world.store.parameters[0]
    let before = Rows(weight.value)
    let step = TrainStep(
      world.network, adapter: world.adapter(.init(rank: 2, alpha: 3), .init(weightDecay: 0.01)), on: world.backend)
    let loss = world.loss()
    for _ in 0..<40 { _ = step([world.batch], learningRate: 0.02, maximumNorm: 1) }
    let pivots = (Rows(weight.value) - before).pivots
    #expect(world.loss() < loss - 0.05)
    #expect(pivots[0] > 0.05 && pivots[1] > 1e-3 && pivots[2] < 1e-5, "\(pivots)")
  }

  /// What a pull adds to the factors' step: λF(W − W*) through the factors, whole where the task's gradient is clipped.
  @Test(arguments: layouts, [QuadraticPull.Form.coupled, .proximal])
  func pullsActOnTheMergedWeight(_ layout: WeightLayout, _ form: QuadraticPull.Form) {
    let world = AdapterWorld(layout)
    let adapter = world.adapter()
    world.stir(adapter)
    let (weight, a, b) = (world.store.parameters[0], adapter.factors.parameters[0], adapter.factors.parameters[1])
    let pulls = [
      QuadraticPull(
        strength: 2, curvature: world.vector(1, positive: true), anchor: world.vector(2), form: form, constant: 0.25),
      QuadraticPull(strength: 0.5, curvature: nil, anchor: world.vector(3), form: form),
    ]
    func outputs(_ tensor: Tensor) -> Rows { layout == .outputByInput ? Rows(tensor) : Rows(tensor).turned }
    var penalty = 0.25
    var force: [Float] = []
    for (i, value) in weight.value.toArray().enumerated() {
      let (f, first, second) = (
        pulls[0].curvature?.toArray()[i] ?? 0, value - pulls[0].anchor.toArray()[i],
        value - pulls[1].anchor.toArray()[i]
      )
      penalty += Double(f * first * first + 0.25 * second * second)
      force.append(2 * f * first + 0.5 * second)
    }
    let pull = outputs(world.backend.tensor(force, weight.value.rows, weight.value.columns))
    let task = outputs(weight.view(of: world.gradient().gradient))
    let (oldA, oldB) = (Rows(a.value), Rows(b.value))
    let step = TrainStep(world.network, adapter: adapter, on: world.backend)
    let report = step([world.batch], learningRate: 0.1, maximumNorm: 0.02, pulls: pulls)
    let clip = 0.02 / report.gradientNorm
    #expect(clip < 0.5 && report.isPulled && abs(report.penalty - penalty) < 1e-4 * penalty)
    let gradient = clip * task + pull
    #expect((Rows(b.value) - oldB + 0.15 * (gradient * oldA.turned)).largest < 1e-5)
    #expect((Rows(a.value) - oldA + 0.15 * (oldB.turned * gradient)).largest < 1e-5)
    // The gradient that methods look at has no pull in it.
    #expect((outputs(weight.view(of: step.accumulator.gradient)) - task).largest < 1e-6)
  }

  /// The virtual step is the one that the factors take next, merged into the weights; nothing moves before.
  @Test(arguments: layouts, [OptimizerSettings.Kind.adamw, .sgd]) func previewIsTheNextStep(
    _ layout: WeightLayout, kind: OptimizerSettings.Kind
  ) {
    let world = AdapterWorld(layout)
    let adapter = world.adapter(.init(rank: 2, alpha: 3), .init(kind: kind, momentum: 0.9))
    let step = TrainStep(world.network, adapter: adapter, on: world.backend)
    for _ in 0..<3 { _ = step([world.batch], learningRate: 0.05, maximumNorm: 1) }
    let (before, factors) = (world.store.values.toArray(), adapter.factors.values.toArray())
    let values = world.backend.empty(1, world.store.count)
    step.preview(along: world.gradient(), learningRate: 0.05, maximumNorm: 0.1, into: values)
    #expect(world.store.values.toArray() == before && adapter.factors.values.toArray() == factors)
    let previewed = values.toArray()
    _ = step([world.batch], learningRate: 0.05, maximumNorm: 0.1)
    #expect(previewed == world.store.values.toArray() && previewed != before)
  }

  /// The stronger the pull towards the base, the less the weight moves; at last not at all.
  @Test func aStrongPullHoldsTheWeight() {
    func distance(_ strength: Float) -> Double {
      let world = AdapterWorld()
      let before = Rows(world.store.parameters[0].value)
      let adapter = world.adapter(.init(rank: 2, alpha: 3), .init())
      let step = TrainStep(world.network, adapter: adapter, on: world.backend)
      let pull = QuadraticPull(
        strength: strength, curvature: nil, anchor: world.backend.copied(world.store.values), form: .proximal)
      for turn in 0..<400 {
        _ = step([world.batch], learningRate: 0.02 / Double(1 + turn / 10), maximumNorm: 1, pulls: [pull])
      }
      return (Rows(world.store.parameters[0].value) - before).largest
    }
    let distances = [0, 1, 1000].map(distance)
    #expect(distances[0] > 0.2 && distances[1] < 0.7 * distances[0], "\(distances)")
    #expect(distances[2] < 0.01 * distances[0], "\(distances)")
  }

  /// A turns away from the directions of earlier stages: the step is −ηλ·sign(A·Pᵀ)·P beside the task's.
  @Test func earlierDirectionsAreAvoided() throws {
    let world = AdapterWorld()
    let history = AdapterHistory(on: world.backend)
    for seed in [1, 2] as [UInt64] {
      let old = world.adapter(AdapterSettings(rank: 1, alpha: 1))
      old.factors.parameters[0].value.assign(Array(world.vector(seed).toArray().prefix(4)))
      history.add(old)
    }
    let state = MemoryState()
    history.write(to: state)
    let restored = AdapterHistory(on: world.backend)
    try restored.restore(from: state)

    let settings = AdapterSettings(rank: 2, alpha: 3, orthogonality: 0.5)
    let adapter = world.adapter(settings, earlier: restored)
    let a = adapter.factors.parameters[0]
    let old = Rows(a.value)
    let past = Rows([1, 2].map { world.vector($0).toArray().prefix(4).map(Double.init) })
    let overlap = old * past.turned
    let step = TrainStep(world.network, adapter: adapter, on: world.backend)
    let report = step([world.batch], learningRate: 0.01, maximumNorm: 0.01)
    #expect(abs(report.penalty - 0.5 * overlap.rows.joined().reduce(0) { $0 + abs($1) }) < 1e-6)
    // At B = 0 the task has no gradient by A.
    let signs = Rows(overlap.rows.map { $0.map { $0 > 0 ? 1 : -1 } })
    #expect((Rows(a.value) - old + 0.005 * (signs * past)).largest < 1e-6)
    for _ in 0..<400 { _ = step([world.batch], learningRate: 0.002, maximumNorm: 0.01) }
    #expect((Rows(a.value) * past.turned).largest < 0.05 * overlap.largest)
  }

  /// Kronecker-factored EWC, coupled: λGΔWA through the factors, whole where the task's gradient is clipped.
  @Test(arguments: layouts) func factoredPullsActOnTheMergedWeight(_ layout: WeightLayout) throws {
    let world = AdapterWorld(layout)
    let weight = world.store.parameters[0]
    func outputs(_ tensor: Tensor) -> Rows { layout == .outputByInput ? Rows(tensor) : Rows(tensor).turned }
    func factor(_ size: Int, _ seed: Int) -> Rows {
      let elements: [[Double]] = (0..<size).map { i in
        (0..<size).map { j in Double((7 * i + 5 * j + seed) % 9 - 4) / 8 }
      }
      return Rows(elements) * Rows(elements).turned
    }
    func tensor(_ rows: Rows) -> Tensor {
      world.backend.tensor(rows.rows.joined().map { Float($0) }, rows.rows.count, rows.rows.count)
    }
    let (ofGradients, ofInputs) = (factor(6, 1), factor(4, 2))
    let isOutputFirst = layout == .outputByInput
    let ewc = ElasticWeightConsolidation(
      .init(
        strength: .fixed(2), form: .coupled,
        fisher: FisherRecipe(labels: .expected, unit: .sequence, structure: .kronecker, examples: 1)),
      world.store, on: world.backend)
    // The anchor is the weight before it is adapted.
    ewc.absorb(world.backend.zeros(1, world.store.count), weight: 1)
    ewc.absorb(
      KroneckerCurvature(
        [
          .init(
            parameter: weight, left: tensor(isOutputFirst ? ofGradients : ofInputs),
            right: tensor(isOutputFirst ? ofInputs : ofGradients))
        ], on: world.backend),
      weight: 1)
    try ewc.stageWillBegin(
      StageScope(network: world.network, stage: 1, name: "s", tokens: 20, random: RandomStream(seed: 1)))
    let anchor = outputs(weight.value)
    let adapter = world.adapter()
    world.stir(adapter)
    let (a, b) = (adapter.factors.parameters[0], adapter.factors.parameters[1])
    let change = outputs(weight.value) - anchor
    let pull = 2 * (ofGradients * change * ofInputs)
    let penalty = zip(pull.rows.joined(), change.rows.joined()).reduce(0) { $0 + $1.0 * $1.1 / 2 }
    let task = outputs(weight.view(of: world.gradient().gradient))
    let (oldA, oldB) = (Rows(a.value), Rows(b.value))
    let step = TrainStep(world.network, adapter: adapter, on: world.backend)
    let report = step([world.batch], learningRate: 0.1, maximumNorm: 0.02, methods: [ewc])
    let clip = 0.02 / report.gradientNorm
    #expect(clip < 0.5 && report.isPulled && penalty > 0.01 && abs(report.penalty - penalty) < 1e-4 * penalty)
    let gradient = clip * task + pull
    #expect((Rows(b.value) - oldB + 0.15 * (gradient * oldA.turned)).largest < 1e-5)
    #expect((Rows(a.value) - oldA + 0.15 * (oldB.turned * gradient)).largest < 1e-5)
    #expect(pull.largest > 0.01 && pull.largest > (clip * task).largest)
  }

  /// What the penalty takes from A is its part along earlier directions: the rest stays, and the adapter learns.
  @Test func avoidingDirectionsShrinksNoAdapter() {
    let past = Rows([1, 2].map { AdapterWorld().vector($0).toArray().prefix(4).map(Double.init) })
    /// A before and after, what became of the weight, and both losses.
    func course(
      _ orthogonality: Double, steps: Int, rate: Double, fall: Double, maximumNorm: Double
    ) -> (before: Rows, after: Rows, change: Rows, first: Double, last: Double) {
      let world = AdapterWorld()
      let history = AdapterHistory(on: world.backend)
      for seed in [1, 2] as [UInt64] {
        let old = world.adapter(AdapterSettings(rank: 1, alpha: 1))
        old.factors.parameters[0].value.assign(Array(world.vector(seed).toArray().prefix(4)))
        history.add(old)
      }
      let adapter = world.adapter(AdapterSettings(rank: 2, alpha: 3, orthogonality: orthogonality), earlier: history)
      let weight = world.store.parameters[0]
      let (before, start, loss) = (Rows(adapter.factors.parameters[0].value), Rows(weight.value), world.loss())
      let step = TrainStep(world.network, adapter: adapter, on: world.backend)
      for turn in 0..<steps {
        _ = step([world.batch], learningRate: rate / (1 + fall * Double(turn)), maximumNorm: maximumNorm)
      }
      let after = Rows(adapter.factors.parameters[0].value)
      return (before, after, Rows(weight.value) - start, loss, world.loss())
    }
    func norm(_ a: Rows) -> Double { a.rows.joined().reduce(0) { $0 + $1 * $1 }.squareRoot() }
    func overlap(_ a: Rows) -> Double { (a * past.turned).rows.joined().reduce(0) { $0 + abs($1) } }
    /// The part of A that earlier directions have nothing of.
    func outside(_ a: Rows) -> Rows {
      let (p, q) = (past.rows[0], past.rows[1])
      func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
      let along = dot(p, q) / dot(p, p)
      let other = zip(q, p).map { $0.0 - along * $0.1 }
      let rest = a.rows.map { row -> [Double] in
        let (u, v) = (dot(row, p) / dot(p, p), dot(row, other) / dot(other, other))
        return row.indices.map { row[$0] - u * p[$0] - v * other[$0] }
      }
      return Rows(rest)
    }
    // With next to no task, only the overlap goes: the clipped gradient moves all factors together by 0.008 at most.
    let still = course(0.5, steps: 400, rate: 0.002, fall: 0, maximumNorm: 0.01)
    #expect(overlap(still.after) < 0.05 * overlap(still.before))
    #expect(norm(outside(still.after) - outside(still.before)) < 0.008)
    #expect(norm(outside(still.before)) > 0.5)
    // With a task the adapter grows where it may.
    let held = course(0.5, steps: 300, rate: 0.05, fall: 0.05, maximumNorm: 1)
    #expect(overlap(held.after) < 0.2 * overlap(held.before))
    #expect(norm(held.after) > 0.9 * norm(held.before) && norm(held.change) > 0.5)
    #expect(held.last < held.first - 0.3)
    let free = course(0, steps: 300, rate: 0.05, fall: 0.05, maximumNorm: 1)
    #expect(overlap(free.after) > 0.8 * overlap(free.before))
  }

  /// Under bf16 the factors' products stay exact: a weight keeps the digits that a small step changes.
  @Test(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here")) func mergingIsExactUnderBF16() {
    let backend = CPUBackend(threads: 2)
    let declarations = [ParameterDeclaration("w", [192, 256], .normal(deviation: 1))]
    let store = ParameterStore(declarations, on: backend)
    store.initialize(declarations, from: RandomStream(seed: 1))
    let before = Rows(store.parameters[0].value)
    let adapter = LowRankAdapter(
      AdapterSettings(rank: 8, alpha: 8), store.parameters, of: store, optimizer: .init(),
      random: RandomStream(seed: 2),
      on: backend)
    let (a, b) = (adapter.factors.parameters[0].value, adapter.factors.parameters[1].value)
    var random = RandomStream(seed: 6)
    b.assign((0..<b.count).map { _ in Float(random.normal()) })
    backend.precision = .bf16
    adapter.merge()
    #expect((Rows(store.parameters[0].value) - before - Rows(b) * Rows(a)).largest < 1e-5)
    #expect(backend.precision == .bf16)
  }

  @Test func patternsChooseMatrices() {
    let world = AdapterWorld()
    func names(_ patterns: [String]?, except frozen: [String] = []) -> [String] {
      world.store.matrices(patterns, except: frozen).chosen.map(\.name)
    }
    #expect(names(nil) == ["inner.weight"])
    #expect(names(["*"]) == ["inner.weight", "head.weight"])
    #expect(names(["*"], except: ["inner.*"]) == ["head.weight"])
    #expect(world.store.matrices(["inner.bias", "head.*", "x"], except: []).unmatched == ["inner.bias", "x"])
    #expect(world.store.matrices(["head.*"], except: ["head.*"]).unmatched == [])
  }
}
