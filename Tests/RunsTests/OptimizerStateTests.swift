// What Adam takes across the border of two stages: moments and step counts, and the first update by hand.
import Archive
import Foundation
import Ledger
import Runs
import StrictJSON
import TensorCore
import TestKit
import Testing

@Suite struct OptimizerStateTests {
  private static let options = [
    "training.max_steps=4", "training.warmup_ratio=0.5", "checkpoint.save_steps=1", "checkpoint.save_total_limit=9",
  ]
  private static let first = "optimizer/first_moment"
  private static let second = "optimizer/second_moment"
  private func run(_ folder: String, _ options: [String]) throws -> TinyExperiment {
    let experiment = try TinyExperiment(in: folder, methods: "[]")
    let code = try experiment.run(Self.options + options)
    try #require(code == ExitCode.done)
    return experiment
  }
  private func archive(_ experiment: TinyExperiment, _ name: String) throws -> ArchiveReader {
    try ArchiveReader(path: "\(experiment.output)/checkpoints/\(name).h5")
  }
  private func vector(_ archive: ArchiveReader, _ group: String, _ name: String) throws -> [Double] {
    try archive.floats("\(group)/\(name)").map { Double($0) }
  }
  /// Learning rates of a stage, step by step.
  private func rates(_ experiment: TinyExperiment, _ stage: String) throws -> [Double] {
    try LedgerReader.events(experiment.output + "/ledger.jsonl")
      .filter { $0["event"]?.string == "step" && $0["stage"]?.string == stage }
      .compactMap { $0["learning_rate"]?.double }
  }

  /// θ(1 − ηw) − η·m̂/(√v̂ + ε) of the second stage's first step, m̂ and v̂ by each parameter's own steps.
  private func expectFirstUpdate(
    _ experiment: TinyExperiment, rate: Double, steps: (String) -> Int, _ comment: Comment
  ) throws {
    let (before, after) = (try archive(experiment, "medical-end"), try archive(experiment, "legal-000001"))
    let (beta1, beta2) = (Double(Float(0.9)), Double(Float(0.999)))
    for name in after.names(under: Self.first) {
      let (m, v) = (try vector(after, Self.first, name), try vector(after, Self.second, name))
      let (start, end) = (try vector(before, "model/parameters", name), try vector(after, "model/parameters", name))
      let taken = Double(steps(name))
      let (share1, share2) = (1 - Maths.pow(beta1, taken), 1 - Maths.pow(beta2, taken))
      // Gains do not decay.
      let isMatrix = after.entry("model/parameters/\(name)")?.shape.count == 2
      let keep = isMatrix ? 1 - rate * 0.01 : 1
      let wrong = start.indices.filter { i in
        let metric = (v[i] / share2).squareRoot() + 1e-8
        let wanted = start[i] * keep - rate * (m[i] / share1) / metric
        return abs(end[i] - wanted) > 1e-6
      }
      #expect(wrong.isEmpty, comment)
      #expect(start != end, "\(name) stood still")
    }
  }

  /// Both runs have the same first stage, so the first gradient of the second is the same: after one step kept moments
  /// are β times the old ones plus what new ones are. Mistakes: moments that are cleared or not cleared, steps that are
  /// counted anew beside old moments (or on beside new ones), which makes the first updates too large (too small).
  @Test func keepCarriesMomentsAndResetClearsThem() throws {
    try withTemporaryDirectory { folder in
      let keep = try run(folder + "/keep", ["training.optimizer_state=keep"])
      let reset = try run(folder + "/reset", [])
      let (border, clear) = (try archive(keep, "medical-end"), try archive(reset, "medical-end"))
      let (kept, fresh) = (try archive(keep, "legal-000001"), try archive(reset, "legal-000001"))
      #expect(!clear.contains("optimizer/steps"))
      for (archive, steps) in [(border, 4), (kept, 5), (fresh, 1)] {
        let counts = Set(try archive.ints("optimizer/steps"))
        #expect(counts == [steps])
      }
      let names = border.names(under: Self.first)
      #expect(!names.isEmpty && names == border.names(under: "model/parameters"))
      for name in names {
        #expect(try vector(border, "model/parameters", name) == vector(clear, "model/parameters", name))
        for (group, beta) in [(Self.first, Float(0.9)), (Self.second, Float(0.999))] {
          let (old, new) = (try vector(border, group, name), try vector(kept, group, name))
          let own = try vector(fresh, group, name)
          let wrong = old.indices.filter { i in
            let carried = Double(beta) * old[i]
            return abs(new[i] - (carried + own[i])) > 1e-6 * (abs(carried) + abs(own[i])) + 1e-30
          }
          #expect(wrong.isEmpty, "\(group)/\(name)")
          #expect(old.contains { $0 != 0 } && own.contains { $0 != 0 }, "\(group)/\(name)")
        }
      }
      // The learning rate warms up again in both.
      for experiment in [keep, reset] {
        let (medical, legal) = (try rates(experiment, "medical"), try rates(experiment, "legal"))
        try #require(legal.count == 4)
        #expect(legal == medical)
        #expect(abs(legal[0] - 0.005) < 1e-12 && abs(legal[1] - 0.01) < 1e-12)
      }
      try expectFirstUpdate(keep, rate: 0.005, steps: { _ in 5 }, "keep")
      try expectFirstUpdate(reset, rate: 0.005, steps: { _ in 1 }, "reset")
    }
  }

  /// What was frozen begins when it is set free, beside parameters that go on. Mistake: one step count for all.
  @Test func thawedParametersBeginAmongKeptOnes() throws {
    try withTemporaryDirectory { folder in
      let prefix = "model.layers.0."
      let experiment = try run(
        folder, ["training.optimizer_state=keep", "stages.medical.training.freeze=[\"\(prefix)*\"]"])
      let (border, after) = (try archive(experiment, "medical-end"), try archive(experiment, "legal-000001"))
      let names = after.names(under: Self.first)
      let (then, now) = (try border.ints("optimizer/steps"), try after.ints("optimizer/steps"))
      try #require(then.count == names.count && now.count == names.count)
      for (index, name) in names.enumerated() {
        let isThawed = name.hasPrefix(prefix)
        #expect(then[index] == (isThawed ? 0 : 4) && now[index] == (isThawed ? 1 : 5), "\(name)")
        let moments = try vector(border, Self.first, name)
        #expect(moments.allSatisfy { $0 == 0 } == isThawed, "\(name)")
      }
      try expectFirstUpdate(experiment, rate: 0.005, steps: { $0.hasPrefix(prefix) ? 1 : 5 }, "thawed")
    }
  }

  /// Moments of one optimizer mean nothing to another: after SGD and before it keep is reset.
  @Test(arguments: ["medical", "legal"]) func anotherOptimizerBeginsAnew(_ stage: String) throws {
    try withTemporaryDirectory { folder in
      let other = "stages.\(stage).training.optimizer=sgd"
      let keep = try run(folder + "/keep", [other, "training.optimizer_state=keep"])
      let reset = try run(folder + "/reset", [other])
      #expect(try !archive(keep, "medical-end").contains("optimizer/steps"))
      let counts = Set(try archive(keep, "legal-000001").ints("optimizer/steps"))
      #expect(counts == [1])
      let hashes = try [keep, reset].map {
        try RunResults.read($0.output + "/results.json").final?.parametersSHA256
      }
      #expect(hashes[0] != nil && hashes[0] == hashes[1])
    }
  }
}
