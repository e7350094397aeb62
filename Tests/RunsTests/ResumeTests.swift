// Stopping anywhere and running again gives the bits of never stopping.
import Archive
import Foundation
import Ledger
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct ResumeTests {
  /// A run that is stopped after every single step, in both stages, ends where the uninterrupted one ends.
  @Test func stoppingAfterEveryStepChangesNothing() throws {
    try withTemporaryDirectory { folder in
      let whole = try TinyExperiment(in: folder + "/whole")
      #expect(try whole.run() == ExitCode.done)
      let cut = try TinyExperiment(in: folder + "/cut")
      var (runs, resumed) = (0, 0)
      while true {
        runs += 1
        let recorder = Recorder()
        let code = try cut.run(["time_limit=0.000001s"], observer: recorder)
        resumed += recorder.messages.contains { $0.hasPrefix("resuming from ") } ? 1 : 0
        if code == ExitCode.done { break }
        #expect(code == ExitCode.resumable)
        try #require(runs < 100)
      }
      // 14 steps a stage, each but the last one followed by a stop, and one at the end of the first stage.
      #expect(runs == 28 && resumed == 27)
      #expect(try cut.results() == whole.results())
      #expect(try cut.steps() == whole.steps())
      #expect(try whole.steps().count == 28)
    }
  }

  /// bf16 products leave no trace that a checkpoint would miss: the rounded weights follow from the exact ones.
  @Test(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here"))
  func stoppingUnderBF16ChangesNothing() throws {
    try withTemporaryDirectory { folder in
      let options = [
        "training.precision=bf16", "base_model.hidden_size=64", "base_model.intermediate_size=96",
        "training.max_steps=5",
      ]
      let whole = try TinyExperiment(in: folder + "/whole")
      #expect(try whole.run(options) == ExitCode.done)
      let cut = try TinyExperiment(in: folder + "/cut")
      var runs = 1
      while try cut.run(options + ["time_limit=0.000001s"]) != ExitCode.done {
        runs += 1
        try #require(runs < 50)
      }
      #expect(runs == 10)
      #expect(try cut.results() == whole.results())
      #expect(try cut.steps() == whole.steps())
      // Rounding must have made a difference, or nothing was tested.
      let exact = try TinyExperiment(in: folder + "/exact")
      try exact.run(options.map { $0 == "training.precision=bf16" ? "training.precision=fp32" : $0 })
      #expect(try exact.steps() != whole.steps())
    }
  }

  /// A process that dies leaves its last checkpoint; steps after it are run again.
  @Test func dyingBetweenCheckpointsChangesNothing() throws {
    try withTemporaryDirectory { folder in
      let whole = try TinyExperiment(in: folder + "/whole")
      try whole.run(["checkpoint.save_total_limit=9"])
      let reference = (try whole.results(), try whole.steps())
      // Remove the newest checkpoints one after another, as if the process had died before each was written.
      let directory = whole.output + "/checkpoints"
      let order = [
        "legal-end", "legal-000012", "legal-000008", "medical-end", "medical-000012", "medical-000008", "base",
      ]
      for name in order.dropLast() {
        try FileManager.default.removeItem(atPath: "\(directory)/\(name).h5")
        try? FileManager.default.removeItem(atPath: whole.output + "/results.json")
        let recorder = Recorder()
        #expect(try whole.run(["checkpoint.save_total_limit=9"], observer: recorder) == ExitCode.done)
        #expect(recorder.messages.contains { $0.hasPrefix("resuming from ") }, "\(name)")
        #expect(try whole.results() == reference.0)
        #expect(try whole.steps() == reference.1)
        for later in order.prefix(while: { $0 != name }) {
          try? FileManager.default.removeItem(atPath: "\(directory)/\(later).h5")
        }
      }
    }
  }

  @Test func threadsChangeNoBit() throws {
    try withTemporaryDirectory { folder in
      let one = try TinyExperiment(in: folder + "/one")
      let two = try TinyExperiment(in: folder + "/two")
      try one.run(["threads=1"])
      try two.run(["threads=2"])
      #expect(try one.results() == two.results())
      #expect(try one.steps() == two.steps())
    }
  }

  @Test func aDamagedCheckpointIsSetAsideAndTheOneBeforeTaken() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run()
      let reference = try experiment.results()
      let path = experiment.output + "/checkpoints/legal-end.h5"
      var bytes = Array(try #require(FileManager.default.contents(atPath: path)))
      bytes[bytes.count / 2] ^= 4
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      try FileManager.default.removeItem(atPath: experiment.output + "/results.json")
      let recorder = Recorder()
      #expect(try experiment.run(observer: recorder) == ExitCode.done)
      #expect(recorder.warnings.contains { $0.contains("set aside") })
      #expect(try experiment.results() == reference)
    }
  }

  @Test func withoutAWholeCheckpointNothingIsCreated() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run()
      let directory = experiment.output + "/checkpoints"
      for name in try FileManager.default.contentsOfDirectory(atPath: directory) where name.hasSuffix(".h5") {
        try Data("not a checkpoint".utf8).write(to: URL(fileURLWithPath: directory + "/" + name))
      }
      try FileManager.default.removeItem(atPath: experiment.output + "/results.json")
      // The second time the damaged ones have been set aside, which must not look like a run that has not begun.
      for _ in 1...2 {
        #expect { try experiment.run() } throws: { ExitCode.of($0) == ExitCode.missingInput }
      }
      #expect(try experiment.run(fresh: true) == ExitCode.done)
    }
  }

  @Test func anotherPlanIsRefusedWithTheKeysThatDiffer() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run(["time_limit=0.000001s"])
      #expect { try experiment.run(["training.learning_rate=0.5"]) } throws: {
        ExitCode.of($0) == ExitCode.configuration && "\($0)".contains("learning_rate")
      }
      #expect(try experiment.run(["checkpoint.save_steps=7", "threads=1"]) == ExitCode.done)
      let recorder = Recorder()
      #expect(try experiment.run(observer: recorder) == ExitCode.done)
      #expect(recorder.messages.contains { $0.contains("already complete") })
    }
  }

  @Test func twoRunsCannotShareADirectory() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try FileManager.default.createDirectory(atPath: experiment.output, withIntermediateDirectories: true)
      let lock = try DirectoryLock(directory: experiment.output)
      #expect { try experiment.run() } throws: { ExitCode.of($0) == ExitCode.resumable }
      withExtendedLifetime(lock) {}
    }
  }
}
