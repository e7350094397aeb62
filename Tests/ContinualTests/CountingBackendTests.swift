// A backend that only counts asks for the buffers that a computing one asks for.
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import Testing
import Training

@Suite struct CountingBackendTests {
  enum Pass: CaseIterable { case training, recomputing, adapting, scoring, fisher, factors }

  /// Bytes that the passes leave in the pool of a backend.
  private func held(_ pass: Pass, _ architecture: String, on backend: CPUBackend) throws -> Int {
    let model = try ModelCatalog.build(
      TransformerConfiguration(
        architecture: architecture, vocabularySize: 3000, hiddenSize: 96, intermediateSize: 256, layers: 3, heads: 4,
        keyHeads: 4, contextLength: 128, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true), on: backend)
    model.recomputesBlocks = pass == .recomputing
    let ids = (0..<2048).map { Int32($0 * 7 % 3000) }
    let batch = Batch(tokens: ids, targets: ids, lengths: [Int](repeating: 128, count: 16))
    let store = model.parameters
    switch pass {
    case .training, .recomputing:
      let step = TrainStep(model, optimizer: Optimizer(OptimizerSettings(), store, on: backend), on: backend)
      for _ in 0..<2 { _ = step([batch], learningRate: 1e-3, maximumNorm: 1) }
    case .adapting:
      let adapter = LowRankAdapter(
        AdapterSettings(rank: 4), store.matrices(nil, except: []).chosen, of: store, optimizer: OptimizerSettings(),
        random: RandomStream(seed: 1), earlier: nil, on: backend)
      let step = TrainStep(model, adapter: adapter, on: backend)
      for _ in 0..<2 { _ = step([batch], learningRate: 1e-3, maximumNorm: 1) }
    case .scoring: _ = model.negativeLogLikelihoods(batch, on: backend)
    case .fisher, .factors:
      let sink: any GradientSink =
        pass == .fisher ? PerSequenceMoments(store, .squares, on: backend) : KroneckerFactors(store, on: backend)
      _ = try FisherPass.run(
        model, over: [batch], labels: .observed, examples: .max, random: RandomStream(seed: 1), into: sink, on: backend)
    }
    return backend.pool.bytesHeld
  }

  @Test(arguments: Pass.allCases, ["llama", "gpt2"]) func asksForTheSameBuffers(pass: Pass, architecture: String) throws
  {
    for precision in Precision.allCases where precision == .fp32 || CPUBackend.supportsBF16 {
      let counting = CPUBackend(countingOnly: precision, threads: 1)
      let counted = try held(pass, architecture, on: counting)
      let needed = try held(pass, architecture, on: CPUBackend(threads: 1, precision: precision))
      // What loops take for a tile of their own is not seen: at most a mebibyte a thread.
      #expect(counted <= needed && needed - counted <= 1 << 20, "\(precision): \(counted) counted, \(needed) needed")
      #expect(counting.pool.bytesTouched <= counted && 10 * counting.pool.bytesTouched > 8 * counted)
    }
  }

  /// Batches of slightly different lengths share large buffers instead of adding their own.
  @Test func lengthsThatVaryShareBuffers() {
    let pool = BufferPool()
    let backend = ReferenceBackend(pool: pool)
    for rows in [4000, 4096, 3800, 4400, 4096, 4390] { _ = backend.empty(rows, 256) }
    #expect(pool.bytesHeld < 2 * 4400 * 256 * 4, "\(pool.bytesHeld) bytes")
    let allocations = pool.allocations
    for rows in [4390, 4000, 4400] { _ = backend.empty(rows, 256) }
    #expect(pool.allocations == allocations)
  }
}
