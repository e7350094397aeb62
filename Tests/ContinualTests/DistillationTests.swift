// LwF, DER and rehearsal against answers by hand.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct DistillationTests {
  // MARK: Distillation

  /// A student that is its own teacher has neither loss nor gradient, for lists of any length and any temperature.
  @Test(arguments: [1, 2, 3, 64], [1.0, 2.0, 5.0]) func studentAsTeacherIsAtRest(topK: Int, temperature: Double) throws
  {
    let world = RowWorld()
    let lwf = LearningWithoutForgetting(
      alpha: 1, temperature: temperature, topK: topK, world.store, on: world.backend)
    try lwf.consolidate(world.past(0))
    try lwf.stageWillBegin(world.stage())
    var taught = world.exemplars
    var composition = Composition(
      taught, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
    lwf.compose(&composition)
    taught = composition.stage
    for index in taught.indices { taught[index].weight = 0 }
    let seed = ObjectiveSeed(try #require(Objectives(taught)), scale: 1)
    let sink = Accumulator(world.store, on: world.backend)
    _ = world.network.backward(world.batches(taught)[0], seed: seed, sink: sink, on: world.backend)
    #expect(abs(seed.sums.soft) < 1e-4)
    #expect(world.backend.dot(sink.gradient, sink.gradient).squareRoot() < 1e-4)
    #expect(taught.allSatisfy { $0.soft?.width == min(topK, 3) })
  }

  /// The divergence is KL(teacher ‖ student), not the other way round, and never below 0; lists of all classes equal the
  /// sum over classes; with T² the gradient keeps its size as T grows, without it falls as 1/T².
  @Test func divergenceHasTheTeacherFirst() throws {
    let backend = CPUBackend(threads: 1)
    let (teacher, student): ([Float], [Float]) = ([2, 0, -1, 0.5], [-0.5, 1, 0.3, 0])
    func probabilities(_ z: [Float], _ t: Double) -> [Double] {
      let e = z.map { Maths.exp(Double($0) / t) }
      return e.map { $0 / e.reduce(0, +) }
    }
    var norms: [Double] = []
    for temperature in [1.0, 4.0, 16.0] {
      let (classes, values) = backend.likeliest(
        backend.tensor(teacher, 1, 4), count: 4, temperature: Float(temperature))
      var soft = SoftRows()
      soft.append(hard: 0, soft: 1, temperature: Float(temperature), classes: classes, values: values)
      let logits = backend.tensor(student, 1, 4)
      let (losses, softLosses) = (backend.empty(1, 1), backend.empty(1, 1))
      backend.blend(logits, targets: [0], soft: soft, scale: 1, losses: losses, softLosses: softLosses)
      let (q, p) = (probabilities(teacher, temperature), probabilities(student, temperature))
      let wanted = temperature * temperature * zip(q, p).reduce(0) { $0 + $1.0 * Maths.log($1.0 / $1.1) }
      let swapped = temperature * temperature * zip(p, q).reduce(0) { $0 + $1.0 * Maths.log($1.0 / $1.1) }
      #expect(abs(Double(softLosses.toArray()[0]) - wanted) < 1e-4 * wanted)
      #expect(abs(wanted - swapped) > 1e-3 * wanted)
      norms.append(backend.dot(logits, logits).squareRoot())
    }
    // T·(p^T − q^T) tends to the difference of centred logits ÷ V.
    #expect(norms[2] > 0.5 * norms[0] && norms[2] < 2 * norms[0])
    #expect(abs(norms[2] / norms[1] - 1) < 0.2)
  }

  /// A model without a past is nobody's teacher.
  @Test func noPastNoTeacher() throws {
    let world = RowWorld()
    let lwf = LearningWithoutForgetting(alpha: 1, world.store, on: world.backend)
    try lwf.stageWillBegin(world.stage())
    #expect(world.compose(world.exemplars, [lwf])[0].objectives == nil)
    try lwf.consolidate(world.past(1))
    try lwf.stageWillBegin(world.stage(2))
    #expect(world.compose(world.exemplars, [lwf])[0].objectives != nil)
  }

  // MARK: DER

  /// Stored logits that the model still gives cost nothing; moved ones cost the mean squared difference.
  @Test func derHoldsLogitsWhereTheyWere() throws {
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

  /// α and β weigh means: at r = ½ a drawn row weighs as much as one of the stage, at r = ⅕ four times as much.
  @Test(arguments: [0.5, 0.2]) func derWeighsMeans(ratio: Double) throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 0.5, beta: 2, ratio: ratio, budgetTokens: 12, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    let rows = try #require(world.compose(Array(world.exemplars.prefix(8)), [der])[0].objectives).rows
    let expected: Double = 8 * ratio / (1 - ratio)
    let drawn = Int((expected + 1e-9).rounded(.down))
    #expect(rows.count == 8 + 2 * drawn)
    let sums = (rows.soft.reduce(0, +) / 8, rows.hard.dropFirst(8).reduce(0, +) / 8)
    #expect(abs(Double(sums.0) - 0.5) < 1e-5 && abs(Double(sums.1) - 2) < 1e-5)
  }

  // MARK: Rehearsal

  @Test func surpriseKeepsTheHardest() throws {
    let world = RowWorld()
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 6, selection: .surprise)
    try replay.consolidate(world.past(0))
    try replay.stageWillBegin(world.stage())
    let losses = world.batches(world.exemplars).flatMap { world.network.negativeLogLikelihoods($0, on: world.backend) }
    let hardest = Set(losses.indices.sorted { losses[$0] > losses[$1] }.prefix(6).map { Int32($0) })
    #expect(Set(replay.rehearse(stageTokens: 6).map { $0.inputs[0] }) == hardest)
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
