// The measuring itself: medians of steps, the machine's peak, and the three tasks that train.
import CKernels
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
  let shape: BenchShape
  let batch: Int
  let length: Int
  let steps: Int
  let recomputes: Bool
  let backend: CPUBackend
  let configuration: TransformerConfiguration
  let operations: OperationCount

  init(shape: BenchShape, batch: Int, length: Int, steps: Int, recomputes: Bool, backend: CPUBackend) {
    self.shape = shape
    self.batch = batch
    self.length = length
    self.steps = steps
    self.recomputes = recomputes
    self.backend = backend
    configuration = shape.configuration(length: length)
    operations = OperationCount(configuration)
  }

  var tokens: Int { batch * length }
  /// Trainable numbers of the shape.
  var parameters: Int { (try? configuration.parameterCount()) ?? 0 }

  /// - Throws: `RunError` (71) where the machine has too little memory
  func measure(_ task: BenchCommand.Task) throws -> BenchResult {
    try requireMemory()
    return switch task {
    case .train: try train(pulled: false)
    case .ewc: try train(pulled: true)
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

  /// Median seconds of a step, after two that warm caches, pools and threads.
  func median(_ step: () throws -> Void) rethrows -> Double {
    for _ in 0..<2 { try step() }
    var seconds: [Double] = []
    for _ in 0..<steps {
      let begun = Machine.seconds
      try step()
      seconds.append(Machine.seconds - begun)
    }
    seconds.sort()
    let middle = seconds.count / 2
    return seconds.count % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2
  }

  func transformer() throws -> Transformer {
    let model = try ModelCatalog.initialize(configuration, random: RandomStream(seed: 17), on: backend)
    model.recomputesBlocks = recomputes
    return model
  }
  /// Sequences of random ids; one more than `length` is drawn, so that every input has a target.
  func randomBatch() -> Batch {
    var random = RandomStream(seed: 17).forked("tokens")
    return Batch(
      (0..<batch).map { _ in
        let ids = (0...length).map { _ in Int32(random.integer(below: configuration.vocabularySize)) }
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

  /// A full AdamW step; pulled by one past, its Fisher and anchor like those of EWC.
  private func train(pulled: Bool) throws -> BenchResult {
    let model = try transformer()
    let optimizer = Optimizer(OptimizerSettings(weightDecay: 0.01), model.parameters, on: backend)
    let step = TrainStep(model, optimizer: optimizer, on: backend)
    let pulls =
      pulled
      ? [
        QuadraticPull(
          strength: 1, curvature: uniform(1, model.parameters.count),
          anchor: backend.copied(model.parameters.values),
          form: .proximal)
      ] : []
    let batch = randomBatch()
    var last: StepReport?
    let seconds = median { last = step([batch], learningRate: 1e-4, maximumNorm: 1, pulls: pulls) }
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: operations.perToken(length: length) * Double(tokens),
      loss: last?.loss, details: pulled ? [.init("penalty", JSON(last?.penalty))] : [])
  }

  private func fisher() throws -> BenchResult {
    let model = try transformer()
    let batch = randomBatch()
    let recipe = FisherRecipe(labels: .observed, unit: .sequence, examples: self.batch)
    let losses = model.negativeLogLikelihoods(batch, on: backend)
    let seconds = try median {
      _ = try DiagonalFisher.estimate(
        model, over: [batch], recipe: recipe, random: RandomStream(seed: 17), on: backend)
    }
    return BenchResult(
      seconds: seconds, tokens: tokens, operations: operations.perToken(length: length) * Double(tokens),
      loss: losses.reduce(0) { $0 + Double($1) } / Double(max(1, losses.count)),
      details: [.init("recipe", .string(recipe.description))])
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
