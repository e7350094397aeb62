// SI, RWalk, freezing and annealing against answers by hand and in closed form.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct ImportanceTests {
  // MARK: SI

  private func path(of method: any ContinualMethod, _ world: RowWorld) throws -> [Float] {
    let state = MemoryState()
    method.write(to: state)
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

  enum Walker: CaseIterable { case si, rwalk }
  /// From the second stage on the method pulls itself: ω stays −Σ g·Δθ with the task's g alone. Mistake: a gradient that
  /// holds the method's own penalty.
  @Test(arguments: Walker.allCases, [QuadraticPull.Form.coupled, .proximal])
  func pathsOfLaterStagesHoldNoPenalty(walker: Walker, form: QuadraticPull.Form) throws {
    for kind in OptimizerSettings.Kind.allCases {
      let world = RowWorld()
      let method: any ContinualMethod =
        switch walker {
        case .si: SynapticIntelligence(strength: 10, xi: 1e-3, form: form, world.store, on: world.backend)
        case .rwalk: RiemannianWalk(strength: 1, window: 100, form: form, world.store, on: world.backend)
        }
      try method.consolidate(world.past(0))
      var pulled = 0.0
      for stage in 1...2 {
        try method.stageWillBegin(world.stage(stage))
        let train = world.trainer(kind)
        var wanted = [Double](repeating: 0, count: world.store.count)
        for _ in 0..<4 {
          let (gradient, start) = (world.meanGradient(), world.store.values.toArray())
          pulled +=
            train(
              world.compose(world.exemplars, [method]), learningRate: 0.02, maximumNorm: 0, methods: [method]
            ).penalty
          let end = world.store.values.toArray()
          for i in wanted.indices { wanted[i] -= gradient[i] * Double(end[i] - start[i]) }
        }
        for (omega, wanted) in zip(try path(of: method, world), wanted) {
          #expect(abs(Double(omega) - wanted) <= 1e-4 * abs(wanted) + 1e-8)
        }
        try method.consolidate(world.past(stage))
      }
      #expect(pulled > 1e-4, "nothing pulls")
    }
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

  /// Importance of every stage is added to that of the ones before.
  @Test func importanceAddsUpOverStages() throws {
    let world = RowWorld()
    let si = SynapticIntelligence(strength: 1, xi: 0.1, world.store, on: world.backend)
    try si.consolidate(world.past(0))
    func stage(_ index: Int) throws -> (omega: [Float], own: [Float]) {
      try si.stageWillBegin(world.stage(index))
      let start = world.store.values.toArray()
      let train = world.trainer()
      for _ in 0..<4 {
        _ = train(world.compose(world.exemplars, [si]), learningRate: 0.02, maximumNorm: 0, methods: [si])
      }
      let (path, end) = (try path(of: si, world), world.store.values.toArray())
      try si.consolidate(world.past(index))
      let own = path.indices.map { i in max(0, path[i]) / ((end[i] - start[i]) * (end[i] - start[i]) + 0.1) }
      return (try #require(si.pulls.first?.curvature?.toArray()), own)
    }
    let (first, second) = (try stage(1), try stage(2))
    for i in first.own.indices {
      let wanted = first.own[i] + second.own[i]
      #expect(abs(second.omega[i] - wanted) <= 1e-5 * wanted + 1e-9)
    }
    #expect(zip(first.own, second.own).contains { $0.0 > 1e-5 && $0.1 > 1e-5 })
  }

  /// What WiSE-FT takes back after the last step is no part of the path: Ω is that of the steps.
  @Test func pathsEndWhereTheStepsEnded() throws {
    func omega(_ alpha: Double) throws -> [Float] {
      let world = RowWorld()
      let si = SynapticIntelligence(strength: 1, xi: 1e-3, world.store, on: world.backend)
      let wise = WeightInterpolation(alpha: alpha, world.store, on: world.backend)
      let methods: [any ContinualMethod] = [si, wise]
      for method in methods {
        try method.consolidate(world.past(0))
        try method.stageWillBegin(world.stage())
      }
      let train = world.trainer()
      for _ in 0..<4 {
        _ = train(world.compose(world.exemplars, methods), learningRate: 0.02, maximumNorm: 0, methods: methods)
      }
      try wise.stageDidTrain(world.stage())
      for method in methods { try method.consolidate(world.past(1)) }
      return try #require(si.pulls.first?.curvature?.toArray())
    }
    #expect(try omega(0.5) == omega(1))
  }

  // MARK: RWalk, freezing, annealing

  /// The score is the mean of the stage's own and of what came before.
  @Test func walkScoresAreAveragedOverStages() throws {
    let world = RowWorld()
    let walk = RiemannianWalk(strength: 0.5, window: 2, epsilon: 1e-4, examples: 24, world.store, on: world.backend)
    try walk.consolidate(world.past(0))
    func tensor(_ name: String) throws -> [Float] {
      let state = MemoryState()
      walk.write(to: state)
      let values = world.backend.empty(1, world.store.count)
      try world.store.restore(values, from: state, under: name)
      return values.toArray()
    }
    func stage(_ index: Int) throws -> (score: [Float], earlier: [Float]) {
      try walk.stageWillBegin(world.stage(index))
      let train = world.trainer(.sgd)
      for _ in 0..<4 {
        _ = train(world.compose(world.exemplars, [walk]), learningRate: 0.05, maximumNorm: 0, methods: [walk])
      }
      try walk.consolidate(world.past(index))
      return (try tensor("score"), try tensor("earlier"))
    }
    let (first, second) = (try stage(1), try stage(2))
    #expect(first.earlier == first.score && first.score.contains { $0 > 0 })
    for i in first.score.indices {
      let wanted = (first.score[i] + second.score[i]) / 2
      #expect(abs(second.earlier[i] - wanted) <= 1e-5 * wanted)
    }
  }

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
    let held = try #require(freezing.held?.toArray())
    let (total, inHeld) = (fisher.reduce(0, +), zip(fisher, held).reduce(0) { $0 + $1.0 * $1.1 })
    // At least half of the mass, and without the smallest of them less than half.
    #expect(inHeld >= total / 2 && inHeld - 9 < total / 2)
    #expect(zip(fisher, held).allSatisfy { $0.0 >= 8 ? $0.1 == 1 : true } && held.contains(0))
    let start = world.store.values.toArray()
    let train = world.trainer(kind)
    for _ in 0..<5 {
      let report = train(world.batches(world.exemplars), learningRate: 0.05, maximumNorm: 1, methods: [freezing])
      #expect(report.penalty == 0 && !report.isPulled)
    }
    for (i, (a, b)) in zip(start, world.store.values.toArray()).enumerated() where held[i] == 1 {
      #expect(a.bitPattern == b.bitPattern, "\(i)")
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

  /// Five steps in windows of two: each counts from where it began, with its own part of the path; the last is short.
  @Test func walkWindowsByHand() throws {
    let world = RowWorld()
    let walk = RiemannianWalk(
      strength: 0.5, alpha: 0.25, window: 2, epsilon: 1e-5, examples: 24, world.store, on: world.backend)
    try walk.consolidate(world.past(0))
    try walk.stageWillBegin(world.stage())
    func tensor(_ name: String) throws -> [Double] {
      let state = MemoryState()
      walk.write(to: state)
      let values = world.backend.empty(1, world.store.count)
      try world.store.restore(values, from: state, under: name)
      return values.toArray().map { Double($0) }
    }
    var f = try tensor("fisher")
    let zeros = [Double](repeating: 0, count: f.count)
    var (path, whole, wanted) = (zeros, zeros, zeros)
    let start = world.store.values.toArray()
    var begin = start
    let train = world.trainer(.sgd)
    for step in 1...5 {
      let gradient = world.meanGradient()
      let before = world.store.values.toArray()
      _ = train(world.compose(world.exemplars, [walk]), learningRate: 0.05, maximumNorm: 0, methods: [walk])
      let after = world.store.values.toArray()
      for i in f.indices {
        f[i] = 0.75 * f[i] + 0.25 * 24 * gradient[i] * gradient[i]
        let worth = -gradient[i] * (Double(after[i]) - Double(before[i]))
        path[i] += worth
        whole[i] += worth
      }
      guard step % 2 == 0 || step == 5 else { continue }
      for i in f.indices {
        let moved = Double(after[i]) - Double(begin[i])
        wanted[i] += max(0, path[i]) / (0.5 * f[i] * moved * moved + 1e-5)
      }
      (path, begin) = (zeros, after)
    }
    let end = world.store.values.toArray()
    try walk.consolidate(world.past(1))
    let found = try tensor("score")
    let largest = wanted.max() ?? 0
    for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 1e-4 * b + 1e-5 * largest, "\(a) against \(b)") }
    // One window over all steps has another score.
    let isOther = wanted.indices.contains { i in
      let moved = Double(end[i]) - Double(start[i])
      let once = max(0, whole[i]) / (0.5 * f[i] * moved * moved + 1e-5)
      return wanted[i] > 0.2 * largest && wanted[i] > 1.2 * once
    }
    #expect(isOther)
  }

  // MARK: L2-SP

  /// In the second stage the pull goes to where that began, or to the base for good: penalty and step by hand.
  @Test(arguments: [L2SP.Anchor.previous, .base]) func anchorsOfTwoStages(anchor: L2SP.Anchor) throws {
    let world = RowWorld()
    func method() -> L2SP {
      L2SP(strength: 0.75, form: .coupled, anchor: anchor, world.store, on: world.backend)
    }
    let l2sp = method()
    var pasts: [[Float]] = []
    for stage in 1...2 {
      pasts.append(world.store.values.toArray())
      try l2sp.consolidate(world.past(stage - 1))
      try l2sp.stageWillBegin(world.stage(stage))
      let train = world.trainer(.sgd)
      for _ in 0..<3 {
        _ = train(world.batches(world.exemplars), learningRate: 0.2, maximumNorm: 0, methods: [l2sp])
      }
    }
    let held = pasts[anchor == .base ? 0 : 1]
    let (start, gradient) = (world.store.values.toArray(), world.meanGradient())
    let report = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0.2, maximumNorm: 0, methods: [l2sp])
    let end = world.store.values.toArray()
    var penalty = 0.0
    for i in start.indices {
      let away = Double(start[i]) - Double(held[i])
      penalty += 0.5 * 0.75 * away * away
      let wanted: Double = Double(start[i]) - 0.2 * (gradient[i] + 0.75 * away)
      #expect(abs(Double(end[i]) - wanted) < 1e-6)
    }
    #expect(penalty > 1e-4 && abs(report.penalty - penalty) < 1e-4 * penalty, "\(report.penalty), by hand \(penalty)")
    // What is restored knows the place, and which past comes next.
    let state = MemoryState()
    l2sp.write(to: state)
    let again = method()
    try again.restore(from: state)
    #expect(again.pulls.first?.anchor.toArray() == held)
    try again.consolidate(world.past(2))
    #expect(again.pulls.first?.anchor.toArray() == (anchor == .base ? held : end))
  }
}
