// `retain explain`: the manual by key, method or exit code.
import ArgumentParser
import Experiment
import Runs
import StrictJSON

struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain", abstract: "Explain a key of the experiment file, a method or an exit code.",
    discussion: """
      Examples:
        retain explain training.learning_rate
        retain explain ewc
        retain explain 75
        retain explain exit-codes
        retain explain                   lists all keys
      """)

  @Argument(help: "Key, method, exit code or `exit-codes`.", completion: .list(Manual.keys))
  var key: String?
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard let key else {
      if json {
        Terminal.out(["schema": 1, "keys": .array(Manual.keys.map { .string($0) })])
      } else {
        Terminal.out(Manual.keys.joined(separator: "\n"))
      }
      return
    }
    guard let text = Manual.explain(key) else {
      let hint = Manual.suggestion(for: key).map { "did you mean \($0)?" } ?? "retain explain lists all keys"
      throw RunError(Runs.ExitCode.usage, "the manual has nothing under '\(key)'", hint: hint)
    }
    if json {
      Terminal.out(["schema": 1, "key": .string(key), "text": .string(text)])
    } else {
      Terminal.out(text)
    }
  }
}
