// Self-rehearsal from prompts: where they come from, and that nothing else of the past is kept.
import Continual
import Layers
import TensorCore
import TestKit
import Testing
import Training

/// In the model's place: a text is its prompt and then token 7; it remembers what it was asked.
private final class Scribe {
  var prompts: [[Int32]] = []
  var lengths: Set<Int> = []
  /// One for each time it was asked.
  var temperatures: [Double] = []
  var notes: [String] = []
  func write(_ prompts: [[Int32]], _ length: Int, _ temperature: Double, _ random: RandomStream) -> [Exemplar] {
    self.prompts += prompts
    lengths.insert(length)
    temperatures.append(temperature)
    return prompts.map { prompt in
      let text = prompt + [Int32](repeating: 7, count: length - prompt.count)
      return Exemplar(inputs: [0] + text.dropLast(), targets: text)
    }
  }
}

/// A network that finds target 0 after token t the less likely the larger t is: its loss is log(1 + e^{t/8}).
private final class Ladder: Network {
  let parameters: ParameterStore
  private let last: Head
  init(on backend: any Backend) {
    parameters = ParameterStore([ParameterDeclaration("w", [2, 2], .zeros)], on: backend)
    parameters.values.assign([1, 0, 0, 1])
    last = Head(Linear(parameters.parameters[0]))
  }
  func head(_ index: Int) -> Head { last }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    let logits = batch.tokens.flatMap { token -> [Float] in [Float(token) / -8, 0] }
    return (backend.tensor(logits, batch.count, 2), nil)
  }
}

@Suite struct SelfRehearsalTests {
  private let world = VectorWorld([0])
  /// Token 0 is the mark; all others of sequence i are from 100·(i + 1) on. The shortest has no other.
  private var past: [Exemplar] {
    (0..<30).map { index in
      let tokens = [0] + (0..<index % 9).map { Int32(100 * (index + 1) + $0) }
      return Exemplar(inputs: tokens, targets: tokens.dropFirst() + [0])
    }
  }
  private func rehearsal(_ promptTokens: Int) -> SelfRehearsal {
    SelfRehearsal(ratio: 0.5, budgetTokens: 200, length: 10, promptTokens: promptTokens)
  }
  private func consolidate(
    _ method: SelfRehearsal, _ scribe: Scribe, past index: Int = 0, isReal: Bool = true, sharing: SharedResults? = nil
  ) throws {
    try method.consolidate(
      ConsolidationScope(
        network: Idle(world.store), backend: world.backend, past: index, name: "p\(index)", sequences: past,
        isReal: isReal, tokens: 1, batchTokens: 16, makeBatches: { _ in [] }, write: scribe.write, sharing: sharing,
        random: RandomStream(seed: 4).forked("past", index), note: { scribe.notes.append($0) }))
  }
  private func rehearsed(_ method: SelfRehearsal, tokens: Int) throws -> [Exemplar] {
    try method.stageWillBegin(world.scope)
    let stage = Exemplar(inputs: [Int32](repeating: 1, count: tokens), targets: [Int32](repeating: 1, count: tokens))
    var composition = Composition(
      [stage], network: Idle(world.store), backend: world.backend, batchTokens: 16, makeBatches: { _ in [] })
    method.compose(&composition)
    return composition.rehearsed
  }

  /// Every prompt opens a sequence of the past, at most as long as asked, and is all that the buffer has of it.
  @Test func promptsOpenSequencesOfThePast() throws {
    let (method, scribe) = (rehearsal(4), Scribe())
    try consolidate(method, scribe)
    let openings = Set(past.map { Array($0.inputs.dropFirst().prefix(4)) })
    #expect(scribe.prompts.count == 20 && scribe.prompts.allSatisfy(openings.contains))
    #expect(scribe.lengths == [10] && Set(scribe.prompts).count > 5)
    let texts = try rehearsed(method, tokens: 200)
    #expect(texts.count == 20)
    for text in texts {
      let prompt = text.targets.filter { $0 >= 100 }
      #expect(prompt.count <= 4 && scribe.prompts.contains(prompt) && text.targets.starts(with: prompt))
      // Prompts carry loss as the rest does.
      #expect(text.scored == 10 && text.weight == 1)
    }
    #expect(scribe.notes.count == 1)
  }

