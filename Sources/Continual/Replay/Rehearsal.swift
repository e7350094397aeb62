// Old sequences on their way back into batches: which are kept, in what order they come, and how many are owed.
import TensorCore
import Training

/// A share r of the final mix comes from a buffer: r/(1 − r) of its tokens for every token of the stage.
///
/// What a batch cannot hold exactly is carried over, so the share is exact over a stage to within one sequence.
public final class Rehearsal {
  public let ratio: Double
  public private(set) var buffer: ReplayBuffer
  /// Rehearsed tokens still owed to the stage's tokens.
  private var owed = 0.0
  private var stageTokens = 0
  private var rehearsedTokens = 0
  /// Items in drawing order for the running pass, and the next one.
  private var order: [Int] = []
  private var next = 0
  private var passes = 0
  private var stream = RandomStream(seed: 0)
  private let vocabulary: Int?

  /// - Parameter vocabulary: of which restored sequences must be; nil for any
  public init(ratio: Double, budgetTokens: Int, selection: ReplayBuffer.Selection, vocabulary: Int? = nil) {
    precondition(ratio >= 0 && ratio < 1, "a share of \(ratio)")
    self.ratio = ratio
    self.vocabulary = vocabulary
    buffer = ReplayBuffer(budgetTokens: budgetTokens, selection: selection)
  }

  /// A new stage: nothing is owed, and the order of drawing begins anew.
  public func begin(_ random: RandomStream) {
    stream = random
    (owed, stageTokens, rehearsedTokens, order, next, passes) = (0, 0, 0, [], 0, 0)
  }

  public func offer(_ exemplars: [Exemplar], past: Int, surprise: [Double]? = nil, random: RandomStream) {
    buffer.offer(exemplars, past: past, surprise: surprise, random: random)
  }

  /// Whether a sequence with the next key may stay in the buffer.
  func mayKeep(_ random: RandomStream, past: Int) -> Bool {
    var stream = random
    return buffer.mayKeep(key: stream.next(), past: past)
  }
  /// Takes one sequence; the next draw is from all that are there then.
  func take(_ exemplar: Exemplar, past: Int, random: RandomStream) {
    buffer.offer([exemplar], past: past, random: random)
    (order, next) = ([], buffer.items.count)
  }
  /// Counts a sequence that was not kept.
  func pass() { buffer.pass() }

  func setSoftTargets(_ soft: [SoftTargets], at indices: [Int]) { buffer.setSoftTargets(soft, at: indices) }

  /// Sequences of the past for a micro-batch of so many input tokens.
  public func draw(stageTokens tokens: Int) -> [Exemplar] {
    guard owe(tokens) else { return [] }
    var drawn: [Exemplar] = []
    while true {
      if next >= order.count { reshuffle() }
      let exemplar = buffer.items[order[next]].exemplar
      guard pay(exemplar) else { return drawn }
      next += 1
      drawn.append(exemplar)
    }
  }

  /// Sequences of the past for a micro-batch of so many input tokens: those that rank first among more than are owed.
  ///
  /// Candidates are the next sequences of the shuffled order, each of them once, until they have `factor` times the
  /// owed tokens. They wait until the longest of them can be paid: whichever ranks first is drawn, however long it is.
  /// - Parameter rank: places of all candidates, the most wanted first
  func draw(stageTokens tokens: Int, among factor: Int, rank: ([Exemplar]) -> [Int]) -> [Exemplar] {
    guard owe(tokens) else { return [] }
    let here = (order, next, passes)
    var (candidates, places, length): ([Exemplar], Set<Int>, Int) = ([], [], 0)
    while places.count < buffer.items.count, Double(length) < Double(factor) * owed {
      if next >= order.count { reshuffle() }
      let place = order[next]
      next += 1
      // A new pass may begin with what ended the last one.
      guard places.insert(place).inserted else { continue }
      candidates.append(buffer.items[place].exemplar)
      length += buffer.items[place].exemplar.inputs.count
    }
    guard let longest = candidates.map(\.inputs.count).max(), Double(longest) <= owed else {
      (order, next, passes) = here
      return []
    }
    let ranked = rank(candidates)
    var drawn: [Exemplar] = []
    // A buffer with fewer tokens than are owed comes round again.
    while pay(candidates[ranked[drawn.count % ranked.count]]) {
      drawn.append(candidates[ranked[drawn.count % ranked.count]])
    }
    return drawn
  }

  /// Counts a micro-batch's tokens.
  ///
  /// - Returns: whether there is anything to rehearse
  private func owe(_ tokens: Int) -> Bool {
    guard ratio > 0, !buffer.items.isEmpty else { return false }
    stageTokens += tokens
    owed += Double(tokens) * ratio / (1 - ratio)
    return true
  }
  /// Counts a sequence's tokens where as many are owed.
  private func pay(_ exemplar: Exemplar) -> Bool {
    guard Double(exemplar.inputs.count) <= owed else { return false }
    owed -= Double(exemplar.inputs.count)
    rehearsedTokens += exemplar.inputs.count
    return true
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

  public var facts: [(name: String, value: Double)] {
    [
      ("replayed_tokens", Double(rehearsedTokens)), ("replay_stage_tokens", Double(stageTokens)),
      ("replay_passes", buffer.tokens > 0 ? Double(rehearsedTokens) / Double(buffer.tokens) : 0),
    ]
  }

  public func write(to writer: any StateWriter) {
    buffer.write(to: writer)
    writer.integers(
      "counters", [buffer.seen, stageTokens, rehearsedTokens, next, passes],
      description: "sequences seen; stage tokens and rehearsed tokens so far; next draw; passes begun")
    writer.doubles("owed", [owed], description: "rehearsed tokens still owed")
  }

  public func restore(from reader: any StateReader) throws {
    let counters = try reader.integers("counters")
    guard counters.count == 5 else { throw StateError(description: "the rehearsal's counters have another form") }
    buffer = try ReplayBuffer(
      budgetTokens: buffer.budgetTokens, selection: buffer.selection, seen: counters[0], vocabulary: vocabulary,
      from: reader)
    (stageTokens, rehearsedTokens, next, passes) = (counters[1], counters[2], counters[3], counters[4])
    owed = try reader.doubles("owed").first ?? 0
    // After every draw less than one sequence is owed; a draw lasts until that is so again.
    guard owed >= 0, owed <= Double(buffer.budgetTokens) else {
      throw StateError(description: "the rehearsal owes \(owed) tokens of a buffer for \(buffer.budgetTokens)")
    }
    order = shuffled(pass: passes)
    if next == buffer.items.count { order = [] }
    guard next >= 0, next <= buffer.items.count else {
      throw StateError(description: "the replay cursor is out of range")
    }
  }
}

/// State that contradicts itself.
public struct StateError: Error, Sendable, CustomStringConvertible {
  public let description: String
}
