// A-GEM whose sample could be larger than its memory, one whose sample is smaller than anything in it, and one without.
import Continual
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct SmallMemoryTests {
  private func inner(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
  private func opposed(_ world: RowWorld) -> [Exemplar] {
    world.exemplars.map { Exemplar(inputs: $0.inputs, targets: [1 - $0.targets[0]]) }
  }
  private func meanGradient(_ world: RowWorld, _ rows: [Exemplar]) -> [Double] {
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(
      world.batches(rows)[0], seed: CrossEntropySeed(scale: 1 / Float(rows.count)), sink: sink, on: world.backend)
    return sink.gradient.toArray().map { Double($0) }
  }
  /// What one first step adds to the parameters, which go back to where they were.
  private func update(_ world: RowWorld, _ methods: [any ContinualMethod], _ kind: OptimizerSettings.Kind) -> [Double] {
    let before = world.store.values.toArray()
    _ = world.trainer(kind)(
      world.compose(opposed(world), methods), learningRate: 0.01, maximumNorm: 0.1, methods: methods)
    let after = world.store.values.toArray()
    world.store.values.assign(before)
    return zip(after, before).map { Double($0.0) - Double($0.1) }
  }

  /// Two pasts of unlike sizes: every sequence of both is in the sample once, so each step, whatever it draws, loses
  /// its part along the mean gradient of all of them. Mistakes: a sample that is divided among the memories or filled
  /// up by repetition, and a draw that never ends.
  @Test(arguments: [OptimizerSettings.Kind.adamw, .sgd]) func largeSamplesAreTheWholeMemory(
    kind: OptimizerSettings.Kind
  ) throws {
    let world = RowWorld(classes: 2)
    // A share of 20 tokens for each past, more than either has.
    let agem = AveragedGradientEpisodicMemory(
      budgetTokens: 40, sampleTokens: 1_000_000, world.store, on: world.backend)
    try agem.consolidate(world.past(0, Array(world.exemplars[..<17])))
    try agem.consolidate(world.past(1, Array(world.exemplars[17...])))
    try agem.stageWillBegin(world.stage())
    let gradient = meanGradient(world, world.exemplars)
    let plain = update(world, [], kind)
    let weight = inner(plain, gradient) / inner(gradient, gradient)
    #expect(weight > 1e-3)
    for draw in 0..<4 {
      let held = update(world, [agem], kind)
      let wrong = plain.indices.filter { abs(held[$0] - (plain[$0] - weight * gradient[$0])) > 5e-7 }
      #expect(wrong.isEmpty, "draw \(draw): \(wrong.count) of \(plain.count) numbers")
    }
    let facts = Dictionary(uniqueKeysWithValues: agem.facts.map { ($0.name, $0.value) })
    #expect(facts["constrained_steps"] == 4 && facts["projected_steps"] == 4)
  }

  /// Samples of less than a sequence, or of fewer sequences than there are pasts, still hold some: each step loses its
  /// part along the gradient of one sequence, or of two, of any past. Mistakes: a size divided by the number of pasts
  /// and rounded to none, and a sample that nothing fits into.
  @Test(arguments: [(3, 1), (1, 2)]) func smallSamplesAreNeverEmpty(length: Int, sampleTokens: Int) throws {
    let world = RowWorld(classes: 2)
    let agem = AveragedGradientEpisodicMemory(
      budgetTokens: 1000, sampleTokens: sampleTokens, world.store, on: world.backend)
    var rows: [Exemplar] = []
    for past in 0..<5 {
      // The world reads the first token of a sequence; the memory counts all of them.
      let sequences = world.exemplars[2 * past..<2 * past + 2].map { row in
        Exemplar(
          inputs: [Int32](repeating: row.inputs[0], count: length),
          targets: row.targets + [Int32](repeating: -1, count: length - 1))
      }
      try agem.consolidate(world.past(past, sequences))
      rows += sequences
    }
    try agem.stageWillBegin(world.stage())
    let samples: [[Exemplar]] =
      length > sampleTokens
      ? rows.map { [$0] } : rows.indices.flatMap { first in rows[(first + 1)...].map { [rows[first], $0] } }
    let gradients = samples.map { meanGradient(world, $0) }
    let plain = update(world, [], .sgd)
    var drawn: Set<Int> = []
    for _ in 0..<12 {
      let held = update(world, [agem], .sgd)
      let sample = gradients.indices.first { index in
        let gradient = gradients[index]
        let weight = max(0, inner(plain, gradient) / inner(gradient, gradient))
        return plain.indices.allSatisfy { abs(held[$0] - (plain[$0] - weight * gradient[$0])) <= 5e-7 }
      }
      drawn.insert(try #require(sample, "held to no sample of this size"))
    }
    #expect(drawn.count > 2)
    let facts = Dictionary(uniqueKeysWithValues: agem.facts.map { ($0.name, $0.value) })
    #expect(facts["constrained_steps"] == 12 && (facts["projected_steps"] ?? 0) > 0)
  }

  /// No past, or one whose sequences are all longer than the budget: nothing to be held to, no bit changes. Mistake: a
  /// reference of zeros, or one of the step before.
  @Test(arguments: [true, false]) func emptyMemoriesHoldNothing(hasPast: Bool) throws {
    let world = RowWorld(classes: 2)
    let agem = AveragedGradientEpisodicMemory(budgetTokens: 1, sampleTokens: 50, world.store, on: world.backend)
    if hasPast {
      try agem.consolidate(world.past(0, [Exemplar(inputs: [0, 1], targets: [0, 1])]))
    }
    try agem.stageWillBegin(world.stage())
    #expect(update(world, [agem], .adamw) == update(world, [], .adamw))
    let facts = Dictionary(uniqueKeysWithValues: agem.facts.map { ($0.name, $0.value) })
    #expect(facts["constrained_steps"] == 0 && facts["projected_steps"] == 0)
  }
}
