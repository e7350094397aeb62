// What the passes of a chain hold in memory, found by going through them without computing.
import Continual
import Curvature
import Experiment
import Layers
import Models
import TensorCPU
import TensorCore
import Training

/// Runs a model's passes on a backend that hands out address ranges instead of memory, and counts them.
///
/// The code that will run decides, so that a new layer, sink or optimizer needs no formula here.
/// - Cost: milliseconds, whatever the size of the model
struct MemoryRehearsal {
  private let configuration: TransformerConfiguration
  /// As the run's; nil for all processors.
  private let threads: Int?

  init(_ configuration: TransformerConfiguration, threads: Int?) {
    self.configuration = configuration
    self.threads = threads
  }

  /// Bytes beside the parameters that two steps of a stage leave held: gradient, moments or adapter, activations, work.
  ///
  /// - Parameter looksBetween: scoring comes between steps
  func training(_ stage: StagePlan, tokens: Int, looksBetween: Bool) -> Int {
    let training = stage.training
    let backend = CPUBackend(countingOnly: training.precision, threads: threads)
    guard let network = network(on: backend) else { return 0 }
    network.recomputesBlocks = training.gradientCheckpointing
    let store = network.parameters
    let settings = Assembly.optimizerSettings(training)
    let step: TrainStep
    if let adapter = AdapterSettings(training) {
      let weights = store.matrices(training.loraTargets, except: training.freeze).chosen
      step = TrainStep(
        network,
        adapter: LowRankAdapter(
          adapter, weights, of: store, optimizer: settings, random: RandomStream(seed: 0), earlier: nil, on: backend),
        on: backend)
    } else {
      _ = store.freeze(training.freeze)
      step = TrainStep(network, optimizer: Optimizer(settings, store, on: backend), on: backend)
    }
    // The gradient lends its memory to the first micro-batch of a step only.
    let batches = [Batch](
      repeating: batch(tokens, length: training.sequenceLength), count: min(2, training.gradientAccumulationSteps))
    // The second finds what the first gave back.
    for _ in 0..<2 {
      _ = step(batches, learningRate: 1, maximumNorm: 1)
      if looksBetween {
        backend.precision = .fp32
        score(network, tokens: ChainRun.scoringTokens, on: backend)
        backend.precision = training.precision
      }
    }
    return held(backend)
  }
  private func score(_ network: Transformer, tokens: Int, on backend: CPUBackend) {
    _ = network.negativeLogLikelihoods(batch(tokens, length: configuration.contextLength), on: backend)
  }

  /// Bytes beside the parameters of scoring.
  func measuring(tokens: Int) -> Int {
    let backend = CPUBackend(countingOnly: .fp32, threads: threads)
    guard let network = network(on: backend) else { return 0 }
    score(network, tokens: tokens, on: backend)
    return held(backend)
  }

  /// Bytes beside the parameters of the pass that finds out what matters to a past, its sums included.
  func consolidating(_ methods: [MethodPlan], _ stage: StagePlan, tokens: Int) -> Int {
    let isFactored = methods.contains { $0.string("fisher.structure") == "kronecker" }
    let backend = CPUBackend(countingOnly: stage.training.precision, threads: threads)
    guard let network = network(on: backend) else { return 0 }
    network.recomputesBlocks = stage.training.gradientCheckpointing
    let sink: any GradientSink =
      isFactored
      ? KroneckerFactors(network.parameters, on: backend)
      : PerSequenceMoments(network.parameters, .squares, on: backend)
    // Which labels makes no difference to memory; sampled ones would have to be computed.
    _ = try? FisherPass.run(
      network, over: [batch(tokens, length: stage.training.sequenceLength)], labels: .observed, examples: .max,
      random: RandomStream(seed: 0), into: sink, on: backend)
    return held(backend)
  }

  private func network(on backend: CPUBackend) -> Transformer? { try? ModelCatalog.build(configuration, on: backend) }
  private func held(_ backend: CPUBackend) -> Int {
    backend.pool.bytesTouched - 4 * ((try? configuration.parameterCount()) ?? 0)
  }
  /// Sequences of one length, the last one of what is left, every token scored.
  private func batch(_ tokens: Int, length: Int) -> Batch {
    let length = max(1, min(length, configuration.contextLength))
    var lengths = [Int](repeating: length, count: tokens / length)
    if tokens % length > 0 { lengths.append(tokens % length) }
    let ids = (0..<tokens).map { Int32($0 % configuration.vocabularySize) }
    return Batch(tokens: ids, targets: ids, lengths: lengths)
  }
}
