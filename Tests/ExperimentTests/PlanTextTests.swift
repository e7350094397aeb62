// plan.yaml and what is built on it: round trip, resume comparison, every key is read, rewriting, template, manual.
// The keys of plan.yaml are the list of all keys, so a key that nobody reads or explains is found here.
import Continual
import Experiment
import Foundation
import Testing
import Training

@Suite struct PlanTextTests {
  @Test func planYAMLGivesTheEqualPlan() throws {
    try withWorkspace { directory in
      let models = [
        "models/base",
        "{ architecture: llama, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 9, tokenizer: models/tokenizer }",
        "{ architecture: gpt2, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, tokenizer: models/tokenizer }",
        "{ architecture: mlp, hidden_sizes: [4], heads: task }",
      ]
      var texts = models.map(experiment(with:))
      texts += [full, drawings]
      texts.append(minimal.replacing("num_epochs: 1", with: "optimizer: sgd"))
      texts.append(
        minimal
          + "time_limit: 1.5s\nprobes: [ { name: \"yes\", path: data/general/test.txt, prompt: \"a\\u0085: é\\t'\\\"\\\\ # x\" } ]\n"
      )
      for text in texts {
        let plan = try read(text, in: directory, ["seed=3"]).plan
        let yaml = plan.yaml(notes: ["retain 0.1.0", "two\nlines"])
        // From another folder: a plan stands on its own.
        let again = try read(yaml, in: "/", []).plan
        #expect(again == plan, "\(yaml)")
        #expect(again.yaml(notes: ["retain 0.1.0", "two\nlines"]) == yaml)
      }
    }
  }

  @Test func oddPathsSurvive() throws {
    try withWorkspace { directory in
      let odd = directory + "/a[b] ${x} *"
      try FileManager.default.createDirectory(atPath: odd, withIntermediateDirectories: true)
      for name in ["q*.jsonl", "z y'\".jsonl"] {
        try Data().write(to: URL(fileURLWithPath: odd + "/" + name))
      }
      let text = minimal.replacing("models/base", with: "\(directory)/models/base")
        .replacing("path: data/medical/train.jsonl", with: "path: \"*.jsonl\"")
      let plan = try read(text, in: odd).plan
      #expect(plan.stages[0].datasets[0].paths == ["/q*.jsonl", "/z y'\".jsonl"].map { odd + $0 })
      #expect(try read(plan.yaml(), in: "/").plan == plan)
      let exact = try read(text.replacing("\"*.jsonl\"", with: "\"q*.jsonl\""), in: odd).plan
      #expect(exact.stages[0].datasets[0].paths == [odd + "/q*.jsonl"])
    }
  }

  @Test func inputsMayBeGoneWhenAPlanIsOnlyReadBack() throws {
    let plan = try withWorkspace { try read(full, in: $0).plan }
    let context = PathContext(directory: "/", workingDirectory: "/", environment: [:], checksFiles: false)
    #expect(try ExperimentFile.parse(plan.yaml(), context: context).plan == plan)
    #expect(issues(plan.yaml(), in: "/").exitCode == 66)
  }

