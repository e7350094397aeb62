// What GEM and A-GEM share: memories of the past, their gradients, and a step that may not raise their losses.
import Layers
import TensorCore
import Training

/// The step u = θ_new − θ_old that was really taken, optimizer and all, becomes the nearest u′ with ⟨u′, g_k⟩ ≤ 0.
///
/// A-GEM has one g, the gradient on a sample from all memories: u′ = u − max(0, ⟨u, g⟩)/⟨g, g⟩·g. GEM has one g_k for
/// every past: u′ = u − Σ w_k g_k with w ≥ margin·η minimising ½ wᵀ(GGᵀ)w − wᵀGu.
/// - Cost: a forward and a backward pass over the sample (GEM: over every past's memory) and 12 bytes a parameter and
///   step; state: the buffer; in memory the parameters before the step and a gradient (GEM: one for every past), each
///   of 4 bytes a parameter
/// - Trap: projecting a gradient that then passes through moments or clipping guarantees nothing
/// - Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840; A-GEM: Chaudhry et al. 2019, arXiv:1812.00420
public final class GradientMemory {
  private let isSingle: Bool
  private let sampleTokens: Int
  private let margin: Double
  private let store: ParameterStore
  private let backend: any Backend
  private var buffer: ReplayBuffer
  private var stream = RandomStream(seed: 0)
  private var draws = 0
  private var (asked, projected) = (0, 0)
  private var makeBatches: (([Exemplar]) -> [Batch])?
  private var batchTokens = 1
  private var references: [Accumulator] = []
  private var previous: Tensor?

  /// - Parameters:
  ///   - sampleTokens: of the one reference gradient (A-GEM); nil for one of each past's whole memory (GEM)
  init(
    budgetTokens: Int, sampleTokens: Int?, margin: Double, _ store: ParameterStore, on backend: any Backend
  ) {
    isSingle = sampleTokens != nil
    self.sampleTokens = sampleTokens ?? 0
    self.margin = margin
    self.store = store
    self.backend = backend
    buffer = ReplayBuffer(budgetTokens: budgetTokens, selection: .stageBalanced)
  }

  func begin(_ scope: StageScope) {
    stream = scope.random
    (draws, asked, projected) = (0, 0, 0)
  }
  func offer(_ scope: ConsolidationScope) {
    guard scope.isReal else {
      scope.note("the memory of \(scope.name) is empty: there is no base_data")
      return
    }
    buffer.offer(scope.sequences, past: scope.past, random: scope.random.forked("keys"))
  }
  /// How sequences become batches is known only while a batch is made.
  func look(at batch: Composition) { (makeBatches, batchTokens) = (batch.makeBatches, batch.batchTokens) }

  /// The memories that this step is held to.
  private func memories() -> [[Exemplar]] {
    guard isSingle else {
      return Dictionary(grouping: buffer.items, by: \.past).sorted { $0.key < $1.key }.map { $0.value.map(\.exemplar) }
    }
    draws += 1
    var random = stream.forked("sample", draws)
    var order = Array(buffer.items.indices)
    var (sample, tokens): ([Exemplar], Int) = ([], 0)
    for i in order.indices {
      order.swapAt(i, i + random.integer(below: order.count - i))
      let exemplar = buffer.items[order[i]].exemplar
      if !sample.isEmpty, tokens + exemplar.inputs.count > sampleTokens { break }
      sample.append(exemplar)
      tokens += exemplar.inputs.count
    }
    return sample.isEmpty ? [] : [sample]
  }

  /// Before the step: gradients of the memories at the same parameters, and the parameters themselves.
  func prepare(_ step: StepScope) {
    let memories = memories()
    guard !memories.isEmpty, let makeBatches else {
      previous = nil
      return
    }
    while references.count < memories.count { references.append(Accumulator(store, on: backend)) }
    references.removeLast(references.count - memories.count)
    for (memory, reference) in zip(memories, references) {
      reference.reset()
      let batches = memory.runs(ofTokens: batchTokens).flatMap { makeBatches(Array($0)) }
      let seed = CrossEntropySeed(scale: 1 / Float(max(1, batches.reduce(0) { $0 + $1.scored })))
      for batch in batches { _ = step.network.backward(batch, seed: seed, sink: reference, on: backend) }
    }
    if let previous { backend.copy(store.values, into: previous) } else { previous = backend.copied(store.values) }
  }

