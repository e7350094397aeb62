// Rehearsal: sequences of earlier stages ride in the same batches as the new ones.
import Layers
import TensorCore
import Training

/// A share r of the final mix is old text: r/(1 − r) replayed tokens for every token of the stage.
///
/// Learned as tokens, or by distillation from the model as it was when it had just learned the text.
/// - Cost: r/(1 − r) more tokens a step; state: the buffer's tokens
/// - Source: Robins 1995; for language models Ibrahim et al. 2024, arXiv:2403.08763
public final class ExperienceReplay: ConfigurableMethod {
  public static let card = MethodCard(
    name: "replay", title: "Experience replay",
    paper: "Robins 1995; Ibrahim et al. 2024 (arXiv:2403.08763)",
    equation: "r/(1 − r) old tokens for every new one, in the same batch", cost: "r/(1 − r) more tokens",
    state: "budget_tokens token ids", needs: "text of the past, up to the budget",
    verified: "inclusion probabilities, exact accounting across interruptions")

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
        "weight", .number(minimum: 0, open: true, words: []), default: .number(1),
        onlyWith: .init("learn", ["tokens"]), "Weight of a rehearsed token's loss; a token of the stage has 1."),
    ] + Distillation.options)

  private let rehearsal: Rehearsal
  private let distillation: Distillation
  private let weight: Float

  public init(
    ratio: Double, budgetTokens: Int, selection: ReplayBuffer.Selection, weight: Double = 1,
    distillation: Distillation = Distillation(weight: 0)
  ) {
    self.weight = Float(weight)
    rehearsal = Rehearsal(ratio: ratio, budgetTokens: budgetTokens, selection: selection)
    self.distillation = distillation
  }

  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      ratio: ingredients.number("ratio") ?? 0, budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      selection: ingredients.word("selection").flatMap(ReplayBuffer.Selection.init) ?? .reservoir,
      weight: ingredients.number("weight") ?? 1, distillation: Distillation(ingredients))
  }

  public func stageWillBegin(_ scope: StageScope) throws { rehearsal.begin(scope.random) }

  public func compose(_ batch: inout Composition) { batch.rehearsed += rehearse(stageTokens: batch.stageTokens) }

  /// Sequences of the past for a micro-batch of so many input tokens.
  public func rehearse(stageTokens tokens: Int) -> [Exemplar] {
    rehearsal.draw(stageTokens: tokens).map { exemplar in
      var exemplar = exemplar
      exemplar.weight = weight
      return distillation.taught(exemplar)
    }
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

  public var facts: [(name: String, value: Double)] { rehearsal.facts }
  public func write(to writer: any StateWriter) { rehearsal.write(to: writer) }
  public func restore(from reader: any StateReader) throws { try rehearsal.restore(from: reader) }
}
