// Memory aware synapses: a parameter matters by how much it moves the model's outputs, whatever the labels.
import Curvature
import Layers
import TensorCore
import Training

/// Ω_i = mean_n |∂‖f(x_n)‖²/∂θ_i|, summed over pasts; loss + λ Σ Ω (θ − θ*)².
///
/// f are the logits of all scored places of a sequence; magnitudes are taken for each sequence before the mean, and the
/// mean is per scored token. No label is looked at.
/// - Cost: one forward and one backward pass over `examples` sequences a past; then 8 bytes a parameter and step
/// - Trap: the magnitude of a batch's mean gradient is another, smaller quantity
/// - Source: Aljundi et al. 2018, arXiv:1711.09601
public final class MemoryAwareSynapses: ConfigurableMethod {
  public static let card = MethodCard(
    name: "mas", title: "Memory aware synapses", paper: "Aljundi et al. 2018 (arXiv:1711.09601)",
    equation: "λ Σ Ω (θ − θ*)², Ω = mean |∂‖f(x)‖²/∂θ|", cost: "8 bytes a parameter and step; one pass a past",
    state: "8 bytes a parameter", needs: "text of the past at consolidation only, no labels",
    verified: "closed form of a linear map; independence of the batch's size")

  public static let schema = MethodSchema(
    "mas", "Memory aware synapses: importance is how strongly a parameter moves the squared norm of the logits.",
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: []), default: .number(1),
        "The strength; the penalty is λ Σ Ω (θ − θ*)², without a factor of one half, as in the paper."),
      .form,
      OptionSchema(
        "examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(512),
        "How many sequences (or classifier examples) importance is averaged over; all takes every one."),
    ])

  private let strength: Double
  private let form: QuadraticPull.Form
  private let examples: Int
  private let store: ParameterStore
  private let backend: any Backend
  private var importance: Tensor?
  private var anchor: Tensor?

  public init(
    strength: Double, form: QuadraticPull.Form = .proximal, examples: Int = 512, _ store: ParameterStore,
    on backend: any Backend
  ) {
    self.strength = strength
    self.form = form
    self.examples = examples
    self.store = store
    self.backend = backend
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      strength: ingredients.number("lambda") ?? 0,
      form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal,
      examples: ingredients.integer("examples") ?? .max, ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 8 * chain.parameters }

  public var pulls: [QuadraticPull] {
    guard let importance, let anchor else { return [] }
    return [QuadraticPull(strength: Float(2 * strength), curvature: importance, anchor: anchor, form: form)]
  }

  /// ∂‖z‖²/∂z = 2z.
  private struct NormSeed: HeadSeed {
    mutating func seed(
      _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
    ) {
      backend.fill(losses, 0)
      backend.scale(logits, by: 2)
    }
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    let sequences = scope.choice(of: examples)
    let sink = PerSequenceMoments(store, .magnitudes, on: backend)
    var scored = 0
    for batch in sequences.runs(ofTokens: scope.batchTokens).flatMap({ scope.makeBatches(Array($0)) }) {
      _ = scope.network.backward(batch, seed: NormSeed(), sink: sink, on: backend)
      scored += batch.scored
    }
    backend.scale(sink.sums, by: 1 / Float(max(1, scored)))
    try FisherError.check(sink.sums, quantity: "importance", of: store, on: backend)
    if let importance { backend.add(sink.sums, scaled: 1, into: importance) } else { importance = sink.sums }
    anchor = backend.copied(store.values)
    scope.note(
      "importance of \(scope.name): \(sequences.count) sequences, \(scored) tokens"
        + (scope.isReal ? "" : ", sampled from the model"))
  }

  public func write(to writer: any StateWriter) {
    writer.integers("has_anchor", [anchor == nil ? 0 : 1], description: "whether a past was consolidated")
    guard let importance, let anchor else { return }
    store.write(importance, to: writer, under: "importance", description: "Ω of all pasts")
    store.write(anchor, to: writer, under: "anchor", description: "parameters at the last past")
  }
  public func restore(from reader: any StateReader) throws {
    guard try reader.integers("has_anchor").first == 1 else {
      (importance, anchor) = (nil, nil)
      return
    }
    let (restoredImportance, restoredAnchor) = (backend.empty(1, store.count), backend.empty(1, store.count))
    try store.restore(restoredImportance, from: reader, under: "importance")
    try store.restore(restoredAnchor, from: reader, under: "anchor")
    (importance, anchor) = (restoredImportance, restoredAnchor)
  }
}
