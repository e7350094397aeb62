// What methods keep, as the forecast has it: against what they write into checkpoints, and by hand.
import Continual
import Curvature
import Layers
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing
import Training

@Suite struct StateForecastTests {
  private struct Unknown: Error { let name: String }
  /// A method with its default options, some of them changed.
  private func configured(
    _ name: String, _ changes: [String: OptionValue]
  ) throws -> (type: any ConfigurableMethod.Type, options: MethodOptions) {
    guard let type = MethodCatalog.named(name) else { throw Unknown(name: name) }
    var values = Dictionary(uniqueKeysWithValues: type.schema.options.map { ($0.key, $0.defaultValue) })
    values.merge(changes) { $1 }
    let all = values
    return (type, MethodOptions { all[$0] })
  }

  struct Entry: CustomTestStringConvertible {
    let name: String
    var changes: [String: OptionValue] = [:]
    var testDescription: String { "\(name) \(changes.keys.sorted())" }
  }
  static let entries = [
    Entry(name: "l2sp"), Entry(name: "mas"), Entry(name: "si"), Entry(name: "rwalk"), Entry(name: "fisher_freeze"),
    Entry(name: "wise_ft"), Entry(name: "lwf"), Entry(name: "ogd", changes: ["directions": .integer(2)]),
    Entry(name: "ewc"), Entry(name: "ewc", changes: ["variant": .word("separate")]),
    Entry(name: "ewc", changes: ["fisher.structure": .word("kronecker")]),
    Entry(name: "ewc", changes: ["fisher.structure": .word("kronecker"), "variant": .word("separate")]),
  ]

  /// Two pasts of a classifier with hidden units, four times as many as its inputs: the numbers of every tensor that a
  /// checkpoint gets are those that were forecast.
  @Test(arguments: entries) func checkpointsHoldWhatIsForecast(_ entry: Entry) throws {
    let (type, options) = try configured(entry.name, entry.changes)
    let world = RowWorld(hidden: [16])
    let method = type.init(MethodIngredients(options, store: world.store, backend: world.backend))
    for past in 0..<2 {
      try method.consolidate(world.past(past, Array(world.exemplars[12 * past..<12 * past + 12])))
      try method.stageWillBegin(world.stage(past + 1))
    }
    let state = MemoryState()
    method.write(to: state)
    let bytes = try state.tensorPaths.reduce(0) { try $0 + 4 * state.floats($1).count }
    let chain = StateOutline(store: world.store, pasts: 2, stageTokens: 24)
    #expect(bytes > 0 && type.stateBytes(options, chain) == bytes)
  }

  /// Factors of every linear layer and of a head that is not tied; embeddings have none, whatever their shape.
  @Test func factorsAreThoseOfLinearLayers() throws {
    let backend = CPUBackend(threads: 1)
    let network = try ModelCatalog.initialize(
      TransformerConfiguration(
        architecture: "llama", vocabularySize: 11, hiddenSize: 8, intermediateSize: 12, layers: 1, heads: 2,
        keyHeads: 1, contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: false),
      random: RandomStream(seed: 5), on: backend)
    let chain = StateOutline(store: network.parameters, pasts: 3, stageTokens: 1)
    let (type, options) = try configured("ewc", ["fisher.structure": .word("kronecker")])
    // O² + I²: queries and their way out [8, 8], keys and values [4, 8], three of [12, 8], the head [11, 8].
    let squares = 2 * 128 + 2 * 80 + 3 * 208 + 185
    #expect(type.stateBytes(options, chain) == 8 * network.parameters.count + 4 * squares)
    // A force on every factored weight; a pass finds the factors in fp32.
    let factored = 2 * 64 + 2 * 32 + 3 * 96 + 88
    #expect(type.workBytes(options, chain) == 4 * factored)
    #expect(type.estimateBytes(options, network.parameters) == 4 * squares)
    // The work of a step counts no embeddings either: 2·O·I·(O + I) a factored weight.
    let products = 2 * 64 * 16 + 2 * 32 * 12 + 3 * 96 * 20 + 88 * 19
    let work = type.addedWork(options, StepOutline(tokens: 10, pasts: 1, store: network.parameters))
    let wanted = Double(2 * products) / Double(6 * network.parameters.count * 10)
    #expect(abs(work - wanted) < 1e-12)
  }

