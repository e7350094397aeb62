// A complete experiment that takes a second: a random model of a few thousand parameters, generated text, two stages.
import Archive
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON
import TensorCore
import TestKit
import Testing

struct TinyExperiment {
  let folder: String
  var yaml: String

  /// Writes data and the experiment file under a folder.
  ///
  /// - Parameter base: random weights, or those that a few steps made of them
  init(
    in folder: String, extra: String = "", methods: String = Self.guarded, compare: String = "{}", base: Base = .new
  ) throws {
    self.folder = folder
    let manager = FileManager.default
    try manager.createDirectory(atPath: folder + "/data", withIntermediateDirectories: true)
    // A small byte-level vocabulary; its end-of-text mark begins and ends a text.
    let tokenizer = folder + "/tokenizer"
    try manager.createDirectory(atPath: tokenizer, withIntermediateDirectories: true)
    try manager.copyItem(atPath: Fixtures.path("tokenizers/gpt2/tokenizer.json"), toPath: tokenizer + "/tokenizer.json")
    try #"{ "bos_token": "<|end|>", "eos_token": "<|end|>" }"#.write(
      toFile: tokenizer + "/tokenizer_config.json", atomically: true, encoding: .utf8)
    for (name, words) in Self.vocabularies {
      for part in ["train", "test"] {
        var random = RandomStream(seed: 1).forked(name + part)
        let documents = (0..<(part == "train" ? 60 : 12)).map { _ in
          (0..<(6 + random.integer(below: 30))).map { _ in words[random.integer(below: words.count)] }.joined(
            separator: " ") + "."
        }
        let rows = documents.map { JSON.object([.init("text", .string($0))]).compact }.joined(separator: "\n")
        try (rows + "\n").write(toFile: "\(folder)/data/\(name)-\(part).jsonl", atomically: true, encoding: .utf8)
      }
    }
    yaml = """
      schema: 1
      name: tiny
      base_model: { architecture: llama, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 2,
                    num_key_value_heads: 1, max_position_embeddings: 64, tokenizer: "\(tokenizer)" }
      base_data: [ { path: data/general-train.jsonl } ]
      output_dir: run
      threads: 2
      seed: 11
      training: { sequence_len: 32, micro_batch_size: 3, gradient_accumulation_steps: 2, max_steps: 14, learning_rate: 1e-2 }
      methods: \(methods)
      compare: \(compare)
      stages:
        - { name: medical, datasets: [ { path: data/medical-train.jsonl } ], val_set_size: 0.1 }
        - { name: legal, datasets: [ { path: data/legal-train.jsonl } ] }
      probes:
        - { name: general, path: data/general-test.jsonl, metrics: [bits_per_byte] }
        - { name: medical, path: data/medical-test.jsonl, metrics: [bits_per_byte], home: medical }
        - { name: legal, path: data/legal-test.jsonl, metrics: [bits_per_byte, perplexity], home: legal }
      evaluate: { eval_steps: 5, watch_items: 4, bootstrap: 100 }
      data_checks: { probe_overlap: { action: warn } }
      checkpoint: { save_steps: 4, save_total_limit: 2 }
      logging: { logging_steps: 1 }
      \(extra)
      """
    if base == .trained {
      let model = folder + "/base.h5"
      let first = try TinyExperiment(in: folder + "/first", methods: "[]")
      try first.run(["training.max_steps=3"])
      try manager.copyItem(atPath: first.output + "/checkpoints/medical-end.h5", toPath: model)
      yaml = try Self.beginning(from: model, yaml)
    }
    try yaml.write(toFile: file, atomically: true, encoding: .utf8)
  }
  /// Has the file begin from a model file instead of a new model.
  func begin(from model: String) throws {
    try Self.beginning(from: model, yaml).write(toFile: file, atomically: true, encoding: .utf8)
  }
  private static func beginning(from model: String, _ yaml: String) throws -> String {
    var lines = yaml.components(separatedBy: "\n")
    let start = try #require(lines.firstIndex { $0.hasPrefix("base_model:") })
    lines.replaceSubrange(start...start + 1, with: ["base_model: \(model)"])
    return lines.joined(separator: "\n")
  }
  enum Base { case new, trained }
  var file: String { folder + "/experiment.yaml" }
  var output: String { folder + "/run" }

  static let guarded =
    "[ { ewc: { lambda: 5, variant: separate, fisher: { examples: 24 } } }, { replay: { ratio: 0.2, budget_tokens: 300 } } ]"
  private static let vocabularies = [
    ("general", ["the", "house", "was", "old", "and", "wind", "came", "over", "hill", "at", "night"]),
    ("medical", ["patient", "fever", "dose", "renal", "acute", "therapy", "onset", "chronic"]),
    ("legal", ["party", "court", "shall", "clause", "breach", "liable", "notice", "hereby"]),
  ]

  func plan(_ overrides: [String] = []) throws -> ExperimentPlan { try ExperimentPlan.load(file, overrides: overrides) }
  @discardableResult
  func run(_ overrides: [String] = [], observer: any RunObserver = SilentObserver(), fresh: Bool = false) throws
    -> Int32
  {
    try ExperimentRun(plan(overrides), observer: observer).execute(fresh: fresh)
  }
  /// results.json without what may differ between machines and moments.
  func results(_ directory: String? = nil) throws -> JSON {
    let json = try JSON.parse(
      Array(try #require(FileManager.default.contents(atPath: (directory ?? output) + "/results.json"))))
    return .object((json.members ?? []).filter { $0.key != "cost" && $0.key != "environment" })
  }
  /// Every logged step with its loss, penalty and counts, in order.
  func steps(_ directory: String? = nil) throws -> [String] {
    LedgerReader.repeatable(try LedgerReader.events((directory ?? output) + "/ledger.jsonl"))
      .filter { $0["event"]?.string == "step" }.map(\.compact)
  }
}

final class Recorder: RunObserver {
  var messages: [String] = []
  var warnings: [String] = []
  func message(_ text: String) { messages.append(text) }
  func warning(_ text: String) { warnings.append(text) }
  func progress(_ step: StepProgress) {}
  func activity(_ text: String) {}
}
