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

// MARK: By hand

/// softmax(z/T) in double.
private func softened(_ logits: [Float], _ temperature: Double) -> [Double] {
  let exponentials = logits.map { Maths.exp(Double($0) / temperature) }
  let total = exponentials.reduce(0, +)
  return exponentials.map { $0 / total }
}

/// T²·KL(teacher ‖ student) of two rows of logits, the teacher's `count` likeliest classes one by one and the others as
/// one outcome.
private func divergence(_ teacher: [Float], _ student: [Float], temperature: Double, count: Int) -> Double {
  let (q, p) = (softened(teacher, temperature), softened(student, temperature))
  var (sum, restOfQ, restOfP) = (0.0, 0.0, 0.0)
  for (rank, index) in q.indices.sorted(by: { q[$0] > q[$1] }).enumerated() {
    if rank < count {
      sum += q[index] * Maths.log(q[index] / p[index])
    } else {
      restOfQ += q[index]
      restOfP += p[index]
    }
  }
  if count < q.count { sum += restOfQ * Maths.log(restOfQ / restOfP) }
  return temperature * temperature * sum
}

/// −log p(target) of a row of logits.
private func surprise(_ logits: [Float], _ target: Int32) -> Double { -Maths.log(softened(logits, 1)[Int(target)]) }

/// Logits of every place of a batch.
private func outputs(_ network: any Network, _ batch: Batch, on backend: any Backend) -> [[Float]] {
  let hidden = network.forward(batch, recording: false, on: backend).hidden
  let all = network.head(batch.head).linear.forward(hidden, on: backend)
  return (0..<all.rows).map { all.rows($0..<$0 + 1).toArray() }
}

/// Moves every parameter.
private func stir(_ store: ParameterStore, seed: UInt64, on backend: any Backend) {
  var random = RandomStream(seed: seed)
  let way = backend.tensor((0..<store.count).map { _ in Float(random.normal()) }, 1, store.count)
  backend.add(way, scaled: 0.2, into: store.values)
}

// MARK: Worlds

/// A stage's rows and what methods add to them.
private func composed(_ stage: [Exemplar], _ methods: [any ContinualMethod], _ world: RowWorld) -> Composition {
  var composition = Composition(
    stage, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
  for method in methods { method.compose(&composition) }
  return composition
}

/// A tiny language model and a few sequences.
private struct TextWorld {
  /// Places without a target stand at the beginning, in between and at the end.
  static let sequences = [
    Exemplar(inputs: [1, 2, 3, 2, 5], targets: [2, -1, 2, 5, -1]),
    Exemplar(inputs: [4, 4, 0], targets: [-1, 0, 7]),
    Exemplar(inputs: [9], targets: [3]),
    Exemplar(inputs: [6, 7, 8, 1, 1, 2, 10], targets: [-1, -1, 1, -1, 2, 10, 4]),
  ]
  let backend = CPUBackend(threads: 2)
  let network: Transformer
  var store: ParameterStore { network.parameters }

  init() throws {
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: 11, hiddenSize: 8, intermediateSize: 12, layers: 2, heads: 2, keyHeads: 1,
      contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
    c.initializerRange = 0.4
    network = try ModelCatalog.initialize(c, random: RandomStream(seed: 5), on: backend)
  }
  func batches(_ sequences: [Exemplar]) -> [Batch] { sequences.isEmpty ? [] : [Batch(sequences)] }
  /// Consolidates the base and begins a stage.
  func begin(_ method: any ContinualMethod, after base: [Exemplar] = TextWorld.sequences) throws {
    try method.consolidate(
      ConsolidationScope(
        network: network, backend: backend, past: 0, name: "base", sequences: base, isReal: true, tokens: 10,
        batchTokens: 16, makeBatches: { batches($0) }, random: RandomStream(seed: 9), note: { _ in }))
    try method.stageWillBegin(
      StageScope(network: network, stage: 1, name: "s", tokens: 10, random: RandomStream(seed: 5)))
  }
  /// - Parameter asked: the network that methods find in the composition
  func compose(_ sequences: [Exemplar], _ method: any ContinualMethod, asking asked: any Network) -> Composition {
    var composition = Composition(
      sequences, network: asked, backend: backend, batchTokens: 16, makeBatches: { batches($0) })
    method.compose(&composition)
    return composition
  }
  func trainer() -> TrainStep {
    TrainStep(
      network, optimizer: Optimizer(OptimizerSettings(kind: .sgd), store, on: backend), on: backend)
  }
  /// Targets and logits of the scored places of all sequences.
  func scored() -> [(target: Int32, logits: [Float])] {
    let batch = Batch(Self.sequences)
    var scored: [(target: Int32, logits: [Float])] = []
    for (target, logits) in zip(batch.targets, outputs(network, batch, on: backend)) where target >= 0 {
      scored.append((target, logits))
    }
    return scored
  }
}

/// A network that counts the tokens it is asked about.
private final class Witness: Network {
  private let network: any Network
  private(set) var tokens = 0
  var parameters: ParameterStore { network.parameters }
  init(_ network: any Network) { self.network = network }
  func head(_ index: Int) -> Head { network.head(index) }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    tokens += batch.count
    return network.forward(batch, recording: recording, on: backend)
  }
}

