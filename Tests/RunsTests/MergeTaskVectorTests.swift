// `retain merge` by TIES and DARE, on models that differ from their base in five numbers: results by hand.
import Corpus
import Foundation
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
struct MergeTaskVectorTests {
  private static let norm = "model.norm.weight"
  /// Changes of the first five gains, which are 1 in the base; every other number is the base's.
  private static let tasks: [[Float]] = [[4, -2, 0.5, 0.25, 3], [-1, -6, 2, 0.5, 0], [-1, 3, 2, -8, 0.5]]

  private struct World {
    let folder: String
    /// All numbers of base.h5, and where the gains lie.
    let base: [Float]
    let gains: Int
    var paths: [String] { ["base", "a", "b", "c"].map { "\(folder)/\($0).h5" } }
  }
  private func withModels(_ body: (World) throws -> Void) throws {
    try withTemporaryDirectory { folder in
      let backend = CPUBackend(threads: 1)
      let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
      var c = TransformerConfiguration(
        architecture: "llama", vocabularySize: tokenizer.vocabularySize, hiddenSize: 16, intermediateSize: 24,
        layers: 1, heads: 2, keyHeads: 1, contextLength: 32, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
      c.initializerRange = 0.1
      let transformer = try ModelCatalog.initialize(c, random: RandomStream(seed: 1), on: backend)
      let gains = try #require(transformer.parameters[Self.norm])
      let base = transformer.parameters.values.toArray()
      let world = World(folder: folder, base: base, gains: gains.range.lowerBound)
      for (path, task) in zip(world.paths, [[]] + Self.tasks) {
        transformer.parameters.values.assign(base)
        for (index, change) in task.enumerated() { gains.value.buffer[index] += change }
        try ModelFile.save(
          LoadedModel(transformer: transformer, tokenizer: tokenizer, path: path), to: path, type: .float32)
      }
      try body(world)
    }
  }
  /// The five gains of a merge of all three; that nothing else moved is expected here.
  private func gains(
    _ world: World, name: String, merge: (_ target: String) throws -> Program.Outcome
  ) throws -> [Float] {
    let target = "\(world.folder)/\(name).h5"
    let outcome = try merge(target)
    #expect(outcome.code == 0, "\(outcome.error)")
    let values = try LoadedModel.load(target, on: CPUBackend(threads: 1)).transformer.parameters.values.toArray()
    try #require(values.count == world.base.count)
    let five = world.gains..<world.gains + 5
    let strays = values.indices.filter { !five.contains($0) && values[$0].bitPattern != world.base[$0].bitPattern }
    #expect(strays.isEmpty, "\(strays.count) numbers moved")
    return Array(values[five])
  }

  /// Three changes stay of each: 4, −2, 3; −1, −6, 2; 3, 2, −8. Their sums 3, −5, 4, −8, 3 elect signs, and the means
  /// of those that agree are 4, −4, 2, −8, 3. Mistakes: trimming tensor by tensor or all models together, a mean over
  /// those that disagree, too, and, where all changes stay, signs by counting votes (the first and the fourth would
  /// turn).
  @Test func tiesByHand() throws {
    try withModels { world in
      func ties(_ density: String, _ alpha: String, _ name: String) throws -> [Float] {
        let paths = world.paths
        return try gains(world, name: name) { target in
          try Program.run(
            "merge", paths[0], paths[1], paths[2], paths[3], "--method", "ties", "--density", density, "--alpha", alpha,
            "--to", target, "--threads", "1")
        }
      }
      let three = "\(3 / Double(world.base.count))"
      let whole = try ties(three, "1", "whole")
      #expect(whole == [5, -3, 3, -7, 4])
      let half = try ties(three, "0.5", "half")
      #expect(half == [3, -1, 2, -3, 2.5])
      // Sums 2, −5, 4.5, −7.25, 3.5; means of 4; −2, −6; 0.5, 2, 2; −8; 3, 0.5.
      let all = try ties("1", "1", "all")
      #expect(all == [5, -3, 2.5, -7, 2.75])
    }
  }

  /// Weights 1, 2, 1. All kept: Σ w τ = 1, −11, 6.5, −6.75, 3.5. Half kept: every number is the base's plus 2 Σ w τ
  /// over some of the models. Mistakes: no rescaling, one choice for all models or for all numbers, weights left out.
  @Test func dareByHand() throws {
    try withModels { world in
      func dare(_ density: String, _ alpha: String, seed: Int, _ name: String) throws -> [Float] {
        let paths = world.paths
        return try gains(world, name: name) { target in
          try Program.run(
            "merge", paths[0], paths[1], paths[2], paths[3], "--method", "dare", "--density", density, "--alpha", alpha,
            "--weights", "1,2,1", "--seed", "\(seed)", "--to", target, "--threads", "1")
        }
      }
      let whole = try dare("1", "1", seed: 0, "whole")
      #expect(whole == [2, -10, 7.5, -5.75, 4.5])
      let half = try dare("1", "0.5", seed: 0, "half")
      #expect(half == [1.5, -4.5, 4.25, -2.375, 2.75])
      let weights: [Float] = [1, 2, 1]
      var seen: [[Float]] = []
      /// Which models gave their change to a number, where that can be told.
      var givers: Set<Int> = []
      for seed in 0..<6 {
        let found = try dare("0.5", "1", seed: seed, "seed-\(seed)")
        for (index, value) in found.enumerated() {
          let fitting = (0..<8).filter { subset in
            let given = weights.indices.filter { subset >> $0 & 1 == 1 }
            return value == given.reduce(Float(1)) { $0 + 2 * weights[$1] * Self.tasks[$1][index] }
          }
          #expect(!fitting.isEmpty, "gain \(index), seed \(seed): \(value)")
          if fitting.count == 1 { givers.insert(fitting[0]) }
        }
        seen.append(found)
      }
      #expect(givers.count > 3 && Set(seen).count > 1)
      let again = try dare("0.5", "1", seed: 3, "again")
      #expect(again == seen[3])
    }
  }

  /// Of a model that differs everywhere a fifth of the changes stays, five times as large: within four deviations.
  /// Mistake: the share that is dropped in place of the one that is kept.
  @Test func dareKeepsItsShare() throws {
    try withModels { world in
      let backend = CPUBackend(threads: 1)
      let model = try LoadedModel.load(world.paths[0], on: backend)
      let values = model.transformer.parameters.values
      values.assign(world.base.map { $0 + 0.25 })
      let tuned = values.toArray()
      let (other, target) = (world.folder + "/other.h5", world.folder + "/fifth.h5")
      try ModelFile.save(model, to: other, type: .float32)
      let outcome = try Program.run("merge", world.paths[0], other, "--method", "dare", "--to", target)
      #expect(outcome.code == 0, "\(outcome.error)")
      let found = try LoadedModel.load(target, on: backend).transformer.parameters.values.toArray()
      var (kept, strange) = (0, 0)
      for i in found.indices where found[i] != world.base[i] {
        kept += 1
        let wanted = world.base[i] + 5 * (tuned[i] - world.base[i])
        if abs(found[i] - wanted) > 1e-5 { strange += 1 }
      }
      let count = Double(found.count)
      #expect(strange == 0 && abs(Double(kept) - 0.2 * count) <= 4 * (0.16 * count).squareRoot(), "\(kept) of \(count)")
    }
  }
}