  /// Another valid value for every key of the file; what the full experiment holds differs from each.
  static let changes: [String: String] = [
    "name": "other", "base_model": "models/base", "base_data.0.path": "data/general/test.txt",
    "base_data.0.type": "prompt_completion", "base_data.0.weight": "4", "base_data.0.documents": "file",
    "base_tokens": "5", "output_dir": "elsewhere", "threads": "1", "time_limit": "9s", "seed": "4",
    "plan.file": "/other.yaml", "plan.overrides": "[seed=18]",
    "training.sequence_len": "64", "training.sample_packing": "true", "training.train_on_inputs": "false",
    "training.excess_length_strategy": "raise", "training.micro_batch_size": "1",
    "training.gradient_accumulation_steps": "7", "training.num_epochs": "9", "training.max_steps": "3",
    "training.max_tokens": "77", "training.learning_rate": "1", "training.lr_scheduler": "linear",
    "training.warmup_ratio": "0", "training.min_lr_ratio": "0.5", "training.weight_decay": "0",
    "training.max_grad_norm": "2", "training.adam_beta1": "0.1", "training.adam_beta2": "0.1",
    "training.adam_epsilon": "0.1", "training.gradient_checkpointing": "true",
    "training.freeze": "[]", "stages.medical.training.optimizer_state": "keep", "training.loss_watchdog_threshold": "0",
    "stages.medical.training.early_stopping_patience": "0",
    "stages.late.training": "{ optimizer: sgd }", "stages.late.training.constant_lr_ratio": "0.4",
    "training.adapter": "lora",
    "stages.late.training.lora_r": "2", "stages.late.training.lora_alpha": "2.5",
    "stages.late.training.lora_targets": "[\"*.bias\"]", "stages.late.training.lora_orthogonality": "0",
    "methods.ewc.lambda": "1", "methods.ewc.variant": "separate", "methods.ewc.decay": "0.5",
    "methods.ewc.form": "proximal", "methods.ewc.fisher.labels": "expected",
    "methods.ewc.fisher.unit": "sequence",
    "methods.ewc.fisher.examples": "5", "methods.ewc.fisher.samples": "5", "methods.replay.ratio": "0",
    "methods.replay.budget_tokens": "5", "methods.replay.selection": "reservoir",
    "compare.l2sp.l2sp.lambda": "5", "compare.l2sp.l2sp.form": "proximal",
    "compare.l2sp.l2sp.anchor": "previous",
    "compare.naive": "[replay]", "methods": "[]",
    "stages.late.name": "numbers", "stages.medical.datasets.0.path": "data/legal/a.jsonl",
    "stages.medical.datasets.0.type": "text", "stages.medical.datasets.0.weight": "1",
    "stages.medical.datasets.0.documents": "line",
    "stages.medical.val": "data/medical/test.jsonl",
    "stages.legal.two.val_set_size": "0.5", "stages.legal.two.methods": "[replay]",
    "probes.general.name": "other", "probes.general.path": "data/general/test.jsonl",
    "probes.general.metrics": "[bits_per_byte]", "probes.general.documents": "line",
    "probes.general.limit": "1",
    "probes.general.home": "medical", "probes.blimp.type": "multiple_choice",
    "probes.casehold.num_fewshot": "1",
    "probes.casehold.fewshot_path": "data/probes/blimp.jsonl", "probes.casehold.prompt": "x",
    "training.precision": "bf16", "evaluate.at": "[base]", "evaluate.eval_steps": "1", "evaluate.watch_items": "1",
    "evaluate.confidence": "0.5",
    "evaluate.bootstrap": "1", "evaluate.window": "9", "data_checks.exact_duplicates": "off",
    "data_checks.probe_overlap.ngram": "1", "data_checks.probe_overlap.document_share": "1",
    "data_checks.probe_overlap.max_documents": "1", "data_checks.probe_overlap.action": "off",
    "checkpoint.save_steps": "0", "checkpoint.save_total_limit": "1", "logging.logging_steps": "1",
    "tune.stage": "medical", "tune.search": "{ seed: { values: [1] } }", "tune.sampler": "grid",
    "tune.trials": "1",
    "tune.pick": "knee",
  ]
  /// The same for the keys that only a classifier's file has.
  static let drawingChanges: [String: String] = [
    "stages.digits.datasets.0.images": "data/mnist/labels", "stages.digits.datasets.0.labels": "data/mnist/images",
    "stages.digits.datasets.0.classes": "[3]", "stages.digits.datasets.0.permute_seed": "1",
    "stages.digits.datasets.0.limit": "1", "stages.digits.datasets.0.pad": "0",
    "stages.digits.datasets.0.normalize": "{ mean: 0, std: 1 }", "stages.digits.datasets.0.normalize.mean": "0",
    "stages.digits.datasets.0.normalize.std": "1",
    "probes.digits.images": "data/mnist/labels", "probes.digits.labels": "data/mnist/images",
    "probes.digits.classes": "[1]", "probes.digits.permute_seed": "1", "probes.digits.limit": "1",
    "probes.digits.pad": "0", "probes.digits.normalize": "{ mean: 0, std: 1 }",
    "probes.digits.normalize.mean": "0", "probes.digits.normalize.std": "1",
  ]
  /// Keys with one accepted value, and the value that is refused with `not yet supported` or otherwise.
  static let fixed: [String: String] = [
    "schema": "2",
    "data_checks.near_duplicates": "warn",
    "logging.report_to": "[tensorboard]", "gates": "[{probe: general}]", "samples": "[x]", "seeds": "[1, 1]",
  ]
  /// Keys of a new model with two values each.
  static let modelChanges: [String: [(String, String)]] = [
    "{ architecture: llama, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, tokenizer: models/tokenizer }":
      [
        ("architecture", "gpt2"), ("hidden_size", "32"), ("intermediate_size", "5"),
        ("num_hidden_layers", "1"),
        ("num_attention_heads", "2"), ("num_key_value_heads", "1"), ("max_position_embeddings", "8"),
        ("rope_theta", "5"),
        ("rms_norm_eps", "1"), ("tie_word_embeddings", "true"), ("vocab_size", "5"),
        ("tokenizer", "models/tokenizer/tokenizer.json"),
      ],
    "{ architecture: gpt2, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, tokenizer: models/tokenizer }":
      [
        ("layer_norm_epsilon", "1")
      ],
    "{ architecture: mlp, hidden_sizes: [4], heads: task }": [
      ("hidden_sizes", "[5]"), ("heads", "class"), ("input_size", "5"), ("initialization", "xavier"),
    ],
  ]

