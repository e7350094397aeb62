// Where results go and what the exit code says of them: full disks, closed pipes, pages, and options that are checked.
import Archive
import Corpus
import Foundation
import Models
import Runs
import StrictJSON
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.enabled(if: Program.isBuilt, "the program was not built beside the tests"))
struct CommandOutputTests {
  /// The exit code of the program with these streams.
  private func code(_ arguments: [String], out: FileHandle, error: FileHandle) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(Program.path))
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = out
    process.standardError = error
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }
  private func write(_ text: String, to path: String) throws {
    try text.write(toFile: path, atomically: true, encoding: .utf8)
  }

  /// Every command that prints a result notices that nobody got it, as text and as JSON.
  @Test(.enabled(if: FileManager.default.isWritableFile(atPath: "/dev/full"), "no device that is always full"))
  func aFullDiskIsNoSuccess() throws {
    try withTemporaryDirectory { folder in
      let (model, text) = (folder + "/model.h5", folder + "/text.txt")
      try write("A cat sat on a mat.\n\nThe sun was warm that day.\n", to: text)
      let tokenizer = try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2"))
      let configuration = TransformerConfiguration(
        architecture: "llama", vocabularySize: tokenizer.vocabularySize, hiddenSize: 16, intermediateSize: 24,
        layers: 1, heads: 2, keyHeads: 1, contextLength: 32, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
      let network = try ModelCatalog.initialize(
        configuration, random: RandomStream(seed: 1), on: CPUBackend(threads: 1))
      try ModelFile.save(
        LoadedModel(transformer: network, tokenizer: tokenizer, path: "model"), to: model, type: .float32)
      let commands = [
        ["data", "stats", text], ["data", "check", text], ["data", "show", text], ["inspect", model],
        ["verify", model], ["eval", model, "--probe", "p=" + text],
        ["generate", model, "--prompt", "A cat", "--max-tokens", "1"],
        ["export", model, "--to", folder + "/exported.h5", "--force"],
        ["merge", model, model, "--to", folder + "/merged.h5", "--force"],
        ["tokenizer", "train", "--vocab-size", "260", "--out", folder + "/tokenizer", text],
      ]
      for command in commands {
        for arguments in [command, command + ["--json"]] {
          let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
          let code = try code(arguments, out: full, error: .nullDevice)
          #expect(code == ExitCode.inputOutput, "\(arguments.prefix(2)) gave \(code)")
        }
        #expect(try code(command, out: .nullDevice, error: .nullDevice) == ExitCode.done, "\(command.prefix(2))")
      }
    }
  }

  /// A note that nobody reads stops nothing.
  @Test func aClosedErrorStreamIsNoCrash() throws {
    try withTemporaryDirectory { folder in
      try write("abc\n", to: folder + "/text.txt")
      let pipe = Pipe()
      try pipe.fileHandleForReading.close()
      let code = try code(
        ["tokenizer", "train", "--vocab-size", "1000", "--out", folder + "/tokenizer", folder + "/text.txt"],
        out: .nullDevice, error: pipe.fileHandleForWriting)
      #expect(code == ExitCode.done)
      #expect(FileManager.default.fileExists(atPath: folder + "/tokenizer/tokenizer.json"))
    }
  }

  @Test func comparisonsBecomePages() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(
        in: folder, methods: "[ { l2sp: { lambda: 0.1 } } ]", compare: "{ naive: [] }")
      try #require(try experiment.run(["training.max_steps=2"]) == ExitCode.done)
      let (run, page) = (experiment.output, folder + "/page.html")
      let several = try Program.run("compare", run, run + "/naive", "--html", page)
      #expect(several.code == 0 && several.out.hasPrefix("# Comparison of 2 runs"), "\(several.error)")
      let text = try String(contentsOfFile: page, encoding: .utf8)
      #expect(text.hasPrefix("<!DOCTYPE html>") && text.contains("naive against run"))
      let one = try Program.run("compare", run, "--html", page, "--json")
      #expect(one.json?["variants"]?.members?.count == 2)
      #expect(try String(contentsOfFile: page, encoding: .utf8).contains("The same chain under other methods"))
      #expect(try Program.run("compare", run, run + "/naive", "--html", folder + "/none/page.html").code == 73)
      for arguments in [[folder + "/typo"], [run, folder + "/typo"]] {
        let missing =
          arguments.count == 1
          ? try Program.run("compare", arguments[0]) : try Program.run("compare", arguments[0], arguments[1])
        #expect(missing.code == 66 && missing.error.contains("typo: no such run"), "\(missing.error)")
      }
      #expect(try Program.run("compare", run + "/naive").code == 64)
    }
  }

  /// The head of a run names the numbers of every stage, fp32 where the processor has no other.
  @Test func theHeadNamesTheNumbers() throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(in: folder, methods: "[]")
      let wanted = CPUBackend.supportsBF16 ? "fp32 and bf16" : "fp32"
      for (override, precision) in [
        ("training.precision=fp32", "fp32"), ("stages.legal.training.precision=bf16", wanted),
      ] {
        let outcome = try Program.run("run", experiment.file, override, "training.max_steps=1", "--fresh")
        let line = outcome.out.split(separator: "\n").first { $0.hasPrefix("machine") }
        #expect(line?.hasSuffix(", " + precision) == true, "\(outcome.out) \(outcome.error)")
      }
    }
  }

  @Test func aProbeThatIsNotThereIsAMissingInput() throws {
    try withTemporaryDirectory { folder in
      let (good, bad) = (folder + "/good.jsonl", folder + "/bad.jsonl")
      try write("{\"text\": \"one two three\"}\n", to: good)
      try write("{\"text\": \"\"}\n", to: bad)
      let probe = "p=\(folder)/missing.txt"
      for file in [good, bad] {
        let outcome = try Program.run("data", "check", file, "--probe", probe)
        #expect(outcome.code == 66 && outcome.error.contains("missing.txt"), "\(outcome.error)")
      }
      #expect(try Program.run("data", "check", bad).code == 65)
      #expect(try Program.run("data", "check", good).code == 0)
    }
  }

  @Test func optionValuesAreChecked() throws {
    for (method, setting, words) in [
      ("replay", "ratio=1", "1 is out of range"), ("ewc", "lambda=abc", "found 'abc'"),
      ("replay", "selection=foo", "unknown value 'foo'"), ("ewc", "lamda=1", "did you mean 'lambda'?"),
      ("nothing", "x=1", "there is no method nothing"),
    ] {
      let outcome = try Program.run("bench", "method", "--method", method, "--set", setting)
      #expect(outcome.code == 64 && outcome.out.isEmpty && outcome.error.contains(words), "\(outcome.error)")
    }
    try withTemporaryDirectory { folder in
      try write("abc\n", to: folder + "/text.txt")
      let outcome = try Program.run(
        "tokenizer", "train", "--vocab-size", "100", "--out", folder + "/out", folder + "/text.txt")
      #expect(outcome.code == 64 && outcome.error.contains("a vocabulary of 100 is impossible"), "\(outcome.error)")
    }
  }
}
