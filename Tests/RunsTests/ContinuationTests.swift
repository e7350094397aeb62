// What a second call finds: an attempt that never began, another plan, a folder that somebody else holds, other inputs.
import Archive
import Experiment
import Foundation
import Glibc
import Ledger
import Runs
import TestKit
import Testing
import Tuning

@Suite struct ContinuationTests {
  private let manager = FileManager.default

  private func code(_ body: () throws -> Int32) -> (code: Int32, text: String) {
    do { return (try body(), "") } catch { return (ExitCode.of(error), "\(error)") }
  }

  /// One more row at the end of a file.
  private func extend(_ path: String) throws {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try (text + #"{"text": "the wind was old."}"# + "\n").write(toFile: path, atomically: true, encoding: .utf8)
  }

  @Test func anAttemptThatNeverBeganBindsNobody() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      let data = folder + "/data/"
      try manager.removeItem(atPath: data + "medical-test.jsonl")
      try manager.copyItem(atPath: data + "medical-train.jsonl", toPath: data + "medical-test.jsonl")
      let leak = code { try experiment.run(["data_checks.probe_overlap.action=error"]) }
      #expect(leak.code == ExitCode.badData)
      // What the hint asks for, and another number beside it.
      #expect(try experiment.run(["training.learning_rate=5e-3"]) == ExitCode.done)
      let later = code { try experiment.run(["training.learning_rate=1e-2"]) }
      #expect(later.code == ExitCode.configuration && later.text.contains("learning_rate"))
    }
  }

  /// As an interrupted --fresh may leave it: checkpoints without the plan beside them.
  @Test func theCheckpointKnowsItsPlan() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run(["time_limit=0.000001s"])
      try manager.removeItem(atPath: experiment.output + "/plan.yaml")
      let other = code { try experiment.run(["methods.ewc.lambda=7"]) }
      #expect(other.code == ExitCode.configuration && other.text.contains("lambda: 5.0 became 7.0"), "\(other)")
      #expect(try experiment.run(["threads=1"]) == ExitCode.done)
    }
  }

  @Test func thePlanNamesWhatItLearnedFrom() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ naive: [] }")
      try experiment.run()
      for place in ["", "/naive"] {
        let text = try String(contentsOfFile: experiment.output + place + "/plan.yaml", encoding: .utf8)
        let head = text.split(separator: "\n").prefix { $0.hasPrefix("#") }
        for what in ["retain ", "parameters: ", "base_data: ", "stage medical: ", "stage legal: ", "probe general: "] {
          #expect(head.contains { $0.contains(what) }, "\(what)")
        }
        #expect(head.count { $0.contains("SHA-256") } == 7)
      }
    }
  }

  @Test(arguments: ["medical-test", "general-test"]) func aProbeMustStayTheSame(_ name: String) throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run(["time_limit=0.000001s"])
      try extend("\(folder)/data/\(name).jsonl")
      let changed = code { try experiment.run() }
      #expect(changed.code == ExitCode.configuration, "\(changed)")
      #expect(changed.text.contains("probe " + name.split(separator: "-")[0]), "\(changed)")
    }
  }

  /// The weights alone do not say what they compute.
  @Test func theConfigurationMustStayTheSame() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, base: .trained)
      let model = folder + "/model"
      #expect(
        try Program.run("export", folder + "/base.h5", "--to", model).code == 0)
      try experiment.begin(from: model)
      try experiment.run(["time_limit=0.000001s"])
      let path = model + "/config.json"
      let text = try String(contentsOfFile: path, encoding: .utf8)
      let edited = text.replacing(#""rope_theta": 10000"#, with: #""rope_theta": 20000"#)
      try #require(edited != text)
      try edited.write(toFile: path, atomically: true, encoding: .utf8)
      let changed = code { try experiment.run() }
      #expect(changed.code == ExitCode.configuration && changed.text.contains("configuration"), "\(changed)")
    }
  }

  @Test func seedsShareWhatTheyLearnFrom() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      let yaml = try String(contentsOfFile: experiment.file, encoding: .utf8)
      try yaml.replacing("seed: 11", with: "seeds: [11, 12]").write(
        toFile: experiment.file, atomically: true, encoding: .utf8)
      try experiment.run()
      // The first seed's model, from where results.json lies.
      let results = try RunResults.read(experiment.output + "/results.json")
      let final = try #require(results.final)
      #expect(manager.fileExists(atPath: experiment.output + "/" + final.checkpoint))
      #expect(try ArchiveReader(path: experiment.output + "/" + final.checkpoint).metadata["seed"]?.string == "11")

      try manager.removeItem(atPath: experiment.output + "/seed-12")
      #expect(try experiment.run() == ExitCode.done)
      try manager.removeItem(atPath: experiment.output + "/seed-12")
      try extend(folder + "/data/legal-train.jsonl")
      let changed = code { try experiment.run() }
      #expect(changed.code == ExitCode.configuration && changed.text.contains("stage legal"), "\(changed)")
    }
  }

  @Test func trialsShareWhatTheyLearnFrom() throws {
    try withTemporaryDirectory { folder in
      let tiny = try TinySearch(folder)
      _ = try tiny.search(["tune.sampler=grid", "tune.trials=2"])
      _ = try tiny.search(["tune.sampler=grid", "tune.trials=2"])
      try extend(folder + "/train.jsonl")
      let changed = code {
        _ = try tiny.search(["tune.sampler=grid", "tune.trials=3"])
        return ExitCode.done
      }
      #expect(changed.code == ExitCode.configuration && changed.text.contains("stage domain"), "\(changed)")
    }
  }

  @Test func aVariantsFolderIsHeldToo() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ naive: [] }")
      try manager.createDirectory(atPath: experiment.output + "/naive", withIntermediateDirectories: true)
      let lock = try DirectoryLock(directory: experiment.output + "/naive")
      let held = code { try experiment.run() }
      #expect(held.code == ExitCode.resumable && held.text.contains("another run holds"), "\(held)")
      withExtendedLifetime(lock) {}
    }
  }

  @Test func aDamagedEndOfAFinishedVariantHoldsNobodyUp() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ naive: [] }")
      try experiment.run()
      try manager.removeItem(atPath: experiment.output + "/naive/results.json")
      let end = URL(fileURLWithPath: experiment.output + "/checkpoints/legal-end.h5")
      try Data(Data(contentsOf: end).prefix(200)).write(to: end)
      let recorder = Recorder()
      #expect(try experiment.run(observer: recorder) == ExitCode.done)
      #expect(recorder.warnings.contains { $0.contains("legal-end.h5") })
    }
  }

  /// Mistakes of later stages and of other variants end a run before the first step.
  @Test(arguments: [
    ("stages.legal.training.freeze=[\"no.such.*\"]", "stage legal"),
    ("compare.other=[ { self_rehearsal: { prompt_tokens: 64, text_tokens: 128 } } ]", "prompt_tokens"),
    ("compare.other=[ { ewc: { fisher: { labels: expected } } } ]", "expected"),
    ("evaluate.window=65", "window"),
  ])
  func mistakesAreFoundBeforeTraining(_ override: String, _ word: String) throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ other: [] }")
      let refused = code { try experiment.run([override]) }
      #expect(refused.code == ExitCode.configuration && refused.text.contains(word), "\(refused)")
      #expect(!manager.fileExists(atPath: experiment.output + "/checkpoints/base.h5"))
      let check = ExperimentCheck(try experiment.plan([override]))
      #expect(check.exitCode == ExitCode.configuration)
      #expect(check.errors.contains { "\($0)".contains(word) }, "\(check.errors)")
    }
  }

  /// A checkpoint whose sums hold and whose numbers no run would have written.
  private func spoil(
    _ path: String, _ prefix: String, _ suffix: String, _ change: (UnsafeMutableRawBufferPointer) -> Void
  ) throws {
    let archive = try ArchiveReader(path: path)
    var writer = ArchiveWriter()
    var isSpoilt = false
    for entry in archive.entries {
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: entry.byteCount, alignment: 16)
      defer { bytes.deallocate() }
      try archive.read(entry.path, into: bytes)
      if !isSpoilt, entry.path.hasPrefix(prefix), entry.path.hasSuffix(suffix), entry.byteCount >= 4 {
        change(bytes)
        isSpoilt = true
      }
      writer.add(entry.path, type: entry.type, shape: entry.shape, bytes: UnsafeRawBufferPointer(bytes))
    }
    try #require(isSpoilt)
    let metadata = archive.metadata
    try manager.removeItem(atPath: path)
    try writer.write(to: path, metadata: metadata)
  }

  @Test(arguments: [("methods/ewc/fisher/", -1), ("methods/replay/", Float.nan), ("model/parameters/", Float.infinity)])
  func numbersThatNobodyWroteAreSetAside(_ prefix: String, _ number: Float) throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      var runs = 0
      let end = experiment.output + "/checkpoints/medical-end.h5"
      while !manager.fileExists(atPath: end) {
        try experiment.run(["time_limit=0.000001s"])
        runs += 1
        try #require(runs < 60)
      }
      // As an id this NaN is far above the vocabulary.
      try spoil(end, prefix, prefix.contains("replay") ? "tokens" : "") {
        $0.storeBytes(of: number.bitPattern, as: UInt32.self)
      }
      try ArchiveReader(path: end).verify()
      let recorder = Recorder()
      #expect(try experiment.run(observer: recorder) == ExitCode.done)
      #expect(recorder.warnings.contains { $0.contains("medical-end.h5") && $0.contains("set aside") })
    }
  }

  @Test(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
  func aMovedRunGoesOnWhereItLies() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder)
      try experiment.run(["time_limit=0.000001s"])
      let moved = folder + "/moved"
      try manager.moveItem(atPath: experiment.output, toPath: moved)
      let refused = try Program.run("run", moved + "/plan.yaml", "--quiet")
      #expect(refused.code == ExitCode.configuration && refused.error.contains("output_dir=\(moved)"), "\(refused)")
      #expect(!manager.fileExists(atPath: experiment.output))
      let resumed = try Program.run("run", moved + "/plan.yaml", "output_dir=\(moved)", "time_limit=1h")
      #expect(resumed.code == 0 && resumed.out.contains("resuming from"), "\(resumed)")
    }
  }

  /// A name that people give experiments, too.
  @Test(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
  func anExperimentMayBeCalledPlan() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      let file = folder + "/plan.yaml"
      let yaml = try String(contentsOfFile: experiment.file, encoding: .utf8)
      try yaml.replacing("output_dir: run\n", with: "").write(toFile: file, atomically: true, encoding: .utf8)
      for _ in 1...2 { #expect(try Program.run("run", file, "--quiet").code == 0) }
    }
  }

  @Test func aLinkedFolderIsHeldToItsPlan() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      try manager.createDirectory(atPath: folder + "/elsewhere", withIntermediateDirectories: true)
      try manager.createSymbolicLink(atPath: experiment.output, withDestinationPath: folder + "/elsewhere")
      try experiment.run()
      let other = code { try experiment.run(["training.learning_rate=5e-3"]) }
      #expect(other.code == ExitCode.configuration && other.text.contains("learning_rate"), "\(other)")
    }
  }

  @Test func roomIsLookedForBeforeTheFirstStep() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, compare: "{ naive: [] }")
      let plan = try experiment.plan()
      let assembly = try Assembly(plan, reuse: false)
      let naive = try #require(plan.variant("naive"))
      let estimates = [plan, naive].map { DiskEstimate($0, assembly: assembly) }
      let largest = try #require(estimates.map(\.largest).max())
      func attempt(_ free: Int) -> (code: Int32, warnings: [String]) {
        let recorder = Recorder()
        let run = ExperimentRun(plan, observer: recorder, freeDisk: { _ in free })
        return (code { try run.execute(fresh: false) }.code, recorder.warnings)
      }
      #expect(attempt(largest - 1).code == ExitCode.cannotCreate)
      #expect(!manager.fileExists(atPath: experiment.output + "/checkpoints/base.h5"))
      let tight = attempt(largest)
      #expect(tight.code == ExitCode.done && tight.warnings.contains { $0.contains("the disk has") })
      // What lies there does not have to be written again.
      try manager.removeItem(atPath: experiment.output + "/naive/results.json")
      let again = attempt(largest)
      #expect(again.code == ExitCode.done && !again.warnings.contains { $0.contains("the disk has") })

      // Headers and what lies between entries are all that the estimate leaves out.
      for (estimate, place) in zip(estimates, ["", "/naive"]) {
        let checkpoints = experiment.output + place + "/checkpoints"
        let files = try manager.contentsOfDirectory(atPath: checkpoints).filter { $0.hasSuffix(".h5") }
        #expect(files.count == estimate.checkpoints)
        let contents = try files.map { name in
          try ArchiveReader(path: checkpoints + "/" + name).entries.reduce(0) { $0 + $1.byteCount }
        }
        let most = try #require(contents.max())
        #expect((0.9...1.1).contains(Double(most) / Double(estimate.largest)), "\(contents) \(estimate)")
      }
    }
  }

  /// A file-size limit between the checkpoints of stage ends and the larger ones within stages stands for a full disk.
  @Test(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
  func aCheckpointWithoutRoomIsLeftOut() throws {
    try withTemporaryDirectory { folder in
      let roomy = try TinyExperiment(in: folder + "/roomy", methods: "[]")
      try roomy.run(["checkpoint.save_total_limit=9"])
      let checkpoints = roomy.output + "/checkpoints"
      let sizes = try manager.contentsOfDirectory(atPath: checkpoints).filter { $0.hasSuffix(".h5") }.map { name in
        (name, try #require(manager.attributesOfItem(atPath: checkpoints + "/" + name)[.size] as? Int))
      }
      let isWithin: ((String, Int)) -> Bool = { $0.0.contains("-0") }
      let within = try #require(sizes.filter(isWithin).map(\.1).min())
      let ends = try #require(sizes.filter { !isWithin($0) }.map(\.1).max())
      try #require(ends + 4096 < within)

      let tight = try TinyExperiment(in: folder + "/tight", methods: "[]")
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/bash")
      let program = try #require(Program.path)
      process.arguments = ["-c", "ulimit -f \((ends + within) / 2048); exec \(program) run \(tight.file)"]
      let errors = folder + "/errors"
      try Data().write(to: URL(fileURLWithPath: errors))
      process.standardOutput = FileHandle.nullDevice
      let handle: FileHandle = try #require(FileHandle(forWritingAtPath: errors))
      process.standardError = handle
      try process.run()
      process.waitUntilExit()
      let text = try String(contentsOfFile: errors, encoding: .utf8)
      #expect(process.terminationStatus == 0 && text.contains("training goes on"), "\(text)")
      #expect(try tight.results() == roomy.results())
      #expect(try tight.steps() == roomy.steps())
    }
  }

  /// nohup ignores hang-ups for the program that it starts.
  @Test func anIgnoredHangUpStaysIgnored() {
    let before = signal(SIGHUP, SIG_IGN)
    defer { signal(SIGHUP, before) }
    StopSignal.install()
    raise(SIGHUP)
    #expect(!StopSignal.stopRequested)
  }
}
