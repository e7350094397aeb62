// Rehearsal: sequences of earlier stages ride in the same batches as the new ones.
import TensorCore
import Training

/// A share r of the final mix is old text: r/(1 − r) replayed tokens for every token of the stage.
///
/// What a batch cannot hold exactly is carried over, so the share is exact over a stage to within one sequence.
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
        "selection", .word(["reservoir", "stage_balanced"], notYet: []), default: .word("reservoir"),
        """
        reservoir: every document seen so far is kept with the same probability; stage_balanced: every \
        past gets the same share of the budget.
        """),
    ])

  private let ratio: Double
  private var buffer: ReplayBuffer
  /// Replayed tokens still owed to the stage's tokens.
  private var owed = 0.0
  private var stageTokens = 0
  private var replayedTokens = 0
  /// Items in drawing order for the running pass, and the next one.
  private var order: [Int] = []
  private var next = 0
  private var passes = 0
  private var stream = RandomStream(seed: 0)

  public init(ratio: Double, budgetTokens: Int, selection: ReplayBuffer.Selection) {
    precondition(ratio >= 0 && ratio < 1, "a share of \(ratio)")
    self.ratio = ratio
    buffer = ReplayBuffer(budgetTokens: budgetTokens, selection: selection)
  }

  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      ratio: ingredients.number("ratio") ?? 0, budgetTokens: ingredients.integer("budget_tokens") ?? 0,
      selection: ingredients.word("selection").flatMap(ReplayBuffer.Selection.init) ?? .reservoir)
  }

  public func stageWillBegin(_ scope: StageScope) throws {
    stream = scope.random
    (owed, stageTokens, replayedTokens, order, next, passes) = (0, 0, 0, [], 0, 0)
  }

  public func rehearse(stageTokens tokens: Int) -> [Exemplar] {
    guard ratio > 0, !buffer.items.isEmpty else { return [] }
    stageTokens += tokens
    owed += Double(tokens) * ratio / (1 - ratio)
    var drawn: [Exemplar] = []
    while true {
      if next == order.count { reshuffle() }
      let exemplar = buffer.items[order[next]].exemplar
      guard Double(exemplar.inputs.count) <= owed else { return drawn }
      owed -= Double(exemplar.inputs.count)
      replayedTokens += exemplar.inputs.count
      next += 1
      drawn.append(exemplar)
    }
  }

  /// Every item comes once a pass, in an order that depends on the pass alone.
  private func reshuffle() {
    passes += 1
    next = 0
    order = shuffled(pass: passes)
  }
  private func shuffled(pass: Int) -> [Int] {
    guard pass > 0 else { return [] }
    var random = stream.forked("pass", pass)
    var order = Array(buffer.items.indices)
    for i in order.indices.dropLast() { order.swapAt(i, i + random.integer(below: order.count - i)) }
    return order
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    guard scope.isReal else {
      scope.note("replay starts empty: there is no base_data")
      return
    }
    buffer.offer(scope.sequences, past: scope.past, random: scope.random.forked("keys"))
    scope.note("replay buffer: \(buffer.items.count) sequences, \(buffer.tokens) tokens of \(buffer.seen) seen")
  }

  public var facts: [(name: String, value: Double)] {
    [
      ("replayed_tokens", Double(replayedTokens)), ("replay_stage_tokens", Double(stageTokens)),
      ("replay_passes", buffer.tokens > 0 ? Double(replayedTokens) / Double(buffer.tokens) : 0),
    ]
  }

  public func write(to writer: any StateWriter) {
    writer.tokens("tokens", buffer.items.flatMap(\.exemplar.inputs), description: "inputs of all sequences, end to end")
    writer.tokens(
      "targets", buffer.items.flatMap(\.exemplar.targets), description: "targets; below 0 where no loss is taken")
    writer.integers("lengths", buffer.items.map(\.exemplar.inputs.count), description: "tokens of each sequence")
    writer.integers("past", buffer.items.map(\.past), description: "stage of each sequence; 0 is the base")
    writer.integers(
      "keys", buffer.items.map { Int(bitPattern: UInt($0.key)) }, description: "random keys; the smallest stay")
    writer.integers(
      "counters", [buffer.seen, stageTokens, replayedTokens, next, passes],
      description: "sequences seen; stage tokens and replayed tokens so far; next draw; passes begun")
    writer.doubles("owed", [owed], description: "replayed tokens still owed")
  }

  public func restore(from reader: any StateReader) throws {
    let (tokens, targets) = (try reader.tokens("tokens"), try reader.tokens("targets"))
    let (lengths, pasts) = (try reader.integers("lengths"), try reader.integers("past"))
    let (keys, counters) = (try reader.integers("keys"), try reader.integers("counters"))
    guard lengths.count == pasts.count, keys.count == lengths.count, counters.count == 5,
      lengths.allSatisfy({ $0 > 0 && $0 <= tokens.count }), lengths.reduce(0, +) == tokens.count,
      targets.count == tokens.count
    else { throw StateError(description: "the replay buffer's parts disagree in length") }
    var first = 0
    let items = lengths.indices.map { index in
      let range = first..<first + lengths[index]
      first = range.upperBound
      return ReplayBuffer.Item(
        key: UInt64(UInt(bitPattern: keys[index])), past: pasts[index],
        exemplar: Exemplar(inputs: Array(tokens[range]), targets: Array(targets[range])))
    }
    buffer = ReplayBuffer(
      budgetTokens: buffer.budgetTokens, selection: buffer.selection, items: items, seen: counters[0])
    (stageTokens, replayedTokens, next, passes) = (counters[1], counters[2], counters[3], counters[4])
    owed = try reader.doubles("owed").first ?? 0
    order = shuffled(pass: passes)
    guard next >= 0, next <= order.count else { throw StateError(description: "the replay cursor is out of range") }
  }
}

/// State that contradicts itself.
public struct StateError: Error, Sendable, CustomStringConvertible {
  public let description: String
}