  /// Sides of 128 and more have a rank of a fifth, in whole sixteens, and a diagonal; a checkpoint holds just that.
  @Test func factorsOfLowRankByHand() throws {
    let world = RowWorld(hidden: [132])
    let (type, options) = try configured("ewc", ["fisher.structure": .word("kronecker")])
    let chain = StateOutline(store: world.store, pasts: 1, stageTokens: 24)
    let method = type.init(MethodIngredients(options, store: world.store, backend: world.backend))
    try method.consolidate(world.past(0, world.exemplars))
    let state = MemoryState()
    method.write(to: state)
    let weights = world.store.parameters.filter { $0.shape.count == 2 }
    var (numbers, work) = (0, 0)
    for weight in weights {
      for (side, other) in [(weight.shape[0], weight.shape[1]), (weight.shape[1], weight.shape[0])] {
        numbers += side == 132 ? 132 * 16 + 132 : side * side
        work += 2 * other * (side == 132 ? 2 * 132 * 16 : side * side)
      }
    }
    #expect(weights.contains { $0.shape.contains(132) })
    #expect(type.stateBytes(options, chain) == 8 * world.store.count + 4 * numbers)
    let bytes = try state.tensorPaths.reduce(0) { try $0 + 4 * state.floats($1).count }
    #expect(bytes == type.stateBytes(options, chain))
    let added = type.addedWork(options, StepOutline(tokens: 10, pasts: 1, store: world.store))
    #expect(abs(added - Double(work) / Double(60 * world.store.count)) < 1e-12)
  }

  /// In memory alone: remembered answers of a teacher, the parameters before a step, gradients of memories.
  @Test func whatIsInMemoryAloneByHand() throws {
    let world = RowWorld()
    let chain = StateOutline(store: world.store, pasts: 3, stageTokens: 100)
    func bytes(_ name: String, _ changes: [String: OptionValue] = [:]) throws -> Int {
      let (type, options) = try configured(name, changes)
      return type.workBytes(options, chain)
    }
    let parameters = 4 * world.store.count
    #expect(try bytes("lwf") == 0)
    // Nine classes of eight bytes; a token and whether it is scored.
    #expect(try bytes("lwf", ["teacher": .word("cached"), "top_k": .integer(9)]) == 77 * 100)
    #expect(try bytes("agem") == 2 * parameters && bytes("gem") == 4 * parameters && bytes("ogd") == parameters)
    #expect(try bytes("ewc") == 0 && bytes("l2sp") == 0)
    #expect(try bytes("ewc", ["fisher.structure": .word("kronecker"), "form": .word("coupled")]) == 0)
  }

  /// Tokens of a buffer with their targets; logits or probabilities beside them; DER keeps its sequences twice.
  @Test func buffersByHand() throws {
    let world = RowWorld()
    let chain = StateOutline(store: world.store, pasts: 3, stageTokens: 100)
    func bytes(_ name: String, _ changes: [String: OptionValue]) throws -> Int {
      let (type, options) = try configured(name, changes.merging(["budget_tokens": .integer(1000)]) { $1 })
      return type.stateBytes(options, chain)
    }
    #expect(try bytes("replay", [:]) == 8_000)
    #expect(try bytes("replay", ["learn": .word("distill"), "top_k": .integer(5)]) == 48_000)
    #expect(try bytes("self_rehearsal", ["learn": .word("distill"), "top_k": .integer(5)]) == 48_000)
    #expect(try bytes("der", ["top_k": .integer(5)]) == 56_000)
    #expect(try bytes("agem", [:]) == 8_000 && bytes("gem", [:]) == 8_000)
  }
}
