// A limit on examples is exact: so many sequences go through the pass, however batches are cut.
import Continual
import Curvature
import Layers
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

/// A network that counts the sequences whose way back is asked for.
private final class Counter: Network {
  private let network: any Network
  private(set) var sequences = 0
  var parameters: ParameterStore { network.parameters }
  init(_ network: any Network) { self.network = network }
  func head(_ index: Int) -> Head { network.head(index) }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    if recording { sequences += batch.segments.count }
    return network.forward(batch, recording: recording, on: backend)
  }
}

@Suite struct ExampleCountTests {
  enum Estimate: CaseIterable { case sequence, position, batch, factors, mas, rwalk, freezing, directions }
  private func method(_ estimate: Estimate, examples: Int, _ world: RowWorld) -> any ContinualMethod {
    let (store, backend) = (world.store, world.backend)
    func ewc(_ unit: FisherRecipe.Unit, _ structure: FisherRecipe.Structure = .diagonal) -> ElasticWeightConsolidation {
      let recipe = FisherRecipe(
        labels: .sampled(count: 2), unit: unit, structure: structure, examples: examples, batch: 3)
      return ElasticWeightConsolidation(.init(strength: .fixed(1), fisher: recipe), store, on: backend)
    }
    switch estimate {
    case .sequence: return ewc(.sequence)
    case .position: return ewc(.position)
    case .batch: return ewc(.batch)
    case .factors: return ewc(.sequence, .kronecker)
    case .mas: return MemoryAwareSynapses(strength: 1, examples: examples, store, on: backend)
    case .rwalk: return RiemannianWalk(strength: 1, examples: examples, store, on: backend)
    case .freezing: return FisherFreezing(mass: 0.5, examples: examples, store, on: backend)
    case .directions: return OrthogonalGradientDescent(directions: 3, examples: examples, store, on: backend)
    }
  }

  /// 5 and 13 of 24 sequences in batches of 8, and no more than there are. Mistake: whole batches until the limit is
  /// passed.
  @Test(arguments: Estimate.allCases, [5, 13, 24, 100]) func passesTakeExactlyAsMany(
    _ estimate: Estimate, examples: Int
  ) throws {
    let world = RowWorld()
    let counter = Counter(world.network)
    var notes: [String] = []
    try method(estimate, examples: examples, world).consolidate(
      ConsolidationScope(
        network: counter, backend: world.backend, past: 0, name: "base", sequences: world.exemplars, isReal: true,
        tokens: 24, batchTokens: 8, makeBatches: { world.batches($0) }, random: RandomStream(seed: 9),
        note: { notes.append($0) }))
    let wanted = min(24, examples)
    #expect(counter.sequences == wanted)
    if [.sequence, .position, .batch, .factors].contains(estimate) {
      #expect(notes.contains { $0.contains("; \(wanted) sequences, \(wanted) scored tokens") }, "\(notes)")
    }
  }
}
