// Dark experience replay: old sequences are rehearsed by what the model said about them when it had learned them.
import Layers
import TensorCore
import Training

/// mean loss(new) + α·mean D(logits kept ‖ logits) over one draw + β·mean loss over another (DER++; β = 0: DER).
///
/// D is the divergence of the kept distribution, classes that were not kept as one outcome (loss: kl), or the squared
/// differences of the kept logits over the number of all classes (loss: mse): their mean where top_k ≥ classes. Each
/// term is the mean over its own scored places in the step, however many of the stage's are scored. The share r decides
/// how much is drawn, not how much it weighs: a step that is owed too little for any sequence has no such term, and the
/// next draw stands for that step, too.
/// - Cost: 2r/(1 − r) more tokens a step (r/(1 − r) for β = 0); state: the buffer twice and 8·top_k bytes a token
/// - Source: Buzzega et al. 2020, arXiv:2004.07211
public final class DarkExperienceReplay: ConfigurableMethod {
  public static let card = MethodCard(
    name: "der", title: "Dark experience replay (DER, DER++)", paper: "Buzzega et al. 2020 (arXiv:2004.07211)",
    equation: "loss + α·D(kept logits, logits) + β·loss(buffer)", cost: "2r/(1 − r) more tokens a step",
    state: "budget_tokens token ids twice, 8·top_k bytes a token", needs: "text of the past, up to the budget",
    verified: "zero gradient where nothing changed; α, β and means by hand, with masked targets, too")

  public static let schema = MethodSchema(
    "der", "Dark experience replay: buffered rows are held to the logits that the model gave when it had learned them.",
    options: [
      OptionSchema(
        "alpha", .number(minimum: 0, open: false, words: []), default: .number(1), "Weight of the kept logits."),
      OptionSchema(
        "beta", .number(minimum: 0, open: false, words: []), default: .number(0.5),
        "Weight of the buffered rows' own targets (DER++); 0 is DER."),
      OptionSchema(
        "ratio", .share(maximum: 1, open: true), default: .number(0.1),
        "Each draw has r/(1−r) tokens for every stage token."),
      OptionSchema(
        "budget_tokens", .integer(1...1_000_000_000_000, words: []), default: .integer(200_000),
        "How many tokens the buffer holds."),
      OptionSchema(
        "selection", .word(["reservoir", "stage_balanced", "surprise"], notYet: []), default: .word("reservoir"),
        onlyWith: .init("insert", ["stage_end"]), "Which sequences stay in the buffer; as for replay."),
      OptionSchema(
        "insert", .word(["stage_end", "step"], notYet: []), default: .word("stage_end"),
        """
        stage_end: sequences enter the buffer when a stage has been learned; step: while it is learned, with the logits \
        of that moment, as in the paper (reservoir only).
        """),
      OptionSchema(
        "loss", .word(["mse", "kl"], notYet: []), default: .word("kl"),
        """
        kl: divergence of the kept distribution, the rest of the classes as one outcome; mse: squared differences of \
        the kept logits, added up and divided by the number of classes.
        """),
      OptionSchema(
        "top_k", .integer(1...4096, words: []), default: .integer(64), "Logits kept at each place, the largest ones."),
    ])

  private let alpha: Float
  private let beta: Float
  private let topK: Int
  private let isSquared: Bool
  private let insertsAtSteps: Bool
  /// Sequences of the open step, in the order of the stage.
  private var pending: [Exemplar] = []
  private var past = 0
  private var keys = RandomStream(seed: 0)
  private var look: (batchTokens: Int, makeBatches: ([Exemplar]) -> [Batch])?
  /// The draws for α and for β.
  private let dark: Rehearsal
  private let plain: Rehearsal
  /// How a draw of the open step went, and steps without any since the last one.
  private struct Turn {
    enum Outcome { case unasked, owedTooLittle, drawn }
    var outcome = Outcome.unasked
    var waited = 0
    /// The step was taken.
    mutating func close() {
      switch outcome {
      case .unasked: break
      case .owedTooLittle: waited += 1
      case .drawn: waited = 0
      }
      outcome = .unasked
    }
  }
  private var (darkTurn, plainTurn) = (Turn(), Turn())

  /// - Parameter vocabulary: of which restored sequences must be; nil for any
  public init(
    alpha: Double, beta: Double, ratio: Double, budgetTokens: Int, selection: ReplayBuffer.Selection,
    isSquared: Bool, topK: Int, insertsAtSteps: Bool = false, vocabulary: Int? = nil
  ) {
    precondition(!insertsAtSteps || selection == .reservoir, "only a reservoir takes sequences one by one")
    self.insertsAtSteps = insertsAtSteps
    self.alpha = Float(alpha)
    self.beta = Float(beta)
    self.topK = topK
    self.isSquared = isSquared
    dark = Rehearsal(
      ratio: alpha > 0 ? ratio : 0, budgetTokens: budgetTokens, selection: selection, vocabulary: vocabulary)
    plain = Rehearsal(
      ratio: beta > 0 ? ratio : 0, budgetTokens: budgetTokens, selection: selection, vocabulary: vocabulary)
  }
  public convenience init(_ ingredients: MethodIngredients) {
    let insertsAtSteps = ingredients.word("insert") == "step"
    self.init(
      alpha: ingredients.number("alpha") ?? 0, beta: ingredients.number("beta") ?? 0,
      ratio: ingredients.number("ratio") ?? 0, budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      selection: insertsAtSteps
        ? .reservoir : ingredients.word("selection").flatMap(ReplayBuffer.Selection.init) ?? .reservoir,
      isSquared: ingredients.word("loss") == "mse", topK: ingredients.integer("top_k") ?? 64,
      insertsAtSteps: insertsAtSteps, vocabulary: ingredients.store.vocabulary)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    // Two buffers with the same sequences, one of them with logits.
    (16 + 8 * (options.integer("top_k") ?? 0)) * chain.buffered(options)
  }
  /// Two draws, one for each of its losses.
  public static func rehearsedPerToken(_ options: MethodOptions) -> Double {
    guard let ratio = options.number("ratio"), ratio < 1 else { return 0 }
    return 2 * ratio / (1 - ratio)
  }

