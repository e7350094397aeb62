// What `run` and `demo` share: the head of a run, the run itself, and what is shown when it has ended.
import ArgumentParser
import Experiment
import Foundation
import Glibc
import Ledger
import Reports
import Runs
import TensorCPU
import TensorCore

struct RunSession {
  let plan: ExperimentPlan
  let warnings: [Issue]
  var isQuiet = false

  /// Runs to the end or to an interruption.
  ///
  /// - Returns: the exit code
  func execute(fresh: Bool) throws -> Int32 {
    StopSignal.install()
    for issue in warnings { Terminal.warning(issue.description) }
    for text in Self.environmentWarnings(plan) { Terminal.warning(text) }
    if !isQuiet { Terminal.out(head) }
    let progress = Progress(quiet: isQuiet)
    defer { progress.clear() }
    return try ExperimentRun(plan, observer: progress).execute(fresh: fresh)
  }

  /// The first lines: program, chain, guards, machine.
  private var head: String {
    let threads = plan.threads ?? CPUBackend.availableProcessors
    var lines = [
      "chain   " + plan.stages.map(\.name).joined(separator: " → "),
      "guard   " + Self.describe(plan.methods),
    ]
    if !plan.compare.isEmpty { lines.append("against " + plan.compare.map(\.name).joined(separator: ", ")) }
    lines += [
      "machine \(threads) thread\(threads == 1 ? "" : "s"), OpenBLAS core \(BLASCore.name), \(precision)",
      "output  \(plan.outputDirectory)",
    ]
    return Style.bold.paint("retain \(Machine.version)")
      + Terminal.plain(" · \(plan.name) · \(plan.file)\n" + lines.joined(separator: "\n"))
  }

  /// Of the products in training; where the processor has no bf16, fp32 stands in for it.
  private var precision: String {
    var used: [Precision] = []
    for stage in plan.stages {
      let one = CPUBackend.supportsBF16 ? stage.training.precision : .fp32
      if !used.contains(one) { used.append(one) }
    }
    return used.map(\.rawValue).joined(separator: " and ")
  }

  /// A stack of methods with the options that matter most.
  static func describe(_ methods: [MethodPlan]) -> String {
    guard !methods.isEmpty else { return "none (naive fine-tuning)" }
    return methods.map { method in
      let options = ["lambda", "variant", "ratio", "budget_tokens"].compactMap { key -> String? in
        guard let value = method[key] else { return nil }
        switch value {
        case .number(let number): return "\(key) \(Figures.setting(number))"
        case .integer(let number): return "\(key) \(Figures.count(number))"
        case .word(let word): return key == "variant" ? word : "\(key) \(word)"
        }
      }
      return options.isEmpty ? method.name : "\(method.name) (\(options.joined(separator: ", ")))"
    }.joined(separator: " + ")
  }

  /// What makes a run slower or different for reasons outside the experiment file.
  static func environmentWarnings(_ plan: ExperimentPlan) -> [String] {
    var warnings: [String] = []
    if let core = BLASCore.wanted {
      warnings.append(
        "OPENBLAS_CORETYPE=\(core) is set: OpenBLAS does not choose its kernels by this processor, speed and the last "
          + "bits of results differ; unset it unless that is what you want")
    }
    let processors = CPUBackend.availableProcessors
    if let threads = plan.threads, threads > processors {
      warnings.append(
        "threads: \(threads), but there are \(processors) processors; results are the same, only slower")
    }
    return warnings
  }

  /// Tables and paths of a run that has ended.
  func close() throws {
    let folder = plan.outputDirectory
    let results = try RunResults.read(folder + "/results.json")
    let width = Terminal.width
    Terminal.out("\n" + Style.bold.paint("Retention of \(plan.mainVariantName)"))
    Terminal.out(Report.retentionTable(results, width: width))
    if let comparison = try comparison {
      Terminal.out(Style.bold.paint("Comparison"))
      Terminal.out(Report.comparisonTable(comparison, runDirectory: folder, width: width))
    }
    var paths = [("report", "report.html"), ("results", "results.json")]
    if let final = results.final { paths.append(("model", final.checkpoint)) }
    for (name, file) in paths {
      Terminal.out(Terminal.plain(name + String(repeating: " ", count: 9 - name.count) + "\(folder)/\(file)"))
    }
  }

  var comparison: Comparison? {
    get throws {
      let path = plan.outputDirectory + "/comparison.json"
      return plan.compare.isEmpty || !FileManager.default.fileExists(atPath: path)
        ? nil : try Comparison.read(path)
    }
  }
}
