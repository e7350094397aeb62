// Where training comes to rest under EWC, weight decay and clipping together: the step's equations at a standstill.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct FixedPointTests {
  private func meanGradient(_ world: RowWorld, _ rows: [Exemplar]) -> [Double] {
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(
      world.batches(rows)[0], seed: CrossEntropySeed(scale: 1 / Float(rows.count)), sink: sink, on: world.backend)
    return sink.gradient.toArray().map { Double($0) }
  }
  private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

  /// A softmax regression, which is convex, learns a second task: it rests where d·w·θ + c·g + λF(θ − θ*) = 0, g the
  /// gradient of the new task, c clipping's factor on it, w the decay of matrices, d the optimizer's metric: 1 for SGD,
  /// for AdamW |slope| + ε, where the slope is what enters the moments: c·g, coupled c·g + λF(θ − θ*).
  ///
  /// Mistakes: a pull that is clipped with the gradient or enters its norm, decay towards the anchor or of biases, a
  /// proximal step in another metric than the optimizer's.
  @Test(arguments: [OptimizerSettings.Kind.sgd, .adamw], [QuadraticPull.Form.coupled, .proximal])
  func decayClippingAndPullBalance(kind: OptimizerSettings.Kind, form: QuadraticPull.Form) throws {
    let (decay, epsilon) = (0.3, 0.1)
    for isClipped in [false, true] {
      let world = RowWorld(hidden: [])
      let first = world.trainer(.sgd)
      for _ in 0..<200 { _ = first(world.batches(world.exemplars), learningRate: 0.5, maximumNorm: 0) }
      let recipe = FisherRecipe(labels: .expected, unit: .sequence, examples: 100)
      let ewc = ElasticWeightConsolidation(
        .init(strength: .fixed(2), form: form, fisher: recipe), world.store, on: world.backend)
      try ewc.consolidate(world.past(0))
      try ewc.stageWillBegin(world.stage())

      let rows = world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [($0.targets[0] + 1) % 3]) }
      let limit = isClipped ? 0.2 * length(meanGradient(world, rows)) : 0
      // A large ε and a short memory of squares: Adam comes to rest instead of circling.
      let settings = OptimizerSettings(
        kind: kind, beta2: 0.9, epsilon: Float(epsilon), weightDecay: Float(decay))
      let train = TrainStep(
        world.network, optimizer: Optimizer(settings, world.store, on: world.backend), on: world.backend)
      let batches = world.batches(rows)
      for _ in 0..<4000 {
        _ = train(batches, learningRate: kind == .sgd ? 0.3 : 0.03, maximumNorm: limit, methods: [ewc])
      }

      let pull = try #require(ewc.pulls.first)
      let curvature = try #require(pull.curvature?.toArray())
      let (anchor, theta) = (pull.anchor.toArray(), world.store.values.toArray())
      let gradient = meanGradient(world, rows)
      let factor = isClipped ? min(1, limit / length(gradient)) : 1
      #expect((factor < 0.9) == isClipped)
      var (rests, decays, forces): ([Double], [Double], [Double]) = ([], [], [])
      for parameter in world.store.parameters {
        for i in parameter.range {
          let task = factor * gradient[i]
          let force = Double(pull.strength) * Double(curvature[i]) * (Double(theta[i]) - Double(anchor[i]))
          let slope = form == .coupled ? task + force : task
          let metric = kind == .adamw ? abs(slope) + epsilon : 1
          let decayed = parameter.decays ? metric * decay * Double(theta[i]) : 0
          rests.append(abs(decayed + task + force))
          decays.append(abs(decayed))
          forces.append(abs(force))
        }
      }
      let scale = forces.max() ?? 0
      #expect(scale > 0.01 && (decays.max() ?? 0) > 0.02 * scale, "nothing is balanced")
      let worst = rests.max() ?? .infinity
      #expect(worst <= 1e-4 * scale, "clipped: \(isClipped); a rest of \(worst) beside forces of \(scale)")
    }
  }

  /// A pull with a reach moves what it reaches as one without does, and leaves the rest to plain training, bit for bit.
  @Test(arguments: [OptimizerSettings.Kind.sgd, .adamw], [QuadraticPull.Form.coupled, .proximal])
  func pullsEndWhereTheirReachEnds(kind: OptimizerSettings.Kind, form: QuadraticPull.Form) {
    func trained(_ pull: (RowWorld) -> [QuadraticPull]) -> [UInt32] {
      let world = RowWorld()
      let train = world.trainer(kind)
      let pulls = pull(world)
      _ = train(world.batches(world.exemplars), learningRate: 0.1, maximumNorm: 0, pulls: pulls)
      return world.store.values.toArray().map(\.bitPattern)
    }
    func pull(_ world: RowWorld, _ reach: [Range<Int>]?) -> QuadraticPull {
      QuadraticPull(
        strength: 2, curvature: nil, anchor: world.backend.zeros(1, world.store.count), form: form, reach: reach)
    }
    let parameters = RowWorld().store.parameters
    let reached = [parameters[0].range, parameters[3].range]
    let (plain, whole) = (trained { _ in [] }, trained { [pull($0, nil)] })
    let found = trained { [pull($0, reached)] }
    for parameter in parameters {
      let wanted = reached.contains(parameter.range) ? whole : plain
      #expect(Array(found[parameter.range]) == Array(wanted[parameter.range]), "\(parameter.name)")
    }
    #expect(plain != whole && trained { [pull($0, [])] } == plain)
  }
}
