// MAS in closed form, against a loop over single sequences, and its pull by hand.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct MemoryAwareSynapsesTests {
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

  /// Two pasts count twice what one does.
  @Test func masAddsUpOverPasts() throws {
    let world = RowWorld()
    let mas = MemoryAwareSynapses(strength: 1, examples: 100, world.store, on: world.backend)
    try mas.consolidate(world.past(0))
    let one = try #require(mas.pulls.first?.curvature?.toArray())
    try mas.consolidate(world.past(1))
    for (two, one) in zip(try #require(mas.pulls.first?.curvature?.toArray()), one) {
      #expect(abs(two - 2 * one) <= 2e-5 * two + 1e-8)
    }
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

  /// ‖z‖² of all scored places.
  private struct SquaredNorm: HeadSeed {
    mutating func seed(
      _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
    ) {
      backend.fill(losses, 0)
      backend.scale(logits, by: 2)
    }
  }

  /// Σ_s |∂‖f(x_s)‖²/∂θ| by scored tokens, sequence by sequence, also where an embedding is the head, too.
  @Test(arguments: [true, false]) func masOfSequencesIsALoop(tied: Bool) throws {
    let backend = CPUBackend(threads: 2)
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: 9, hiddenSize: 8, intermediateSize: 12, layers: 1, heads: 2, keyHeads: 1,
      contextLength: 8, epsilon: 1e-5, ropeTheta: 10000, tiesHead: tied)
    c.initializerRange = 0.4
    let network = try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
    let sequences = [
      Exemplar(inputs: [1, 2, 3, 2], targets: [2, 3, 2, -1]), Exemplar(inputs: [4, 4, 0], targets: [4, 0, 7]),
      Exemplar(inputs: [8], targets: [3]), Exemplar(inputs: [5, 6, 1, 1, 2], targets: [-1, 1, 1, 2, 4]),
    ]
    let mas = MemoryAwareSynapses(strength: 1, examples: 100, network.parameters, on: backend)
    try mas.consolidate(
      ConsolidationScope(
        network: network, backend: backend, past: 0, name: "base", sequences: sequences, isReal: true, tokens: 11,
        batchTokens: 9, makeBatches: { $0.isEmpty ? [] : [Batch($0)] }, random: RandomStream(seed: 9),
        note: { _ in }))
    let found = try #require(mas.pulls.first?.curvature?.toArray())
    var sums = [Double](repeating: 0, count: network.parameters.count)
    for sequence in sequences {
      let sink = Accumulator(network.parameters, on: backend)
      _ = network.backward(Batch([sequence]), seed: SquaredNorm(), sink: sink, on: backend)
      for (i, g) in sink.gradient.toArray().enumerated() { sums[i] += abs(Double(g)) }
    }
    let largest = sums.max() ?? 0
    // Eleven of the thirteen places are scored.
    for (a, b) in zip(found, sums) { #expect(abs(11 * Double(a) - b) <= 1e-5 * b + 1e-6 * largest) }
    #expect(largest > 0)
  }

  /// λΣΩδ² without a half, and so a pull of 2λΩδ: penalty and step of both forms on a linear map.
  @Test(arguments: [QuadraticPull.Form.coupled, .proximal]) func masPullsByHand(form: QuadraticPull.Form) throws {
    let world = RowWorld(hidden: [])
    let mas = MemoryAwareSynapses(strength: 0.3, form: form, examples: 100, world.store, on: world.backend)
    try mas.consolidate(world.past(0))
    let anchor = world.store.values.toArray().map { Double($0) }
    let weight = try #require(world.store["heads.0.weight"])
    let bias = try #require(world.store["heads.0.bias"])
    var omega = [Double](repeating: 0, count: anchor.count)
    for x in world.rows {
      for o in 0..<3 {
        let first = weight.range.lowerBound + 4 * o
        var f = anchor[bias.range.lowerBound + o]
        for i in 0..<4 { f += anchor[first + i] * Double(x[i]) }
        omega[bias.range.lowerBound + o] += 2 * abs(f) / 24
        for i in 0..<4 { omega[first + i] += 2 * abs(f * Double(x[i])) / 24 }
      }
    }
    for i in world.store.values.buffer.indices { world.store.values.buffer[i] += 0.1 * Float(i % 3 - 1) }
    let start = world.store.values.toArray().map { Double($0) }
    let gradient = world.meanGradient()
    let report = world.trainer(.sgd)(
      world.batches(world.exemplars), learningRate: 0.5, maximumNorm: 0, methods: [mas])
    let end = world.store.values.toArray().map { Double($0) }
    var penalty = 0.0
    for i in start.indices {
      let away = start[i] - anchor[i]
      penalty += 0.3 * omega[i] * away * away
      // η·2λΩ
      let rate = 0.5 * 0.6 * omega[i]
      let free = start[i] - 0.5 * gradient[i]
      let wanted = form == .coupled ? free - rate * away : (free + rate * anchor[i]) / (1 + rate)
      #expect(abs(end[i] - wanted) < 2e-6, "\(i): \(end[i]) against \(wanted)")
    }
    #expect(penalty > 1e-3 && abs(report.penalty - penalty) < 1e-5 * penalty, "\(report.penalty), by hand \(penalty)")
  }
}
