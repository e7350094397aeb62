// Kronecker factors against explicit outer products, the exact Fisher, and difference quotients.
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

/// Keeps what layers hand to a sink, product by product.
private final class Recording: GradientSink {
  let needsWholeSegments = false
  var products: [String: (inputs: [[Float]], gradients: [[Float]])] = [:]
  func begin(_ batch: Batch) {}
  func linear(_ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap) {
    func split(_ x: Tensor) -> [[Float]] { (0..<x.rows).map { x.rows($0..<$0 + 1).toArray() } }
    var first = 0
    for member in weight.members {
      let outputs = layout == .outputByInput ? member.shape[0] : member.shape[1]
      let columns = outputGradient.columns(first..<first + outputs)
      first += outputs
      products[member.name, default: ([], [])].inputs += split(input)
      products[member.name, default: ([], [])].gradients += split(columns)
    }
  }
  func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {}
  func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {}
}

@Suite struct KroneckerTests {
  let backend = CPUBackend(threads: 2)

  private func model(_ architecture: String) throws -> Transformer {
    var c = TransformerConfiguration(
      architecture: architecture, vocabularySize: 13, hiddenSize: 8, intermediateSize: 12, layers: 2, heads: 2,
      keyHeads: architecture == "llama" ? 1 : 2, contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
    c.initializerRange = 0.4
    c.attentionBias = architecture == "gpt2"
    c.feedForwardBias = architecture == "gpt2"
    return try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
  }
  private let batch = Batch(
    tokens: [1, 2, 3, 2, 5, 4, 4, 0, 9], targets: [2, 3, 2, 5, -1, 4, 0, 7, 3], lengths: [5, 3, 1])

  private func factors(_ network: any Network, _ batches: [Batch], _ labels: FisherRecipe.Labels) throws
    -> (curvature: KroneckerCurvature, diagonal: Tensor)
  {
    let sink = KroneckerFactors(network.parameters, on: backend)
    let seen = try FisherPass.run(
      network, over: batches, labels: labels, examples: 100, random: RandomStream(seed: 1), into: sink, on: backend)
    return try sink.finish(seen)
  }

  /// A = Σ x xᵀ / positions and G = Σ d dᵀ / scored tokens of every linear layer, joined or not, of both layouts; the
  /// rest is the diagonal Fisher.
  @Test(arguments: ["llama", "gpt2"]) func equalsExplicitOuterProducts(architecture: String) throws {
    let model = try model(architecture)
    let (curvature, diagonal) = try factors(model, [batch], .observed)
    let recording = Recording()
    _ = model.backward(batch, seed: CrossEntropySeed(scale: 1), sink: recording, on: backend)
    func outer(_ rows: [[Float]], _ divisor: Int) -> [Float] {
      let n = rows[0].count
      return (0..<n * n).map { place in
        Float(rows.reduce(0.0) { $0 + Double($1[place / n]) * Double($1[place % n]) } / Double(divisor))
      }
    }
    #expect(curvature.blocks.count == (architecture == "llama" ? 14 : 8))
    for block in curvature.blocks {
      let name = block.parameter.name
      let (inputs, gradients) = try #require(recording.products[name])
      let (a, g) = (outer(inputs, batch.count), outer(gradients, batch.scored))
      let isInputFirst = architecture == "gpt2"
      for (found, wanted) in zip(
        block.left.values.toArray() + block.right.values.toArray(), isInputFirst ? a + g : g + a)
      {
        #expect(abs(found - wanted) <= 1e-5 * abs(wanted) + 1e-6, "\(name)")
      }
    }
    let plain = try DiagonalFisher.estimate(
      model, over: [batch], recipe: FisherRecipe(labels: .observed, unit: .sequence, examples: 9),
      random: RandomStream(seed: 1), on: backend
    ).values
    let covered = Set(curvature.blocks.map(\.parameter.name))
    for parameter in model.parameters.parameters {
      let values = parameter.view(of: diagonal).toArray()
      if covered.contains(parameter.name) {
        #expect(values.allSatisfy { $0 == 0 })
      } else {
        #expect(values == parameter.view(of: plain).toArray(), "\(parameter.name)")
      }
    }
    #expect(!covered.contains { $0.contains("embed") || $0.contains("wte") })
  }

  /// One linear layer, one example: the expected Fisher is (diag p − p pᵀ) ⊗ x xᵀ, and the factors are exactly that.
  @Test func isExactForOneLayerAndOneExample() throws {
    let network = MLP(
      MLPConfiguration(inputs: 5, hiddenSizes: [], classes: [4]), random: RandomStream(seed: 2), on: backend)
    let x: [Float] = [0.3, -1, 2, 0.5, 1]
    let batch = Batch(features: backend.tensor(x, 1, 5), labels: [1])
    let (curvature, diagonal) = try factors(network, [batch], .expected)
    let block = try #require(curvature.blocks.first)
    let bias = try #require(network.parameters["heads.0.bias"])
    let logits = network.head(0).linear.forward(backend.tensor(x, 1, 5), on: backend)
    let probabilities = backend.empty(1, 4)
    backend.softmax(logits, into: probabilities)
    let p = probabilities.toArray()
    let displacement = backend.tensor((0..<20).map { Float($0 % 7) * 0.1 - 0.25 }, 4, 5)
    let u = (0..<4).map { i in (0..<5).reduce(Float(0)) { $0 + displacement.toArray()[i * 5 + $1] * x[$1] } }
    let mean = zip(p, u).reduce(Float(0)) { $0 + $1.0 * $1.1 }
    let wanted = zip(p, u).reduce(Float(0)) { $0 + $1.0 * ($1.1 - mean) * ($1.1 - mean) }
    let force = curvature.force(block, displacement)
    let found = backend.dot(force.slice(0..<20), displacement.slice(0..<20))
    #expect(abs(Float(found) - wanted) < 1e-5 * wanted)
    for (value, probability) in zip(bias.view(of: diagonal).toArray(), p) {
      #expect(abs(value - probability * (1 - probability)) < 1e-6)
    }
  }

  /// The gradient of one logit at the only place.
  private struct LogitSeed: HeadSeed {
    let index: Int
    mutating func seed(
      _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
    ) {
      backend.fill(losses, 0)
      backend.fill(logits, 0)
      logits.buffer[index] = 1
    }
  }

  /// For one example every layer of a deep network has its own block of the Gauss–Newton matrix: Jᵀ(diag p − ppᵀ)J.
  @Test func isTheGaussNewtonMatrixOfEveryLayerForOneExample() throws {
    let network = MLP(
      MLPConfiguration(inputs: 5, hiddenSizes: [6, 4], classes: [3]), random: RandomStream(seed: 2), on: backend)
    let x: [Float] = [0.3, -1, 2, 0.5, 1]
    let batch = Batch(features: backend.tensor(x, 1, 5), labels: [1])
    let (curvature, _) = try factors(network, [batch], .expected)
    #expect(curvature.blocks.count == 3)
    let logits = network.head(0).linear.forward(
      network.forward(batch, recording: false, on: backend).hidden, on: backend)
    let probabilities = backend.empty(1, 3)
    backend.softmax(logits, into: probabilities)
    let p = probabilities.toArray().map(Double.init)
    let jacobian = (0..<3).map { index in
      let sink = Accumulator(network.parameters, on: backend)
      _ = network.backward(batch, seed: LogitSeed(index: index), sink: sink, on: backend)
      return sink.gradient.toArray().map(Double.init)
    }
    for block in curvature.blocks {
      let (left, right) = (block.left.values.toArray().map(Double.init), block.right.values.toArray().map(Double.init))
      let (n, m, first) = (block.left.values.rows, block.right.values.rows, block.parameter.range.lowerBound)
      var largest = 0.0
      for a in 0..<n * m {
        for b in 0..<n * m {
          var wanted = 0.0
          for c in 0..<3 {
            for d in 0..<3 {
              wanted += jacobian[c][first + a] * ((c == d ? p[c] : 0) - p[c] * p[d]) * jacobian[d][first + b]
            }
          }
          let found = left[a / m * n + b / m] * right[a % m * m + b % m]
          largest = max(largest, abs(wanted))
          #expect(abs(found - wanted) < 1e-5 * max(1, abs(wanted)))
        }
      }
      #expect(largest > 1e-3, "\(block.parameter.name)")
    }
  }

  /// The diagonal of A ⊗ G goes with the diagonal Fisher: the factors lose how inputs and gradients go together, not where
  /// the information is.
  @Test func diagonalGoesWithTheDiagonalFisher() throws {
    let model = try model("llama")
    let (curvature, _) = try factors(model, [batch], .sampled(count: 400))
    let plain = try DiagonalFisher.estimate(
      model, over: [batch], recipe: FisherRecipe(labels: .sampled(count: 400), unit: .sequence, examples: 9),
      random: RandomStream(seed: 1), on: backend
    ).values
    var pairs: [(Double, Double)] = []
    for block in curvature.blocks {
      let exact = block.parameter.view(of: plain).toArray()
      let (l, r, n, m) = (
        block.left.values.toArray(), block.right.values.toArray(), block.left.values.rows, block.right.values.rows
      )
      for i in 0..<n {
        for j in 0..<m { pairs.append((Double(l[i * n + i] * r[j * m + j]), Double(exact[i * m + j]))) }
      }
    }
    func mean(_ value: ((Double, Double)) -> Double) -> Double {
      pairs.reduce(0) { $0 + value($1) } / Double(pairs.count)
    }
    let (a, b) = (mean { $0.0 }, mean { $0.1 })
    let covariance = mean { ($0.0 - a) * ($0.1 - b) }
    let correlation =
      covariance / (mean { ($0.0 - a) * ($0.0 - a) } * mean { ($0.1 - b) * ($0.1 - b) }).squareRoot()
    #expect(correlation > 0.7, "\(correlation)")
    #expect(a / b > 0.5 && a / b < 2, "\(a / b)")
  }

  private func random(_ n: Int, _ seed: UInt64) -> Tensor {
    var stream = RandomStream(seed: seed)
    let half = backend.tensor((0..<n * (n + 2)).map { _ in Float(stream.normal()) }, n, n + 2)
    let square = backend.empty(n, n)
    backend.multiply(half, transposed: false, half, transposed: true, into: square, accumulate: false)
    return square
  }
  private func world() -> ParameterStore {
    ParameterStore(
      [ParameterDeclaration("a", [6, 9], .zeros), ParameterDeclaration("b", [4, 3], .zeros)], on: backend)
  }
  private func curvature(_ store: ParameterStore, seed: UInt64) -> KroneckerCurvature {
    KroneckerCurvature(
      store.parameters.enumerated().map { index, parameter in
        KroneckerCurvature.Block(
          parameter: parameter, left: random(parameter.shape[0], seed + UInt64(2 * index)),
          right: random(parameter.shape[1], seed + UInt64(2 * index + 1)))
      }, on: backend)
  }

  @Test func forceIsTheGradientOfThePenalty() throws {
    let store = world()
    let curvature = curvature(store, seed: 10)
    var stream = RandomStream(seed: 3)
    let place = (0..<store.count).map { _ in Float(stream.normal()) }
    let values = backend.tensor(place, 1, store.count)
    for block in curvature.blocks {
      let force = curvature.force(block, block.parameter.view(of: values)).toArray()
      for i in stride(from: 0, to: force.count, by: 5) {
        var moved = place
        moved[block.parameter.range.lowerBound + i] += 0.5
        let above = curvature.penalty(backend.tensor(moved, 1, store.count))
        moved[block.parameter.range.lowerBound + i] -= 1
        let below = curvature.penalty(backend.tensor(moved, 1, store.count))
        // A quadratic: the central difference is exact at any width.
        #expect(abs(above - below - Double(force[i])) < 1e-4 * max(1, abs(Double(force[i]))))
      }
    }
  }

  /// Σ b Δ² ≥ tr(L Δ R Δᵀ) for every Δ, also along the leading eigenvectors.
  @Test func boundsAreNowhereBelowThePenalty() throws {
    let store = world()
    let curvature = curvature(store, seed: 20)
    let bounds = backend.zeros(1, store.count)
    for block in curvature.blocks {
      let bound = curvature.bound(block)
      backend.multiply(
        bound.rows, transposed: true, bound.columns, transposed: false, into: block.parameter.view(of: bounds),
        accumulate: false)
    }
    let origin = backend.zeros(1, store.count)
    var stream = RandomStream(seed: 4)
    for _ in 0..<20 {
      let direction = backend.tensor((0..<store.count).map { _ in Float(stream.normal()) }, 1, store.count)
      for _ in 0..<15 {
        let quadratic = 2 * curvature.penalty(direction)
        #expect(quadratic <= backend.quadratic(direction, anchor: origin, curvature: bounds) * (1 + 1e-5))
        // Power iteration turns the direction towards where the penalty is steepest.
        for block in curvature.blocks {
          let part = block.parameter.view(of: direction)
          let force = curvature.force(block, part)
          let norm = backend.dot(force.slice(0..<force.count), force.slice(0..<force.count)).squareRoot()
          backend.scale(force, by: Float(1 / norm))
          backend.copy(force, into: part)
        }
      }
    }
  }

  /// Proportional factors merge exactly; others to a product that no mixture of the two beats, and that stays positive.
  @Test func mergingIsTheNearestProduct() throws {
    let store = world()
    let one = curvature(store, seed: 30)
    let twice = one.merged(with: one.scaled(by: 3), keeping: 0.5)
    func product(_ block: KroneckerCurvature.Block) -> [Double] {
      let (l, r) = (block.left.values.toArray(), block.right.values.toArray())
      return l.flatMap { a in r.map { Double(a) * Double($0) } }
    }
    for (merged, block) in zip(twice.blocks, one.blocks) {
      let wanted = product(block).map { 3.5 * $0 }
      let largest = wanted.map(abs).max() ?? 0
      for (a, b) in zip(product(merged), wanted) { #expect(abs(a - b) < 1e-5 * largest) }
    }
    let other = curvature(store, seed: 40)
    let merged = one.merged(with: other, keeping: 0.7)
    for index in merged.blocks.indices {
      let sum = zip(product(one.blocks[index]), product(other.blocks[index])).map { 0.7 * $0 + $1 }
      func distance(_ block: KroneckerCurvature.Block) -> Double {
        zip(product(block), sum).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      }
      let best = distance(merged.blocks[index])
      let (a, b) = (one.blocks[index], other.blocks[index])
      for x in stride(from: 0.1, through: 2, by: 0.1) {
        for y in stride(from: 0.1, through: 2, by: 0.1) {
          func mix(_ p: Tensor, _ q: Tensor, _ weight: Double) -> Tensor {
            let sum = backend.copied(p)
            backend.add(q, scaled: Float(weight), into: sum)
            return sum
          }
          let (left, right) = (mix(a.left.values, b.left.values, x), mix(a.right.values, b.right.values, y))
          let free = KroneckerCurvature.Block(parameter: a.parameter, left: left, right: right)
          // The best scale of this mixture.
          let values = product(free)
          let scale =
            zip(values, sum).reduce(0) { $0 + $1.0 * $1.1 } / values.reduce(0) { $0 + $1 * $1 }
          let found = zip(values, sum).reduce(0) { $0 + (scale * $1.0 - $1.1) * (scale * $1.0 - $1.1) }
          #expect(found >= best * (1 - 1e-5))
        }
      }
      let block = merged.blocks[index]
      #expect(
        (0..<block.left.values.rows).allSatisfy { block.left.values.toArray()[$0 * (block.left.values.rows + 1)] > 0 })
    }
  }

  /// What batches a pass is cut into does not matter, and unit batch of one sequence is the empirical Fisher.
  @Test func batchesOfOneAreTheEmpiricalFisher() throws {
    let network = MLP(
      MLPConfiguration(inputs: 3, hiddenSizes: [4], classes: [3]), random: RandomStream(seed: 2), on: backend)
    var stream = RandomStream(seed: 7)
    let rows = (0..<6).map { _ in (0..<3).map { _ in Float(stream.normal()) } }
    func batches(_ size: Int) -> [Batch] {
      stride(from: 0, to: 6, by: size).map { first in
        Batch(
          features: backend.tensor(rows[first..<first + size].flatMap { $0 }, size, 3),
          labels: (first..<first + size).map { Int32($0 % 3) })
      }
    }
    func fisher(_ unit: FisherRecipe.Unit, _ size: Int) throws -> [Float] {
      try DiagonalFisher.estimate(
        network, over: batches(size), recipe: FisherRecipe(labels: .observed, unit: unit, examples: 9, batch: size),
        random: RandomStream(seed: 1), on: backend
      ).values.toArray()
    }
    let empirical = try fisher(.sequence, 6)
    for (a, b) in zip(try fisher(.batch, 1), empirical) { #expect(abs(a - b) <= 1e-5 * abs(b) + 1e-9) }
    // The mistake that the unit is named after: larger batches give another quantity.
    let squaredMean = try fisher(.batch, 6).reduce(0, +)
    #expect(squaredMean < 0.6 * empirical.reduce(0, +))
    let accumulator = Accumulator(network.parameters, on: backend)
    _ = network.backward(batches(6)[0], seed: CrossEntropySeed(scale: 1 / 6), sink: accumulator, on: backend)
    for (a, g) in zip(try fisher(.batch, 6), accumulator.gradient.toArray()) {
      #expect(abs(a - g * g) <= 1e-5 * g * g + 1e-9)
    }
  }

  /// Rounding scatters eigenvalues of 0 to both sides of it; kept factors must have none below, and be near the exact ones.
  @Test func roundedFactorsPushNothingAway() throws {
    let model = try model("llama")
    let weight = try #require(model.parameters.parameters.first { KroneckerFactors.covers($0) })
    let (rows, columns) = (weight.value.rows, weight.value.columns)
    // Second moments of fewer vectors than dimensions.
    func moment(_ n: Int, _ name: String) -> Tensor {
      var random = RandomStream(seed: 3).forked(name)
      let x = backend.tensor((0..<2 * n).map { _ in Float(1 + random.normal()) }, 2, n)
      let sum = backend.zeros(n, n)
      backend.multiply(x, transposed: true, x, transposed: false, into: sum, accumulate: false)
      return sum
    }
    let exact = KroneckerCurvature(
      [.init(parameter: weight, left: moment(rows, "left"), right: moment(columns, "right"))], on: backend)
    let kept = exact.kept(rankShare: 0, storage: .bf16).blocks[0]
    for (factor, original) in [
      (kept.left.values, exact.blocks[0].left.values), (kept.right.values, exact.blocks[0].right.values),
    ] {
      let (a, b) = (factor.toArray(), original.toArray())
      #expect(a.allSatisfy { $0.bitPattern & 0xFFFF == 0 })
      #expect(smallestPivot(a, factor.rows) > 0, "a direction is pushed away")
      #expect(smallestPivot(backend.rounded(original).toArray(), factor.rows) < 0, "rounding alone would have done")
      let largest = b.map(abs).max() ?? 0
      for (x, y) in zip(a, b) { #expect(abs(x - y) <= 0.03 * largest) }
    }
  }
  /// The smallest pivot of the LDLᵀ decomposition: above 0 where the matrix is positive definite.
  private func smallestPivot(_ matrix: [Float], _ n: Int) -> Double {
    var m = matrix.map(Double.init)
    var smallest = Double.infinity
    for k in 0..<n {
      let pivot = m[k * n + k]
      smallest = min(smallest, pivot)
      guard pivot > 0 else { break }
      for i in k + 1..<n {
        let share = m[i * n + k] / pivot
        for j in k + 1..<n { m[i * n + j] -= share * m[k * n + j] }
      }
    }
    return smallest
  }
}
