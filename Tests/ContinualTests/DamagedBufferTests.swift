// Buffers from a file: ids that the network does not know would end the process in the first batch, and so they are
// refused when they are read.
import Continual
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct DamagedBufferTests {
  private let backend = CPUBackend(threads: 1)

  /// The parameters of a model that knows 37 tokens.
  private func store() throws -> ParameterStore {
    try ModelCatalog.initialize(
      TransformerConfiguration(
        architecture: "llama", vocabularySize: 37, hiddenSize: 8, intermediateSize: 8, layers: 1, heads: 2, keyHeads: 2,
        contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true),
      random: RandomStream(seed: 1), on: backend
    ).parameters
  }

  /// Every method with a buffer learns from its ingredients how many tokens there are.
  @Test(arguments: ["replay", "self_rehearsal", "der", "agem", "gem"])
  func idsOutsideOfTheVocabularyAreRefused(name: String) throws {
    let ingredients = MethodIngredients(MethodOptions { _ in nil }, store: try store(), backend: backend)
    #expect(ingredients.store.vocabulary == 37)
    guard let kind = MethodCatalog.named(name) else {
      Issue.record("there is no method \(name)")
      return
    }
    func restore(_ inputs: [Int32], _ targets: [Int32], classes: [Int32] = []) throws {
      let state = MemoryState()
      kind.init(ingredients).write(to: state)
      for prefix in name == "der" ? ["dark/", "plain/"] : [""] {
        state.tokens(prefix + "tokens", inputs, description: nil)
        state.tokens(prefix + "targets", targets, description: nil)
        state.integers(prefix + "lengths", [inputs.count], description: nil)
        state.integers(prefix + "past", [0], description: nil)
        state.integers(prefix + "keys", [1], description: nil)
        guard !classes.isEmpty else { continue }
        state.integers(prefix + "soft/widths", [1], description: nil)
        state.tokens(prefix + "soft/classes", classes, description: nil)
        state.tokens(prefix + "soft/values", classes.map { _ in 0 }, description: nil)
        state.doubles(prefix + "soft/temperatures", [1], description: nil)
      }
      try kind.init(ingredients).restore(from: state)
    }
    try restore([0, 36], [36, -1], classes: [36])
    #expect(throws: StateError.self) { try restore([0, 37], [1, 1]) }
    #expect(throws: StateError.self) { try restore([-1, 0], [1, 1]) }
    #expect(throws: StateError.self) { try restore([0, 1], [-1, 37]) }
    #expect(throws: StateError.self) { try restore([0, 1], [1, -1], classes: [37]) }
    #expect(throws: StateError.self) { try restore([0, 1], [1, -1], classes: [-1]) }
  }

  /// A classifier's inputs are no tokens.
  @Test func classifiersHaveNoVocabulary() { #expect(RowWorld().store.vocabulary == nil) }

  /// A draw lasts as long as something is owed: for ever, where that is infinite.
  @Test func impossibleDebtsAreRefused() throws {
    func restore(owed: Double) throws {
      let state = MemoryState()
      ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir).write(to: state)
      state.doubles("owed", [owed], description: nil)
      try ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir).restore(from: state)
    }
    try restore(owed: 499.5)
    for owed in [Double.infinity, -1, .nan, 1e18] {
      #expect(throws: StateError.self) { try restore(owed: owed) }
    }
  }

  /// Widths whose product with the scored places is more than a number holds.
  @Test func impossibleWidthsAreRefused() throws {
    let state = MemoryState()
    ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir).write(to: state)
    state.tokens("tokens", [0, 1], description: nil)
    state.tokens("targets", [1, 2], description: nil)
    for name in ["past", "keys"] { state.integers(name, [0], description: nil) }
    state.integers("lengths", [2], description: nil)
    state.integers("soft/widths", [.max], description: nil)
    state.tokens("soft/classes", [1, 2], description: nil)
    state.tokens("soft/values", [0, 0], description: nil)
    state.doubles("soft/temperatures", [1], description: nil)
    #expect(throws: StateError.self) {
      try ExperienceReplay(ratio: 0.3, budgetTokens: 500, selection: .reservoir).restore(from: state)
    }
  }
}
