// A chain as a user sees it: what is measured, compared, replayed and written down.
import Archive
import Foundation
import Ledger
import Models
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct ChainTests {
  @Test func variantsShareStepsAndAreCompared() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(
        in: folder, compare: "{ naive: [], l2sp: [ { l2sp: { lambda: 0.5 } } ], frozen: [ { ewc: { lambda: 0 } } ] }")
      #expect(try experiment.run() == ExitCode.done)
      let comparison = try Comparison.read(experiment.output + "/comparison.json")
      #expect(comparison.variants.map(\.name) == ["ewc-replay", "naive", "l2sp", "frozen"])
      let naive = try #require(comparison.variant("naive"))
      #expect(naive.plasticityShare == 1)
      #expect(naive.forgettingAvoided == ((naive.summary.forgetting ?? 0) > 0 ? 0 : nil))
      // λ = 0 is naive, bit for bit.
      let hashes = try ["naive", "frozen"].map {
        try RunResults.read("\(experiment.output)/\($0)/results.json").final?.parametersSHA256
      }
      #expect(hashes[0] != nil && hashes[0] == hashes[1])
      #expect(try experiment.steps(experiment.output + "/naive").count == experiment.steps().count)
      // Stage tokens, data order and learning rates agree; replayed tokens come on top.
      let main = try LedgerReader.events(experiment.output + "/ledger.jsonl").filter { $0["event"]?.string == "step" }
      let plain = try LedgerReader.events(experiment.output + "/naive/ledger.jsonl").filter {
        $0["event"]?.string == "step"
      }
      for (a, b) in zip(main, plain) {
        #expect(a["tokens"] == b["tokens"] && a["learning_rate"] == b["learning_rate"])
        #expect(b["replay_tokens"]?.int == 0)
      }
      let stage = main.reduce(0) { $0 + ($1["tokens"]?.int ?? 0) }
      let replayed = main.reduce(0) { $0 + ($1["replay_tokens"]?.int ?? 0) }
      #expect(abs(Double(replayed) - 0.25 * Double(stage)) < 64)
      for name in ["report.md", "report.html"] {
        #expect(FileManager.default.fileExists(atPath: experiment.output + "/" + name))
      }
    }
  }

  @Test func finalCheckpointHoldsTheWholeState() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run()
      let archive = try ArchiveReader(path: experiment.output + "/checkpoints/legal-end.h5")
      try archive.verify()
      for path in [
        "model/config.json", "model/parameters/model.embed_tokens.weight", "methods/ewc/fisher/model.norm.weight",
        "methods/ewc/anchor/model.norm.weight", "methods/replay/tokens", "measurements/matrix.json", "plan/plan.yaml",
        "tokenizer/tokenizer.json", "progress/cursor",
      ] { #expect(archive.contains(path), "\(path)") }
      let pasts = try archive.int32s("methods/replay/tokens").count
      #expect(pasts > 0 && pasts <= 300)
      let hash = try RunResults.read(experiment.output + "/results.json").final?.parametersSHA256
      let model = try LoadedModel.load(experiment.output + "/checkpoints/legal-end.h5", on: CPUBackend(threads: 1))
      #expect(SHA256.hash(UnsafeRawBufferPointer(model.transformer.parameters.values.buffer)) == hash)
    }
  }

  @Test func accumulationEqualsTheBigBatch() throws {
    try withTemporaryDirectory { folder in
      var losses: [[Double]] = []
      for (index, shape) in [("6", "1"), ("1", "6"), ("2", "3")].enumerated() {
        let experiment = try TinyExperiment(in: "\(folder)/\(index)", methods: "[]")
        try experiment.run([
          "training.micro_batch_size=\(shape.0)", "training.gradient_accumulation_steps=\(shape.1)",
          "training.learning_rate=1e-3",
        ])
        losses.append(
          try LedgerReader.events(experiment.output + "/ledger.jsonl").filter { $0["event"]?.string == "step" }
            .compactMap { $0["loss"]?.double })
      }
      for other in losses.dropFirst() {
        #expect(other.count == losses[0].count)
        for (a, b) in zip(losses[0], other) { #expect(abs(a - b) < 1e-4 * a) }
      }
    }
  }

  /// The second stage computes its blocks again; what the first may be changed when a run is continued.
  @Test func checkpointedBlocksChangeNothing() throws {
    try withTemporaryDirectory { folder in
      let kept = try TinyExperiment(in: folder + "/kept")
      try kept.run()
      let again = try TinyExperiment(in: folder + "/again")
      let wanted = again.yaml.replacing(
        "path: data/legal-train.jsonl } ]",
        with: "path: data/legal-train.jsonl } ], training: { gradient_checkpointing: true }")
      #expect(wanted != again.yaml)
      try wanted.write(toFile: again.file, atomically: true, encoding: .utf8)
      #expect(try again.plan().stages.map(\.training.gradientCheckpointing) == [false, true])
      #expect(try again.run(["time_limit=0.000001s"]) == ExitCode.resumable)
      #expect(try again.run(["training.gradient_checkpointing=true"]) == ExitCode.done)
      #expect(try again.results() == kept.results())
      #expect(try again.steps() == kept.steps())
    }
  }

  /// Each seed is the run that it would be alone; the whole is their mean, also when it was stopped in between.
  @Test func seedsAreAveraged() throws {
    try withTemporaryDirectory { folder in
      let options = ["training.max_steps=3", "checkpoint.save_steps=0"]
      let compare = "{ naive: [] }"
      let several = try TinyExperiment(in: folder + "/several", compare: compare)
      try several.yaml.replacing("seed: 11", with: "seeds: [11, 12]").write(
        toFile: several.file, atomically: true, encoding: .utf8)
      var runs = 1
      while try several.run(options + ["time_limit=0.000001s"]) != ExitCode.done {
        runs += 1
        try #require(runs < 60)
      }
      let mean = try RunResults.read(several.output + "/results.json")
      #expect(mean.seedRuns.map(\.seed) == [11, 12] && mean.summary.seedErrors?.forgetting != nil)
      let report = try String(contentsOfFile: several.output + "/report.md", encoding: .utf8)
      #expect(report.contains(" · seeds 11, 12 · finished"))
      let alone = try TinyExperiment(in: folder + "/alone", compare: compare)
      try alone.run(options + ["seed=12"])
      #expect(try several.steps(several.output + "/seed-12") == alone.steps())
      let single = try RunResults.read(alone.output + "/results.json")
      #expect(mean.seedRuns.last?.summary == single.summary)
      let value = try #require(mean.cell("general.bits_per_byte", after: "legal")?.value)
      let each = try [11, 12].map {
        try RunResults.read("\(several.output)/seed-\($0)/results.json").cell("general.bits_per_byte", after: "legal")?
          .value ?? 0
      }
      #expect(abs(value - (each[0] + each[1]) / 2) < 1e-12 && each[0] != each[1])
      let comparison = try Comparison.read(several.output + "/comparison.json")
      #expect(comparison.variants.map(\.name) == ["ewc-replay", "naive"])
      for name in ["report.md", "naive/seed-11/report.html"] {
        #expect(FileManager.default.fileExists(atPath: several.output + "/" + name), "\(name)")
      }
      #expect(try several.run(options) == ExitCode.done)
    }
  }

  /// Kept moments go on where the stage before left them: two stages of one data set then are one long stage.
  @Test func optimizerStateIsKeptOnRequest() throws {
    try withTemporaryDirectory { folder in
      func hash(_ name: String, _ options: [String], stopping: Bool = false) throws -> String? {
        let experiment = try TinyExperiment(in: "\(folder)/\(name)", methods: "[]")
        let all = ["training.max_steps=4", "training.lr_scheduler=constant", "training.warmup_ratio=0"] + options
        if stopping {
          while try experiment.run(all + ["time_limit=0.000001s"]) != ExitCode.done {}
        } else {
          try experiment.run(all)
        }
        return try RunResults.read(experiment.output + "/results.json").final?.parametersSHA256
      }
      let reset = try hash("reset", [])
      let kept = try hash("kept", ["training.optimizer_state=keep"])
      #expect(kept != nil && kept != reset)
      #expect(try hash("cut", ["training.optimizer_state=keep"], stopping: true) == kept)
      // Adam's first step after a reset has the size η everywhere: with kept moments it has not.
      let first = try hash("first", ["stages.legal.training.optimizer_state=keep"])
      #expect(first == kept)
    }
  }

  /// Under cosine every stage warms up and decays anew; infinite warms up once, stays, and anneals at the chain's end.
  @Test func learningRatesFollowTheChain() throws {
    try withTemporaryDirectory { folder in
      func rates(_ scheduler: String) throws -> [[Double]] {
        let experiment = try TinyExperiment(in: "\(folder)/\(scheduler)", methods: "[]")
        try experiment.run([
          "training.lr_scheduler=\(scheduler)", "training.max_steps=30", "training.warmup_ratio=0.09",
          "checkpoint.save_steps=0",
        ])
        let steps = try LedgerReader.events(experiment.output + "/ledger.jsonl").filter {
          $0["event"]?.string == "step"
        }
        return ["medical", "legal"].map { stage in
          steps.filter { $0["stage"]?.string == stage }.compactMap { $0["learning_rate"]?.double }
        }
      }
      // ⌈0.09 · 30⌉ steps, then 27 more.
      let warmup = [1, 2, 3].map { 0.01 * Double($0) / 3 }
      func fall(_ x: Double) -> Double {
        let cosine = Maths.cos(Double.pi * x / 2)
        return cosine * cosine
      }
      let shares = (0..<27).map { Double($0) / 27 }
      let anew = warmup + shares.map { x -> Double in 0.01 * (0.1 + 0.9 * fall(x)) }
      let first = warmup + shares.map { x -> Double in x < 0.5 ? 0.01 * (0.5 + 0.5 * fall(2 * x)) : 0.005 }
      // The last tenth: from half of the highest rate towards a tenth of it.
      let last = (0..<30).map { step -> Double in step < 27 ? 0.005 : 0.01 * (0.5 - 0.4 * Double(step - 27) / 3) }
      let (cosine, infinite) = (try rates("cosine"), try rates("infinite"))
      #expect(cosine.map(\.count) == [30, 30] && infinite.map(\.count) == [30, 30])
      for (found, wanted) in zip(cosine + infinite, [anew, anew, first, last]) {
        for (a, b) in zip(found, wanted) { #expect(abs(a - b) < 1e-12) }
      }
    }
  }

  @Test func divergenceIsARecordedResult() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]", compare: "{ calm: [ { l2sp: { lambda: 0.1 } } ] }")
      let overrides = ["training.learning_rate=1e30", "training.max_grad_norm=0"]
      #expect(try experiment.run(overrides) == ExitCode.diverged)
      #expect(try RunResults.read(experiment.output + "/results.json").status == .diverged)
      // Asked again, nothing is trained and nothing is better.
      #expect(try experiment.run(overrides) == ExitCode.diverged)
      // Nor where another variant is still to come.
      try FileManager.default.removeItem(atPath: experiment.output + "/calm/results.json")
      #expect(try experiment.run(overrides) == ExitCode.diverged)
    }
  }

  @Test func freezingKeepsBits() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run(["training.freeze=[\"model.layers.0.*\", \"model.embed_tokens.weight\"]"])
      let backend = CPUBackend(threads: 1)
      let before = try LoadedModel.load(experiment.output + "/checkpoints/base.h5", on: backend).transformer.parameters
      let after = try LoadedModel.load(experiment.output + "/checkpoints/legal-end.h5", on: backend).transformer
        .parameters
      for (a, b) in zip(before.parameters, after.parameters) {
        let isFrozen = a.name.hasPrefix("model.layers.0.") || a.name == "model.embed_tokens.weight"
        #expect((a.value.toArray() == b.value.toArray()) == isFrozen, "\(a.name)")
      }
      #expect { try experiment.run(["training.freeze=[\"no.such.*\"]"], fresh: true) } throws: {
        ExitCode.of($0) == ExitCode.configuration
      }
    }
  }

  @Test func leakedProbesStopTheRun() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      let data = folder + "/data/"
      try FileManager.default.removeItem(atPath: data + "medical-test.jsonl")
      try FileManager.default.copyItem(atPath: data + "medical-train.jsonl", toPath: data + "medical-test.jsonl")
      #expect { try experiment.run(["data_checks.probe_overlap.action=error"]) } throws: {
        ExitCode.of($0) == ExitCode.badData && "\($0)".contains("medical")
      }
    }
  }

  /// How often the base was asked for text of its own, and the base's Fisher.
  private func withoutBaseData(_ experiment: TinyExperiment, _ methods: String) throws -> (messages: [String], [Float])
  {
    let recorder = Recorder()
    let code = try experiment.run(["base_data=[]", "methods=\(methods)"], observer: recorder, fresh: true)
    #expect(code == ExitCode.done)
    let archive = try ArchiveReader(path: experiment.output + "/checkpoints/base.h5")
    let fisher = archive.entries.map(\.path).filter { $0.hasPrefix("methods/ewc/fisher/") }
    return (recorder.messages, try fisher.flatMap { try archive.floats($0) })
  }

  @Test func withoutBaseDataTheBaseWritesItsOwnText() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, base: .trained)
      let replay = "{ replay: { ratio: 0.2, budget_tokens: 300 } }"
      let some = try withoutBaseData(experiment, "[ { ewc: { fisher: { examples: 24 } } }, \(replay) ]")
      #expect(some.messages.contains { $0.contains(" 24 sequences") && $0.contains("sampled from") })
      #expect(some.messages.contains { $0.contains("replay starts empty") })
      #expect(some.1.contains { $0 > 0 })
      // What EWC learns does not depend on what another method asks for.
      let more = try withoutBaseData(
        experiment, "[ { ewc: { fisher: { examples: 24 } } }, { mas: { lambda: 0.001, examples: 40 } } ]")
      #expect(more.messages.contains { $0.contains(" 40 sequences") })
      #expect(more.1 == some.1)
    }
  }

  @Test func allOfNoTextIsAFixedNumberOfSequences() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, base: .trained)
      let all = try withoutBaseData(experiment, "[ { ewc: { fisher: { examples: all } } } ]")
      #expect(all.messages.contains { $0.contains(" \(ChainRun.sampledExamples) sequences") })
      #expect(all.1.contains { $0 > 0 })
      let plan = try experiment.plan(["base_data=[]", "methods=[ { ewc: { fisher: { examples: all } } } ]"])
      let forecast = try DryRun(plan, assembly: Assembly(plan, reuse: false))
      #expect(forecast.seconds > 0 && forecast.seconds < 1e6)
    }
  }

  @Test func aNewModelWithoutTextHasNothingToKeep() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      let none = try withoutBaseData(experiment, "[ { ewc: { fisher: { examples: 24 } } } ]")
      #expect(none.messages.contains { $0.contains("nothing to keep yet") })
      #expect(!none.1.contains { $0 != 0 })
    }
  }
}