  /// Equal streams give equal prompts; another past gives others.
  @Test func promptsFollowTheStream() throws {
    let scribes = [Scribe(), Scribe(), Scribe()]
    try consolidate(rehearsal(4), scribes[0])
    try consolidate(rehearsal(4), scribes[1])
    try consolidate(rehearsal(4), scribes[2], past: 1)
    #expect(scribes[0].prompts == scribes[1].prompts)
    #expect(scribes[2].prompts.count == 10 && scribes[2].prompts != Array(scribes[0].prompts.prefix(10)))
  }

  @Test func withoutTextOfThePastThereAreNoPrompts() throws {
    let (method, scribe) = (rehearsal(4), Scribe())
    try consolidate(method, scribe, isReal: false)
    #expect(scribe.prompts == [[Int32]](repeating: [], count: 20))
    #expect(scribe.notes.count == 2 && scribe.notes[0].contains("no text to take prompts from"))
    #expect(try rehearsed(method, tokens: 200).allSatisfy { $0.targets.allSatisfy { $0 == 7 } })
    let plain = Scribe()
    try consolidate(rehearsal(0), plain)
    #expect(plain.prompts == scribe.prompts && plain.notes.count == 1)
  }

  /// Variants with other prompts do not share what was written.
  @Test func sharedTextsHaveTheSamePrompts() throws {
    let (scribe, sharing) = (Scribe(), SharedResults())
    for (tokens, asked) in [(0, 20), (4, 40), (4, 40), (5, 60)] {
      try consolidate(rehearsal(tokens), scribe, sharing: sharing)
      #expect(scribe.prompts.count == asked)
    }
  }

  /// Texts are drawn at the temperature of the options, and those of another one are not shared.
  @Test func textsAreWrittenAtTheirTemperature() throws {
    let (scribe, sharing) = (Scribe(), SharedResults())
    for temperature in [0.7, 0.7, 1.3] {
      let options: [String: OptionValue] = [
        "ratio": .number(0.5), "budget_tokens": .integer(200), "text_tokens": .integer(10),
        "write_temperature": .number(temperature),
      ]
      let method = SelfRehearsal(
        MethodIngredients(MethodOptions { options[$0] }, store: world.store, backend: world.backend))
      try consolidate(method, scribe, sharing: sharing)
    }
    #expect(scribe.temperatures == [0.7, 1.3])
    let plain = Scribe()
    try consolidate(rehearsal(4), plain)
    #expect(plain.temperatures == [1])
  }

  /// A tenth of the texts from either end of their mean losses, however long they are; fewer than ten lose none.
  @Test(arguments: [9, 10, 29, 30]) func typicalTextsAreThoseInBetween(count: Int) throws {
    // In a mixed order; the lower half is three times as long, so that sums of losses rank otherwise.
    func length(_ step: Int) -> Int { step < count / 2 ? 3 : 1 }
    let texts: [Exemplar] = (0..<count).map { index in
      let step = 7 * index % count
      return Exemplar(
        inputs: [Int32](repeating: Int32(step), count: length(step)),
        targets: [Int32](repeating: 0, count: length(step)))
    }
    let budget = texts.reduce(0) { $0 + $1.inputs.count }
    let method = SelfRehearsal(ratio: 0.5, budgetTokens: budget, length: 3, filter: .typical)
    try method.consolidate(
      ConsolidationScope(
        network: Ladder(on: world.backend), backend: world.backend, past: 0, name: "base", sequences: [], isReal: false,
        tokens: 1, batchTokens: 7, makeBatches: { $0.isEmpty ? [] : [Batch($0)] }, write: { _, _, _, _ in texts },
        random: RandomStream(seed: 4), note: { _ in }))
    let between = Array(count / 10..<count - count / 10)
    // Two passes over what was kept.
    let tokens = 2 * between.reduce(0) { $0 + length($1) }
    let steps = try rehearsed(method, tokens: tokens).map { Int($0.inputs[0]) }
    #expect(steps.sorted() == between.flatMap { [$0, $0] })
  }

  @Test func savedTextsAreRehearsedAlike() throws {
    let (method, scribe) = (rehearsal(4), Scribe())
    try consolidate(method, scribe)
    let state = MemoryState()
    method.write(to: state)
    let again = rehearsal(4)
    try again.restore(from: state)
    #expect(try rehearsed(again, tokens: 50) == rehearsed(method, tokens: 50))
  }
}