  public func stageWillBegin(_ scope: StageScope) throws {
    dark.begin(scope.random.forked("dark"))
    plain.begin(scope.random.forked("plain"))
    (past, keys, pending) = (scope.stage, scope.random.forked("keys"), [])
    (darkTurn, plainTurn) = (Turn(), Turn())
  }

  public func compose(_ batch: inout Composition) {
    func draw(_ rehearsal: Rehearsal, _ turn: inout Turn, _ weight: Float, isDark: Bool) -> [Exemplar] {
      guard rehearsal.ratio > 0, !rehearsal.buffer.items.isEmpty else { return [] }
      let drawn = rehearsal.draw(stageTokens: batch.stageTokens)
      if !drawn.isEmpty { turn.outcome = .drawn } else if turn.outcome == .unasked { turn.outcome = .owedTooLittle }
      let share = weight * Float(1 + turn.waited)
      return drawn.map { exemplar in
        var exemplar = exemplar
        (exemplar.isCounted, exemplar.mean) = (false, ObjectIdentifier(rehearsal))
        exemplar.weight = isDark ? 0 : share
        exemplar.softWeight = isDark ? share : 0
        return exemplar
      }
    }
    if insertsAtSteps {
      pending += batch.stage
      look = (batch.batchTokens, batch.makeBatches)
    }
    batch.rehearsed += draw(dark, &darkTurn, alpha, isDark: true)
    batch.rehearsed += draw(plain, &plainTurn, beta, isDark: false)
  }

  public func observe(_ step: StepScope) {
    darkTurn.close()
    plainTurn.close()
  }

  /// Sequences of the step enter with what the model says before it moves.
  public func adjustGradient(_ step: StepScope) -> Double {
    guard insertsAtSteps, let look else { return 0 }
    var kept: [(exemplar: Exemplar, random: RandomStream)] = []
    for exemplar in pending {
      // One stream a sequence seen: the buffer does not depend on how a step was cut.
      let random = keys.forked("sequence", plain.buffer.seen + kept.count)
      if plain.mayKeep(random, past: past) {
        kept.append((exemplar, random))
      } else {
        for rehearsal in [dark, plain] { rehearsal.pass() }
      }
    }
    pending = []
    let soft =
      alpha > 0
      ? step.network.softTargets(
        for: kept.map(\.exemplar), count: topK, temperature: isSquared ? 0 : 1, batchTokens: look.batchTokens,
        makeBatches: look.makeBatches, on: step.backend) : []
    for (index, (exemplar, random)) in kept.enumerated() {
      var bare = Exemplar(inputs: exemplar.inputs, targets: exemplar.targets)
      plain.take(bare, past: past, random: random)
      bare.soft = soft.isEmpty ? nil : soft[index]
      dark.take(bare, past: past, random: random)
    }
    return 0
  }

  /// Checkpoints do not carry `pending`, and nothing of a step that was not taken enters the buffer.
  public func stepWasSkipped() {
    pending = []
    darkTurn.outcome = .unasked
    plainTurn.outcome = .unasked
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    if insertsAtSteps, scope.past > 0 { return }
    guard scope.isReal else {
      scope.note("the buffer of der starts empty: there is no base_data")
      return
    }
    let surprise = dark.buffer.selection == .surprise ? scope.meanLosses(scope.sequences) : nil
    for rehearsal in [dark, plain] {
      // One stream for both: they hold the same sequences.
      rehearsal.offer(scope.sequences, past: scope.past, surprise: surprise, random: scope.random.forked("keys"))
    }
    if alpha > 0 { dark.teach(count: topK, temperature: isSquared ? 0 : 1, scope) }
  }

  public var facts: [(name: String, value: Double)] { dark.facts }
  public func write(to writer: any StateWriter) {
    writer.group("dark", description: "the buffer with kept logits, drawn for α")
    dark.write(to: ScopedStateWriter(writer, "dark"))
    writer.group("plain", description: "the same sequences, drawn for β")
    plain.write(to: ScopedStateWriter(writer, "plain"))
    writer.integers(
      "waited", [darkTurn.waited, plainTurn.waited], description: "steps without a draw for α and for β since the last")
  }
  public func restore(from reader: any StateReader) throws {
    try dark.restore(from: ScopedStateReader(reader, "dark"))
    try plain.restore(from: ScopedStateReader(reader, "plain"))
    // Absent in files of before draws stood for steps without any.
    let waited = try reader.contains("waited") ? reader.integers("waited") : [0, 0]
    guard waited.count == 2, waited.allSatisfy({ 0...1 << 40 ~= $0 }) else {
      throw StateError(description: "der's counts of steps without a draw have another form")
    }
    (darkTurn, plainTurn) = (Turn(waited: waited[0]), Turn(waited: waited[1]))
  }
}
