// Files that cannot be read: each mistake is found at its line and column and answered with a suggestion.
// Every case is the minimal experiment with one change.
import Experiment
import Foundation
import Testing

struct Bad: CustomStringConvertible, Sendable {
  let description: String
  /// Replaced in the minimal file, or appended where `old` is empty.
  let old: String
  let new: String
  let line: Int
  let column: Int
  let message: String
  let hint: String?
  let exit: Int32

  init(
    _ name: String, _ old: String, _ new: String, _ line: Int, _ column: Int, _ message: String,
    hint: String? = nil, exit: Int32 = 78
  ) {
    self.description = name
    self.old = old
    self.new = new
    self.line = line
    self.column = column
    self.message = message
    self.hint = hint
    self.exit = exit
  }
  var text: String { old.isEmpty ? minimal + new : minimal.replacing(old, with: new) }
}

private func training(_ line: String, _ column: Int, _ message: String, hint: String? = nil) -> Bad {
  Bad("training \(line)", "  num_epochs: 1\n", "  \(line)\n", 5, column, message, hint: hint)
}
private func end(
  _ text: String, _ line: Int, _ column: Int, _ message: String, hint: String? = nil, exit: Int32 = 78
) -> Bad {
  Bad("end \(text)", "", text + "\n", line, column, message, hint: hint, exit: exit)
}
private let pictures = "    datasets: [ { type: idx_images, images: data/mnist/images, labels: data/mnist/labels, "
private func stage(
  _ text: String, _ line: Int, _ column: Int, _ message: String, hint: String? = nil, exit: Int32 = 78
) -> Bad {
  Bad("stage \(text)", data, text + "\n", line, column, message, hint: hint, exit: exit)
}
private func model(_ text: String, _ column: Int, _ message: String, hint: String? = nil, exit: Int32 = 78)
  -> Bad
{
  Bad(
    "model \(text)", "base_model: models/base", "base_model: \(text)", 3, column, message, hint: hint,
    exit: exit)
}
private func adapted(_ line: String, _ column: Int, _ message: String, hint: String? = nil) -> Bad {
  Bad("adapter \(line)", "  num_epochs: 1\n", "  adapter: lora\n  \(line)\n", 6, column, message, hint: hint)
}
private let data = "    datasets: [ { path: data/medical/train.jsonl } ]\n"

