// What `retain validate` and the forecast say before anything is trained, and how a classifier holds images back.
import Corpus
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON
import TensorCore
import TestKit
import Testing

@Suite struct InputCheckTests {
  /// Images of 4×4 noise with labels 0 and 1, as NAME-images and NAME-labels.
  private func write(_ count: Int, _ name: String, in folder: String) throws {
    var random = RandomStream(seed: 7).forked(name)
    var images: [UInt8] = [0, 0, 8, 3, 0, 0, 0, UInt8(count), 0, 0, 0, 4, 0, 0, 0, 4]
    images += (0..<count * 16).map { _ in UInt8(random.integer(below: 256)) }
    let labels: [UInt8] = [0, 0, 8, 1, 0, 0, 0, UInt8(count)] + (0..<count).map { UInt8($0 % 2) }
    try Data(images).write(to: URL(fileURLWithPath: "\(folder)/\(name)-images"))
    try Data(labels).write(to: URL(fileURLWithPath: "\(folder)/\(name)-labels"))
  }
  private func source(_ name: String, more: String = "") -> String {
    "{ type: idx_images, images: \(name)-images, labels: \(name)-labels\(more) }"
  }
  private func classifier(_ stages: String, more: String = "", in folder: String) throws -> ExperimentPlan {
    let file = folder + "/drawings.yaml"
    try """
    schema: 1
    name: drawings
    base_model: { architecture: mlp, hidden_sizes: [4], heads: domain }
    output_dir: run
    threads: 1
    stages: [ \(stages) ]
    \(more)
    """.write(toFile: file, atomically: true, encoding: .utf8)
    return try ExperimentPlan.load(file)
  }

  /// Mistake: a number of sequences that stands for "all" is multiplied by their length.
  @Test func theForecastKnowsHowManyTextsTheBaseWrites() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, base: .trained)
      let plan = try experiment.plan(["base_data=[]", "methods.ewc.fisher.examples=all"])
      let forecast = try DryRun(plan, assembly: Assembly(plan, reuse: false))
      let seconds = try #require(forecast.variants.first).consolidationSeconds
      #expect(seconds > 0 && seconds < 3600, "\(seconds)")
    }
  }

  /// A run would refuse when it comes to the variant; what all stacks share is said once.
  @Test func variantsAreChecked() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(
        in: folder, methods: "[]",
        compare: "{ self: [ { self_rehearsal: { text_tokens: 200, prompt_tokens: 100 } } ] }")
      let check = ExperimentCheck(try experiment.plan())
      #expect(check.exitCode == ExitCode.configuration && check.assembly == nil)
      #expect(check.errors.map { "\($0)".contains("prompt_tokens 100") } == [true])
      let both = ExperimentCheck(try experiment.plan(["training.freeze=[\"no.such.*\"]"]))
      let texts = both.errors.map { "\($0)" }
      #expect(texts.filter { $0.contains("no.such.*") }.count == 2, "one a stage: \(texts)")
      #expect(texts.count == 3 && Set(texts).count == 3, "\(texts)")
    }
  }

  /// Every damaged file is named, with the code of bad data. Mistake: a classifier is loaded as a language model.
  @Test func damagedImagesAreBadData() throws {
    try withTemporaryDirectory { folder in
      for name in ["a", "b", "c"] { try write(20, name, in: folder) }
      for name in ["a", "c"] {
        let url = URL(fileURLWithPath: "\(folder)/\(name)-images")
        try Data(contentsOf: url).dropLast(5).write(to: url)
      }
      let plan = try classifier(
        "{ name: one, datasets: [ \(source("a")) ] }, { name: two, datasets: [ \(source("b")), \(source("c")) ] }",
        in: folder)
      let check = ExperimentCheck(plan)
      #expect(check.exitCode == ExitCode.badData)
      let texts = check.errors.map { "\($0)" }
      #expect(texts.count == 2 && texts[0].contains("a-images") && texts[1].contains("c-images"), "\(texts)")
    }
  }

  /// The image decides which side it is on: not the seed, not the task that shows it in another order of pixels.
  @Test func aShareOfTheImagesIsHeldBack() throws {
    try withTemporaryDirectory { folder in
      try write(80, "train", in: folder)
      let stage = "datasets: [ \(source("train")) ], val_set_size: 0.25 }"
      let permuted = "datasets: [ \(source("train", more: ", permute_seed: 4")) ], val_set_size: 0.25 }"
      let plan = try classifier("{ name: one, \(stage), { name: two, \(permuted)", in: folder)
      let sets = try [plan, plan.withSeed(99)].flatMap { try Assembly($0, reuse: false).data.stages }
      let (trained, held) = (Set(sets[0].examples.map(\.source)), Set(sets[0].validation.map(\.source)))
      #expect(trained.isDisjoint(with: held) && trained.union(held) == Set(0..<80))
      #expect((8...32).contains(held.count), "\(held.count)")
      for set in sets { #expect(Set(set.validation.map(\.source)) == held) }
    }
  }

  /// With a learning rate that moves nothing, the second look is no better than the first.
  @Test func aClassifierStopsEarly() throws {
    try withTemporaryDirectory { folder in
      try write(80, "train", in: folder)
      let plan = try classifier(
        "{ name: one, datasets: [ \(source("train")) ], val_set_size: 0.25 }",
        more: """
          training: { micro_batch_size: 8, num_epochs: 4, learning_rate: 1e-30, early_stopping_patience: 1 }
          evaluate: { eval_steps: 2 }
          """, in: folder)
      #expect(try ExperimentRun(plan, observer: SilentObserver()).execute(fresh: false) == ExitCode.done)
      let events = try LedgerReader.events(folder + "/run/ledger.jsonl")
      #expect(events.last(where: { $0["event"]?.string == "stage_ended" })?["steps"]?.int == 4)
      #expect(events.contains { $0["text"]?.string?.contains("stops early") == true })
    }
  }
}
