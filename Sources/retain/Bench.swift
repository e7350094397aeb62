// The measuring itself: medians of steps, the machine's peak, and the three tasks that train.
import CKernels
import Continual
import Curvature
import Glibc
import Layers
import Models
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import Training

/// One benchmark: a shape, a batch and how often.
struct Bench {
  let batch: Int
  let length: Int
  let steps: Int
  /// Gradient checkpointing: blocks run again on the way back.
  let recomputes: Bool
  let backend: CPUBackend
  let configuration: TransformerConfiguration
  let operations: OperationCount
  /// Loaded weights and batches, where some are wanted instead of random ones.
  let model: Transformer?
  let batches: [Batch]?
  /// Documents that each sequence consists of; attention stays inside each.
  let documents: Int
  let learningRate: Double
  /// Pasts that `ewc` holds on to.
  let pasts: Int
  let variant: ElasticWeightConsolidation.Variant
  /// Of `fisher`.
  let recipe: FisherRecipe
  /// Whether `fisher` takes training steps in turn with its passes.
  let besideTraining: Bool

  var tokens: Int { batch * length }
  /// Tokens of every document of a step.
  var lengths: [Int] {
    let each = Self.documentLengths(documents, of: length)
    return (0..<batch).flatMap { _ in each }
  }
  /// Trainable numbers of the shape.
  var parameters: Int { (try? configuration.parameterCount()) ?? 0 }

  /// - Throws: `RunError` (71) where the machine has too little memory
  func measure(_ task: BenchCommand.Task) throws -> BenchResult {
    try requireMemory()
    return switch task {
    case .train: try train(pulled: false)
    case .ewc: try train(pulled: true)
    case .method: throw usage("task method needs a --method")
    case .fisher: try fisher()
    case .gemm: products()
    case .attention: attention()
    case .head: head()
    case .optimizer: optimizer()
    case .checkpoint: try checkpoint()
    case .tokenize: try tokenize()
    }
  }

  /// Refuses what a training step of this size surely cannot hold: state, activations, one block of logits.
  private func requireMemory() throws {
    let activations =
      4 * configuration.layers * (12 * configuration.hiddenSize + 3 * configuration.intermediateSize)
    let needed =
      24 * Double(parameters) + Double(activations) * Double(tokens) + 4 * Double(Head.blockElements)
    let memory = Double(sysconf(Int32(_SC_PHYS_PAGES))) * Double(sysconf(Int32(_SC_PAGESIZE)))
    guard needed < memory else {
      throw RunError(
        Runs.ExitCode.resources,
        "a batch of \(batch) × \(length) tokens needs about \(Int(needed / 1e9)) GB, "
          + "this machine has \(Int(memory / 1e9))",
        hint: "lower --batch or --seq")
    }
  }

  /// Documents of one, two, three … parts of a sequence, so that they differ in length; the last takes what is left.
  static func documentLengths(_ count: Int, of length: Int) -> [Int] {
    let parts = count * (count + 1) / 2
    var lengths = (1..<max(1, count)).map { max(1, $0 * length / parts) }
    lengths.append(length - lengths.reduce(0, +))
    return lengths
  }

  /// Median seconds of a step, after two that warm caches, pools and threads.
  func median(_ step: () throws -> Void) rethrows -> Double {
    for _ in 0..<2 { try step() }
    return Self.median(try (0..<steps).map { _ in try Self.seconds(step) })
  }
  /// Medians of two kinds of step taken in turn, and the median of the second's time ÷ the first's in each turn.
  func medians(
    _ first: @escaping () -> Void, _ second: @escaping () -> Void
  ) throws -> (Double, Double, ratio: Double) {
    let turns = try turns([first, second])
    return (
      Self.median(turns.map { $0[0] }), Self.median(turns.map { $0[1] }), Self.median(turns.map { $0[1] / $0[0] })
    )
  }
  /// Seconds of each kind of step, turn by turn.
  private func turns(_ kinds: [() throws -> Void]) throws -> [[Double]] {
    for _ in 0..<2 { for step in kinds { try step() } }
    return try (0..<steps).map { _ in try kinds.map { try Self.seconds($0) } }
  }
  private static func seconds(_ step: () throws -> Void) rethrows -> Double {
    let begun = Machine.seconds
    try step()
    return Machine.seconds - begun
  }
  private static func median(_ readings: [Double]) -> Double {
    let sorted = readings.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  func transformer() throws -> Transformer {
    let model = try model ?? ModelCatalog.initialize(configuration, random: RandomStream(seed: 17), on: backend)
    model.recomputesBlocks = recomputes
    return model
  }
  /// What step after step trains on, over and over: the given batches, or one of random ids.
  func trainingBatches() -> [Batch] { batches ?? [randomBatch()] }

  /// Documents of random ids; one more than its length is drawn, so that every input has a target.
  func randomBatch() -> Batch {
    var random = RandomStream(seed: 17).forked("tokens")
    return Batch(
      lengths.map { count in
        let ids = (0...count).map { _ in Int32(random.integer(below: configuration.vocabularySize)) }
        return Exemplar(inputs: Array(ids.dropLast()), targets: Array(ids.dropFirst()))
      })
  }
  func uniform(_ rows: Int, _ columns: Int, scale: Float = 1) -> Tensor {
    var random = RandomStream(seed: 17).forked("values")
    let tensor = backend.empty(rows, columns)
    let buffer = tensor.buffer
    for index in buffer.indices { buffer[index] = scale * Float(random.uniform()) }
    return tensor
  }

  /// A full AdamW step; pulled, in turn with plain ones, by an EWC that holds on to `pasts`.
  private func train(pulled: Bool) throws -> BenchResult {
    let model = try transformer()
    let optimizer = Optimizer(OptimizerSettings(weightDecay: 0.01), model.parameters, on: backend)
    let trainStep = TrainStep(model, optimizer: optimizer, on: backend)
    let batches = trainingBatches()
    var (losses, last): ([Double], StepReport?) = ([], nil)
    func step(_ pulls: [QuadraticPull]) {
      let report = trainStep(
        [batches[losses.count % batches.count]], learningRate: learningRate, maximumNorm: 1, pulls: pulls)
      losses.append(report.loss)
      last = report
    }
    let operations = operations.total(lengths: lengths)
    guard pulled else {
      let seconds = median { step([]) }
      return BenchResult(
        seconds: seconds, tokens: tokens, operations: operations, loss: losses.last,
        details: [.init("learning_rate", .number(learningRate)), .init("losses", .array(losses.map { .number($0) }))])
    }
    let method = try consolidated(model, pasts: pasts)
    // Between processes the same step differs by more than pasts could cost, so one past is asked in this one.
    let single = pasts > 1 ? try consolidated(model, pasts: 1) : nil
    let turns = try turns(
      [{ step([]) }] + (single.map { one in [{ step(one.pulls) }] } ?? []) + [{ step(method.pulls) }])
    let all = single == nil ? 1 : 2
    let seconds = Self.median(turns.map { $0[all] })
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: operations, loss: losses.last,
      details: [
        .init("penalty", JSON(last?.penalty)), .init("pasts", .integer(pasts)),
        .init("variant", .string(variant.rawValue)), .init("pulls", .integer(method.pulls.count)),
        .init("plain_seconds_per_step", .number(Self.median(turns.map { $0[0] }))),
        .init("ratio_to_plain", .number(Self.median(turns.map { $0[all] / $0[0] }))),
      ] + (single == nil ? [] : [.init("ratio_to_one_past", .number(Self.median(turns.map { $0[2] / $0[1] })))]))
  }