let badFiles: [Bad] = [
  // Keys.
  training(
    "leraning_rate: 2e-5", 3, "unknown key 'leraning_rate' in training", hint: "did you mean 'learning_rate'?"
  ),
  training(
    "cutoff_len: 512", 3, "unknown key 'cutoff_len' in training", hint: "did you mean 'sequence_len'?"),
  training("max_seq_length: 512", 3, "unknown key", hint: "did you mean 'sequence_len'?"),
  training("per_device_train_batch_size: 8", 3, "unknown key", hint: "did you mean 'micro_batch_size'?"),
  training("num_train_epochs: 3", 3, "unknown key", hint: "did you mean 'num_epochs'?"),
  training("lr_scheduler_type: cosine", 3, "unknown key", hint: "did you mean 'lr_scheduler'?"),
  training("iters: 100", 3, "unknown key", hint: "did you mean 'max_steps'?"),
  end(
    "learning_rate: 1e-5", 9, 1, "unknown key 'learning_rate'", hint: "did you mean 'training.learning_rate'?"
  ),
  end("model_name_or_path: x", 9, 1, "unknown key", hint: "did you mean 'base_model'?"),
  end(
    "evaluate: { eval_step: 5 }", 9, 13, "unknown key 'eval_step' in evaluate",
    hint: "did you mean 'eval_steps'?"),
  Bad("missing name", "name: small\n", "", 1, 1, "the key 'name' is missing"),
  Bad("missing stages", "stages:", "stage:", 6, 1, "unknown key 'stage'", hint: "did you mean 'stages'?"),
  Bad(
    "twice", "  num_epochs: 1\n", "  num_epochs: 1\n  num_epochs: 2\n", 6, 3,
    "the key 'num_epochs' is given twice", hint: "first given in line 5"),
  end(
    "evaluate: { window: 8, at: [base], window: 9 }", 9, 36, "the key 'window' is given twice",
    hint: "first given in line 9"),
  // Scalars.
  training("num_epochs: 08", 15, "expected an integer", hint: "write 8"),
  training("num_epochs: 1e3", 15, "expected an integer", hint: "write 1000"),
  training("num_epochs: yes", 15, "expected an integer"),
  training("num_epochs: 12:30:45", 15, "expected an integer"),
  training("num_epochs: 0x10", 15, "expected an integer"),
  training("num_epochs: 99999999999999999999", 15, "expected an integer", hint: "the number is too large"),
  training("num_epochs: '3'", 15, "expected an integer", hint: "remove the quotes"),
  training("num_epochs: 0", 15, "0 is out of range; expected an integer from 1"),
  training("num_epochs: [1]", 15, "expected an integer from 1 to 1000000, found a list"),
  training("num_epochs:", 14, "found nothing", hint: "give a value, or remove the key"),
  training("learning_rate: .nan", 18, "expected a number above 0", hint: "the number must be finite"),
  training("learning_rate: .inf", 18, "expected a number above 0", hint: "the number must be finite"),
  training("learning_rate: 1e999", 18, "expected a number above 0", hint: "the number must be finite"),
  training("learning_rate: -1", 18, "-1 is out of range"),
  training("learning_rate: '0.1'", 18, "found the text '0.1'", hint: "remove the quotes"),
  training("sample_packing: yes", 19, "expected true or false, found 'yes'", hint: "did you mean true?"),
  training("warmup_ratio: 150%", 17, "150% is out of range"),
  training("optimizer: adam", 14, "unknown value 'adam'", hint: "did you mean 'adamw'?"),
  training("freeze: lm_head", 11, "expected a list of texts", hint: "write [lm_head]"),
  training("{num_epochs: 1}: 2", 3, "a key must be a word"),
  end("time_limit: 3600", 9, 13, "expected a duration", hint: "for seconds write 3600s"),
  end("time_limit: 8 hours", 9, 13, "expected a duration"),
  end("seed: -1", 9, 7, "expected an integer of 0 or more"),
  Bad("schema", "schema: 1", "schema: 2", 1, 9, "schema 2 is unknown"),
  end("training2: {}", 9, 1, "unknown key 'training2'", hint: "did you mean 'training'?"),
  // Combinations.
  Bad("two lengths", "  num_epochs: 1\n", "  num_epochs: 1\n  max_steps: 5\n", 6, 3, "exclude one another"),
  stage(data + "    val: data/medical/valid.jsonl\n    val_set_size: 2%", 10, 5, "exclude one another"),
  Bad(
    "sgd", "  num_epochs: 1\n", "  optimizer: sgd\n  adam_beta1: 0.8\n", 6, 15,
    "has no effect with optimizer: sgd"),
  training("constant_lr_ratio: 0.3", 22, "has no effect without lr_scheduler: infinite"),
  Bad(
    "rising end", "  num_epochs: 1\n", "  num_epochs: 1\n  lr_scheduler: infinite\n  constant_lr_ratio: 0.05\n", 7, 22,
    "the constant rate is below the last one", hint: "annealing goes down"),
  end("methods: [ { ewc: { lambda: posterior } } ]", 9, 29, "lambda: posterior needs base_tokens"),
  // Adapters.
  training("adapter: lor", 12, "unknown value 'lor'", hint: "did you mean 'lora'?"),
  training("lora_r: 4", 11, "training.lora_r: has no effect without adapter: lora", hint: "adapter: lora beside it"),
  training("target_modules: [x]", 3, "unknown key", hint: "did you mean 'lora_targets'?"),
  adapted("lora_r: 0", 11, "0 is out of range; expected an integer from 1 to 65536"),
  adapted("lora_alpha: 0", 15, "expected a number above 0"),
  adapted("lora_targets: []", 17, "expected at least one pattern", hint: "every matrix except"),
  adapted("lora_targets: q_proj", 17, "expected a list of texts", hint: "write [q_proj]"),
  adapted("lora_orthogonality: -1", 23, "expected a number of 0 or more"),
  adapted("optimizer_state: keep", 20, "keep has no effect beside adapter: lora", hint: "optimizer_state: reset"),
  Bad(
    "stage keep", data, data + "    training: { adapter: lora, optimizer_state: keep }\n", 9, 49, "keep has no effect"),
  Bad(
    "keep after an adapter", data,
    data + "    training: { adapter: lora }\n  - name: legal\n" + data + "    training: { optimizer_state: keep }\n",
    12,
    34, "keep has no effect"),
  Bad(
    "agem", data, data + "    training: { adapter: lora }\nmethods: [ { agem: { sample_tokens: 5 } } ]\n", 10, 14,
    "agem moves the weights themselves", hint: "use another method"),
  Bad(
    "gem in a stage", data, data + "    training: { adapter: lora }\n    methods: [ replay, gem ]\n", 10, 24,
    "gem moves the weights themselves"),
  Bad(
    "frozen by Fisher", data, data + "    training: { adapter: lora }\n    methods: [ fisher_freeze ]\n", 10, 16,
    "fisher_freeze holds single weights"),
  Bad(
    "kronecker", data,
    data + "    training: { adapter: lora }\ncompare: { k: [ { ewc: { fisher: { structure: kronecker } } } ] }\n", 10,
    47,
    "ewc with structure: kronecker and form: proximal moves the weights", hint: "use form: coupled"),
  // Methods.
  end("methods: [ { ewcc: {} } ]", 9, 14, "unknown method 'ewcc'", hint: "did you mean 'ewc'?"),
  end("methods: [ { ewc: { lambda: -1 } } ]", 9, 29, "ewc.lambda: -1 is out of range"),
  end("methods: [ { ewc: { variant: separate, decay: 0.5 } } ]", 9, 47, "decay has no effect unless variant is online"),
  end(
    "methods: [ { ewc: { fisher: { unit: batch, rank_agreement: 0.9 } } } ]", 9, 60,
    "fisher.rank_agreement has no effect unless fisher.unit is sequence or position"),
  end(
    "methods: [ { ewc: { lamda: 1 } } ]", 9, 21, "unknown key 'lamda' in ewc", hint: "did you mean 'lambda'?"),
  end(
    "methods: [ { ewc: { fisher: { label: sampled } } } ]", 9, 31, "unknown key 'label' in ewc.fisher",
    hint: "did you mean 'labels'?"),
  end(
    "methods: [ { replay: { ratio: 1 } } ]", 9, 31, "1 is out of range; expected a share from 0 to below 1"),
  end("methods: [ ewc, ewc ]", 9, 17, "'ewc' stands twice"),
  end("methods: ewc", 9, 10, "expected a list of methods", hint: "write [ewc]"),
  end("methods:", 9, 9, "found nothing", hint: "write [] for none"),
  end("compare: { naive: [] }", 9, 12, "'naive' is the name of the main stack"),
  end("compare: { \"a/b\": [] }", 9, 12, "is no name"),
  // Stages, datasets, paths.
  Bad("no stages", "  - name: medical\n" + data, "  []\n", 7, 3, "expected at least one stage"),
  Bad("bad name", "name: small", "name: ../small", 2, 7, "is no name"),
  stage(data + "  - name: medical\n" + data.dropLast(), 9, 11, "another stage is called 'medical'"),
  stage(
    "    datasets: [ { path: data/medical/tain.jsonl } ]", 8, 25, "no such file 'data/medical/tain.jsonl'",
    hint: "data/medical/ contains train.jsonl", exit: 66),
  stage(
    "    datasets: [ { path: data/medcal/x.jsonl } ]", 8, 25, "no such file",
    hint: "there is no folder 'data/medcal'", exit: 66),
  stage("    datasets: [ { path: data/medical } ]", 8, 25, "is a folder", exit: 66),
  stage("    datasets: [ { path: \"data/none/*.jsonl\" } ]", 8, 25, "no file matches", exit: 66),
  stage("    datasets: [ { path: \"${NOPE}/x\" } ]", 8, 25, "environment variable 'NOPE' is not set"),
  stage(
    "    datasets: [ { path: ~/x.jsonl } ]", 8, 25, "no such file '~/x.jsonl'", hint: "~ is not expanded",
    exit: 66),
  stage("    datasets: [ { path: \"a\\0b\" } ]", 8, 25, "NUL"),
  stage(
    "    datasets: [ { path: data/medical/train.jsonl, type: alpaca } ]", 8, 57,
    "'alpaca' is not yet supported"),
  stage(
    "    datasets: [ { path: data/medical/train.jsonl, type: txt } ]", 8, 57, "unknown value 'txt'",
    hint: "did you mean 'text'?"),
  stage(
    "    datasets: [ { type: idx_images, path: data/mnist/images } ]", 8, 17, "the key 'images' is missing"),
  stage(pictures + "pad: -1 } ]", 8, 96, "-1 is out of range; expected an integer from 0 to 32767"),
  stage(pictures + "limit: 0 } ]", 8, 98, "expected an integer of 1 or more"),
  stage(pictures + "normalize: 0.5 } ]", 8, 102, "expected a mapping"),
  stage(pictures + "normalize: { mean: 0.1 } } ]", 8, 102, "the key 'std' is missing"),
  stage(pictures + "normalize: { mean: 0.1, std: 0 } } ]", 8, 120, "expected a number above 0"),
  stage(
    pictures + "normalize: { mean: 0.1, sd: 1, std: 1 } } ]", 8, 115, "unknown key 'sd'", hint: "did you mean 'std'?"),
  stage("    datasets: [ { path: data/medical/train.jsonl, pad: 2 } ]", 8, 51, "unknown key 'pad'"),
  stage("    datasets: []", 8, 15, "expected at least one dataset"),
  // Probes.
  end(
    "probes: [ { name: p, path: data/general/test.txt, home: medcal } ]", 9, 57, "there is no stage 'medcal'",
    hint: "did you mean 'medical'?"),
  end(
    "probes: [ { name: p, path: data/general/test.txt, type: text, metrics: [acc] } ]", 9, 73,
    "unknown value 'acc'"),
  end(
    "probes: [ { name: p, path: data/probes/casehold.jsonl, num_fewshot: 2 } ]", 9, 69, "needs fewshot_path"),
  end(
    "probes: [ { name: p, path: data/probes/shots.jsonl, num_fewshot: 2, fewshot_path: data/probes/shots.jsonl } ]",
    9, 83, "is the probe itself"),
  end(
    "probes:\n  - { name: p, path: data/general/test.txt }\n  - { name: p, path: data/general/test.txt }", 11,
    13, "another probe is called 'p'"),
  // Models.
  model("models/bas", 13, "no such file 'models/bas'", hint: "models/ contains base", exit: 66),
  model("{ architecture: mamba }", 29, "unsupported architecture 'mamba'", exit: 69),
  model(
    "{ architecture: llama, hidden_size: 65, num_hidden_layers: 1, num_attention_heads: 4, tokenizer: models/tokenizer }",
    96, "4 heads do not divide hidden_size 65"),
  model(
    "{ architecture: llama, hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 4, num_key_value_heads: 3, tokenizer: models/tokenizer }",
    120, "3 key-value heads do not divide 4 heads"),
  model(
    "{ architecture: mlp, hidden_sizes: [400], heads: tasks }", 62, "unknown value 'tasks'",
    hint: "did you mean 'task'?"),
  Bad(
    "classifier", "models/base\ntraining:\n",
    "{ architecture: mlp, hidden_sizes: [4], heads: task }\ntraining:\n  gradient_checkpointing: true\n", 5, 27,
    "has no effect on a classifier"),
  model(
    "{ architecture: gpt2, hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 4, rope_theta: 1, tokenizer: models/tokenizer }",
    98, "unknown key 'rope_theta' in base_model"),
  Bad(
    "writing classifier", "models/base\ntraining:\n",
    "{ architecture: mlp, hidden_sizes: [4], heads: task }\nmethods: [self_rehearsal]\ntraining:\n", 4, 10,
    "needs a model that writes text"),
  Bad(
    "whole prompts", "models/base\ntraining:\n",
    "models/base\nmethods: [ { self_rehearsal: { text_tokens: 8, prompt_tokens: 8 } } ]\ntraining:\n", 4, 10,
    "prompt_tokens 8 leaves nothing to write in texts of 8 tokens"),
  // Not yet.
  end("gates:\n  - { probe: general }", 10, 5, "gates: not yet supported"),
  end("samples: [ \"The patient\" ]", 9, 12, "samples: not yet supported"),
  end("seeds: [1, 1]", 9, 1, "a seed is listed twice"),
  end("data_checks: { near_duplicates: warn }", 9, 33, "'warn' is not yet supported"),
  end("logging: { report_to: [jsonl, tensorboard] }", 9, 31, "'tensorboard' is not yet supported"),
  training("precision: fp16", 14, "'fp16' is not yet supported"),
  training("gradient_checkpointing: maybe", 27, "gradient_checkpointing"),
  // Tuning.
  end(
    "tune: { search: { methods.ewc.lambda: { log_uniform: [1, 2] } } }", 9, 19,
    "tune.search: the file has no methods"),
  end(
    "tune: { search: { training.leaning_rate: { log_uniform: [1, 2] } } }", 9, 19,
    "unknown key 'leaning_rate'", hint: "did you mean 'learning_rate'?"),
  end("tune: { search: { training.learning_rate: { log_uniform: [0, 2] } } }", 9, 58, "expected [low, high]"),
  end("tune: { search: { training.warmup_ratio: { uniform: [0, 2] } } }", 9, 19, "2 is out of range"),
  end(
    "tune: { search: { training.learning_rate: { values: [1e-5] } }, sampler: tpe }", 9, 74,
    "'tpe' is not yet supported"),
  end(
    "tune: { search: { training.learning_rate: { values: [1e-5] } }, pick: best }", 9, 71,
    "unknown value 'best'"),
  // YAML.
  Bad(
    "alias", "  num_epochs: 1\n", "  num_epochs: &n 1\n  max_grad_norm: *n\n", 5, 15,
    "anchors and aliases are not supported"),
  Bad("merge", "  num_epochs: 1\n", "  <<: { num_epochs: 1 }\n", 5, 3, "merge keys are not supported"),
  Bad("tag", "  num_epochs: 1\n", "  num_epochs: !!int 1\n", 5, 15, "tags are not supported"),
  Bad("custom tag", "name: small", "name: !!python/object small", 2, 7, "tags are not supported"),
  end("---\nname: second", 9, 1, "an experiment file holds one document"),
  Bad("tab", "  num_epochs: 1\n", "\tnum_epochs: 1\n", 5, 1, "not valid YAML"),
  Bad(
    "unquoted star", "  num_epochs: 1\n", "  freeze: [*.bias]\n", 5, 13, "not valid YAML", hint: "quote text"),
  end("x: [1, 2", 10, 1, "not valid YAML"),
  Bad("control", "name: small", "name: sm\u{1}all", 2, 9, "not valid YAML"),
]

