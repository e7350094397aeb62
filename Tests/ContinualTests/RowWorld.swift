// A small world for known answers: a classifier on rows of numbers.
import Continual
import Layers
import Models
import TensorCPU
import TensorCore
import Training

/// A classifier on rows of numbers, with everything a method asks for.
struct RowWorld {
  let backend = CPUBackend(threads: 2)
  let network: MLP
  let rows: [[Float]]
  let labels: [Int32]
  var store: ParameterStore { network.parameters }

  init(inputs: Int = 4, hidden: [Int] = [6], classes: Int = 3, rows count: Int = 24, seed: UInt64 = 1) {
    network = MLP(
      MLPConfiguration(inputs: inputs, hiddenSizes: hidden, classes: [classes]), random: RandomStream(seed: seed),
      on: backend)
    var stream = RandomStream(seed: seed + 100)
    rows = (0..<count).map { _ in (0..<inputs).map { _ in Float(stream.normal()) } }
    labels = (0..<count).map { _ in Int32(stream.integer(below: classes)) }
  }
  /// Each row under its number.
  var exemplars: [Exemplar] { rows.indices.map { Exemplar(inputs: [Int32($0)], targets: [labels[$0]]) } }
  func batches(_ exemplars: [Exemplar]) -> [Batch] {
    guard !exemplars.isEmpty else { return [] }
    let features = backend.tensor(
      exemplars.flatMap { rows[Int($0.inputs[0])] }, exemplars.count, rows[0].count)
    var batch = Batch(features: features, labels: exemplars.map { $0.targets[0] })
    batch.objectives = Objectives(exemplars)
    return [batch]
  }
  func stage(_ index: Int = 1) -> StageScope {
    StageScope(network: network, stage: index, name: "s", tokens: rows.count, random: RandomStream(seed: 5))
  }
  func past(
    _ index: Int, _ exemplars: [Exemplar]? = nil, tokens: Int? = nil, batchTokens: Int = 8, isUntrained: Bool = false,
    note: @escaping (String) -> Void = { _ in }
  ) -> ConsolidationScope {
    ConsolidationScope(
      network: network, backend: backend, past: index, name: "p\(index)", sequences: exemplars ?? self.exemplars,
      isReal: true, isUntrained: isUntrained, tokens: tokens ?? rows.count, batchTokens: batchTokens,
      makeBatches: { batches($0) },
      random: RandomStream(seed: 9 + UInt64(index)), note: note)
  }
  func compose(_ exemplars: [Exemplar], _ methods: [any ContinualMethod]) -> [Batch] {
    var composition = Composition(
      exemplars, network: network, backend: backend, batchTokens: 8, makeBatches: { batches($0) })
    for method in methods { method.compose(&composition) }
    return composition.batches
  }
  func trainer(_ kind: OptimizerSettings.Kind = .adamw) -> TrainStep {
    TrainStep(network, optimizer: Optimizer(OptimizerSettings(kind: kind), store, on: backend), on: backend)
  }
  /// The gradient of the mean loss on all rows.
  func meanGradient() -> [Double] {
    let sink = Accumulator(store, on: backend)
    _ = network.backward(
      batches(exemplars)[0], seed: CrossEntropySeed(scale: 1 / Float(rows.count)), sink: sink,
      on: backend)
    return sink.gradient.toArray().map { Double($0) }
  }
  func loss(_ exemplars: [Exemplar]) -> Double {
    let values = batches(exemplars).flatMap { network.negativeLogLikelihoods($0, on: backend) }
    return values.reduce(0) { $0 + Double($1) } / Double(exemplars.count)
  }
}
