// How much memory a chain needs, from shapes alone.
// A run is refused in the first second rather than killed in the tenth hour.
import Continual
import Experiment
import Layers
import Models
import TensorCPU
import Training

/// Peak memory of one variant of an experiment, in bytes.
///
/// With P parameters, N tokens in a micro-batch (replayed ones included), C hidden size, F intermediate size,
/// A = query width, K = key width, H heads, L layers, V tokens of the vocabulary:
///
/// - parameters 4P; gradient 4P; moments 8P (AdamW), 0 (SGD)
/// - in stages with an adapter, instead of moments: 4 for every adapted weight, 16 for every number in its factors
///   (8 with SGD), and 8 for every number of the largest one while pulls are projected
/// - methods: EWC 8P, and 12P more while a past is consolidated (its Fisher, a copy, the base's Fisher that
///   variants share); the others as their `stateBytes` has it, and 8P for interfered retrieval
/// - base copy 4P where variants start over from the base
/// - activations kept for the backward pass 4NL(4C + 2A + 2K + H + mF), m = 2 for gated layers, 1 else
///   with gradient checkpointing 4N(LC) and one layer's
/// - work of one layer 4N(6C + 2A + 2K + 3F), N here at least the 4096 tokens of scoring
/// - head 4·min(NV, 2²⁵) for a block of logits, and 12NC, N likewise
/// - half of these three again, because batches of different lengths use buffers of different sizes
/// - bf16: 2P for the rounded weights, and half of activations, work and head again for theirs
/// - data: 12 a token of training text; 80 MiB for everything else
///
/// Within 15 % of what was measured on models of 0.3 and 24 million parameters with OpenBLAS products in fp32; not
/// measured with oneDNN, bf16 or gradient checkpointing.
public struct MemoryEstimate: Sendable {
  public struct Part: Sendable {
    public let name: String
    public let bytes: Int
  }
  public let parts: [Part]
  public var bytes: Int { parts.reduce(0) { $0 + $1.bytes } }

  /// - Parameter isReused: other variants of the experiment start from the same base
  public init(_ plan: ExperimentPlan, assembly: Assembly, isReused: Bool) {
    let parameters = assembly.subject.network.parameters.count
    var parts: [Part] = []
    func add(_ name: String, _ bytes: Int) { if bytes > 0 { parts.append(Part(name: name, bytes: bytes)) } }
    add("parameters", 4 * parameters)
    add("gradient", 4 * parameters)
    // Of the stages one after the other the largest counts.
    let states = plan.stages.map { Self.optimizerState($0, assembly) }
    let moments = states.map(\.moments).max() ?? 0
    let adapter = states.map(\.adapter).max() ?? 0
    if moments >= adapter { add("moments", moments) } else { add("adapter", adapter) }
    var distinct: [MethodPlan] = []
    for method in plan.methods + plan.stages.flatMap({ $0.methods ?? [] }) where !distinct.contains(method) {
      distinct.append(method)
    }
    for method in distinct {
      add(
        method.name,
        method.type?.stateBytes(method.methodOptions, parameters: parameters, pasts: plan.stages.count) ?? 0)
    }
    if distinct.contains(where: { $0.name == "ewc" }) {
      add("consolidation", 12 * parameters)
    }
    if distinct.contains(where: { $0.string("retrieval") == "interfered" }) { add("retrieval", 8 * parameters) }
    let usesBF16 = plan.stages.contains { $0.training.precision == .bf16 } && CPUBackend.supportsBF16
    add("rounded weights", usesBF16 ? 2 * parameters : 0)
    add("base copy", isReused ? 4 * parameters : 0)

    let widest =
      plan.stages.indices.map { Self.batchTokens(plan, stage: $0, contextLength: assembly.subject.contextLength) }.max()
      ?? 0
    switch assembly.subject {
    case .language(let model):
      let sizes = model.configuration
      let (width, inner) = (sizes.hiddenSize, sizes.intermediateSize)
      let queries = sizes.heads * sizes.headDimension
      let keys = sizes.keyHeads * sizes.headDimension
      let gates = sizes.architecture == "llama" ? 2 : 1
      // Buffers come in size classes, up to a quarter larger than asked: 4 bytes become 5.
      let layer = 4 * width + 2 * queries + 2 * keys + sizes.heads + gates * inner
      let recomputes = plan.stages.allSatisfy(\.training.gradientCheckpointing)
      let kept = recomputes ? sizes.layers * width + layer : sizes.layers * layer
      let scored = max(widest, ChainRun.scoringTokens)
      let work = scored * (6 * width + 2 * queries + 2 * keys + 3 * inner)
      let block = min(scored * sizes.vocabularySize, Head.blockElements)
      add("activations", 5 * widest * kept)
      add("work of a layer", 5 * work)
      add("head", 5 * block + 15 * scored * width)
      if usesBF16 { add("rounded activations", 5 * (widest * kept + work + block) / 2) }
    case .classifier(let classifier):
      let sizes = classifier.network.configuration
      add("activations", 12 * widest * (sizes.inputs + sizes.hiddenSizes.reduce(0, +)))
      add("images", 8 * sizes.inputs * assembly.data.stages.reduce(0) { $0 + $1.examples.count })
    }
    let tokens = ([assembly.data.base] + assembly.data.stages).reduce(0) { $0 + $1.inputTokens }
    add("data", 12 * tokens)
    add("program", 80 << 20)
    self.parts = parts
  }

  /// Bytes that a stage's optimizer keeps, or its adapter with its optimizer.
  static func optimizerState(_ stage: StagePlan, _ assembly: Assembly) -> (moments: Int, adapter: Int) {
    let isAdamW = stage.training.optimizer == .adamw
    guard let settings = AdapterSettings(stage.training) else {
      return (isAdamW ? 8 * assembly.subject.network.parameters.count : 0, 0)
    }
    // Patterns that match nothing are refused elsewhere.
    let weights = (try? assembly.adapted(stage)) ?? []
    let largest = weights.map(\.range.count).max() ?? 0
    return (
      0,
      4 * weights.reduce(0) { $0 + $1.range.count } + (isAdamW ? 16 : 8) * settings.factorCount(of: weights) + 8
        * largest
    )
  }

  /// Tokens of the largest micro-batch of a stage.
  static func batchTokens(_ plan: ExperimentPlan, stage: Int, contextLength: Int) -> Int {
    let training = plan.stages[stage].training
    let tokens = training.microBatchSize * min(training.sequenceLength, contextLength)
    return tokens + Int((Double(tokens) * plan.rehearsedPerToken(stage: stage)).rounded(.up))
  }
}

extension ExperimentPlan {
  /// What the methods of a stage add to its steps beside rehearsed tokens, as a share of a plain step's work.
  func addedWork(stage: Int, _ step: StepOutline) -> Double {
    (stages[stage].methods ?? methods).reduce(0) { $0 + ($1.type?.addedWork($1.methodOptions, step) ?? 0) }
  }
  /// Rehearsed tokens for every stage token.
  func rehearsedPerToken(stage: Int) -> Double {
    (stages[stage].methods ?? methods).reduce(0) { $0 + ($1.type?.rehearsedPerToken($1.methodOptions) ?? 0) }
  }
}
