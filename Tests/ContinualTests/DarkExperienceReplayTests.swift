// DER and DER++: kept logits, and the means that its terms are, against answers by hand.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct DarkExperienceReplayTests {
  /// Of each row the largest logits are kept: their squares over the number of all classes, or the divergence with the
  /// others as one outcome.
  @Test(arguments: [true, false]) func keepsTheLargestLogits(isSquared: Bool) throws {
    let world = RowWorld(classes: 5)
    let der = DarkExperienceReplay(
      alpha: 1, beta: 0, ratio: 0.5, budgetTokens: 12, selection: .reservoir, isSquared: isSquared, topK: 2)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let all = world.batches(world.exemplars)[0]
    let before = outputs(world.network, all, on: world.backend)
    stir(world.store, seed: 7, on: world.backend)
    let after = outputs(world.network, all, on: world.backend)
    let composition = composed(Array(world.exemplars.prefix(6)), [der], world)
    try #require(composition.rehearsed.count == 6)
    var softLoss = 0.0
    for exemplar in composition.rehearsed {
      let (kept, now) = (before[Int(exemplar.inputs[0])], after[Int(exemplar.inputs[0])])
      if isSquared {
        for index in kept.indices.sorted(by: { kept[$0] > kept[$1] }).prefix(2) {
          let difference = Double(now[index]) - Double(kept[index])
          softLoss += difference * difference / 5 / 6
        }
      } else {
        softLoss += divergence(kept, now, temperature: 1, count: 2) / 6
      }
    }
    let report = world.trainer()(composition.batches, learningRate: 0, maximumNorm: 0)
    #expect(softLoss > 1e-3 && abs(report.softLoss - softLoss) < 1e-5 * max(1, softLoss))
  }

  /// Stored logits that the model still gives cost nothing; moved ones cost the mean squared difference.
  @Test func holdsLogitsWhereTheyWere() throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 1, beta: 0, ratio: 0.5, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let batches = world.compose(Array(world.exemplars.prefix(6)), [der])
    let objectives = try #require(batches[0].objectives)
    #expect(objectives.counted == 6 && objectives.rows.count == 12)
    #expect(objectives.rows.soft == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    #expect(objectives.rows.hard == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    func soft() -> Double {
      let seed = ObjectiveSeed(objectives, scale: 1)
      _ = world.network.backward(
        batches[0], seed: seed, sink: Accumulator(world.store, on: world.backend), on: world.backend)
      return seed.sums.soft
    }
    #expect(soft() < 1e-8)
    // One logit of every row moves by 0.6: (0.6)²/3 a row.
    let bias = try #require(world.store["heads.0.bias"])
    bias.value.buffer[1] += 0.6
    #expect(abs(soft() - 6 * 0.36 / 3) < 1e-4)
  }

  /// α and β weigh means, of eight drawn rows at r = ½ as of two at r = ⅕.
  @Test(arguments: [0.5, 0.2]) func weighsMeans(ratio: Double) throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 0.5, beta: 2, ratio: ratio, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let all = world.batches(world.exemplars)[0]
    let before = outputs(world.network, all, on: world.backend)
    stir(world.store, seed: 7, on: world.backend)
    let after = outputs(world.network, all, on: world.backend)
    let composition = composed(Array(world.exemplars.prefix(8)), [der], world)
    let dark = composition.rehearsed.filter { $0.softWeight > 0 }
    let plain = composition.rehearsed.filter { $0.softWeight == 0 }
    let drawn = ratio == 0.5 ? 8 : 2
    try #require(dark.count == drawn && plain.count == drawn)
    var softLoss = 0.0
    for exemplar in dark {
      let row = Int(exemplar.inputs[0])
      for (kept, now) in zip(before[row], after[row]) {
        let difference = Double(now) - Double(kept)
        softLoss += 0.5 * difference * difference / 3 / Double(drawn)
      }
    }
    func mean(_ exemplars: [Exemplar]) -> Double {
      exemplars.reduce(0) { $0 + surprise(after[Int($1.inputs[0])], $1.targets[0]) } / Double(exemplars.count)
    }
    // A mean by weight: 1 for the stage's, β for the draw's.
    let loss = (mean(composition.stage) + 2 * mean(plain)) / 3
    let report = world.trainer()(composition.batches, learningRate: 0, maximumNorm: 0)
    #expect(softLoss > 1e-3 && abs(report.softLoss - softLoss) < 1e-5 * max(1, softLoss))
    #expect(report.targets == 8 && abs(report.loss - loss) < 1e-5 * max(1, loss))
  }

  /// One of the stage's ten tokens is scored and every one of the past's, or the other way round: each term is the mean
  /// over its own places all the same, and micro-batches change no more than rounding does.
  @Test(arguments: [true, false]) func weighsMeansOfMaskedText(isStageMasked: Bool) throws {
    let world = try TextWorld()
    let der = DarkExperienceReplay(
      alpha: 0.5, beta: 2, ratio: 0.5, budgetTokens: 100, selection: .reservoir, isSquared: false, topK: 11)
    func text(_ first: Int32, isMasked: Bool) -> [Exemplar] {
      (0..<2).map { number in
        let inputs: [Int32] = (0..<5).map { (first + 5 * Int32(number) + 3 * Int32($0)) % 11 }
        var exemplar = Exemplar(inputs: inputs, targets: inputs.map { ($0 * $0 + first) % 11 })
        if isMasked { for place in 0..<5 where number == 1 || place != 3 { exemplar.targets[place] = -1 } }
        return exemplar
      }
    }
    let (past, stage) = (text(1, isMasked: !isStageMasked), text(4, isMasked: isStageMasked))
    try world.begin(der, after: past)
    /// Targets and logits of the scored places.
    func scored(_ exemplars: [Exemplar]) -> [(target: Int32, logits: [Float])] {
      let batch = Batch(exemplars)
      return zip(batch.targets, outputs(world.network, batch, on: world.backend)).filter { $0.0 >= 0 }.map {
        (target: $0.0, logits: $0.1)
      }
    }
    let before = scored(past)
    stir(world.store, seed: 7, on: world.backend)
    let (after, now) = (scored(past), scored(stage))
    try #require(after.count == (isStageMasked ? 10 : 1) && now.count == (isStageMasked ? 1 : 10))
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    let softLoss =
      0.5 * mean(zip(before, after).map { divergence($0.logits, $1.logits, temperature: 1, count: 11) })
    let (ofStage, ofPast) = (
      mean(now.map { surprise($0.logits, $0.target) }), mean(after.map { surprise($0.logits, $0.target) })
    )
    let train = world.trainer()
    let whole = world.compose(stage, der, asking: world.network)
    // Both sequences of the past, once for each term.
    try #require(whole.rehearsed.count == 4)
    let report = train(whole.batches, learningRate: 0, maximumNorm: 0)
    #expect(softLoss > 1e-3 && abs(report.softLoss - softLoss) < 1e-5 * max(1, softLoss))
    let loss = (ofStage + 2 * ofPast) / 3
    #expect(report.targets == now.count && abs(report.loss - loss) < 1e-5 * max(1, loss))
    // ∂[mean(stage) + α·mean D + β·mean(past)], term by term.
    let found = train.accumulator.gradient.toArray()
    let sum = Accumulator(world.store, on: world.backend)
    let count = Float(after.count)
    _ = world.network.backward(
      Batch(stage), seed: CrossEntropySeed(scale: 1 / Float(now.count)), sink: sum, on: world.backend)
    _ = world.network.backward(Batch(past), seed: CrossEntropySeed(scale: 2 / count), sink: sum, on: world.backend)
    let dark = whole.rehearsed.filter { $0.softWeight > 0 }.map { drawn in
      var bare = Exemplar(inputs: drawn.inputs, targets: drawn.targets)
      (bare.soft, bare.weight, bare.softWeight) = (drawn.soft, 0, 1)
      return bare
    }
    let seed = ObjectiveSeed(try #require(Objectives(dark)), scale: 0.5 / count)
    _ = world.network.backward(Batch(dark), seed: seed, sink: sum, on: world.backend)
    let wanted = sum.gradient.toArray()
    let largest = wanted.reduce(0) { max($0, abs($1)) }
    for (a, b) in zip(found, wanted) { #expect(abs(a - b) <= 5e-5 * largest) }
    // The same draws again, one sequence at a time.
    try der.stageWillBegin(
      StageScope(network: world.network, stage: 1, name: "s", tokens: 10, random: RandomStream(seed: 5)))
    let parts = stage.flatMap { world.compose([$0], der, asking: world.network).batches }
    let again = world.trainer()(parts, learningRate: 0, maximumNorm: 0)
    #expect(parts.count == 2 && again.targets == report.targets)
    #expect(abs(again.loss - report.loss) <= 1e-6 * report.loss)
    #expect(abs(again.softLoss - report.softLoss) <= 1e-5 * report.softLoss)
    #expect(abs(again.gradientNorm - report.gradientNorm) <= 1e-5 * report.gradientNorm)
  }

  /// Half a row is owed in a step: every other step draws one for each term, which stands for both; also after a
  /// restart, but not for a step that was not taken.
  @Test func drawsStandForStepsWithoutAny() throws {
    let world = RowWorld()
    func make() -> DarkExperienceReplay {
      DarkExperienceReplay(
        alpha: 0.5, beta: 2, ratio: 0.2, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    }
    let first = make()
    try first.consolidate(world.past(0))
    try first.stageWillBegin(world.stage())
    func draw(_ step: Int, _ der: DarkExperienceReplay, isTaken: Bool = true) -> [Exemplar] {
      let composition = composed(Array(world.exemplars[2 * step..<2 * step + 2]), [der], world)
      if isTaken {
        _ = world.trainer()(composition.batches, learningRate: 0, maximumNorm: 0, methods: [der])
      } else {
        der.stepWasSkipped()
      }
      return composition.rehearsed
    }
    #expect(draw(0, first).isEmpty)
    let state = MemoryState()
    first.write(to: state)
    let second = make()
    try second.stageWillBegin(world.stage())
    try second.restore(from: state)
    let one = draw(1, second)
    #expect(one.map(\.softWeight) == [1, 0] && one.map(\.weight) == [0, 4])
    #expect(draw(2, second, isTaken: false).isEmpty)
    let other = draw(3, second)
    #expect(other.map(\.softWeight) == [0.5, 0] && other.map(\.weight) == [0, 2])
  }
}
