// LwF: the teacher's distributions against answers by hand.
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

  /// Places without a target between scored ones: every scored place has its own teacher, and the mean is over them.
  @Test(arguments: [2, 11], [1.0, 2.0]) func unscoredPlacesShiftNoTeacher(topK: Int, temperature: Double) throws {
    let world = try TextWorld()
    let lwf = LearningWithoutForgetting(
      alpha: 0.5, temperature: temperature, topK: topK, world.store, on: world.backend)
    try world.begin(lwf)
    let before = world.scored()
    try #require(before.count == 10)
    func report(ofTargets weight: Float) -> StepReport {
      var taught = world.compose(TextWorld.sequences, lwf, asking: world.network).stage
      for index in taught.indices { taught[index].weight = weight }
      return world.trainer()([Batch(taught)], learningRate: 0, maximumNorm: 0)
    }
    let rest = report(ofTargets: 0)
    #expect(abs(rest.softLoss) < 1e-5 && rest.gradientNorm < 1e-4)
    stir(world.store, seed: 7, on: world.backend)
    let after = world.scored()
    let moved = report(ofTargets: 1)
    var (loss, softLoss) = (0.0, 0.0)
    for (was, now) in zip(before, after) {
      loss += surprise(now.logits, now.target) / 10
      softLoss += 0.5 * divergence(was.logits, now.logits, temperature: temperature, count: topK) / 10
    }
    #expect(softLoss > 1e-3 && abs(moved.softLoss - softLoss) < 1e-5 * max(1, softLoss))
    #expect(moved.targets == 10 && abs(moved.loss - loss) < 1e-5 * max(1, loss))
  }

  /// Answers of a teacher that is asked once about every sequence are those it would give in later epochs, however
  /// these are ordered and batched.
  @Test func rememberedAnswersAreThoseOfTheTeacher() throws {
    let epochs = [[[0, 1], [2, 3]], [[3, 0, 2], [1]]]
    func course(isCached: Bool) throws -> (softLosses: [Double], values: [Float], asked: [Int]) {
      let world = try TextWorld()
      let lwf = LearningWithoutForgetting(
        alpha: 1, temperature: 2, topK: 4, isCached: isCached, world.store, on: world.backend)
      try world.begin(lwf)
      let (train, witness) = (world.trainer(), Witness(world.network))
      var (softLosses, asked): ([Double], [Int]) = ([], [])
      for epoch in epochs {
        for rows in epoch {
          let composition = world.compose(rows.map { TextWorld.sequences[$0] }, lwf, asking: witness)
          let report = train(composition.batches, learningRate: 0.1, maximumNorm: 0, methods: [lwf])
          softLosses.append(report.softLoss)
        }
        asked.append(witness.tokens)
      }
      return (softLosses, world.store.values.toArray(), asked)
    }
    let (online, cached) = (try course(isCached: false), try course(isCached: true))
    #expect(online.asked == [16, 32] && cached.asked == [16, 16])
    #expect(online.softLosses.dropFirst().allSatisfy { $0 > 1e-4 })
    for (a, b) in zip(online.softLosses, cached.softLosses) { #expect(abs(a - b) < 1e-5) }
    for (a, b) in zip(online.values, cached.values) { #expect(abs(a - b) < 1e-5) }
  }

  /// The same text with other scored places is another question to a teacher that remembers its answers.
  @Test func rememberedAnswersBelongToTheirPlaces() throws {
    let world = try TextWorld()
    func method(_ isCached: Bool) throws -> LearningWithoutForgetting {
      let lwf = LearningWithoutForgetting(
        alpha: 1, temperature: 2, topK: 4, isCached: isCached, world.store, on: world.backend)
      try world.begin(lwf)
      return lwf
    }
    let (online, cached) = (try method(false), try method(true))
    let inputs = TextWorld.sequences[0].inputs
    for targets: [Int32] in [[-1, -1, -1, 5, -1], [2, -1, 2, 5, -1], [2, 3, 2, 5, 1]] {
      let sequence = Exemplar(inputs: inputs, targets: targets)
      let (remembered, asked) = (
        world.compose([sequence], cached, asking: world.network),
        world.compose([sequence], online, asking: world.network)
      )
      #expect(remembered.stage[0].soft?.classes == asked.stage[0].soft?.classes)
      #expect(remembered.stage[0].soft?.classes.count == 4 * sequence.scored)
    }
  }

  /// Rows that come with distributions of their own are learned from those, not from the teacher.
  @Test func distributionsOfBufferedRowsStand() throws {
    let world = RowWorld()
    let lwf = LearningWithoutForgetting(alpha: 1.5, rows: .all, world.store, on: world.backend)
    try lwf.consolidate(world.past(0))
    try lwf.stageWillBegin(world.stage())
    var own = world.exemplars[7]
    own.soft = SoftTargets(width: 1, classes: [2], values: [-0.5], temperature: 1)
    own.softWeight = 0.25
    var composition = Composition(
      [world.exemplars[0]], network: world.network, backend: world.backend, batchTokens: 8,
      makeBatches: { world.batches($0) })
    composition.rehearsed = [own, world.exemplars[3]]
    lwf.compose(&composition)
    #expect(composition.rehearsed[0] == own)
    #expect(composition.rehearsed[1].softWeight == 1.5 && composition.stage[0].softWeight == 1.5)
    #expect(composition.rehearsed[1].soft?.temperature == 2)
  }

  /// In each stage the rehearsed rows, and they alone, have the model as the stage found it for a teacher.
  @Test func rehearsedRowsAloneAreTaught() throws {
    let world = RowWorld()
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 12, selection: .reservoir)
    let lwf = LearningWithoutForgetting(
      alpha: 1.5, temperature: 2, rows: .rehearsed, world.store, on: world.backend)
    let methods: [any ContinualMethod] = [replay, lwf]
    for method in methods { try method.consolidate(world.past(0)) }
    let all = world.batches(world.exemplars)[0]
    for stage in 1...2 {
      for method in methods { try method.stageWillBegin(world.stage(stage)) }
      let before = outputs(world.network, all, on: world.backend)
      for isMoved in [false, true] {
        if isMoved { stir(world.store, seed: UInt64(stage), on: world.backend) }
        let after = outputs(world.network, all, on: world.backend)
        let composition = composed(Array(world.exemplars.prefix(6)), methods, world)
        try #require(composition.rehearsed.count == 6)
        #expect(composition.stage == Array(world.exemplars.prefix(6)))
        #expect(composition.rehearsed.allSatisfy { $0.weight == 1 && $0.softWeight == 1.5 })
        var softLoss = 0.0
        for exemplar in composition.rehearsed {
          let row = Int(exemplar.inputs[0])
          softLoss += 1.5 * divergence(before[row], after[row], temperature: 2, count: 3) / 12
        }
        let report = world.trainer()(composition.batches, learningRate: 0, maximumNorm: 0)
        #expect(abs(report.softLoss - softLoss) < 1e-5 * max(1, softLoss))
        #expect(isMoved ? softLoss > 1e-3 : softLoss == 0)
      }
      for method in methods { try method.consolidate(world.past(stage)) }
    }
  }

  /// Beside a stage with a head of its own every earlier head is asked about the new rows, each with the weight α; the
  /// loss of the targets stays that of the stage's head.
  @Test func earlierHeadsAnswerOnNewRows() throws {
    let world = HeadWorld()
    let store = world.network.parameters
    let lwf = LearningWithoutForgetting(alpha: 0.7, temperature: 2, store, on: world.backend)
    try lwf.consolidate(world.past(0))
    let train = TrainStep(
      world.network, optimizer: Optimizer(OptimizerSettings(), store, on: world.backend), on: world.backend)
    for (stage, task, taught) in [(1, 1, [0]), (2, 2, [0, 1]), (3, 0, [0, 1, 2])] {
      try lwf.stageWillBegin(
        StageScope(network: world.network, stage: stage, name: "s", tokens: 8, random: RandomStream(seed: 5)))
      let rows = world.task(task)
      let before = taught.map { world.logits(rows, head: $0) }
      stir(store, seed: UInt64(stage), on: world.backend)
      let after = taught.map { world.logits(rows, head: $0) }
      var composition = Composition(
        rows, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
      lwf.compose(&composition)
      let beside = taught.filter { $0 != task }.flatMap { [Int?](repeating: $0, count: 8) }
      #expect(composition.rehearsed.map(\.head) == beside)
      var (loss, softLoss) = (0.0, 0.0)
      for (was, now) in zip(before.joined(), after.joined()) {
        softLoss += 0.7 * divergence(was, now, temperature: 2, count: was.count) / 8
      }
      for (exemplar, now) in zip(rows, world.logits(rows, head: task)) {
        loss += surprise(now, exemplar.targets[0]) / 8
      }
      let report = train(composition.batches, learningRate: 0, maximumNorm: 0)
      #expect(softLoss > 1e-3 && abs(report.softLoss - softLoss) < 1e-5 * max(1, softLoss))
      #expect(report.targets == 8 && abs(report.loss - loss) < 1e-5 * max(1, loss))
      try lwf.consolidate(world.past(stage))
    }
  }

  /// What stages taught whose stacks were without it is asked about, too.
  @Test func headsLearnedWithoutItAnswer() throws {
    let world = HeadWorld()
    let lwf = LearningWithoutForgetting(alpha: 0.7, world.network.parameters, on: world.backend)
    func begin(_ stage: Int) throws {
      try lwf.stageWillBegin(
        StageScope(network: world.network, stage: stage, name: "s", tokens: 8, random: RandomStream(seed: 5)))
    }
    for stage in 1...2 {
      try begin(stage)
      // It composes nothing here.
      try lwf.consolidate(world.past(stage))
    }
    try begin(3)
    let rows = world.task(0)
    var composition = Composition(
      rows, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
    lwf.compose(&composition)
    #expect(composition.stage == rows)
    #expect(composition.rehearsed.map(\.head) == [Int?](repeating: 1, count: 8) + [Int?](repeating: 2, count: 8))
    #expect(composition.rehearsed.allSatisfy { $0.softWeight == 0.7 && $0.soft != nil })
  }
}
