// AdamW, SGD and quadratic pulls against numbers worked out by hand, and in their limits.
import TensorCore
import TestKit
import Testing

@Suite struct OptimizerStepTests {
  static let step = AdamWStep(
    learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 0.01, weightDecay: 0.2, step: 3, gradientScale: 0.5)

  struct State {
    let parameters, gradient, first, second: Tensor
    init(_ backend: any Backend, count: Int, seed: UInt64) {
      var random = RandomStream(seed: seed)
      func tensor(_ value: () -> Double) -> Tensor {
        backend.tensor((0..<count).map { _ in Float(value()) }, 1, count)
      }
      parameters = tensor { random.normal() }
      gradient = tensor { random.normal() }
      first = tensor { 0.3 * random.normal() }
      second = tensor { 0.01 + random.uniform() }
    }
    var bits: [[UInt32]] { [parameters, first, second].map { $0.toArray().map(\.bitPattern) } }
  }
  func pull(
    _ backend: any Backend, _ strength: Float, _ curvature: Float, _ anchor: Float, _ form: QuadraticPull.Form
  ) -> QuadraticPull {
    QuadraticPull(
      strength: strength, curvature: backend.tensor([curvature], 1, 1),
      anchor: backend.tensor([anchor], 1, 1),
      form: form)
  }

