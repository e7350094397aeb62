// K-FAC EWC against numbers by hand: forces, penalties, steps of both forms, several pasts, whole curvatures.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A matrix in double, row by row.
private struct Matrix {
  let rows: Int
  let columns: Int
  var values: [Double]
  init(_ rows: Int, _ columns: Int, _ value: (Int, Int) -> Double) {
    self.rows = rows
    self.columns = columns
    values = (0..<rows * columns).map { value($0 / columns, $0 % columns) }
  }
  init(_ tensor: Tensor) {
    let floats = tensor.toArray()
    self.init(tensor.rows, tensor.columns) { Double(floats[$0 * tensor.columns + $1]) }
  }
  subscript(i: Int, j: Int) -> Double { values[i * columns + j] }
  func times(_ other: Matrix) -> Matrix {
    Matrix(rows, other.columns) { i, j in (0..<columns).reduce(0) { $0 + self[i, $1] * other[$1, j] } }
  }
  func plus(_ other: Matrix, _ scale: Double = 1) -> Matrix {
    Matrix(rows, columns) { self[$0, $1] + scale * other[$0, $1] }
  }
  func dot(_ other: Matrix) -> Double { zip(values, other.values).reduce(0) { $0 + $1.0 * $1.1 } }
  func tensor(_ backend: any Backend) -> Tensor { backend.tensor(values.map(Float.init), rows, columns) }
}

@Suite struct KroneckerValueTests {
  /// One linear layer [3, 4] with a bias.
  private let world = RowWorld(hidden: [])
  private var weight: Parameter { world.store.parameters.first { $0.shape.count == 2 }! }
  private var bias: Parameter { world.store.parameters.first { $0.shape.count == 1 }! }

  /// Symmetric and positive, floats exactly.
  private func factor(_ size: Int, _ seed: Int, _ scale: Double = 1) -> Matrix {
    let root = Matrix(size, size) { Double(($0 * 7 + $1 * 5 + seed * 3) % 9 - 4) / 8 }
    let product = root.times(Matrix(size, size) { root[$1, $0] })
    return Matrix(size, size) { scale * (product[$0, $1] + ($0 == $1 ? 0.25 : 0)) }
  }

  private func ewc(
    _ strength: Double, _ form: QuadraticPull.Form, variant: ElasticWeightConsolidation.Variant = .online,
    decay: Double = 1
  ) throws -> ElasticWeightConsolidation {
    let method = ElasticWeightConsolidation(
      .init(
        strength: .fixed(strength), variant: variant, decay: decay, form: form,
        fisher: FisherRecipe(labels: .expected, unit: .sequence, structure: .kronecker, examples: 24)),
      world.store, on: world.backend)
    try method.stageWillBegin(world.stage())
    return method
  }
  /// A past at the parameters as they are: factors of the weight, a diagonal for the bias.
  private func absorb(_ g: Matrix, _ a: Matrix, bias value: Float, into method: ElasticWeightConsolidation) {
    let diagonal = world.backend.zeros(1, world.store.count)
    for i in bias.range { diagonal.buffer[i] = value }
    method.absorb(diagonal, weight: 1)
    method.absorb(
      KroneckerCurvature(
        [.init(parameter: weight, left: g.tensor(world.backend), right: a.tensor(world.backend))], on: world.backend),
      weight: 1)
  }
  private func move(_ seed: Int) {
    for i in world.store.values.buffer.indices { world.store.values.buffer[i] += Float((i * 5 + seed) % 7 - 3) / 16 }
  }
  private func taskGradient() -> [Double] {
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(
      world.batches(world.exemplars)[0], seed: CrossEntropySeed(scale: 1 / Float(world.rows.count)), sink: sink,
      on: world.backend)
    return sink.gradient.toArray().map(Double.init)
  }
  private func part(_ all: [Double], _ parameter: Parameter) -> Matrix {
    Matrix(parameter.value.rows, parameter.value.columns) {
      all[parameter.range.lowerBound + $0 * parameter.value.columns + $1]
    }
  }

