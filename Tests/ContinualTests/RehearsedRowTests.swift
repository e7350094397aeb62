// What rehearsed rows weigh, by hand: chosen by surprise, weighted, plain, distilled.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct RehearsedRowTests {
  @Test func surpriseKeepsTheHardest() throws {
    let world = RowWorld()
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 6, selection: .surprise)
    try replay.consolidate(world.past(0))
    try replay.stageWillBegin(world.stage())
    let losses = world.batches(world.exemplars).flatMap { world.network.negativeLogLikelihoods($0, on: world.backend) }
    let hardest = Set(losses.indices.sorted { losses[$0] > losses[$1] }.prefix(6).map { Int32($0) })
    #expect(Set(replay.rehearse(stageTokens: 6).map { $0.inputs[0] }) == hardest)
  }

  /// The gradient is (Σ of the stage's rows + w·Σ of the rehearsed ones)/all of them, the loss their mean by weight.
  @Test(arguments: [0.25, 3]) func rehearsedRowsHaveTheirWeight(weight: Double) throws {
    let world = RowWorld()
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 12, selection: .reservoir, weight: weight)
    try replay.consolidate(world.past(0))
    try replay.stageWillBegin(world.stage())
    let composition = composed(Array(world.exemplars.prefix(8)), [replay], world)
    try #require(composition.rehearsed.count == 8)
    let train = world.trainer()
    let report = train(composition.batches, learningRate: 0, maximumNorm: 0)
    let found = train.accumulator.gradient.toArray()
    func sum(_ exemplars: [Exemplar]) -> [Float] {
      let plain = exemplars.map { Exemplar(inputs: $0.inputs, targets: $0.targets) }
      let sink = Accumulator(world.store, on: world.backend)
      _ = world.network.backward(
        world.batches(plain)[0], seed: CrossEntropySeed(scale: 1), sink: sink, on: world.backend)
      return sink.gradient.toArray()
    }
    let (ofStage, ofPast) = (sum(composition.stage), sum(composition.rehearsed))
    let wanted = ofStage.indices.map { (Double(ofStage[$0]) + weight * Double(ofPast[$0])) / 16 }
    let largest = wanted.reduce(0) { max($0, abs($1)) }
    for (a, b) in zip(found, wanted) { #expect(abs(Double(a) - b) <= 1e-5 * largest) }
    // The head's bias: Σ w·(p − [target])/16 from the logits.
    let said = outputs(world.network, world.batches(world.exemplars)[0], on: world.backend)
    let bias = try #require(world.store["heads.0.bias"])
    var (ofBias, loss) = ([0.0, 0.0, 0.0], 0.0)
    for (place, exemplar) in (composition.stage + composition.rehearsed).enumerated() {
      let own = place < 8 ? 1 : weight
      let (logits, target) = (said[Int(exemplar.inputs[0])], exemplar.targets[0])
      for (index, p) in softened(logits, 1).enumerated() { ofBias[index] += own * p / 16 }
      ofBias[Int(target)] -= own / 16
      loss += own * surprise(logits, target) / (8 + 8 * weight)
    }
    for (a, b) in zip(found[bias.range], ofBias) { #expect(abs(Double(a) - b) < 1e-6) }
    #expect(report.targets == 16 && abs(report.loss - loss) < 1e-5)
  }

  /// With the weight 1 rehearsed rows are rows like any other, to the bit.
  @Test func rowsOfWeightOneArePlain() throws {
    func course(_ lay: (RowWorld, ExperienceReplay, [Exemplar]) -> [Batch]) throws -> [UInt32] {
      let world = RowWorld()
      let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 12, selection: .reservoir, weight: 1)
      try replay.consolidate(world.past(0))
      try replay.stageWillBegin(world.stage())
      let train = world.trainer()
      for step in 0..<4 {
        let batches = lay(world, replay, Array(world.exemplars[4 * step..<4 * step + 8]))
        #expect(batches.map(\.counted) == [16] && batches[0].objectives == nil)
        _ = train(batches, learningRate: 0.05, maximumNorm: 1)
      }
      return world.store.values.toArray().map(\.bitPattern)
    }
    let rehearsed = try course { world, replay, stage in world.compose(stage, [replay]) }
    let plain = try course { world, replay, stage in
      let drawn = replay.rehearse(stageTokens: 8).map { Exemplar(inputs: $0.inputs, targets: $0.targets) }
      return world.batches(stage + drawn)
    }
    #expect(rehearsed == plain)
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
