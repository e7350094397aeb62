// The built program from outside: exit codes, JSON that parses, no escape codes off a terminal.
// Skipped where the program was not built beside the tests.
import Foundation
import StrictJSON
import TestKit
import Testing

/// The program and one way of starting it.
enum Program {
  /// `retain` beside the test bundle.
  static let path: String? = {
    let folder = ((CommandLine.arguments.first ?? "") as NSString).deletingLastPathComponent
    return [folder + "/retain", (folder as NSString).deletingLastPathComponent + "/retain"]
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }()
  static var isBuilt: Bool { path != nil }

  struct Outcome {
    let code: Int32
    let out: String
    let error: String
    var json: JSON? { try? JSON.parse(Array(out.utf8)) }
  }

  static func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Outcome {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(path))
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    // Files rather than pipes: whatever is written fits.
    return try withTemporaryDirectory { folder in
      let streams = try ["out", "error"].map { name in
        let file = folder + "/" + name
        try Data().write(to: URL(fileURLWithPath: file))
        return try #require(FileHandle(forWritingAtPath: file))
      }
      process.standardOutput = streams[0]
      process.standardError = streams[1]
      process.standardInput = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      func text(_ name: String) throws -> String {
        try String(contentsOfFile: folder + "/" + name, encoding: .utf8)
      }
      return Outcome(code: process.terminationStatus, out: try text("out"), error: try text("error"))
    }
  }
}