  /// penalty = ½λ[tr(G ΔW A ΔWᵀ) + Σ F δ²], 0 at the anchor; one coupled step is −η(g + λGΔWA).
  @Test func penaltyAndCoupledStepByHand() throws {
    let (g, a) = (factor(3, 1), factor(4, 2))
    let method = try ewc(1.5, .coupled)
    absorb(g, a, bias: 0.5, into: method)
    let (anchor, anchorBias) = (Matrix(weight.value), Matrix(bias.value))
    let still = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0, maximumNorm: 0, methods: [method])
    #expect(still.penalty == 0)
    move(1)
    let (start, startBias) = (Matrix(weight.value), Matrix(bias.value))
    let (d, e) = (start.plus(anchor, -1), startBias.plus(anchorBias, -1))
    let force = g.times(d).times(a)
    let wanted = 0.75 * (force.dot(d) + 0.5 * e.dot(e))
    let gradient = taskGradient()
    let report = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0.1, maximumNorm: 0, methods: [method])
    #expect(wanted > 0.01 && abs(report.penalty - wanted) < 1e-5 * wanted, "\(report.penalty), by hand \(wanted)")
    let end = Matrix(weight.value)
    let step = start.plus(part(gradient, weight).plus(force, 1.5), -0.1)
    for (x, y) in zip(end.values, step.values) { #expect(abs(x - y) < 2e-6) }
    #expect(force.values.contains { abs($0) > 0.01 })
  }

  /// θ ← θ̂ − ηλ(GΔWA + b(θ̂ − θ))/(d + ηλb) with d = 1 under SGD and |g| + ε in Adam's first step.
  @Test(arguments: [OptimizerSettings.Kind.sgd, .adamw]) func proximalStepByHand(kind: OptimizerSettings.Kind) throws {
    let (g, a) = (factor(3, 1), factor(4, 2))
    let method = try ewc(2, .proximal)
    absorb(g, a, bias: 0.5, into: method)
    let anchor = Matrix(weight.value)
    move(2)
    let (start, whole) = (Matrix(weight.value), world.store.values.toArray())
    let gradient = part(taskGradient(), weight)
    let rate = kind == .sgd ? 0.2 : 0.01
    _ = world.trainer(kind)(world.batches(world.exemplars), learningRate: rate, maximumNorm: 0)
    let free = Matrix(weight.value)
    world.store.values.assign(whole)
    _ = world.trainer(kind)(world.batches(world.exemplars), learningRate: rate, maximumNorm: 0, methods: [method])
    let end = Matrix(weight.value)
    let force = g.times(start.plus(anchor, -1)).times(a)
    func bound(_ m: Matrix) -> [Double] {
      (0..<m.rows).map { i in
        m[i, i].squareRoot() * (0..<m.rows).reduce(0) { $0 + abs(m[i, $1]) / m[$1, $1].squareRoot() }
      }
    }
    let (u, v) = (bound(g), bound(a))
    for i in 0..<3 {
      for j in 0..<4 {
        let (b, metric) = (u[i] * v[j], kind == .sgd ? 1 : abs(gradient[i, j]) + 1e-8)
        let pull = rate * 2 * (force[i, j] + b * (free[i, j] - start[i, j])) / (metric + rate * 2 * b)
        #expect(abs(end[i, j] - (free[i, j] - pull)) < 1e-5 + 1e-4 * abs(pull))
        #expect(abs(pull) > 1e-6)
      }
    }
  }

  /// Separate pasts each pull to their own anchor; merged ones pull to the newest, by γ times the old and the new.
  @Test(arguments: [ElasticWeightConsolidation.Variant.separate, .online]) func twoPastsByHand(
    variant: ElasticWeightConsolidation.Variant
  ) throws {
    // Proportional factors, whose sum is a Kronecker product again; apart they need not be.
    let (g, a) = (factor(3, 1), factor(4, 2))
    let (otherG, otherA) = variant == .online ? (factor(3, 1, 2), factor(4, 2, 1.5)) : (factor(3, 5), factor(4, 7))
    let method = try ewc(1, .coupled, variant: variant, decay: variant == .online ? 0.5 : 1)
    absorb(g, a, bias: 0, into: method)
    let first = Matrix(weight.value)
    move(3)
    absorb(otherG, otherA, bias: 0, into: method)
    let second = Matrix(weight.value)
    move(4)
    let start = Matrix(weight.value)
    let (fromFirst, fromSecond) = (start.plus(first, -1), start.plus(second, -1))
    let force: Matrix
    let penalty: Double
    if variant == .separate {
      let (one, other) = (g.times(fromFirst).times(a), otherG.times(fromSecond).times(otherA))
      (force, penalty) = (one.plus(other), (one.dot(fromFirst) + other.dot(fromSecond)) / 2)
    } else {
      // 0.5·G⊗A + 2G⊗1.5A
      let one = g.times(fromSecond).times(a)
      (force, penalty) = (Matrix(3, 4) { 3.5 * one[$0, $1] }, 1.75 * one.dot(fromSecond))
    }
    let gradient = part(taskGradient(), weight)
    let report = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0.1, maximumNorm: 0, methods: [method])
    #expect(penalty > 0.01 && abs(report.penalty - penalty) < 1e-4 * penalty, "\(report.penalty), by hand \(penalty)")
    let step = start.plus(gradient.plus(force), -0.1)
    for (x, y) in zip(Matrix(weight.value).values, step.values) { #expect(abs(x - y) < 5e-6) }
  }

  /// Three linear regressions, one after another under the whole curvature XᵀX ⊗ 1 of those before: the optimum of all.
  @Test(arguments: [ElasticWeightConsolidation.Variant.separate, .online], [QuadraticPull.Form.coupled, .proximal])
  func wholeCurvaturesMakeSequentialEqualJoint(
    variant: ElasticWeightConsolidation.Variant, form: QuadraticPull.Form
  ) throws {
    let backend = world.backend
    // Sums of Kronecker products are exact only where they are proportional.
    let designs = (0..<3).map { task -> Matrix in
      let (kind, scale) = variant == .online ? (0, 0.5 + 0.25 * Double(task)) : (task, 1)
      return Matrix(6, 4) { i, j in scale * ((i == j ? 1 : 0) + Double((i * (5 + kind) + j * 3 + kind) % 7 - 3) / 8) }
    }
    let answers = (0..<3).map { task in Matrix(6, 3) { i, j in Double((i * 3 + j * (4 + task)) % 5 - 2) / 2 } }
    let layer = RowMap(Segments(lengths: [6]))
    func descend(_ tasks: [Int], _ methods: [ElasticWeightConsolidation], steps: Int) throws {
      let optimizer = Optimizer(OptimizerSettings(kind: .sgd), world.store, on: backend)
      for _ in 0..<steps {
        let sink = Accumulator(world.store, on: backend)
        for task in tasks {
          let x = designs[task].tensor(backend)
          let residual = backend.empty(6, 3)
          backend.multiply(x, transposed: false, weight.value, transposed: true, into: residual, accumulate: false)
          backend.add(answers[task].tensor(backend), scaled: -1, into: residual)
          sink.linear(weight, layout: .outputByInput, input: x, outputGradient: residual, rows: layer)
        }
        let step = StepScope(
          network: world.network, backend: backend, accumulator: sink, optimizer: optimizer, learningRate: 0.02,
          gradientScale: 1, targets: 1, isObserved: false)
        for method in methods { _ = method.adjustGradient(step) }
        _ = optimizer.update(
          along: sink, learningRate: 0.02, gradientScale: 1, pulls: methods.flatMap(\.pulls),
          bounded: methods.flatMap(\.boundedPulls))
        for method in methods { _ = method.adjustParameters(step) }
      }
    }
    func curvature(_ task: Int) -> Matrix {
      let x = designs[task]
      return Matrix(4, 6) { x[$1, $0] }.times(x)
    }
    let one = Matrix(3, 3) { $0 == $1 ? 1 : 0 }
    let method = try ewc(1, form, variant: variant)
    for task in 0..<3 {
      try descend([task], task == 0 ? [] : [method], steps: 6000)
      let reached = weight.value.toArray()
      if variant == .separate {
        // Each past holds on to what is best for it alone.
        try descend([task], [], steps: 6000)
      }
      absorb(one, curvature(task), bias: 0, into: method)
      weight.value.assign(reached)
    }
    let sequential = weight.value.toArray()
    try descend([0, 1, 2], [], steps: 6000)
    for (x, y) in zip(sequential, weight.value.toArray()) { #expect(abs(x - y) < 2e-4, "\(x), joint \(y)") }
    // No task alone has that optimum.
    try descend([2], [], steps: 6000)
    #expect(zip(sequential, weight.value.toArray()).contains { abs($0.0 - $0.1) > 0.01 })
  }

  /// The path of SI and the running Fisher of RWalk take the task's gradient, whatever a coupled pull added to it.
  @Test func whatPullsIsNotInTheObservedGradient() throws {
    let method = try ewc(20, .coupled)
    absorb(factor(3, 1), factor(4, 2), bias: 0.5, into: method)
    move(5)
    let si = SynapticIntelligence(strength: 0, xi: 0.1, world.store, on: world.backend)
    let walk = RiemannianWalk(strength: 0, alpha: 1, window: 100, world.store, on: world.backend)
    for observer in [si, walk] as [any ContinualMethod] { try observer.stageWillBegin(world.stage()) }
    let (gradient, start) = (taskGradient(), world.store.values.toArray())
    _ = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0.01, maximumNorm: 1e-2, methods: [method, si, walk])
    let end = world.store.values.toArray()
    let states = try [(si as any ContinualMethod, "path"), (walk, "path"), (walk, "fisher")].map { owner, name in
      let state = MemoryState()
      owner.write(to: state)
      let tensor = world.backend.empty(1, world.store.count)
      try world.store.restore(tensor, from: state, under: name)
      return tensor.toArray().map(Double.init)
    }
    for i in gradient.indices {
      let path = -gradient[i] * Double(end[i] - start[i])
      #expect(abs(states[0][i] - path) <= 1e-4 * abs(path) + 1e-9)
      #expect(abs(states[1][i] - path) <= 1e-4 * abs(path) + 1e-9)
      let square = Double(world.rows.count) * gradient[i] * gradient[i]
      #expect(abs(states[2][i] - square) <= 1e-4 * square + 1e-9)
    }
    #expect(zip(start, end).contains { abs($0.0 - $0.1) > 0.01 })
  }

  /// Steps are constrained as a whole: constraints come after everything else that moves parameters.
  @Test func constraintsComeLast() {
    final class Mover: ContinualMethod {
      static let card = MethodCard(
        name: "m", title: "", paper: "", equation: "", cost: "", state: "", needs: "", verified: "")
      func adjustParameters(_ step: StepScope) -> Double {
        step.store.values.buffer[0] += 1
        return 0
      }
      func write(to writer: any StateWriter) {}
      func restore(from reader: any StateReader) throws {}
    }
    final class Constraint: ContinualMethod {
      static let card = Mover.card
      static let constrainsSteps = true
      func adjustParameters(_ step: StepScope) -> Double {
        step.store.values.buffer[0] = 5
        return 0
      }
      func write(to writer: any StateWriter) {}
      func restore(from reader: any StateReader) throws {}
    }
    for stack in [[Mover(), Constraint()], [Constraint(), Mover()]] as [[any ContinualMethod]] {
      _ = world.trainer(.sgd)(world.batches(world.exemplars), learningRate: 0, maximumNorm: 0, methods: stack)
      #expect(world.store.values.toArray()[0] == 5)
    }
  }

  /// The pull of two kept pasts with whole curvatures XᵀX ⊗ 1, solved in double with a third regression, gives the optimum
  /// of all three: with numbers that Float32 holds exactly nothing is lost.
  @Test func keptWholeCurvaturesLoseNothing() throws {
    let backend = world.backend
    func design(_ task: Int) -> Matrix {
      Matrix(6, 4) { i, j in (i == j ? 1 : 0) + Double((i * (5 + task) + j * 3 + task) % 7 - 3) / 8 }
    }
    func turned(_ x: Matrix) -> Matrix { Matrix(x.columns, x.rows) { x[$1, $0] } }
    func optimum(_ task: Int) -> Matrix { Matrix(3, 4) { Double(($0 * 5 + $1 * 3 + task) % 9 - 4) / 4 } }
    let method = try ewc(1, .coupled, variant: .separate)
    for task in 0..<2 {
      weight.value.assign(optimum(task).values.map(Float.init))
      let curvature = turned(design(task)).times(design(task))
      absorb(Matrix(3, 3) { $0 == $1 ? 1 : 0 }, curvature, bias: 0, into: method)
    }
    /// What the method adds to a gradient of 0 at some weights.
    func pull(_ weights: Matrix) -> Matrix {
      weight.value.assign(weights.values.map(Float.init))
      let sink = Accumulator(world.store, on: backend)
      sink.linear(
        weight, layout: .outputByInput, input: backend.zeros(6, 4), outputGradient: backend.zeros(6, 3),
        rows: RowMap(Segments(lengths: [6])))
      let step = StepScope(
        network: world.network, backend: backend, accumulator: sink,
        optimizer: Optimizer(OptimizerSettings(kind: .sgd), world.store, on: backend), learningRate: 0,
        gradientScale: 1, targets: 1, isObserved: false)
      _ = method.adjustGradient(step)
      return part(sink.gradient.toArray().map(Double.init), weight)
    }
    let atZero = pull(Matrix(3, 4) { _, _ in 0 })
    let x = design(2)
    let answers = Matrix(6, 3) { i, j in Double((i * 3 + j * 4) % 5 - 2) / 3 }
    let own = (curvature: turned(x).times(x), slope: turned(answers).times(x))
    for row in 0..<3 {
      let kept = Matrix(4, 4) { i, j in
        pull(Matrix(3, 4) { $0 == row && $1 == j ? 1 : 0 })[row, i] - atZero[row, i]
      }
      let sequential = solution(of: kept.plus(own.curvature), (0..<4).map { own.slope[row, $0] - atZero[row, $0] })
      var (whole, slopes) = (own.curvature, (0..<4).map { own.slope[row, $0] })
      for task in 0..<2 {
        let curvature = turned(design(task)).times(design(task))
        whole = whole.plus(curvature)
        let slope = optimum(task).times(curvature)
        for i in 0..<4 { slopes[i] += slope[row, i] }
      }
      for (a, b) in zip(sequential, solution(of: whole, slopes)) {
        #expect(abs(a - b) <= 1e-8 * max(1, abs(b)), "row \(row): \(a), joint \(b)")
      }
    }
  }
  /// x with Mx = b, M positive definite, by elimination.
  private func solution(of matrix: Matrix, _ right: [Double]) -> [Double] {
    let n = right.count
    var (m, b) = (matrix.values, right)
    for k in 0..<n {
      for i in k + 1..<n {
        let share = m[i * n + k] / m[k * n + k]
        for j in k..<n { m[i * n + j] -= share * m[k * n + j] }
        b[i] -= share * b[k]
      }
    }
    for k in (0..<n).reversed() {
      for j in k + 1..<n { b[k] -= m[k * n + j] * b[j] }
      b[k] /= m[k * n + k]
    }
    return b
  }
}
