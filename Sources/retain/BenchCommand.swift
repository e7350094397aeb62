// `retain bench`: throughput that can be held against another engine's, with the peak of the same minute.
import ArgumentParser
import Foundation
import Runs
import StrictJSON
import TensorCPU

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure throughput on a named model shape with random weights.",
    discussion: """
      train: a full AdamW step. ewc: the same with the penalty of consolidated pasts, in turn with plain steps.
      method: a step with any method of the catalog, in turn with plain steps (--method, --set key=value).
      fisher: the exact diagonal, per sequence or position. gemm, attention, head, optimizer: the parts. checkpoint, tokenize:
      what surrounds training.
      """)

  enum Task: String, ExpressibleByArgument, CaseIterable {
    case train, ewc, method, fisher, gemm, attention, head, optimizer, checkpoint, tokenize
  }

  @Argument(help: "What to measure.")
  var task: Task
  @Option(help: "Shape of the model.")
  var model = BenchShape.stories15m
  @Option(help: ArgumentHelp("Sequences a step.", valueName: "n"))
  var batch = 8
  @Option(help: ArgumentHelp("Tokens a sequence.", valueName: "n"))
  var seq = 256
  @OptionGroup var inputs: BenchInputs
  @Option(help: ArgumentHelp("The method of task method.", valueName: "name"))
  var method: String?
  @Option(
    help: ArgumentHelp("An option of it, such as fisher.structure=kronecker; may be repeated.", valueName: "key=value"))
  var set: [String] = []
  @OptionGroup var precision: PrecisionOption
  @OptionGroup var threads: ThreadOption
  @Option(help: ArgumentHelp("Measured steps, after two that are not; the median counts.", valueName: "n"))
  var steps = 5
  @Flag(help: "Compute blocks again on the way back instead of keeping them (train, ewc, method and fisher).")
  var gradientCheckpointing = false
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard (task == .method) == (method != nil), set.isEmpty || method != nil else {
      throw usage("--method and --set belong to task method, which needs a --method")
    }
    let benched = try method.map { try BenchedMethod($0, set) }
    if gradientCheckpointing, ![.train, .ewc, .method, .fisher].contains(task) {
      throw usage("--gradient-checkpointing has no effect on \(task.rawValue)")
    }
    for (name, value, most) in [("batch", batch, 65_536), ("seq", seq, 65_536), ("steps", steps, 100_000)]
    where !(1...most).contains(value) { throw usage("--\(name) \(value) is not between 1 and \(most)") }
    if let core = BLASCore.wanted {
      Say.note(
        "OPENBLAS_CORETYPE=\(core) is set, so OpenBLAS does not choose for this CPU; unset it"
      )
    }
    let backend = try threads.backend()
    try precision.apply(to: backend)
    let bench = try inputs.bench(
      task, model, batch: batch, length: seq, steps: steps, recomputes: gradientCheckpointing, backend: backend)
    let before = MachinePeak.gigaflops(threads: backend.threads)
    let result = try benched.map { try bench.method($0) } ?? bench.measure(task)
    // The better of two readings: another process may have been in the way of one.
    let peak = max(before, MachinePeak.gigaflops(threads: backend.threads))
    let members = report(result, bench: bench, peak: peak)
    guard json else {
      for member in members where !member.value.isNull {
        Terminal.out("\(member.key): \(member.value.string ?? member.value.compact)")
      }
      return
    }
    Say.json(.object(members))
  }

  private static func lastPart(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  private func report(_ result: BenchResult, bench: Bench, peak: Double) -> [JSON.Member] {
    let gigaflops = result.operations.map { $0 / result.seconds / 1e9 }
    func rounded(_ value: Double?, _ digits: Int) -> JSON {
      JSON(value.map { Double(Show.fixed($0, digits)) ?? $0 })
    }
    return [
      .init("task", .string(task.rawValue)),
      .init("model", .string(inputs.weights.map(Self.lastPart) ?? model.rawValue)),
      .init("parameters", .integer(bench.parameters)), .init("batch", .integer(batch)),
      .init("seq", .integer(seq)),
      .init("precision", .string(precision.precision.rawValue)),
      .init("gradient_checkpointing", .bool(gradientCheckpointing)),
      .init("threads", .integer(bench.backend.threads)),
      .init("steps", .integer(steps)), .init("seconds_per_step", rounded(result.seconds, 6)),
      .init("tokens_per_second", rounded(result.tokens.map { Double($0) / result.seconds }, 1)),
      .init("peak_rss_mb", .integer(Machine.peakBytes >> 20)), .init("gflops", rounded(gigaflops, 2)),
      .init("peak_gflops", rounded(peak, 2)), .init("mfu", rounded(gigaflops.map { $0 / peak }, 4)),
      .init("blas_core", .string(BLASCore.name)), .init("onednn", JSON(CPUBackend.oneDNNVersion)),
      .init("loss", rounded(result.loss, 4)),
    ] + result.details
  }
}

/// What a task found.
struct BenchResult {
  /// Median of a step.
  var seconds: Double
  /// Input tokens a step; nil where there are none.
  var tokens: Int?
  /// Floating-point operations a step, by the formula of the documentation; nil where they are not the point.
  var operations: Double?
  var loss: Double?
  var details: [JSON.Member] = []
}