  /// θ = 2, g = 0.4, m = 0.3, v = 0.05: the formulas of `adamW` evaluated in double beside this program.
  @Test(arguments: NamedBackend.all)
  func adamWByHand(_ named: NamedBackend) {
    let backend = named.make()
    let coupled = pull(backend, 3, 0.5, 1.5, .coupled)
    let proximal = pull(backend, 3, 0.5, 1.5, .proximal)
    let many = [coupled, pull(backend, 2, 1, 2.5, .proximal), pull(backend, 4, 0.25, 1, .proximal)]
    let cases: [([QuadraticPull], [Double])] = [
      ([], [1.8780731509359085, 0.29, 0.0499, 0]),
      ([coupled], [1.8647301421693174, 0.365, 0.058525, 0.1875]),
      ([proximal], [1.8391280754975348, 0.29, 0.0499, 0.1875]),
      (many, [1.8884099723468013, 0.365, 0.058525, 0.9375]),
    ]
    for (pulls, expected) in cases {
      let theta = backend.tensor([2], 1, 1)
      let (m, v) = (backend.tensor([0.3], 1, 1), backend.tensor([0.05], 1, 1))
      let penalty = backend.adamW(
        theta, gradient: backend.tensor([0.4], 1, 1), firstMoment: m, secondMoment: v, pulls: pulls,
        step: Self.step)
      let found = [theta, m, v].map { Double($0.toArray()[0]) } + [penalty]
      for (one, other) in zip(found, expected) { #expect(abs(one - other) <= 1e-6 * max(1, other)) }
    }
  }

  /// θ = 2, g = 0.4·½, b = 0.3, μ = 0.9, η = 0.1, decay 0.2: b = 0.47, θ = 2·0.98 − 0.047 = 1.913.
  @Test(arguments: NamedBackend.all)
  func sgdByHand(_ named: NamedBackend) {
    let backend = named.make()
    func run(_ pulls: [QuadraticPull], buffer: Tensor?) -> (Double, Double) {
      let theta = backend.tensor([2], 1, 1)
      let penalty = backend.sgd(
        theta, gradient: backend.tensor([0.4], 1, 1), momentumBuffer: buffer, momentum: 0.9,
        learningRate: 0.1,
        weightDecay: 0.2, gradientScale: 0.5, pulls: pulls)
      return (Double(theta.toArray()[0]), penalty)
    }
    let buffer = backend.tensor([0.3], 1, 1)
    #expect(abs(run([], buffer: buffer).0 - 1.913) < 1e-6)
    #expect(abs(buffer.toArray()[0] - 0.47) < 1e-6)
    #expect(abs(run([], buffer: nil).0 - 1.94) < 1e-6)
    // Coupled: g gains 3·0.5·0.5 = 0.75. Proximal: (1.94 + 0.15·1.5)/1.15.
    let coupled = run([pull(backend, 3, 0.5, 1.5, .coupled)], buffer: nil)
    #expect(abs(coupled.0 - 1.865) < 1e-6 && abs(coupled.1 - 0.1875) < 1e-6)
    let proximal = run([pull(backend, 3, 0.5, 1.5, .proximal)], buffer: nil)
    #expect(abs(proximal.0 - 2.165 / 1.15) < 1e-6 && abs(proximal.1 - 0.1875) < 1e-6)
  }

  @Test(arguments: NamedBackend.all, [QuadraticPull.Form.coupled, .proximal])
  func zeroStrengthOrCurvatureChangesNoBit(_ named: NamedBackend, _ form: QuadraticPull.Form) {
    let backend = named.make()
    let count = 1003
    let anchor = State(backend, count: count, seed: 9).parameters
    let ones = backend.zeros(1, count)
    backend.fill(ones, 1)
    let pulls = [
      QuadraticPull(strength: 0, curvature: ones, anchor: anchor, form: form),
      QuadraticPull(strength: 0, curvature: nil, anchor: anchor, form: form),
      QuadraticPull(strength: 5, curvature: backend.zeros(1, count), anchor: anchor, form: form),
    ]
    func adamW(_ pulls: [QuadraticPull]) -> ([[UInt32]], Double) {
      let state = State(backend, count: count, seed: 4)
      let penalty = backend.adamW(
        state.parameters, gradient: state.gradient, firstMoment: state.first, secondMoment: state.second,
        pulls: pulls, step: Self.step)
      return (state.bits, penalty)
    }
    func sgd(_ pulls: [QuadraticPull]) -> ([[UInt32]], Double) {
      let state = State(backend, count: count, seed: 4)
      let penalty = backend.sgd(
        state.parameters, gradient: state.gradient, momentumBuffer: state.first, momentum: 0.9,
        learningRate: 0.1,
        weightDecay: 0.2, gradientScale: 0.5, pulls: pulls)
      return (state.bits, penalty)
    }
    for run in [adamW, sgd] {
      let naive = run([])
      for pull in pulls {
        let pulled = run([pull])
        #expect(pulled.0 == naive.0)
        #expect(pulled.1 == 0)
      }
      #expect(run(pulls).0 == naive.0)
    }
  }

  /// A proximal pull of strength 10²⁰ holds parameters with F > 0 at the anchor and leaves the others alone.
  @Test(arguments: NamedBackend.all)
  func immenseStrengthFreezes(_ named: NamedBackend) {
    let backend = named.make()
    let count = 1003
    let anchor = State(backend, count: count, seed: 9).parameters
    var random = RandomStream(seed: 3)
    let values = (0..<count).map { _ in random.integer(below: 2) == 0 ? 0 : Float(0.1 + random.uniform()) }
    let pull = QuadraticPull(
      strength: 1e20, curvature: backend.tensor(values, 1, count), anchor: anchor, form: .proximal)
    let (free, held, slow) = (
      State(backend, count: count, seed: 4), State(backend, count: count, seed: 4),
      State(backend, count: count, seed: 4)
    )
    _ = backend.adamW(
      free.parameters, gradient: free.gradient, firstMoment: free.first, secondMoment: free.second, pulls: [],
      step: Self.step)
    _ = backend.adamW(
      held.parameters, gradient: held.gradient, firstMoment: held.first, secondMoment: held.second,
      pulls: [pull], step: Self.step)
    _ = backend.sgd(
      slow.parameters, gradient: slow.gradient, momentumBuffer: nil, momentum: 0, learningRate: 0.1,
      weightDecay: 0.2, gradientScale: 0.5, pulls: [pull])
    let (freeValues, heldValues, slowValues, anchors) = (
      free.parameters.toArray(), held.parameters.toArray(), slow.parameters.toArray(), anchor.toArray()
    )
    for index in 0..<count {
      if values[index] > 0 {
        #expect(abs(heldValues[index] - anchors[index]) <= 1e-6)
        #expect(abs(slowValues[index] - anchors[index]) <= 1e-6)
      } else {
        #expect(heldValues[index].bitPattern == freeValues[index].bitPattern)
      }
    }
  }

  /// Where a proximal step rests, gradient + λF(θ − θ*) = 0: here at (θ_task + λFθ*)/(1 + λF).
  @Test(arguments: NamedBackend.all, [QuadraticPull.Form.coupled, .proximal])
  func bothFormsRestWhereTheForcesBalance(_ named: NamedBackend, _ form: QuadraticPull.Form) {
    let backend = named.make()
    let theta = backend.tensor([0.7], 1, 1)
    let pull = pull(backend, 4, 0.5, -1, form)
    for _ in 0..<400 {
      // The task's loss is ½(θ − 2)².
      let gradient = backend.tensor([theta.toArray()[0] - 2], 1, 1)
      _ = backend.sgd(
        theta, gradient: gradient, momentumBuffer: nil, momentum: 0, learningRate: 0.1, weightDecay: 0,
        gradientScale: 1, pulls: [pull])
    }
    #expect(abs(theta.toArray()[0]) < 1e-5)
  }
}
