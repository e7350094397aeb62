// Chains whose stages train adapters: what is kept, what a checkpoint holds, interruptions, refusals.
import Archive
import Experiment
import Foundation
import Ledger
import Models
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct AdapterTests {
  static let options = ["training.adapter=lora", "training.lora_r=3", "training.lora_alpha=5"]

  /// Stopped after every step, and with another number of threads, the chain ends with the same bits.
  @Test func interruptionsAndThreadsChangeNoBit() throws {
    try withTemporaryDirectory { folder in
      let options = Self.options + ["training.lora_orthogonality=0.5", "training.max_steps=6"]
      let whole = try TinyExperiment(in: folder + "/whole")
      #expect(try whole.run(options) == ExitCode.done)
      let cut = try TinyExperiment(in: folder + "/cut")
      var runs = 1
      while try cut.run(options + ["time_limit=0.000001s"]) != ExitCode.done {
        runs += 1
        try #require(runs < 50)
      }
      #expect(runs == 12)
      #expect(try cut.results() == whole.results())
      #expect(try cut.steps() == whole.steps())
      let single = try TinyExperiment(in: folder + "/single")
      #expect(try single.run(options + ["threads=1"]) == ExitCode.done)
      #expect(try single.results() == whole.results())
      // A stage's end asks how much every weight matters, not only the adapted ones.
      let ends = try ["base", "medical-end"].map {
        try ArchiveReader(path: "\(whole.output)/checkpoints/\($0).h5").floats(
          "methods/ewc/fisher/model.embed_tokens.weight")
      }
      #expect(ends[0] != ends[1])
      // The second stage knows the first one's directions; without them it takes another course.
      let free = try TinyExperiment(in: folder + "/free")
      try free.run(Self.options + ["training.max_steps=6"])
      #expect(try Array(free.steps().prefix(6)) == Array(whole.steps().prefix(6)))
      #expect(try free.steps() != whole.steps())
    }
  }

  @Test(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here"))
  func interruptionsUnderBF16ChangeNoBit() throws {
    try withTemporaryDirectory { folder in
      let options =
        Self.options + [
          "training.precision=bf16", "base_model.hidden_size=64", "base_model.intermediate_size=96",
          "training.max_steps=3",
        ]
      let whole = try TinyExperiment(in: folder + "/whole")
      #expect(try whole.run(options) == ExitCode.done)
      let cut = try TinyExperiment(in: folder + "/cut")
      while try cut.run(options + ["time_limit=0.000001s"]) != ExitCode.done {}
      #expect(try cut.results() == whole.results())
      #expect(try cut.steps() == whole.steps())
    }
  }

  /// Under every method, in both stages: W = W₀ + (α/r)·B·A for what is adapted, and the base's bits for the rest.
  @Test(arguments: MethodContractTests.entries) func weightsAreThoseOfTheAdapter(_ entry: MethodContractTests.Entry)
    throws
  {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: entry.stack)
      guard !entry.refusesAdapters else {
        #expect { try experiment.plan(Self.options) } throws: {
          ExitCode.of($0) == ExitCode.configuration && "\($0)".contains("adapter: lora")
        }
        return
      }
      let recorder = Recorder()
      let code = try experiment.run(
        Self.options + [
          "training.max_steps=3", "training.learning_rate=1e-2", "checkpoint.save_steps=2",
          "checkpoint.save_total_limit=9",
        ], observer: recorder)
      #expect(code == ExitCode.done)
      let hasForm = entry.stack.contains("ewc") || ["l2sp", "si", "rwalk", "mas"].contains(entry.method)
      #expect(
        recorder.messages.contains { $0.contains("closed form in the factors") }
          == (hasForm && !entry.stack.contains("coupled")))
      let backend = CPUBackend(threads: 1)
      func archive(_ name: String) throws -> ArchiveReader {
        try ArchiveReader(path: "\(experiment.output)/checkpoints/\(name).h5")
      }
      for (name, before) in [("medical-000002", "base"), ("legal-000002", "medical-end")] {
        let (during, start) = (try archive(name), try archive(before))
        var (adapted, moved) = (0, false)
        for parameter in during.names(under: "model/parameters") {
          let path = "model/parameters/" + parameter
          let (now, then) = (try during.floats(path), try start.floats(path))
          guard during.contains("adapter/base/" + parameter) else {
            #expect(now == then, "\(parameter)")
            continue
          }
          adapted += 1
          #expect(try during.floats("adapter/base/" + parameter) == then)
          let (a, b) = (
            try during.floats("adapter/factors/\(parameter).lora_A"),
            try during.floats("adapter/factors/\(parameter).lora_B")
          )
          let rank = 3
          let weight = backend.tensor(then, b.count / rank, a.count / rank)
          let scaled = backend.tensor(b, b.count / rank, rank)
          backend.scale(scaled, by: 5.0 / 3)
          backend.multiply(
            scaled, transposed: false, backend.tensor(a, rank, a.count / rank), transposed: false, into: weight,
            accumulate: true)
          #expect(weight.toArray() == now, "\(parameter)")
          moved = moved || now != then
        }
        #expect(adapted == 14 && moved)
        #expect(!during.contains("optimizer/steps") && during.contains("adapter/optimizer/steps"))
      }
      // Merged: a stage's end knows no adapter, and is the model.
      let end = try archive("legal-end")
      #expect(!end.contains("adapter/base/model.layers.0.mlp.up_proj.weight"))
      let hash = try RunResults.read(experiment.output + "/results.json").final?.parametersSHA256
      let model = try LoadedModel.load(experiment.output + "/checkpoints/legal-end.h5", on: backend)
      #expect(SHA256.hash(UnsafeRawBufferPointer(model.transformer.parameters.values.buffer)) == hash)
    }
  }

  @Test func methodsAtStrengthZeroChangeNoBit() throws {
    try withTemporaryDirectory { folder in
      let idle =
        "[ { ewc: { lambda: 0 } }, { l2sp: { lambda: 0, form: coupled } }, { si: { c: 0 } }, { mas: { lambda: 0 } } ]"
      let experiment = try TinyExperiment(
        in: folder, methods: "[ { l2sp: { lambda: 1 } } ]", compare: "{ naive: [], idle: \(idle) }")
      #expect(try experiment.run(Self.options + ["training.max_steps=4"]) == ExitCode.done)
      let hashes = try ["", "/naive", "/idle"].map {
        try RunResults.read("\(experiment.output)\($0)/results.json").final?.parametersSHA256
      }
      #expect(hashes[1] != nil && hashes[1] == hashes[2] && hashes[0] != hashes[1])
    }
  }

  /// A stage with an adapter beside one without: each is what it is, and its counts and memory say so.
  @Test func stagesChooseForThemselves() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      let own = [
        "training.max_steps=2", "stages.legal.training.adapter=lora", "stages.legal.training.lora_r=2",
        "stages.legal.training.lora_targets=[\"*.q_proj.weight\", \"*.down_proj.weight\"]",
        "stages.legal.training.freeze=[\"model.layers.1.*\"]",
      ]
      #expect(try experiment.run(own) == ExitCode.done)
      let started = try LedgerReader.events(experiment.output + "/ledger.jsonl").filter {
        $0["event"]?.string == "stage_started"
      }
      let backend = CPUBackend(threads: 1)
      func weights(_ name: String) throws -> LoadedModel {
        try LoadedModel.load("\(experiment.output)/checkpoints/\(name).h5", on: backend)
      }
      let (medical, legal) = (try weights("medical-end").transformer, try weights("legal-end").transformer)
      // q_proj [16, 16] and down_proj [16, 24] of the layer that is not frozen.
      #expect(
        started.map { $0["trainable_parameters"]?.int } == [medical.parameters.count, 2 * (16 + 16) + 2 * (16 + 24)])
      for (a, b) in zip(medical.parameters.parameters, legal.parameters.parameters) {
        let isAdapted = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"].contains(
          a.name)
        #expect((a.value.toArray() != b.value.toArray()) == isAdapted, "\(a.name)")
      }
      func parts(_ options: [String]) throws -> [String: Int] {
        let plan = try experiment.plan(options)
        let parts = try MemoryEstimate(plan, assembly: Assembly(plan, reuse: false), isReused: false).parts
        return Dictionary(uniqueKeysWithValues: parts.map { ($0.name, $0.bytes) })
      }
      #expect(try parts(own)["moments"] == 8 * medical.parameters.count)
      let all = try parts(["training.adapter=lora", "training.lora_r=1", "training.lora_targets=[\"*.q_proj.*\"]"])
      // Two weights of 16 × 16 with 32 numbers in the factors of each, and one of them twice for pulls.
      #expect(all["moments"] == nil && all["adapter"] == 4 * 512 + 16 * 64 + 8 * 256)
    }
  }

  @Test func gpt2AdaptsWeightsStoredTheOtherWay() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      try experiment.yaml.replacing("architecture: llama", with: "architecture: gpt2").replacing(
        "num_key_value_heads: 1, ", with: ""
      ).write(toFile: experiment.file, atomically: true, encoding: .utf8)
      let options = Self.options + ["training.max_steps=4", "checkpoint.save_steps=2"]
      #expect(try experiment.run(options) == ExitCode.done)
      let archive = try ArchiveReader(path: experiment.output + "/checkpoints/legal-000002.h5")
      // [inputs, outputs] = [16, 48]: A reads the inputs.
      #expect(try archive.floats("adapter/factors/transformer.h.0.attn.c_attn.weight.lora_A").count == 3 * 16)
      #expect(try archive.floats("adapter/factors/transformer.h.0.attn.c_attn.weight.lora_B").count == 3 * 48)
      for table in ["wte", "wpe"] { #expect(!archive.contains("adapter/base/transformer.\(table).weight")) }
    }
  }

  @Test func classifiersAdaptTheirHiddenLayers() throws {
    try withTemporaryDirectory { folder in
      func number(_ value: Int) -> [UInt8] { [0, 0, UInt8(value >> 8), UInt8(value & 255)] }
      var random = RandomStream(seed: 1)
      let labels = (0..<60).map { UInt8($0 % 4) }
      let images = labels.flatMap { label in
        (0..<9).map { UInt8(random.integer(below: 60) + ($0 % 4 == Int(label) ? 190 : 0)) }
      }
      try Data([0, 0, 8, 3] + number(60) + number(3) + number(3) + images).write(
        to: URL(fileURLWithPath: folder + "/images"))
      try Data([0, 0, 8, 1] + number(60) + labels).write(to: URL(fileURLWithPath: folder + "/labels"))
      let file = folder + "/experiment.yaml"
      try """
      schema: 1
      name: classes
      base_model: { architecture: mlp, hidden_sizes: [8], heads: domain }
      output_dir: run
      training: { adapter: lora, lora_r: 2, max_steps: 5, micro_batch_size: 8, learning_rate: 1e-2 }
      stages:
        - { name: one, datasets: [ { type: idx_images, images: images, labels: labels, classes: [0, 1] } ] }
        - { name: two, datasets: [ { type: idx_images, images: images, labels: labels, classes: [2, 3] } ] }
      """.write(toFile: file, atomically: true, encoding: .utf8)
      let plan = try ExperimentPlan.load(file)
      #expect(try ExperimentRun(plan, observer: SilentObserver()).execute(fresh: false) == ExitCode.done)
      func parameters(_ name: String) throws -> [String: [Float]] {
        let archive = try ArchiveReader(path: "\(folder)/run/checkpoints/\(name).h5")
        let names = archive.names(under: "model/parameters")
        return try Dictionary(uniqueKeysWithValues: names.map { ($0, try archive.floats("model/parameters/" + $0)) })
      }
      let (before, after) = (try parameters("base"), try parameters("two-end"))
      #expect(before.keys.filter { before[$0] != after[$0] } == ["layers.0.weight"] && before.count == 4)
    }
  }

  @Test func whatCannotBeAdaptedIsRefused() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      for (options, words) in [
        (["training.lora_targets=[\"*.q_proj.*\", \"no.such.*\"]"], "match no matrix: no.such.*"),
        (["training.lora_targets=[\"model.norm.weight\"]"], "match no matrix"),
        (["training.freeze=[\"model.*\"]"], "no matrix to adapt"),
        (["stages.legal.training.lora_targets=[\"nothing\"]"], "stage legal"),
      ] {
        #expect("\(options)") { try experiment.run(["training.adapter=lora"] + options, fresh: true) } throws: {
          ExitCode.of($0) == ExitCode.configuration && "\($0)".contains(words)
        }
        let check = ExperimentCheck(try experiment.plan(["training.adapter=lora"] + options))
        #expect(check.exitCode == ExitCode.configuration && check.errors.contains { "\($0)".contains(words) })
      }
    }
  }
}