  /// EWC that has been told about pasts with random Fishers, each somewhere else.
  private func consolidated(_ model: Transformer, pasts: Int) throws -> ElasticWeightConsolidation {
    let store = model.parameters
    let method = ElasticWeightConsolidation(
      .init(strength: .fixed(1), variant: variant), store, on: backend)
    let start = backend.copied(store.values)
    for past in 0..<pasts {
      method.absorb(uniform(1, store.count), weight: 1)
      backend.add(start, scaled: 1e-3 * Float(past + 1), into: store.values)
    }
    backend.copy(start, into: store.values)
    try method.stageWillBegin(
      StageScope(network: model, stage: 1, name: "bench", tokens: tokens, random: RandomStream(seed: 17)))
    return method
  }

  /// One pass over a batch; in turn with training steps at rate 0, which leave the model as it is, where asked.
  private func fisher() throws -> BenchResult {
    let model = try transformer()
    let batch = trainingBatches()[0]
    let losses = model.negativeLogLikelihoods(batch, on: backend)
    var estimate: FisherEstimate?
    func pass() throws {
      estimate = try DiagonalFisher.estimate(
        model, over: [batch], recipe: recipe, random: RandomStream(seed: 17), on: backend)
    }
    let seconds: Double
    var beside: [JSON.Member] = []
    if besideTraining {
      let optimizer = Optimizer(OptimizerSettings(weightDecay: 0.01), model.parameters, on: backend)
      let trainStep = TrainStep(model, optimizer: optimizer, on: backend)
      let turns = try turns([{ _ = trainStep([batch], learningRate: 0, maximumNorm: 1, pulls: []) }, pass])
      seconds = Self.median(turns.map { $0[1] })
      beside = [
        .init("training_seconds_per_step", .number(Self.median(turns.map { $0[0] }))),
        .init("ratio_to_training", .number(Self.median(turns.map { $0[0] / $0[1] }))),
      ]
    } else {
      seconds = try median(pass)
    }
    let trace = estimate.map { $0.values.buffer.reduce(0) { $0 + Double($1) } }
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: operations.total(lengths: lengths),
      loss: losses.reduce(0) { $0 + Double($1) } / Double(max(1, losses.count)),
      details: [.init("recipe", .string(recipe.description)), .init("trace", JSON(trace))] + beside)
  }
}

/// What the machine can do at most, measured now.
enum MachinePeak {
  /// Multiply-adds in registers on all threads at once, in 10⁹ operations a second; the best reading.
  ///
  /// Each thread's rate is by its own processor time, so that other processes do not lower the yardstick.
  /// - Cost: about 0.2 s
  static func gigaflops(threads: Int) -> Double {
    let pool = ThreadPool(threads: threads)
    let done = Counter(threads)
    func reading(_ rounds: Int) -> (seconds: Double, rate: Double) {
      let begun = Machine.seconds
      pool.run(threads) { index in
        let start = threadSeconds
        let operations = ck_peak_fma(rounds, 0.999, 0.001, done.results.baseAddress.map { $0 + index })
        done.rates[index] = operations / max(1e-9, threadSeconds - start) / 1e9
      }
      return (Machine.seconds - begun, done.rates.reduce(0, +))
    }
    var rounds = 1000
    while reading(rounds).seconds < 0.02 { rounds *= 2 }
    return (0..<8).reduce(0) { best, _ in max(best, reading(rounds).rate) }
  }

  /// Seconds that the calling thread has run.
  private static var threadSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  /// A place a thread for what it did.
  private final class Counter {
    let rates: UnsafeMutableBufferPointer<Double>
    let results: UnsafeMutableBufferPointer<Float>
    init(_ count: Int) {
      rates = .allocate(capacity: count)
      results = .allocate(capacity: count)
      rates.initialize(repeating: 0)
      results.initialize(repeating: 0)
    }
    deinit {
      rates.deallocate()
      results.deallocate()
    }
  }
}