@Suite(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
struct CommandTests {
  @Test func versionAndHelpEndWell() throws {
    let version = try Program.run("--version")
    #expect(version.code == 0)
    #expect(version.out.split(separator: ".").count == 3)
    for verb in ["demo", "init", "validate", "run", "report", "compare", "doctor", "list", "explain"] {
      let help = try Program.run(verb, "--help")
      #expect(help.code == 0 && help.out.contains("Examples:"), "\(verb)")
    }
  }

  @Test(arguments: [
    ["frobnicate"], ["run"], ["list", "nothing"], ["explain", "no_such_key"], ["validate", "x", "--what"],
  ])
  func usageErrorsAre64(_ arguments: [String]) throws {
    let outcome =
      arguments.count == 1
      ? try Program.run(arguments[0])
      : arguments.count == 2
        ? try Program.run(arguments[0], arguments[1]) : try Program.run("validate", "x", "--what")
    #expect(outcome.code == 64)
    #expect(outcome.out.isEmpty && !outcome.error.isEmpty)
  }

  @Test(arguments: ["methods", "models", "probes", "merges", "tasks"])
  func listsAreJSON(_ list: String) throws {
    let outcome = try Program.run("list", list, "--json")
    #expect(outcome.code == 0)
    let json = try #require(outcome.json)
    #expect(json["schema"]?.int == 1)
    let names = (json[list]?.array ?? []).compactMap { $0["name"]?.string }
    #expect(!names.isEmpty && Set(names).count == names.count)
  }

  @Test func explainsKeysAndCodes() throws {
    #expect(try Program.run("explain", "75").out.contains("resumable"))
    let json = try #require(try Program.run("explain", "training.learning_rate", "--json").json)
    #expect(json["text"]?.string?.isEmpty == false)
    #expect(try Program.run("explain", "lerning_rate").error.contains("training.learning_rate"))
  }

  @Test func initWritesAFileThatValidateReads() throws {
    try withTemporaryDirectory { folder in
      let file = folder + "/clinic.yaml"
      #expect(try Program.run("init", file).code == 0)
      #expect(try Program.run("init", file).code == 73)
      #expect(try Program.run("init", file, "--force").code == 0)
      // The template's inputs do not exist: missing files only, all of them named.
      let check = try Program.run("validate", file, "--json")
      #expect(check.code == 66)
      #expect(check.json?["valid"]?.bool == false)
      #expect((check.json?["errors"]?.array?.count ?? 0) > 3)
      #expect(check.error.contains("errors. Nothing was trained."))
    }
  }

  @Test func mistakesInTheExperimentAre78() throws {
    try withTemporaryDirectory { folder in
      let file = folder + "/bad.yaml"
      try "schema: 1\nnmae: x\ntraining: { leraning_rate: 1 }\n".write(
        toFile: file, atomically: true, encoding: .utf8)
      let outcome = try Program.run("run", file)
      #expect(outcome.code == 78)
      #expect(outcome.error.contains("bad.yaml:3:13: error:") && outcome.error.contains("did you mean"))
      #expect(!outcome.error.contains("\u{1B}"))
      let coloured = try Program.run(
        "explain", "no_such_key", environment: ["CLICOLOR_FORCE": "1", "NO_COLOR": ""])
      #expect(coloured.error.contains("\u{1B}["))
      #expect(
        !(try Program.run("explain", "no_such_key", environment: ["CLICOLOR_FORCE": "1", "NO_COLOR": "1"]).error
          .contains("\u{1B}")))
      #expect(try Program.run("run", folder + "/none.yaml").code == 66)
      #expect(try Program.run("report", folder).code == 66)
      #expect(try Program.run("compare", folder).code == 64)
      #expect(try Program.run("demo", environment: ["RETAIN_HOME": folder]).code == 66)
    }
  }

  @Test func doctorGivesAVerdictPerLine() throws {
    let outcome = try Program.run("doctor", "--json")
    let checks = try #require(outcome.json?["checks"]?.array)
    #expect(checks.count >= 8)
    #expect(checks.allSatisfy { ["ok", "warning", "broken"].contains($0["verdict"]?.string ?? "") })
    #expect(outcome.code == 0 || outcome.json?["healthy"]?.bool == false)
    let overridden = try Program.run("doctor", "--json", environment: ["OPENBLAS_CORETYPE": "Haswell"])
    let blas = overridden.json?["checks"]?.array?.first { $0["name"]?.string == "blas" }
    #expect(blas?["verdict"]?.string == "warning")
  }

  /// A chain of a tiny model from the first line to the report, refused and repeated.
  @Test(.enabled(if: SharedData.path("models/stories260k") != nil, "no shared models"))
  func aRunFromForecastToReport() throws {
    let model = try #require(SharedData.path("models/stories260k"))
    try withTemporaryDirectory { folder in
      let rows = (0..<24).map {
        "{\"text\": \"The nurse number \($0) gave a small dose to the old man in bed \($0 * 7).\"}\n"
      }
      try rows.joined().write(toFile: folder + "/train.jsonl", atomically: true, encoding: .utf8)
      try "A cat sat on a mat.\n\nThe sun was warm.\n".write(
        toFile: folder + "/probe.txt", atomically: true, encoding: .utf8)
      let file = folder + "/exp.yaml"
      try """
      schema: 1
      name: tiny
      base_model: \(model)
      output_dir: run
      threads: 1
      training: { sequence_len: 64, micro_batch_size: 2, max_steps: 3, learning_rate: 1e-3 }
      methods: [ l2sp: { lambda: 0.1 } ]
      compare: { naive: [] }
      stages: [ { name: ward, datasets: [ { path: train.jsonl } ] } ]
      probes: [ { name: general, path: probe.txt } ]
      logging: { logging_steps: 1 }
      """.write(toFile: file, atomically: true, encoding: .utf8)

      let check = try Program.run("validate", file, "--json")
      #expect(check.code == 0 && check.json?["valid"]?.bool == true)
      let forecast = try Program.run("run", file, "--dry-run", "--json")
      #expect(forecast.code == 0)
      #expect(forecast.json?["variants"]?[0]?["stages"]?[0]?["steps"]?.int == 3)
      #expect((forecast.json?["memory_bytes"]?.int ?? 0) > 1 << 20)
      let twice = try Program.run("run", file, "seeds=[3, 4]", "--dry-run", "--json")
      #expect(twice.json?["seeds"]?.int == 2)
      // One checkpoint stands beside the others while it is written, whatever the number of seeds.
      let disk = [forecast, twice].compactMap { $0.json?["disk_bytes"]?.int }
      #expect(disk.count == 2 && disk[1] > disk[0] + disk[0] / 2 && disk[1] < 2 * disk[0])
      #expect(!FileManager.default.fileExists(atPath: folder + "/run"))

      let run = try Program.run("run", file)
      #expect(run.code == 0, "\(run.error)")
      #expect(!run.out.contains("\u{1B}"))
      // One line a step and variant, with a time before it.
      #expect(run.out.split(separator: "\n").filter { $0.contains(" step ") && $0.hasPrefix("2") }.count == 6)
      #expect(try Program.run("run", file).out.contains("already complete"))
      #expect(try Program.run("run", file, "seed=4").code == 78)
      let fresh = try Program.run("run", file, "seed=4", "--fresh", "--json")
      #expect(fresh.code == 0 && fresh.json?["seed"]?.int == 4)
      #expect(try Program.run("report", folder + "/run").code == 0)
      #expect(try Program.run("compare", folder + "/run").out.contains("naive"))
      let both = try Program.run("compare", folder + "/run", folder + "/run/naive", "--json")
      #expect(both.json?["runs"]?.array?.count == 2)
    }
  }
}