  @Test func everyKeyIsRead() throws {
    try withWorkspace { directory in
      // Overrides are recorded, so they are taken out before plans are compared.
      func plan(_ text: String, _ overrides: [String]) throws -> ExperimentPlan {
        var plan = try read(text, in: directory, overrides).plan
        plan.overrides.removeLast(overrides.count)
        return plan
      }
      let text = full + "plan: { file: \(directory)/my.yaml, overrides: [] }\n"
      for (text, changes) in [(text, PlanTextTests.changes), (drawings, PlanTextTests.drawingChanges)] {
        let original = try plan(text, [])
        for (key, value) in changes {
          do {
            #expect(try plan(text, ["\(key)=\(value)"]) != original, "\(key) is read by nothing")
          } catch {
            // Renaming or removing what others refer to is noticed, which is reading too.
            #expect(
              ["stages.late.name", "methods", "methods.ewc.variant", "methods.ewc.fisher.labels"].contains(key),
              "\(key): \(error)")
          }
        }
      }
      for (key, value) in PlanTextTests.fixed {
        #expect(issues(text, in: directory, ["\(key)=\(value)"]).exitCode == 78, "\(key) is read by nothing")
      }
      for (model, changes) in PlanTextTests.modelChanges {
        let text = experiment(with: model)
        let original = try plan(text, [])
        for (key, value) in changes {
          #expect(try plan(text, ["base_model.\(key)=\(value)"]) != original, "\(key) is read by nothing")
        }
      }
    }
  }

  /// Another value of every option gives another plan, is written, and is explained.
  @Test func everyOptionOfEveryMethodIsRead() throws {
    func other(_ option: OptionSchema) -> String {
      switch option.kind {
      case .number(let minimum, _, _):
        option.defaultValue == .number(minimum + 0.25) ? "\(minimum + 0.5)" : "\(minimum + 0.25)"
      case .share: option.defaultValue == .number(0.25) ? "0.5" : "0.25"
      case .integer(let range, _):
        option.defaultValue == .integer(range.lowerBound) ? "\(range.lowerBound + 1)" : "\(range.lowerBound)"
      case .word(let words, _): words.first { option.defaultValue != .word($0) } ?? ""
      }
    }
    func entry(_ method: MethodSchema, _ options: [(String, String)]) -> String {
      let pairs = options.map { key, value in
        let parts = key.split(separator: ".")
        return parts.count == 1 ? "\(key): \(value)" : "\(parts[0]): { \(parts[1]): \(value) }"
      }
      return minimal + "methods: [ { \(method.name): { \(pairs.joined(separator: ", ")) } } ]\n"
    }
    try withWorkspace { directory in
      for method in MethodCatalog.schemas {
        let original = try read(entry(method, []), in: directory).plan
        for option in method.options {
          #expect(Manual.explain("methods.\(method.name).\(option.key)") != nil)
          var options = [(option.key, other(option))]
          // An option that matters only beside another is set beside it.
          for condition in option.conditions {
            let own = option.key.split(separator: ".").dropLast().joined()
            let beside = (condition.key, condition.words[0])
            options =
              own.isEmpty
              ? [beside] + options
              : [
                (
                  own + ".x",
                  "0, "
                    + [beside, options[0]].map { "\($0.0.split(separator: ".").last ?? ""): \($0.1)" }.joined(
                      separator: ", ")
                )
              ]
          }
          let text = entry(method, options).replacing("x: 0, ", with: "")
          let plan = try read(text, in: directory).plan
          #expect(plan.methods[0][option.key] != original.methods[0][option.key], "\(method.name).\(option.key)")
          #expect(try read(plan.yaml(), in: "/").plan == plan)
        }
      }
    }
  }

  @Test func adaptersBelongToStages() throws {
    try withWorkspace { directory in
      let text = minimal.replacing("num_epochs: 1\n", with: "adapter: lora\n  lora_r: 4\n").replacing(
        "datasets: [ { path: data/medical/train.jsonl } ]",
        with: """
          datasets: [ { path: data/medical/train.jsonl } ]
              methods: [ { ewc: { form: coupled, fisher: { structure: kronecker } } } ]
            - name: legal
              datasets: [ { path: data/legal/a.jsonl } ]
              training: { adapter: none }
              methods: [ agem, { ewc: { fisher: { structure: kronecker } } } ]
            - name: last
              datasets: [ { path: data/legal/b.jsonl } ]
              training: { lora_alpha: 2, lora_targets: [ "*.q_proj.*" ], optimizer: sgd }
          """)
      let plan = try read(text, in: directory).plan
      #expect(plan.stages.map(\.training.adapter) == [.lora, .none, .lora])
      #expect(plan.stages.map(\.training.loraRank) == [4, 4, 4] && plan.stages[2].training.loraAlpha == 2)
      #expect(plan.stages[0].training.loraTargets == nil && plan.stages[2].training.loraTargets == ["*.q_proj.*"])
      #expect(try read(plan.yaml(), in: "/").plan == plan)
      #expect(try !read(minimal, in: directory).plan.yaml().contains("lora_"))
    }
  }

  @Test func severalSeedsAreReadAndWritten() throws {
    try withWorkspace { directory in
      let plan = try read(minimal + "seeds: [3, 5]\n", in: directory).plan
      #expect(plan.seed == 3 && plan.seeds == [3, 5])
      #expect(try read(plan.yaml(), in: "/").plan == plan)
      #expect(plan.withSeed(5).outputDirectory == plan.outputDirectory + "/seed-5")
      #expect(try read(minimal, in: directory).plan.seeds == [17])
      #expect(issues(minimal + "seed: 1\nseeds: [1, 2]\n", in: directory).exitCode == 78)
    }
  }

  @Test func everyKeyOfTheManualIsTestedAndEveryTestedKeyExplained() {
    var tested = Set(PlanTextTests.changes.keys).union(PlanTextTests.drawingChanges.keys)
    tested.formUnion(PlanTextTests.fixed.keys)
    for changes in PlanTextTests.modelChanges.values {
      tested.formUnion(changes.map { "base_model.\($0.0)" })
    }
    for key in tested { #expect(Manual.explain(key) != nil, "\(key) is not explained") }
    let lastParts = Set(tested.flatMap { $0.split(separator: ".") }.map(String.init))
    for key in Manual.keys {
      let last = key.split(separator: ".").last.map(String.init) ?? key
      let text = Manual.explain(key) ?? ""
      #expect(text.hasPrefix(key) && text.count > key.count + 20, "\(key)")
      // Options of methods are tested by `everyOptionOfEveryMethodIsRead`.
      #expect(
        lastParts.contains(last) || key == "training.optimizer" || key.hasPrefix("methods."), "\(key) is not tested")
    }
    #expect(Set(Manual.keys).count == Manual.keys.count)
  }

  @Test func resumeComparesWhatMatters() throws {
    try withWorkspace { directory in
      let plan = try read(full, in: directory).plan
      let allowed = [
        "threads=1", "time_limit=9h", "logging.logging_steps=3", "checkpoint.save_steps=5",
        "checkpoint.save_total_limit=9", "output_dir=y", "tune.trials=3", "training.gradient_checkpointing=true",
      ]
      #expect(plan.resumeCompatibilityDifferences(try read(full, in: directory, allowed).plan) == [])
      let other = try read(
        full, in: directory, ["training.learning_rate=1e-3", "methods.ewc.lambda=3", "evaluate.window=64"]
      ).plan
      let differences = other.resumeCompatibilityDifferences(plan)
      #expect(differences.contains("training.learning_rate: 0.0001 became 0.001"))
      #expect(differences.contains("methods.ewc.lambda: posterior became 3.0"))
      #expect(differences.contains("stages.medical.training.learning_rate: 0.0001 became 0.001"))
      #expect(differences.contains("evaluate.window: 128 became 64"))
      let shorter = try read(full.replacing("  threads: 2\n", with: ""), in: directory, ["methods=[replay]"])
        .plan
      #expect(shorter.resumeCompatibilityDifferences(plan).contains { $0.hasPrefix("methods:") })
      #expect(plan.resumeCompatibilityDifferences(shorter).contains("methods.ewc.decay: absent became 0.9"))
    }
  }

  @Test func theTemplateIsAnExperiment() throws {
    try withWorkspace { directory in
      let text = ExperimentFile.template(name: "my clinic")
      let file = try read(text, in: directory)
      #expect(file.plan.name == "my-clinic" && file.warnings.isEmpty)
      #expect(
        file.plan.stages.map(\.name) == ["medical", "legal"] && file.plan.mainVariantName == "ewc-replay")
      #expect(try read(ExperimentFile.template(name: ""), in: directory).plan.name == "my-experiment")
      #expect(!text.split(separator: "\n").contains { $0.count > 110 })
    }
  }

  @Test func rewritingKeepsTheTextAndMovesThePaths() throws {
    try withWorkspace { directory in
      for text in [full, ExperimentFile.template()] {
        let file = try read(text, in: directory, ["seed=5"])
        let key = "methods.replay.ratio"
        let tuned = try file.settingOverride(key, "0.375")
        #expect(tuned.contains("0.375") && !tuned.contains("resolved plan"))
        #expect(tuned.contains("seed: 5"))
        var plan = try read(tuned, in: "/nowhere").plan
        let wanted = try read(text, in: directory, ["seed=5", "\(key)=0.375"]).plan
        plan.file = wanted.file
        plan.directory = wanted.directory
        plan.overrides = wanted.overrides
        #expect(plan == wanted)
      }
      // Comments stay.
      #expect(
        try read(ExperimentFile.template(), in: directory).settingOverride("seed", "4").contains(
          "# What guards the past"))
    }
  }

  @Test func rewritingFallsBackToThePlan() throws {
    try withWorkspace { directory in
      let file = try read(minimal, in: directory)
      let text = try file.settingOverride("training.learning_rate", "0.5")
      #expect(text.contains("resolved plan"))
      #expect(try read(text, in: "/").plan.training.learningRate == 0.5)
      let inPlace = try file.settingOverride("training.num_epochs", "4")
      #expect(inPlace.contains("output_dir: \(directory)/runs/small\nname: small"))
      #expect(throws: ExperimentError.self) { try file.settingOverride("training.learning_rate", "-1") }
      #expect(throws: ExperimentError.self) { try file.settingOverride("training.nothing", "1") }
    }
  }

  @Test func theManualAnswers() throws {
    let ewc = try #require(Manual.explain("ewc"))
    #expect(
      ewc.contains("λ = 2 · theirs") && ewc.contains("λ = N · theirs")
        && ewc.contains("methods.ewc.fisher.labels"))
    #expect(Manual.explain("learning_rate") == Manual.explain("training.learning_rate"))
    #expect(Manual.explain("stages.medical.training.num_epochs") == Manual.explain("training.num_epochs"))
    #expect(Manual.explain("compare.x.ewc.lambda") == Manual.explain("methods.ewc.lambda"))
    for key in ["stages.medical.datasets.0.path", "stages.val.path", "stages.medical.val.0.path", "base_data.path"] {
      #expect(Manual.explain(key) == Manual.explain("stages.datasets.path"), "\(key)")
    }
    #expect(Manual.explain("stages.medical.val") == Manual.explain("stages.val"))
    #expect(Manual.explain("78")?.contains("Bad configuration") == true && Manual.explain("exit 75") != nil)
    for code in [0, 1, 2, 64, 65, 66, 69, 71, 73, 74, 75, 77, 78, 80, 130] {
      #expect(Manual.explain("\(code)") != nil)
    }
    #expect(Manual.explain("exit-codes")?.split(separator: "\n").count == 15)
    #expect(Manual.explain("nonsense") == nil && Manual.explain("") == nil)
    #expect(Manual.suggestion(for: "leraning_rate") == "training.learning_rate")
  }
}
