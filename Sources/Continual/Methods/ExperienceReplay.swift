// Rehearsal: sequences of earlier stages ride in the same batches as the new ones.
import Layers
import TensorCore
import Training

/// A share r of the final mix is old text: r/(1 − r) replayed tokens for every token of the stage.
///
/// Learned as tokens, or by distillation from the model as it was when it had just learned the text. Drawn in a shuffled
/// order, or from its next sequences those that the stage's step would harm most; see `InterferedRetrieval`.
/// - Cost: r/(1 − r) more tokens a step; with interfered retrieval a forward and a backward pass over the stage's tokens
///   more and two forward passes over `candidates` times the replayed ones; state: the buffer's tokens, 8·top_k bytes a
///   token more with distillation
/// - Source: Robins 1995; for language models Ibrahim et al. 2024, arXiv:2403.08763; interfered retrieval: Aljundi et
///   al. 2019, arXiv:1908.04742
public final class ExperienceReplay: ConfigurableMethod {
  public static let card = MethodCard(
    name: "replay", title: "Experience replay",
    paper: "Robins 1995; Ibrahim et al. 2024 (arXiv:2403.08763); MIR: Aljundi et al. 2019 (arXiv:1908.04742)",
    equation: "r/(1 − r) old tokens for every new one, in the same batch",
    cost: "r/(1 − r) more tokens; interfered: a step's passes more, and two forward over the candidates",
    state: """
      budget_tokens token ids; with distillation 8·top_k bytes a token; interfered: 8 bytes a parameter while it runs
      """,
    needs: "text of the past, up to the budget",
    verified: "inclusion probabilities, exact accounting across interruptions; interfered: rises by brute force")

  public static let schema = MethodSchema(
    "replay",
    "Experience replay: rows of the past are mixed into every batch of the new stage.",
    options: [
      OptionSchema(
        "ratio", .share(maximum: 1, open: true), default: .number(0.1),
        "The share r of the final mix: r/(1−r) replayed tokens for every stage token, in the same batches."),
      OptionSchema(
        "budget_tokens", .integer(1...1_000_000_000_000, words: []), default: .integer(500_000),
        "How many tokens the buffer holds."),
      OptionSchema(
        "selection", .word(["reservoir", "stage_balanced", "surprise"], notYet: []), default: .word("reservoir"),
        """
        reservoir: every document seen so far is kept with the same probability; stage_balanced: every \
        past gets the same share of the budget; surprise: likewise, and of each past the documents that the model \
        finds hardest once it has learned them.
        """),
      OptionSchema(
        "retrieval", .word(["shuffled", "interfered"], notYet: []), default: .word("shuffled"),
        """
        shuffled: every buffered row once a pass; interfered (MIR): of the next rows those whose loss would rise most by \
        the step that the new rows ask for.
        """),
      OptionSchema(
        "candidates", .integer(1...1_000_000, words: []), default: .integer(4),
        onlyWith: .init("retrieval", ["interfered"]),
        "How many times as many tokens as are owed are looked at: two forward passes over them."),
      OptionSchema(
        "weight", .number(minimum: 0, open: true, words: []), default: .number(1),
        onlyWith: .init("learn", ["tokens"]), "Weight of a rehearsed token's loss; a token of the stage has 1."),
    ] + Distillation.options)

  private let rehearsal: Rehearsal
  private let retrieval: InterferedRetrieval?
  private let distillation: Distillation
  private let weight: Float

  /// - Parameters:
  ///   - candidates: of interfered retrieval, as a multiple of what is owed; nil draws in the shuffled order
  ///   - vocabulary: of which restored sequences must be; nil for any
  public init(
    ratio: Double, budgetTokens: Int, selection: ReplayBuffer.Selection, candidates: Int? = nil, weight: Double = 1,
    distillation: Distillation = Distillation(weight: 0), vocabulary: Int? = nil
  ) {
    self.weight = Float(weight)
    retrieval = candidates.map(InterferedRetrieval.init)
    rehearsal = Rehearsal(ratio: ratio, budgetTokens: budgetTokens, selection: selection, vocabulary: vocabulary)
    self.distillation = distillation
  }

  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      ratio: ingredients.number("ratio") ?? 0, budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      selection: ingredients.word("selection").flatMap(ReplayBuffer.Selection.init) ?? .reservoir,
      candidates: ingredients.word("retrieval") == "interfered" ? ingredients.integer("candidates") ?? 4 : nil,
      weight: ingredients.number("weight") ?? 1, distillation: Distillation(ingredients),
      vocabulary: ingredients.store.vocabulary)
  }
  /// Interfered retrieval: the virtual step's gradient, and two looks at the candidates.
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double {
    guard options.word("retrieval") == "interfered", step.pasts > 0 else { return 0 }
    return 1 + 2.0 / 3 * Double(options.integer("candidates") ?? 1) * rehearsedPerToken(options)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    (8 + Distillation.bytesPerToken(options)) * chain.buffered(options)
  }

  public func stageWillBegin(_ scope: StageScope) throws {
    rehearsal.begin(scope.random)
    retrieval?.begin()
  }

  public func compose(_ batch: inout Composition) {
    batch.rehearsed +=
      retrieval?.draw(from: rehearsal, for: batch).map(taught) ?? rehearse(stageTokens: batch.stageTokens)
  }

  /// Sequences of the past for a micro-batch of so many input tokens, in the shuffled order.
  public func rehearse(stageTokens tokens: Int) -> [Exemplar] { rehearsal.draw(stageTokens: tokens).map(taught) }

  private func taught(_ exemplar: Exemplar) -> Exemplar {
    var exemplar = exemplar
    exemplar.weight = weight
    return distillation.taught(exemplar)
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    guard scope.isReal else {
      scope.note("replay starts empty: there is no base_data")
      return
    }
    let surprise = rehearsal.buffer.selection == .surprise ? scope.meanLosses(scope.sequences) : nil
    rehearsal.offer(
      scope.sequences, past: scope.past, surprise: surprise, random: scope.random.forked("keys"))
    rehearsal.teach(distillation, scope)
    let buffer = rehearsal.buffer
    scope.note("replay buffer: \(buffer.items.count) sequences, \(buffer.tokens) tokens of \(buffer.seen) seen")
  }

  public var facts: [(name: String, value: Double)] { rehearsal.facts + (retrieval?.facts ?? []) }
  public func write(to writer: any StateWriter) {
    rehearsal.write(to: writer)
    retrieval?.write(to: writer)
  }
  public func restore(from reader: any StateReader) throws {
    try rehearsal.restore(from: reader)
    try retrieval?.restore(from: reader)
  }
}
