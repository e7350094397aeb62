import Runs
import Experiment
import Corpus
import Foundation
final class P: RunObserver {
  func message(_ t: String) { print(t) }
  func warning(_ t: String) { print("warning: \(t)") }
  func progress(_ s: StepProgress) { if s.isLogged { print("\(s.variant) \(s.stage) \(s.step)/\(s.steps) loss \(s.loss) pen \(s.penalty) \(Int(s.tokensPerSecond)) tok/s left \(Int(s.secondsLeft))s") } }
  func activity(_ t: String) { print("  \(t)") }
}

StopSignal.install()
do {
  if CommandLine.arguments[1] == "tok" {
    let rows = try DataReader.read(paths: Array(CommandLine.arguments.dropFirst(3)), shape: .text)
    let made = try TokenizerTrainer.byteLevelBPE(vocabularySize: 4096, specialTokens: ["<|endoftext|>"], documents: rows.map(\.sample.plainText))
    let out = CommandLine.arguments[2]
    try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
    try Data(made.json).write(to: URL(fileURLWithPath: out + "/tokenizer.json"))
    try Data(made.configuration).write(to: URL(fileURLWithPath: out + "/tokenizer_config.json"))
  } else {
  let plan = try ExperimentPlan.load(CommandLine.arguments[1])
  let code = try ExperimentRun(plan, observer: P()).execute(fresh: false)
  print("exit", code)
  exit(code)
  }
} catch { print("error:", error); exit(ExitCode.of(error)) }