/// A classifier with a head for each of three tasks of eight rows.
private struct HeadWorld {
  let backend = CPUBackend(threads: 1)
  let network: MLP
  let rows: [[Float]]

  init() {
    network = MLP(
      MLPConfiguration(inputs: 4, hiddenSizes: [6], classes: [3, 2, 4]), random: RandomStream(seed: 2), on: backend)
    var random = RandomStream(seed: 3)
    rows = (0..<24).map { _ in (0..<4).map { _ in Float(random.normal()) } }
  }
  func task(_ index: Int) -> [Exemplar] {
    (0..<8).map { Exemplar(inputs: [Int32(8 * index + $0)], targets: [Int32($0 % 2)]) }
  }
  /// One for each head that answers.
  func batches(_ exemplars: [Exemplar]) -> [Batch] {
    let heads = exemplars.map { $0.head ?? Int($0.inputs[0]) / 8 }
    return Set(heads).sorted().map { head in
      let sources = exemplars.indices.filter { heads[$0] == head }
      let chosen = sources.map { exemplars[$0] }
      let features = backend.tensor(chosen.flatMap { rows[Int($0.inputs[0])] }, chosen.count, 4)
      var batch = Batch(features: features, labels: chosen.map { $0.targets[0] }, head: head)
      batch.sources = sources
      batch.objectives = Objectives(chosen)
      return batch
    }
  }
  /// What a head says about rows of any task.
  func logits(_ exemplars: [Exemplar], head: Int) -> [[Float]] {
    let features = backend.tensor(exemplars.flatMap { rows[Int($0.inputs[0])] }, exemplars.count, 4)
    let labels = [Int32](repeating: 0, count: exemplars.count)
    return outputs(network, Batch(features: features, labels: labels, head: head), on: backend)
  }
  func past(_ index: Int) -> ConsolidationScope {
    ConsolidationScope(
      network: network, backend: backend, past: index, name: "p", sequences: task(index % 3), isReal: true, tokens: 8,
      batchTokens: 8, makeBatches: { batches($0) }, random: RandomStream(seed: 4), note: { _ in })
  }
}

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

  // MARK: DER

  /// Of each row the largest logits are kept: their squares over the number of all classes, or the divergence with the
  /// others as one outcome.
  @Test(arguments: [true, false]) func derKeepsTheLargestLogits(isSquared: Bool) throws {
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

  /// α and β weigh means, of eight drawn rows at r = ½ as of two at r = ⅕.
  @Test(arguments: [0.5, 0.2]) func derWeighsMeans(ratio: Double) throws {
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
  @Test(arguments: [true, false]) func derWeighsMeansOfMaskedText(isStageMasked: Bool) throws {
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
  @Test func derDrawsStandForStepsWithoutAny() throws {
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
