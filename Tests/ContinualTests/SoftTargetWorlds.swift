// Small models with answers by hand, for tests of what is taught beside targets.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Training

/// softmax(z/T) in double.
func softened(_ logits: [Float], _ temperature: Double) -> [Double] {
  let exponentials = logits.map { Maths.exp(Double($0) / temperature) }
  let total = exponentials.reduce(0, +)
  return exponentials.map { $0 / total }
}

/// T²·KL(teacher ‖ student) of two rows of logits, the teacher's `count` likeliest classes one by one and the others as
/// one outcome.
func divergence(_ teacher: [Float], _ student: [Float], temperature: Double, count: Int) -> Double {
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
func surprise(_ logits: [Float], _ target: Int32) -> Double { -Maths.log(softened(logits, 1)[Int(target)]) }

/// Logits of every place of a batch.
func outputs(_ network: any Network, _ batch: Batch, on backend: any Backend) -> [[Float]] {
  let hidden = network.forward(batch, recording: false, on: backend).hidden
  let all = network.head(batch.head).linear.forward(hidden, on: backend)
  return (0..<all.rows).map { all.rows($0..<$0 + 1).toArray() }
}

/// Moves every parameter.
func stir(_ store: ParameterStore, seed: UInt64, on backend: any Backend) {
  var random = RandomStream(seed: seed)
  let way = backend.tensor((0..<store.count).map { _ in Float(random.normal()) }, 1, store.count)
  backend.add(way, scaled: 0.2, into: store.values)
}

/// A stage's rows and what methods add to them.
func composed(_ stage: [Exemplar], _ methods: [any ContinualMethod], _ world: RowWorld) -> Composition {
  var composition = Composition(
    stage, network: world.network, backend: world.backend, batchTokens: 8, makeBatches: { world.batches($0) })
  for method in methods { method.compose(&composition) }
  return composition
}

/// A tiny language model and a few sequences.
struct TextWorld {
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
final class Witness: Network {
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
struct HeadWorld {
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