  /// After the step: takes back what would raise the loss on a memory.
  func project(_ step: StepScope) {
    guard let previous else { return }
    asked += 1
    let moving = step.moving
    // Parameters that stand still have no part in the constraint; a reference without them has no gradient there.
    func each(_ reference: Accumulator, _ body: (Tensor, Parameter) -> Void) {
      for parameter in moving where reference.hasGradient(parameter) {
        body(reference.gradient.slice(parameter.range), parameter)
      }
    }
    let update = backend.empty(1, store.count)
    backend.subtract(previous, from: store.values, into: update)
    let slopes = references.map { reference in
      var sum = 0.0
      each(reference) { gradient, parameter in sum += backend.dot(gradient, update.slice(parameter.range)) }
      return sum
    }
    guard slopes.contains(where: { $0 > 0 }) else { return }
    projected += 1
    var gram = [[Double]](repeating: [Double](repeating: 0, count: references.count), count: references.count)
    for i in references.indices {
      for j in 0...i {
        var sum = 0.0
        each(references[i]) { gradient, parameter in
          guard references[j].hasGradient(parameter) else { return }
          sum += backend.dot(gradient, references[j].gradient.slice(parameter.range))
        }
        (gram[i][j], gram[j][i]) = (sum, sum)
      }
    }
    let weights = Self.weights(gram, slopes, floor: margin * step.learningRate)
    for (reference, weight) in zip(references, weights) where weight != 0 {
      each(reference) { gradient, parameter in
        backend.add(gradient, scaled: -Float(weight), into: store.values.slice(parameter.range))
      }
    }
  }

  /// argmin over w ≥ floor of ½ wᵀMw − wᵀs, by coordinates: each takes its own minimum until none moves.
  public static func weights(_ gram: [[Double]], _ slopes: [Double], floor: Double) -> [Double] {
    var w = [Double](repeating: floor, count: slopes.count)
    let scale = zip(slopes, gram.indices).map { gram[$1][$1] > 0 ? abs($0) / gram[$1][$1] : 0 }.max() ?? 0
    for _ in 0..<10_000 {
      var moved = 0.0
      for i in w.indices where gram[i][i] > 0 {
        let rest = w.indices.reduce(slopes[i]) { $1 == i ? $0 : $0 - gram[i][$1] * w[$1] }
        let best = max(floor, rest / gram[i][i])
        moved = max(moved, abs(best - w[i]))
        w[i] = best
      }
      if moved <= 1e-12 * scale { break }
    }
    return w
  }

  var facts: [(name: String, value: Double)] {
    [("projected_steps", Double(projected)), ("constrained_steps", Double(asked))]
  }
  func write(to writer: any StateWriter) {
    buffer.write(to: writer)
    writer.integers(
      "counters", [buffer.seen, draws, asked, projected],
      description: "sequences seen; samples drawn; steps that were held to memories; steps that were changed")
  }
  func restore(from reader: any StateReader) throws {
    let counters = try reader.integers("counters")
    guard counters.count == 4 else { throw StateError(description: "the memory's counters have another form") }
    buffer = try ReplayBuffer(
      budgetTokens: buffer.budgetTokens, selection: buffer.selection, seen: counters[0],
      vocabulary: store.vocabulary, from: reader)
    (draws, asked, projected) = (counters[1], counters[2], counters[3])
  }

  static let budget = OptionSchema(
    "budget_tokens", .integer(1...1_000_000_000_000, words: []), default: .integer(200_000),
    "How many tokens the memories hold together; every past gets the same share.")
}

/// A method that is a gradient memory with options of its own.
public protocol GradientMemoryMethod: ConfigurableMethod {
  var memory: GradientMemory { get }
}

extension GradientMemoryMethod {
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    8 * chain.buffered(options)
  }
  /// The parameters before the step, and a gradient for each past (A-GEM: one for all).
  public static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    4 * chain.parameters * (1 + (schema.name == "gem" ? chain.pasts : 1))
  }
  public static var constrainsSteps: Bool { true }
  public static func reasonAgainstAdapters(_ options: MethodOptions) -> String? { "moves the weights themselves" }
  public func stageWillBegin(_ scope: StageScope) throws { memory.begin(scope) }
  public func compose(_ batch: inout Composition) { memory.look(at: batch) }
  public func adjustGradient(_ step: StepScope) -> Double {
    memory.prepare(step)
    return 0
  }
  public func adjustParameters(_ step: StepScope) -> Double {
    memory.project(step)
    return 0
  }
  public func consolidate(_ scope: ConsolidationScope) throws { memory.offer(scope) }
  public var facts: [(name: String, value: Double)] { memory.facts }
  public func write(to writer: any StateWriter) { memory.write(to: writer) }
  public func restore(from reader: any StateReader) throws { try memory.restore(from: reader) }
}
