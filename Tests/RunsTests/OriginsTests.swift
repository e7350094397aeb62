// What a checkpoint holds on to belongs to one base and one text: with others it is refused.
import Foundation
import Runs
import TestKit
import Testing

@Suite struct OriginsTests {
  /// One more row at the end of a file.
  private func extend(_ path: String) throws {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try (text + #"{"text": "the wind was old."}"# + "\n").write(toFile: path, atomically: true, encoding: .utf8)
  }

  /// Runs until the first stage's end has been saved.
  private func stopAfterMedical(_ experiment: TinyExperiment, _ overrides: [String] = []) throws {
    let end = experiment.output + "/checkpoints/medical-end.h5"
    var runs = 0
    while !FileManager.default.fileExists(atPath: end) {
      #expect(try experiment.run(overrides + ["time_limit=0.000001s"]) == ExitCode.resumable)
      runs += 1
      try #require(runs < 60)
    }
  }

  private func refusal(_ body: () throws -> Void) -> RunError? {
    do { try body() } catch { return error as? RunError }
    return nil
  }

  @Test(arguments: ["general", "medical"]) func otherTextOfThePastIsRefused(_ name: String) throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try stopAfterMedical(experiment)
      try extend("\(folder)/data/\(name)-train.jsonl")
      let error = try #require(refusal { try experiment.run() })
      #expect(error.exitCode == ExitCode.configuration)
      #expect(error.reason.contains(name == "general" ? "base_data" : "stage medical"), "\(error)")
      #expect(try experiment.run(fresh: true) == ExitCode.done)
    }
  }

  /// Nothing has come of a stage that has not begun.
  @Test func textOfALaterStageMayChange() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try stopAfterMedical(experiment)
      try extend(folder + "/data/legal-train.jsonl")
      #expect(try experiment.run() == ExitCode.done)
    }
  }

  @Test func anotherBaseAtTheSamePathIsRefused() throws {
    try withTemporaryDirectory { folder in
      let first = try TinyExperiment(in: folder + "/first")
      try first.run(["checkpoint.save_total_limit=9"])
      let base = folder + "/base.h5"
      let manager = FileManager.default
      try manager.copyItem(atPath: first.output + "/checkpoints/base.h5", toPath: base)
      let second = try TinyExperiment(in: folder + "/second")
      try second.begin(from: base)
      try stopAfterMedical(second)
      try manager.removeItem(atPath: base)
      try manager.copyItem(atPath: first.output + "/checkpoints/legal-end.h5", toPath: base)
      let error = try #require(refusal { try second.run() })
      #expect(error.exitCode == ExitCode.configuration && error.reason.contains("base_model"), "\(error)")
      try manager.removeItem(atPath: base)
      try manager.copyItem(atPath: first.output + "/checkpoints/base.h5", toPath: base)
      #expect(try second.run() == ExitCode.done)
    }
  }

  /// A variant that is done is no companion for one that would learn from other text.
  @Test func variantsShareWhatTheyLearnFrom() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ naive: [] }")
      try experiment.run()
      let naive = experiment.output + "/naive"
      try FileManager.default.removeItem(atPath: naive + "/results.json")
      try FileManager.default.removeItem(atPath: naive + "/checkpoints")
      try extend(folder + "/data/legal-train.jsonl")
      let error = try #require(refusal { try experiment.run() })
      #expect(error.reason.contains("stage legal"), "\(error)")
    }
  }
}
