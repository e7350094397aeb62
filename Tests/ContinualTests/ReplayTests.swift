// Rehearsal: who is in the buffer, how much is replayed, and that an interruption changes neither.
import Continual
import Layers
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct ReplayTests {
  private func exemplar(_ id: Int, length: Int = 1) -> Exemplar {
    Exemplar(inputs: [Int32](repeating: Int32(id), count: length), targets: [Int32](repeating: 1, count: length))
  }

  /// Every sequence is kept with probability capacity/n; also when it came in an earlier batch of offers.
  @Test func inclusionIsUniform() {
    let (n, capacity, trials) = (40, 10, 4_000)
    var counts = [Int](repeating: 0, count: n)
    for trial in 0..<trials {
      var buffer = ReplayBuffer(budgetTokens: capacity, selection: .reservoir)
      let random = RandomStream(seed: UInt64(trial))
      buffer.offer((0..<25).map { exemplar($0) }, past: 0, random: random.forked("a"))
      buffer.offer((25..<n).map { exemplar($0) }, past: 1, random: random.forked("b"))
      #expect(buffer.items.count == capacity && buffer.seen == n)
      for item in buffer.items { counts[Int(item.exemplar.inputs[0])] += 1 }
    }
    let wanted = Double(trials * capacity) / Double(n)
    // Each count is binomial with variance wanted·(1 − capacity/n).
    let chi =
      counts.reduce(0) { $0 + (Double($1) - wanted) * (Double($1) - wanted) }
      / (wanted * (1 - Double(capacity) / Double(n)))
    // 39 degrees of freedom: 99.9 % below 72.
    #expect(chi < 72, "χ² = \(chi)")
  }

  @Test func stageBalancedGivesEveryPastItsShare() {
    var buffer = ReplayBuffer(budgetTokens: 30, selection: .stageBalanced)
    let random = RandomStream(seed: 1)
    buffer.offer((0..<100).map { exemplar($0) }, past: 0, random: random.forked("a"))
    #expect(buffer.items.count == 30)
    buffer.offer((0..<50).map { exemplar($0) }, past: 1, random: random.forked("b"))
    buffer.offer((0..<50).map { exemplar($0) }, past: 2, random: random.forked("c"))
    for past in 0..<3 { #expect(buffer.items.filter { $0.past == past }.count == 10) }
  }

  @Test func budgetCountsTokens() {
    var buffer = ReplayBuffer(budgetTokens: 100, selection: .reservoir)
    buffer.offer((0..<60).map { exemplar($0, length: 1 + $0 % 9) }, past: 0, random: RandomStream(seed: 4))
    #expect(buffer.tokens <= 100 && buffer.tokens > 90)
  }

  private func scope(_ store: ParameterStore) -> StageScope {
    StageScope(network: Idle(store), stage: 1, name: "s", tokens: 1, random: RandomStream(seed: 8))
  }
  private func replay(_ ratio: Double, _ world: VectorWorld) throws -> ExperienceReplay {
    let replay = ExperienceReplay(ratio: ratio, budgetTokens: 500, selection: .reservoir)
    try replay.consolidate(
      ConsolidationScope(
        network: Idle(world.store), backend: world.backend, past: 0, name: "base",
        sequences: (0..<200).map { exemplar($0, length: 1 + $0 % 12) }, isReal: true, tokens: 1, batchTokens: 16,
        makeBatches: { _ in [] }, random: RandomStream(seed: 3), note: { _ in }))
    try replay.stageWillBegin(scope(world.store))
    return replay
  }

  @Test(arguments: [0.1, 0.25, 0.5]) func shareIsExactToWithinOneSequence(ratio: Double) throws {
    let world = VectorWorld([0])
    let replay = try replay(ratio, world)
    var (stage, replayed) = (0, 0)
    var random = RandomStream(seed: 1)
    for _ in 0..<400 {
      let tokens = 1 + random.integer(below: 60)
      stage += tokens
      replayed += replay.rehearse(stageTokens: tokens).reduce(0) { $0 + $1.inputs.count }
      let owed = Double(stage) * ratio / (1 - ratio)
      #expect(Double(replayed) <= owed + 1e-6 && Double(replayed) > owed - 12 - 1e-6)
    }
  }

  @Test func everySequenceComesOnceAPass() throws {
    let world = VectorWorld([0])
    let replay = try replay(0.5, world)
    var buffered = 0.0
    for fact in replay.facts where fact.name == "replay_passes" { buffered = fact.value }
    #expect(buffered == 0)
    var seen: [Int32: Int] = [:]
    var tokens = 0
    // Sequences carry their number, so a pass is over when one comes a second time.
    outer: while true {
      for exemplar in replay.rehearse(stageTokens: 20) {
        guard seen[exemplar.inputs[0]] == nil else { break outer }
        seen[exemplar.inputs[0]] = 1
        tokens += exemplar.inputs.count
      }
    }
    #expect(tokens > 480 && tokens <= 500)
  }

  @Test func interruptionChangesNothing() throws {
    let world = VectorWorld([0])
    let (whole, cut) = (try replay(0.3, world), try replay(0.3, world))
    var continued = cut
    for step in 0..<300 {
      if step % 37 == 36 {
        let state = MemoryState()
        continued.write(to: state)
        continued = ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir)
        try continued.stageWillBegin(scope(world.store))
        try continued.restore(from: state)
      }
      #expect(whole.rehearse(stageTokens: 7 + step % 5) == continued.rehearse(stageTokens: 7 + step % 5))
    }
  }

  @Test func damagedStateIsRefused() throws {
    let world = VectorWorld([0])
    let state = MemoryState()
    try replay(0.3, world).write(to: state)
    state.integers("lengths", [1, 2], description: nil)
    #expect(throws: StateError.self) {
      try ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir).restore(from: state)
    }
  }

  @Test func nothingOfThePastMeansNoReplay() throws {
    let replay = ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir)
    #expect(replay.rehearse(stageTokens: 1000).isEmpty)
  }
}
