// `retain merge` from outside: what it writes, what it chooses, and what it refuses with which code.
import Archive
import Corpus
import Foundation
import Models
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
struct MergeCommandTests {
  /// A folder with base.h5, tuned.h5, wide.h5 (another layout) and a probe.
  private func withModels(_ body: (String) throws -> Void) throws {
    try withTemporaryDirectory { folder in
      let backend = CPUBackend(threads: 1)
      let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
      for (name, seed, hidden) in [("base", 1, 16), ("tuned", 2, 16), ("wide", 3, 32)] as [(String, UInt64, Int)] {
        var c = TransformerConfiguration(
          architecture: "llama", vocabularySize: tokenizer.vocabularySize, hiddenSize: hidden, intermediateSize: 24,
          layers: 2, heads: 2, keyHeads: 1, contextLength: 32, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
        c.initializerRange = 0.1
        let transformer = try ModelCatalog.initialize(c, random: RandomStream(seed: seed), on: backend)
        try ModelFile.save(
          LoadedModel(transformer: transformer, tokenizer: tokenizer, path: name), to: "\(folder)/\(name).h5",
          type: .float32)
      }
      try "A cat sat on a mat.\n\nThe sun was warm that day.\n".write(
        toFile: folder + "/probe.txt", atomically: true, encoding: .utf8)
      try body(folder)
    }
  }
  private func values(_ path: String) throws -> [Float] {
    try LoadedModel.load(path, on: CPUBackend(threads: 1)).transformer.parameters.values.toArray()
  }

  @Test func writesTheModelsAtTheEndsAndWhatIsBetween() throws {
    try withModels { folder in
      let (base, tuned) = (folder + "/base.h5", folder + "/tuned.h5")
      for (alpha, twin) in [("0", base), ("1", tuned)] {
        let outcome = try Program.run("merge", base, tuned, "--alpha", alpha, "--to", "\(folder)/at-\(alpha)")
        #expect(outcome.code == 0, "\(outcome.error)")
        #expect(try values("\(folder)/at-\(alpha)").map(\.bitPattern) == values(twin).map(\.bitPattern))
      }
      let away = try Program.run(
        "merge", base, tuned, "--method", "task-arithmetic", "--alpha", "-1", "--to", folder + "/away.h5", "--json")
      #expect(away.code == 0 && away.json?["candidates"]?[0]?["alpha"]?.double == -1)
      let far = zip(try values(folder + "/away.h5"), zip(try values(base), try values(tuned))).filter { x, pair in
        abs(x - (2 * pair.0 - pair.1)) > 1e-6
      }
      #expect(far.isEmpty, "\(far.count) numbers are not 2 θ_base − θ_tuned")
      // A folder that is not empty stays as it is.
      let again = try Program.run("merge", base, tuned, "--alpha", "1", "--to", folder + "/at-0")
      #expect(again.code == 73 && again.error.contains("not empty"))
      #expect(try values(folder + "/at-0") == values(base))
    }
  }

  @Test func sweepsAreScoredAndTheBestIsWritten() throws {
    try withModels { folder in
      let (base, tuned, probe) = (folder + "/base.h5", folder + "/tuned.h5", "p=\(folder)/probe.txt")
      let outcome = try Program.run(
        "merge", base, tuned, "--alpha", "0,0.5,1", "--probe", probe, "--pick", "p.bits_per_byte", "--to",
        folder + "/best", "--threads", "1", "--json")
      #expect(outcome.code == 0, "\(outcome.error)")
      let json = try #require(outcome.json)
      let candidates = try #require(json["candidates"]?.array)
      #expect(candidates.compactMap { $0["alpha"]?.double } == [0, 0.5, 1])
      let bits = candidates.compactMap { $0["measurements"]?[0]?["value"]?.double }
      #expect(bits.count == 3)
      // The chosen one is the least, and what was written measures the same.
      let least = try #require(bits.indices.min { bits[$0] < bits[$1] })
      #expect(json["chosen"]?["alpha"]?.double == candidates[least]["alpha"]?.double)
      let check = try Program.run("eval", folder + "/best", "--probe", probe, "--threads", "1", "--json")
      #expect(check.json?["measurements"]?[0]?["value"]?.double == bits[least])
      // The ends measure what the models measure.
      for (place, path) in [(0, base), (2, tuned)] {
        let alone = try Program.run("eval", path, "--probe", probe, "--threads", "1", "--json")
        #expect(alone.json?["measurements"]?[0]?["value"]?.double == bits[place])
      }
      let text = try Program.run("merge", base, tuned, "--alpha", "0.5,1", "--probe", probe)
      #expect(text.code == 0 && text.out.contains("chosen: alpha ") && text.out.contains("← chosen"))
    }
  }

  @Test func fisherMergesTakeDataOfEveryModel() throws {
    try withModels { folder in
      let (base, tuned, data) = (folder + "/base.h5", folder + "/tuned.h5", folder + "/probe.txt")
      let outcome = try Program.run(
        "merge", base, tuned, "--method", "fisher", "--fisher-data", data, "--fisher-data", data, "--to",
        folder + "/merged", "--threads", "2")
      #expect(outcome.code == 0, "\(outcome.error)")
      #expect(try Program.run("merge", base, tuned, "--to", folder + "/plain").code == 0)
      // Every number lies between those of the two models.
      let merged = try values(folder + "/merged")
      let outside = zip(merged, zip(try values(base), try values(tuned))).filter { x, pair in
        !(min(pair.0, pair.1)...max(pair.0, pair.1)).contains(x)
      }
      #expect(outside.isEmpty, "\(outside.count) numbers")
      // It is no plain average, and how many threads compute does not show.
      let plain = try values(folder + "/plain")
      #expect(merged != plain)
      let alone = try Program.run(
        "merge", base, tuned, "--method", "fisher", "--fisher-data", data, "--fisher-data", data, "--to",
        folder + "/alone", "--threads", "1")
      #expect(alone.code == 0)
      let byOneThread = try values(folder + "/alone")
      #expect(merged.map(\.bitPattern) == byOneThread.map(\.bitPattern))
      let one = try Program.run(
        "merge", base, tuned, "--method", "fisher", "--fisher-data", data, "--to", folder + "/x")
      #expect(one.code == 64 && one.error.contains("--fisher-data"))
      let beyond = try Program.run(
        "merge", base, tuned, "--method", "fisher", "--fisher-data", data, "--fisher-data", data, "--alpha", "0.5,2",
        "--probe", "p=\(data)", "--to", folder + "/x")
      #expect(beyond.code == 64 && beyond.error.contains("[0, 1]"))
    }
  }

  @Test func whatCannotBeMergedIsRefused() throws {
    try withModels { folder in
      let (base, tuned) = (folder + "/base.h5", folder + "/tuned.h5")
      let wide = try Program.run("merge", base, folder + "/wide.h5", "--to", folder + "/x")
      #expect(wide.code == 65 && wide.error.contains("hidden size 32 against 16"))
      #expect(!FileManager.default.fileExists(atPath: folder + "/x"))
      #expect(try Program.run("merge", base, folder + "/none.h5", "--to", folder + "/x").code == 66)
      #expect(try Program.run("merge", base, tuned).code == 64)
      #expect(try Program.run("merge", base, "--to", folder + "/x").code == 64)
      #expect(try Program.run("merge", base, tuned, "--alpha", "0,1", "--to", folder + "/x").code == 64)
      #expect(try Program.run("merge", base, tuned, "--alpha", "half", "--to", folder + "/x").code == 64)
      #expect(try Program.run("merge", base, tuned, "--method", "mean", "--to", folder + "/x").code == 64)
      let idle = try Program.run("merge", base, tuned, "--density", "0.5", "--to", folder + "/x")
      #expect(idle.code == 64 && idle.error.contains("ties, dare"))
      let unknown = try Program.run(
        "merge", base, tuned, "--probe", "p=\(folder)/probe.txt", "--pick", "p.acc", "--to", folder + "/x")
      #expect(unknown.code == 64 && unknown.error.contains("p.bits_per_byte"))
      #expect(
        try Program.run("merge", base, tuned, "--probe", "p=\(folder)/none.txt", "--to", folder + "/x").code == 66)
    }
  }
}
