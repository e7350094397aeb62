// What a plan refuses because nothing could honour it, the spellings that it takes, and settings of single methods.
import Experiment
import Testing

@Suite struct InputRulesTests {
  /// Mistakes: images beside text that are dropped, or alone and read as no rows; text that a classifier meets late.
  @Test func imagesAreForClassifiersAndTextIsNot() throws {
    try withWorkspace { directory in
      let images = "{ type: idx_images, images: data/mnist/images, labels: data/mnist/labels }"
      let mixed = minimal.replacing("train.jsonl }", with: "train.jsonl }, \(images)")
      let found = issues(mixed, in: directory)
      let line = try #require(mixed.split(separator: "\n").first { $0.contains("idx_images") })
      let column = try #require(line.firstRange(of: "idx_images")).lowerBound
      #expect(found.exitCode == 78 && found.issues.map(\.line) == [8])
      #expect(found.issues.first?.column == line.distance(from: line.startIndex, to: column) + 1)
      #expect(found.issues.first?.message.contains("idx_images are for a classifier") == true)
      for key in ["val", "base_data"] {
        let text = key == "val" ? minimal + "    val: \(images)\n" : minimal + "base_data: [ \(images) ]\n"
        #expect(issues(text, in: directory).issues.map(\.line) == [9], "\(key)")
      }
      let text = drawings.replacing("    datasets:\n", with: "    val: data/medical/valid.jsonl\n    datasets:\n")
      #expect(text != drawings)
      let refused = issues(text, in: directory)
      #expect(refused.exitCode == 78 && refused.issues.map(\.line) == [6])
      #expect(refused.issues.first?.message.contains("stages[0].val: a classifier reads") == true)
    }
  }

  /// Reports of data spell shapes with a plus; such a name may be copied into the file.
  @Test func shapesHaveTwoSpellings() throws {
    let names: [(String, DatasetSpec.Shape)] = [
      ("prompt+completion", .promptCompletion), ("prompt_completion", .promptCompletion), ("text+label", .textLabel),
      ("text_label", .textLabel),
    ]
    try withWorkspace { directory in
      for (name, shape) in names {
        let text = minimal.replacing("train.jsonl }", with: "train.jsonl, type: \(name) }")
        let plan = try read(text, in: directory).plan
        #expect(plan.stages[0].datasets[0].shape == shape, "\(name)")
        #expect(try read(plan.yaml(), in: "/").plan == plan)
      }
      let wrong = issues(minimal.replacing("train.jsonl }", with: "train.jsonl, type: text+labels }"), in: directory)
      #expect(wrong.exitCode == 78)
    }
  }

  /// Results hold a seed as a signed number.
  @Test func seedsFitSignedNumbers() throws {
    try withWorkspace { directory in
      let largest = try read(minimal + "seed: 9223372036854775807\n", in: directory).plan
      #expect(largest.seed == UInt64(Int.max))
      for text in ["seed: 9223372036854775808", "seed: 18446744073709551615", "seeds: [1, 9223372036854775808]"] {
        let found = issues(minimal + text + "\n", in: directory)
        #expect(found.exitCode == 78 && found.issues.first?.line == 9, "\(text)")
        #expect(found.issues.first?.message.contains("expected an integer") == true, "\(text)")
      }
    }
  }

  @Test func aSeedReplacesTheFilesSeeds() throws {
    try withWorkspace { directory in
      let one = try read(minimal + "seeds: [1, 2]\n", in: directory, ["seed=3"]).plan
      #expect(one.seed == 3 && one.seeds == [3])
      let several = try read(minimal + "seed: 1\n", in: directory, ["seeds=[4, 5]"]).plan
      #expect(several.seed == 4 && several.seeds == [4, 5])
      #expect(issues(minimal, in: directory, ["seed=3", "seeds=[4, 5]"]).exitCode == 78)
    }
  }

  /// Settings of a benchmark are judged as an experiment file's options are.
  @Test func settingsOfAMethodAreJudged() throws {
    let replay = try #require(try MethodPlan.read("replay", settings: ["ratio=10%", "selection=stage_balanced"]))
    #expect(replay.double("ratio") == 0.1 && replay.string("selection") == "stage_balanced")
    let ewc = try #require(try MethodPlan.read("ewc", settings: ["fisher.structure=kronecker", "form=coupled"]))
    #expect(ewc.string("fisher.structure") == "kronecker" && ewc.string("form") == "coupled")
    #expect(try MethodPlan.read("ewc", settings: []) == MethodPlan("ewc"))
    #expect(try MethodPlan.read("nothing", settings: ["x=1"]) == nil)
    for (method, setting, message) in [
      ("replay", "ratio=1", "replay.ratio: 1 is out of range"), ("replay", "selection=foo", "unknown value 'foo'"),
      ("ewc", "lambda=abc", "found 'abc'"), ("ewc", "lamda=1", "unknown key 'lamda'"), ("ewc", "lambda", "no override"),
      ("ewc", "fisher.examples=none", "found 'none'"),
      ("self_rehearsal", "prompt_tokens=256", "leaves nothing to write in texts of 256"),
    ] {
      let error = #expect(throws: ExperimentError.self) { try MethodPlan.read(method, settings: [setting]) }
      #expect(error?.issues.first?.message.contains(message) == true, "\(error?.description ?? setting)")
      #expect(error?.issues.first?.sourceLine == setting)
    }
  }

  /// A chain that diverges ends; nothing is rolled back.
  @Test func theManualSaysWhatDivergenceDoes() throws {
    let (key, code) = (try #require(Manual.explain("loss_watchdog_threshold")), try #require(Manual.explain("80")))
    #expect(key.contains("the chain of that variant ends there") && !key.contains("rolled back"))
    #expect(code.contains("main stack") && !code.contains("rolling back"))
  }
}
