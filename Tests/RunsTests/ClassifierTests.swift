// A chain of image tasks: what is trained on and what is asked must be prepared alike, task by task.
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON
import TensorCore
import TestKit
import Testing

@Suite struct ClassifierTests {
  /// Images of 4×4 noise in which one of two bright pixels tells class 5 from class 8.
  private func write(_ count: Int, _ name: String, in folder: String) throws {
    var random = RandomStream(seed: 5).forked(name)
    var images: [UInt8] = [0, 0, 8, 3, 0, 0, 0, UInt8(count), 0, 0, 0, 4, 0, 0, 0, 4]
    var labels: [UInt8] = [0, 0, 8, 1, 0, 0, 0, UInt8(count)]
    for _ in 0..<count {
      let second = random.integer(below: 2) == 1
      var image = (0..<16).map { _ in UInt8(random.integer(below: 100)) }
      image[second ? 12 : 3] = 255
      images += image
      labels.append(second ? 8 : 5)
    }
    try Data(images).write(to: URL(fileURLWithPath: "\(folder)/\(name)-images"))
    try Data(labels).write(to: URL(fileURLWithPath: "\(folder)/\(name)-labels"))
  }

  /// Accuracy on every probe after the last stage of a chain of three permutations, by probe.
  private func accuracies(probes: String, in folder: String) throws -> [Double] {
    try write(120, "train", in: folder)
    try write(60, "test", in: folder)
    let prepared = "pad: 1, normalize: { mean: 0.25, std: 0.3 }"
    func stage(_ seed: Int) -> String {
      "{ name: t\(seed), datasets: [ { type: idx_images, images: train-images, labels: train-labels, "
        + "classes: [8, 5], limit: 100, permute_seed: \(seed), \(prepared) } ] }"
    }
    func probe(_ seed: Int) -> String {
      "{ name: t\(seed), type: class, images: test-images, labels: test-labels, classes: [8, 5], "
        + "permute_seed: \(seed), home: t\(seed), \(probes) }"
    }
    let yaml = """
      schema: 1
      name: pixels
      base_model: { architecture: mlp, hidden_sizes: [16], heads: task }
      output_dir: run
      threads: 1
      training: { sequence_len: 2, sample_packing: false, micro_batch_size: 20, num_epochs: 20, learning_rate: 1e-2 }
      methods: [ { replay: { ratio: 0.5, budget_tokens: 60 } } ]
      stages: [ \([1, 2, 1_000].map(stage).joined(separator: ", ")) ]
      probes: [ \([1, 2, 1_000].map(probe).joined(separator: ", ")) ]
      evaluate: { at: [stage_end], eval_steps: 0 }
      """
    try yaml.write(toFile: folder + "/pixels.yaml", atomically: true, encoding: .utf8)
    let run = ExperimentRun(try ExperimentPlan.load(folder + "/pixels.yaml"), observer: SilentObserver())
    #expect(try run.execute(fresh: false) == ExitCode.done)
    let steps = try LedgerReader.events(folder + "/run/ledger.jsonl").filter {
      $0["event"]?.string == "stage_started"
    }
    #expect(steps.map { $0["examples"]?.int } == [100, 100, 100])
    let results = try JSON.parse(
      Array(try #require(FileManager.default.contents(atPath: folder + "/run/results.json"))))
    let last = try #require(results["matrix"]?.array?.last?["values"])
    return [1, 2, 1_000].compactMap { last["t\($0).acc"]?["value"]?.double }
  }

  @Test func trainingAndProbesSeeTheSamePixels() throws {
    let right = try withTemporaryDirectory {
      try accuracies(probes: "pad: 1, normalize: { mean: 0.25, std: 0.3 }", in: $0)
    }
    // The last task at least is learned, and rehearsed ones are not lost.
    #expect(right.count == 3 && right.allSatisfy { $0 > 0.95 }, "\(right)")
  }

  @Test func imagesOfAnotherSizeAreRefused() throws {
    #expect(throws: (any Error).self) {
      try withTemporaryDirectory { try accuracies(probes: "pad: 2", in: $0) }
    }
  }
}
