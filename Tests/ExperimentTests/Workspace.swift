// A folder of empty inputs and helpers to read experiments in it.
// Plans only look whether files exist, so empty ones do.
import Experiment
import Foundation
import TestKit

let inputs = [
  "models/base/config.json", "models/base.h5", "models/tokenizer/tokenizer.json", "data/general/train.jsonl",
  "data/general/test.txt", "data/medical/train.jsonl", "data/medical/valid.jsonl", "data/medical/test.jsonl",
  "data/legal/b.jsonl", "data/legal/a.jsonl", "data/probes/blimp.jsonl", "data/probes/casehold.jsonl",
  "data/probes/shots.jsonl", "data/mnist/images", "data/mnist/labels", "data/general/test.jsonl",
]

func withWorkspace<Result>(_ body: (String) throws -> Result) throws -> Result {
  try withTemporaryDirectory { directory in
    for path in inputs {
      let url = URL(fileURLWithPath: directory + "/" + path)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data().write(to: url)
    }
    return try body(directory)
  }
}

let environment = ["DATA": "data", "HOME": "/root"]

func read(
  _ text: String, in directory: String, _ overrides: [String] = [], workingDirectory: String? = nil
) throws -> ExperimentFile {
  let context = PathContext(
    directory: directory, workingDirectory: workingDirectory ?? directory, environment: environment)
  return try ExperimentFile.parse(text, named: "my.yaml", overrides: overrides, context: context)
}

/// The issues of a text that must not be readable.
func issues(_ text: String, in directory: String, _ overrides: [String] = []) -> (
  issues: [Issue], exitCode: Int32
) {
  do {
    _ = try read(text, in: directory, overrides)
    return ([], 0)
  } catch let error as ExperimentError {
    return (error.issues, error.exitCode)
  } catch {
    return ([], -1)
  }
}

/// The smallest experiment that runs.
let minimal = """
  schema: 1
  name: small
  base_model: models/base
  training:
    num_epochs: 1
  stages:
    - name: medical
      datasets: [ { path: data/medical/train.jsonl } ]

  """

/// The smallest experiment with a model: on text, or on images for a classifier.
func experiment(with model: String) -> String {
  guard model.contains("architecture: mlp") else { return minimal.replacing("models/base", with: model) }
  return drawings.replacing("{ architecture: mlp, hidden_sizes: [4], heads: domain }", with: model)
}

/// Every key that is supported, with values other than the defaults.
let full = """
  schema: 1
  name: clinic-court
  base_model: models/base.h5
  base_data:
    - { path: data/general/train.jsonl, type: text, weight: 0.5, documents: line }
  base_tokens: 4_000_000
  output_dir: runs/x
  threads: 2
  time_limit: 1h30m
  seed: 18
  training:
    sequence_len: 256
    sample_packing: false
    train_on_inputs: true
    excess_length_strategy: drop
    micro_batch_size: 8
    gradient_accumulation_steps: 2
    max_steps: 100
    optimizer: adamw
    learning_rate: 1e-4
    lr_scheduler: wsd
    warmup_ratio: 5%
    min_lr_ratio: 0.2
    weight_decay: 0.1
    max_grad_norm: 0.5
    adam_beta1: 0.8
    adam_beta2: 0.95
    adam_epsilon: 1e-6
    precision: fp32
    gradient_checkpointing: false
    freeze: ["*.bias"]
    adapter: none
    early_stopping_patience: 0
    loss_watchdog_threshold: 4
  methods:
    - ewc:
        lambda: posterior
        variant: online
        decay: 90%
        form: coupled
        fisher: { labels: sampled, unit: position, structure: diagonal, examples: all, samples: 3 }
    - replay: { ratio: 25%, budget_tokens: 1_000, selection: stage_balanced }
  compare:
    naive: []
    l2sp: [ { l2sp: { lambda: 0.1, form: coupled, anchor: base } } ]
    plain: [ ewc ]
  stages:
    - name: medical
      datasets:
        - { path: "${DATA}/medical/train.jsonl", type: prompt_completion, weight: 2 }
      val: data/medical/valid.jsonl
      training: { num_epochs: 2, early_stopping_patience: 3 }
    - name: legal.two
      datasets: [ { path: "data/legal/*.jsonl" } ]
      val_set_size: 2%
      methods: []
    - name: late
      datasets: [ { path: data/general/test.jsonl } ]
      training: { lr_scheduler: infinite, constant_lr_ratio: 0.6, adapter: lora, lora_r: 4, lora_alpha: 8,
          lora_targets: ["*.weight"], lora_orthogonality: 0.5 }
  probes:
    - { name: general, path: data/general/test.txt, type: text, metrics: [perplexity], documents: file, limit: 7 }
    - { name: blimp, path: data/probes/blimp.jsonl, type: minimal_pairs, metrics: [acc] }
    - { name: casehold, path: data/probes/casehold.jsonl, type: multiple_choice, metrics: [acc_norm, acc],
        num_fewshot: 2, fewshot_path: data/probes/shots.jsonl, home: legal.two, prompt: "Q: {question}\\n" }
  evaluate: { at: [stage_end], eval_steps: 50, watch_items: 32, confidence: 90%, bootstrap: 500, window: 128 }
  data_checks:
    exact_duplicates: warn
    near_duplicates: off
    probe_overlap: { ngram: 8, document_share: 0.3, max_documents: 1%, action: warn }
  checkpoint: { save_steps: 20, save_total_limit: 2 }
  logging: { logging_steps: 5, report_to: [jsonl] }
  tune:
    stage: legal.two
    search: { methods.replay.ratio: { uniform: [0.1, 0.5] }, compare.plain.ewc.lambda: { log_uniform: [1e-3, 1e3] } }
    sampler: random
    trials: 4
    pick: best_plasticity_at_retention>=0.97
  gates: []
  samples: []

  """

/// The keys that a classifier of images has besides.
let drawings = """
  schema: 1
  name: drawings
  base_model: { architecture: mlp, hidden_sizes: [4], heads: domain }
  stages:
    - name: digits
      datasets:
        - { type: idx_images, images: data/mnist/images, labels: data/mnist/labels, classes: [0, 1], permute_seed: 3,
            limit: 500, pad: 2, normalize: { mean: 0.1, std: 0.2752 } }
  probes:
    - { name: digits, type: class, images: data/mnist/images, labels: data/mnist/labels, classes: [0], permute_seed: 4,
        limit: 100, pad: 2, normalize: { mean: 0.1, std: 0.2752 } }

  """
