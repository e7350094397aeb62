// The door: one program, its verbs in the order of the manual, and what happens to every failure.
import ArgumentParser
import Glibc
import Runs
import TensorCPU

@main struct Retain: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retain",
    abstract: "Fine-tune a language model stage after stage, and keep what it already knew.",
    discussion: """
      retain demo                       the whole story on embedded data
      retain init experiment.yaml       a commented experiment file
      retain validate experiment.yaml   every mistake at once, trains nothing
      retain run experiment.yaml        runs the chain; again after any stop
      retain explain exit-codes         what exit codes mean

      No network, no account, no telemetry.
      """,
    version: Machine.version, subcommands: subcommands)

  /// In the order of the manual.
  static let subcommands: [any ParsableCommand.Type] = [
    DemoCommand.self,
    InitCommand.self,
    ValidateCommand.self,
    RunCommand.self,
    TuneCommand.self,
    EvalCommand.self,
    ReportCommand.self,
    CompareCommand.self,
    DataCommand.self,
    InspectCommand.self,
    VerifyCommand.self,
    ExportCommand.self,
    MergeCommand.self,
    GenerateCommand.self,
    TokenizerCommand.self,
    DoctorCommand.self,
    BenchCommand.self,
    ListCommand.self,
    ExplainCommand.self,
  ]

  static func main() {
    BLASCore.replaceOld(arguments: CommandLine.unsafeArgv)
    Terminal.prepare()
    var command: any ParsableCommand
    do { command = try parseAsRoot() } catch { exit(withError: error) }
    do { try command.run() } catch {
      // Help, version and plain codes are the parser's own; everything else is ours to say.
      if exitCode(for: error) != .failure || error is ArgumentParser.ExitCode { exit(withError: error) }
      Failure.say(error)
      Glibc.exit(Runs.ExitCode.of(error))
    }
    if let code = Terminal.outputFailure {
      Failure.say(RunError(Runs.ExitCode.inputOutput, "standard output: \(String(cString: strerror(code)))"))
      Glibc.exit(Runs.ExitCode.inputOutput)
    }
    Glibc.exit(Runs.ExitCode.done)
  }
}
