// Rehearsal without old data: the model writes the text itself before it learns anything new.
import Layers
import TensorCore
import Training

/// A share r of the final mix is text that the model wrote at the end of each past, from the mark that begins a text, or
/// from the first tokens of random sequences of the past.
///
/// Learned as tokens, prompts included, or by distillation from the model that wrote it: its probabilities at every
/// place are kept.
/// - Cost: writing budget_tokens tokens a past, then r/(1 − r) more tokens a step; state: the buffer's tokens,
///   8·top_k bytes a token more with distillation
/// - Trap: text comes from the model as it is at the end of a past, so every past gets its share of the buffer; what
///   the model does not say by itself is not rehearsed, unless a prompt leads there
/// - Source: Huang et al. 2024, arXiv:2403.01244 (self-synthesised rehearsal); Li & Hoiem 2016, arXiv:1606.09282
public final class SelfRehearsal: ConfigurableMethod {
  public enum Filter: String, Sendable {
    case none
    /// Leaves out the tenth of texts with the lowest and the tenth with the highest mean loss: loops and noise.
    case typical
  }

  public static let card = MethodCard(
    name: "self_rehearsal", title: "Self-synthesised rehearsal", paper: "Huang et al. 2024 (arXiv:2403.01244)",
    equation: "r/(1 − r) tokens written by the model before the stage for every new one",
    cost: "writing budget_tokens a past; r/(1 − r) more tokens a step",
    state: "budget_tokens token ids; with distillation 8·top_k bytes a token",
    needs: "nothing of the past; with prompt_tokens that many of its tokens a text",
    verified: "exact accounting; zero gradient for a model that is its own teacher; bits across interruptions")

  public static let schema = MethodSchema(
    "self_rehearsal",
    """
    Self-synthesised rehearsal: the model writes text before each stage and rehearses it; no old data is kept, except \
    the prompts where prompt_tokens asks for them.
    """,
    options: [
      OptionSchema(
        "ratio", .share(maximum: 1, open: true), default: .number(0.1),
        "The share r of the final mix: r/(1−r) rehearsed tokens for every stage token, in the same batches."),
      OptionSchema(
        "budget_tokens", .integer(1...1_000_000_000_000, words: []), default: .integer(100_000),
        "How many tokens are written at the base; later pasts share them in equal parts."),
      OptionSchema(
        "text_tokens", .integer(2...1_048_576, words: []), default: .integer(256),
        "The longest text, at most the model's context."),
      OptionSchema(
        "prompt_tokens", .integer(0...1024, words: []), default: .integer(0),
        """
        How many tokens of a random row of the past each text begins with, as part of it; fewer than text_tokens. They \
        are all that is kept of the past. 0, or a base without base_data: texts begin from nothing.
        """),
      OptionSchema(
        "write_temperature", .number(minimum: 0, open: true, words: []), default: .number(1),
        "Of the draws; 1 writes what the model believes."),
      OptionSchema(
        "filter", .word(["none", "typical"], notYet: []), default: .word("none"),
        "typical: leaves out the tenth of texts with the lowest and the tenth with the highest mean loss."),
    ] + Distillation.options)

  private let rehearsal: Rehearsal
  private let distillation: Distillation
  private let length: Int
  private let promptTokens: Int
  private let temperature: Double
  private let filter: Filter

  /// - Parameter vocabulary: of which restored sequences must be; nil for any
  public init(
    ratio: Double, budgetTokens: Int, length: Int, promptTokens: Int = 0, temperature: Double = 1,
    filter: Filter = .none, distillation: Distillation = Distillation(weight: 0), vocabulary: Int? = nil
  ) {
    rehearsal = Rehearsal(
      ratio: ratio, budgetTokens: budgetTokens, selection: .stageBalanced, vocabulary: vocabulary)
    self.distillation = distillation
    self.length = length
    self.promptTokens = promptTokens
    self.temperature = temperature
    self.filter = filter
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      ratio: ingredients.number("ratio") ?? 0, budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      length: ingredients.integer("text_tokens") ?? 256, promptTokens: ingredients.integer("prompt_tokens") ?? 0,
      temperature: ingredients.number("write_temperature") ?? 1,
      filter: ingredients.word("filter").flatMap(Filter.init) ?? .none, distillation: Distillation(ingredients),
      vocabulary: ingredients.store.vocabulary)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    (8 + Distillation.bytesPerToken(options)) * (options.integer("budget_tokens") ?? 0)
  }

  public func stageWillBegin(_ scope: StageScope) throws { rehearsal.begin(scope.random) }
  public func compose(_ batch: inout Composition) {
    batch.rehearsed += rehearsal.draw(stageTokens: batch.stageTokens).map(distillation.taught)
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    guard let write = scope.write else {
      throw StateError(description: "self_rehearsal needs a model that can write: a language model with a prefix token")
    }
    // Later pasts take a share of the buffer, and write no more than that.
    let budget = rehearsal.buffer.budgetTokens / (scope.past + 1)
    let promptTokens = scope.isReal ? self.promptTokens : 0
    if promptTokens < self.promptTokens {
      scope.note("self-rehearsal of \(scope.name): there is no text to take prompts from, texts begin at the mark")
    }
    let written = scope.shared("written: \(budget) × \(length) after \(promptTokens) at \(temperature)") {
      var texts: [Exemplar] = []
      var (tokens, round) = (0, 0)
      while tokens < budget {
        let count = max(1, (budget - tokens + length - 1) / length)
        let prompts = scope.openings(count, ofTokens: promptTokens, random: scope.random.forked("prompts", round))
        let more = write(prompts, length, temperature, scope.random.forked("write", round)).filter {
          !$0.inputs.isEmpty
        }
        round += 1
        texts += more
        tokens += more.reduce(0) { $0 + $1.inputs.count }
        // A model that ends every text at once writes nothing to rehearse.
        if more.isEmpty || round > 1000 { break }
      }
      return texts
    }
    let kept = filter == .typical ? typical(written, scope) : written
    rehearsal.offer(kept, past: scope.past, random: scope.random.forked("keys"))
    rehearsal.teach(distillation, scope)
    let buffer = rehearsal.buffer
    scope.note(
      "self-rehearsal of \(scope.name): \(written.count) texts written, \(kept.count) kept; "
        + "the buffer holds \(buffer.items.count) texts, \(buffer.tokens) tokens")
  }

  private func typical(_ texts: [Exemplar], _ scope: ConsolidationScope) -> [Exemplar] {
    let losses = scope.meanLosses(texts)
    let order = texts.indices.sorted { (losses[$0], $0) < (losses[$1], $1) }
    let cut = texts.count / 10
    return order.dropFirst(cut).dropLast(cut).sorted().map { texts[$0] }
  }

  public var facts: [(name: String, value: Double)] { rehearsal.facts }
  public func write(to writer: any StateWriter) { rehearsal.write(to: writer) }
  public func restore(from reader: any StateReader) throws { try rehearsal.restore(from: reader) }
}

extension ConsolidationScope {
  /// The first tokens of random sequences, with repetition, each without its first input: that is the mark, or the last
  /// token of the segment before.
  fileprivate func openings(_ count: Int, ofTokens length: Int, random: RandomStream) -> [[Int32]] {
    guard length > 0, !sequences.isEmpty else { return [[Int32]](repeating: [], count: count) }
    var random = random
    return (0..<count).map { _ in
      Array(sequences[random.integer(below: sequences.count)].inputs.dropFirst().prefix(length))
    }
  }
}
