// `retain tune FILE`: the search of a method's strength on the command line.
// Prints a line per trial and the table at the end; everything else is the Tuner's.
import ArgumentParser
import Ledger
import Reports
import Runs
import StrictJSON
import Tuning

struct TuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune", abstract: "Find the strength of a method, or any other numeric key.",
    discussion: """
      Tries the values of the experiment's tune section: every one in a short run, the best few in full, \
      beside naive fine-tuning of the same length. Writes tune.json, tune.html, tune.md, tuned.yaml and \
      trials/ under output_dir. Stopped and run again, it continues.
      """)

  @Argument(help: "The experiment file.", completion: .file(extensions: ["yaml", "yml"]))
  var file: String

  @Argument(help: "Overrides, such as tune.trials=7 or training.learning_rate=1e-5.")
  var overrides: [String] = []

  @Flag(help: "Forget earlier trials and start over.")
  var fresh = false

  @Flag(help: "Print tune.json instead of the table.")
  var json = false

  func run() throws {
    StopSignal.install()
    let tuner = try Tuner(path: file, overrides: overrides, observer: TuneObserver())
    switch try tuner.execute(fresh: fresh) {
    case .finished(let results):
      if json {
        Terminal.out(results.json.pretty)
      } else {
        Terminal.out("\n" + TunePage.terminal(results))
        Terminal.out("page        \(tuner.directory)/tune.html")
        Terminal.out("experiment  \(tuner.directory)/tuned.yaml")
      }
    case .interrupted(let reason):
      TuneObserver.say("stopped (\(reason)); run the same command again to continue")
      throw ArgumentParser.ExitCode(Runs.ExitCode.resumable)
    }
  }
}

/// A line per message on standard error; steps and activities are too many for a search.
private final class TuneObserver: RunObserver {
  static func say(_ text: String) { Terminal.error(text) }
  func message(_ text: String) { Self.say(text) }
  func warning(_ text: String) { Self.say("warning: " + text) }
  func progress(_ step: StepProgress) {}
  func activity(_ text: String) {}
}
