// Rehearsal: who is in the buffer, how much is replayed, and that an interruption changes neither.
import Continual
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct ReplayTests {
  private func exemplar(_ id: Int, length: Int = 1) -> Exemplar {
    Exemplar(inputs: [Int32](repeating: Int32(id), count: length), targets: [Int32](repeating: 1, count: length))
  }

  /// Every sequence is kept with probability capacity/n; also when it came in an earlier batch of offers, and when the
  /// buffer was saved and restored in between.
  @Test(arguments: [false, true]) func inclusionIsUniform(isResumed: Bool) throws {
    let (n, capacity, trials) = (40, 10, 4_000)
    var counts = [Int](repeating: 0, count: n)
    for trial in 0..<trials {
      var rehearsal = Rehearsal(ratio: 0.5, budgetTokens: capacity, selection: .reservoir)
      let random = RandomStream(seed: UInt64(trial))
      rehearsal.offer((0..<25).map { exemplar($0) }, past: 0, random: random.forked("a"))
      if isResumed {
        let state = MemoryState()
        rehearsal.write(to: state)
        rehearsal = Rehearsal(ratio: 0.5, budgetTokens: capacity, selection: .reservoir)
        try rehearsal.restore(from: state)
      }
      rehearsal.offer((25..<n).map { exemplar($0) }, past: 1, random: random.forked("b"))
      #expect(rehearsal.buffer.items.count == capacity && rehearsal.buffer.seen == n)
      for item in rehearsal.buffer.items { counts[Int(item.exemplar.inputs[0])] += 1 }
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

  /// Of sequences of unlike lengths those with the smallest keys stay until the first that does not fit, in whatever
  /// portions they came: a short one does not slip in behind a long one that was refused before.
  @Test(arguments: [1, 3, 60]) func whatStaysDoesNotDependOnPortions(portion: Int) {
    // Two are longer than the budget: as if they were not there.
    let lengths = (0..<60).map { $0 % 30 == 7 ? 51 : $0 % 4 == 0 ? 17 : 1 + $0 % 3 }
    let (budget, sequences) = (50, lengths.enumerated().map { exemplar($0, length: $1) })
    for seed in 0..<50 {
      let random = RandomStream(seed: UInt64(seed))
      let keys = sequences.indices.map { index in
        var stream = random.forked("portion", index / portion)
        for _ in 0..<index % portion { _ = stream.next() }
        return stream.next()
      }
      var (left, wanted) = (budget, Set<Int>())
      for index in sequences.indices.sorted(by: { keys[$0] < keys[$1] }) where lengths[index] <= budget {
        left -= sequences[index].inputs.count
        if left < 0 { break }
        wanted.insert(index)
      }
      var buffer = ReplayBuffer(budgetTokens: budget, selection: .reservoir)
      for first in stride(from: 0, to: 60, by: portion) {
        buffer.offer(
          Array(sequences[first..<min(60, first + portion)]), past: 0,
          random: random.forked("portion", first / portion))
      }
      #expect(Set(buffer.items.map { Int($0.exemplar.inputs[0]) }) == wanted)
    }
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

  /// The report's passes are replayed tokens by those of the buffer: after 2½ every sequence came two or three times.
  @Test func passesAreCounted() throws {
    let world = VectorWorld([0])
    let replay = ExperienceReplay(ratio: 0.5, budgetTokens: 20, selection: .reservoir)
    try replay.consolidate(
      ConsolidationScope(
        network: Idle(world.store), backend: world.backend, past: 0, name: "base",
        sequences: (0..<20).map { exemplar($0) }, isReal: true, tokens: 1, batchTokens: 16, makeBatches: { _ in [] },
        random: RandomStream(seed: 3), note: { _ in }))
    try replay.stageWillBegin(scope(world.store))
    var drawn: [Int32] = []
    for _ in 0..<10 { drawn += replay.rehearse(stageTokens: 5).map { $0.inputs[0] } }
    try #require(drawn.count == 50)
    let (first, second, half) = (Array(drawn[0..<20]), Array(drawn[20..<40]), Array(drawn[40...]))
    #expect(Set(first).count == 20 && Set(second).count == 20 && Set(half).count == 10)
    // Each pass in an order of its own.
    #expect(first != second && Array(first.prefix(10)) != half)
    let facts = Dictionary(uniqueKeysWithValues: replay.facts.map { ($0.name, $0.value) })
    #expect(facts["replay_passes"] == 2.5 && facts["replayed_tokens"] == 50 && facts["replay_stage_tokens"] == 50)
  }

  // MARK: DER

  /// A stage of rows that enter step by step, `size` of them at once; what the buffer holds then.
  private func kept(
    _ rows: Int, by size: Int, capacity: Int, seed: Int, _ step: StepScope
  ) throws -> (tokens: [Int32], keys: [Int]) {
    let der = DarkExperienceReplay(
      alpha: 0, beta: 1, ratio: 0.5, budgetTokens: capacity, selection: .reservoir, isSquared: false, topK: 1,
      insertsAtSteps: true)
    try der.stageWillBegin(
      StageScope(
        network: step.network, stage: 1, name: "s", tokens: rows, random: RandomStream(seed: UInt64(seed))))
    for first in stride(from: 0, to: rows, by: size) {
      let end = min(rows, first + size)
      // Two micro-batches a step.
      for part in [first..<(first + end) / 2, (first + end) / 2..<end] {
        var composition = Composition(
          part.map { exemplar($0) }, network: step.network, backend: step.backend, batchTokens: 16,
          makeBatches: { _ in [] })
        der.compose(&composition)
      }
      _ = der.adjustGradient(step)
    }
    let state = MemoryState()
    der.write(to: state)
    let tokens = try state.tokens("plain/tokens")
    // Both draws are from the same sequences.
    #expect(try state.tokens("dark/tokens") == tokens)
    return (tokens, try state.integers("plain/keys"))
  }
  private func idleStep(_ world: VectorWorld) -> StepScope {
    StepScope(
      network: Idle(world.store), backend: world.backend, accumulator: Accumulator(world.store, on: world.backend),
      optimizer: Optimizer(OptimizerSettings(kind: .sgd), world.store, on: world.backend), learningRate: 0.1,
      gradientScale: 1, targets: 1, isObserved: false)
  }

  /// Sequences that enter one by one are kept with probability capacity/n, like those that are offered together.
  @Test func stepwiseInclusionIsUniform() throws {
    let step = idleStep(VectorWorld([0]))
    let (n, capacity, trials) = (40, 10, 2_000)
    var counts = [Int](repeating: 0, count: n)
    for trial in 0..<trials {
      let tokens = try kept(n, by: 7, capacity: capacity, seed: trial, step).tokens
      #expect(tokens.count == capacity)
      for token in tokens { counts[Int(token)] += 1 }
    }
    let wanted = Double(trials * capacity) / Double(n)
    let chi =
      counts.reduce(0) { $0 + (Double($1) - wanted) * (Double($1) - wanted) }
      / (wanted * (1 - Double(capacity) / Double(n)))
    // 39 degrees of freedom: 99.9 % below 72.
    #expect(chi < 72, "χ² = \(chi)")
  }

  /// What is kept depends on the order of the stage, not on how steps cut it.
  @Test func stepwiseBuffersDoNotDependOnSteps() throws {
    let step = idleStep(VectorWorld([0]))
    for seed in 0..<20 {
      let one = try kept(40, by: 1, capacity: 10, seed: seed, step)
      for size in [7, 40] {
        let other = try kept(40, by: size, capacity: 10, seed: seed, step)
        #expect(one.tokens == other.tokens && one.keys == other.keys)
      }
    }
  }

  /// Rows enter with the logits that the model gave before the step that learned them.
  @Test func stepwiseLogitsAreThoseBeforeTheStep() throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 1, beta: 0, ratio: 0.5, budgetTokens: 100, selection: .reservoir, isSquared: true, topK: 64,
      insertsAtSteps: true)
    try der.stageWillBegin(world.stage())
    func logits() -> [[Float]] {
      let batch = world.batches(world.exemplars)[0]
      let hidden = world.network.forward(batch, recording: false, on: world.backend).hidden
      let all = world.network.head(0).linear.forward(hidden, on: world.backend)
      return (0..<all.rows).map { all.rows($0..<$0 + 1).toArray() }
    }
    let train = world.trainer()
    // Logits before the first step, between both, and after the second.
    var seen = [logits()]
    for first in [0, 6] {
      let rows = Array(world.exemplars[first..<first + 6])
      _ = train(world.compose(rows, [der]), learningRate: 0.1, maximumNorm: 0, methods: [der])
      seen.append(logits())
    }
    var composition = Composition(
      Array(world.exemplars.prefix(12)), network: world.network, backend: world.backend, batchTokens: 8,
      makeBatches: { world.batches($0) })
    der.compose(&composition)
    #expect(composition.rehearsed.map { Int($0.inputs[0]) }.sorted() == Array(0..<12))
    for exemplar in composition.rehearsed {
      let index = Int(exemplar.inputs[0])
      let (before, after) = (seen[index / 6][index], seen[index / 6 + 1][index])
      let soft = try #require(exemplar.soft)
      #expect(soft.classes == [0, 1, 2] && soft.temperature == 0)
      for (a, b) in zip(soft.values, before) { #expect(abs(a - b) <= 1e-6 * max(1, abs(b))) }
      let isMoved = zip(soft.values, after).contains { abs($0.0 - $0.1) > 1e-3 }
      #expect(isMoved)
    }
  }

  /// DER++ draws twice: rows for their logits and other rows for their targets, each row once a pass.
  @Test func derDrawsTwice() throws {
    let world = RowWorld()
    let der = DarkExperienceReplay(
      alpha: 1, beta: 1, ratio: 0.5, budgetTokens: 24, selection: .reservoir, isSquared: true, topK: 64)
    try der.consolidate(world.past(0))
    try der.stageWillBegin(world.stage())
    var (dark, plain): ([Int], [Int]) = ([], [])
    for _ in 0..<3 {
      var composition = Composition(
        Array(world.exemplars.prefix(8)), network: world.network, backend: world.backend, batchTokens: 8,
        makeBatches: { world.batches($0) })
      der.compose(&composition)
      try #require(composition.rehearsed.count == 16)
      for exemplar in composition.rehearsed {
        #expect((exemplar.softWeight > 0) != (exemplar.weight > 0))
        if exemplar.softWeight > 0 {
          #expect(exemplar.soft != nil)
          dark.append(Int(exemplar.inputs[0]))
        } else {
          plain.append(Int(exemplar.inputs[0]))
        }
      }
      #expect(dark.count == plain.count)
    }
    #expect(dark.sorted() == Array(0..<24) && plain.sorted() == Array(0..<24))
    #expect(Set(dark.prefix(8)) != Set(plain.prefix(8)) && dark != plain)
  }
}