@Suite struct BadFileTests {
  @Test func thereAreManyCases() { #expect(badFiles.count >= 40) }

  @Test(arguments: badFiles)
  func isLocated(_ bad: Bad) throws {
    try withWorkspace { directory in
      #expect(bad.text != minimal)
      let found = issues(bad.text, in: directory)
      let all = found.issues.map(\.description).joined(separator: "\n")
      let issue = found.issues.first { $0.message.contains(bad.message) }
      #expect(issue != nil, "\(all)")
      #expect(issue?.line == bad.line && issue?.column == bad.column, "\(all)")
      if let hint = bad.hint { #expect(issue?.hint?.contains(hint) == true, "\(all)") }
      #expect(found.exitCode == bad.exit, "\(all)")
    }
  }

  @Test func patienceWithoutValidationIsFoundAtTheStage() throws {
    try withWorkspace { directory in
      let text = minimal.replacing("  num_epochs: 1\n", with: "  early_stopping_patience: 2\n")
      let found = issues(text, in: directory)
      #expect(found.issues.map(\.line) == [7] && found.issues[0].message.contains("needs validation data"))
    }
  }

  @Test func allMistakesAreReportedAtOnce() throws {
    try withWorkspace { directory in
      let text = """
        schema: 1
        name: small
        base_model: models/nothing
        training:
          leraning_rate: 2e-5
          num_epochs: 0
        stages:
          - name: medical
            datasets: [ { path: data/medical/missing.jsonl } ]
        probes:
          - { name: p, path: data/general/test.txt, home: nowhere }

        """
      let found = issues(text, in: directory)
      #expect(
        found.issues.map { [$0.line, $0.column] } == [[3, 13], [5, 3], [6, 15], [9, 25], [11, 51]])
      #expect(found.exitCode == 78)
      let error = ExperimentError(issues: found.issues)
      #expect(error.description.hasSuffix("5 errors. Nothing was trained."))
      #expect(
        error.description.contains(
          """
          my.yaml:5:3: error: unknown key 'leraning_rate' in training
              5 |   leraning_rate: 2e-5
                |   ^~~~~~~~~~~~~ did you mean 'learning_rate'?
          """), "\(error.description)")
    }
  }

  @Test func refusedPartsCauseNoFurtherMistakes() throws {
    try withWorkspace { directory in
      let text = minimal.replacing("stages:\n", with: "stages: &s\n")
      let found = issues(text, in: directory)
      #expect(found.issues.count == 1, "\(found.issues.map(\.description))")
    }
  }

  @Test func missingInputsAloneAre66() throws {
    try withWorkspace { directory in
      #expect(issues(minimal.replacing("models/base", with: "models/none"), in: directory).exitCode == 66)
    }
  }
}
