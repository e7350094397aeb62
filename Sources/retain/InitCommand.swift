// `retain init`: a commented experiment file to begin from.
import Archive
import ArgumentParser
import Experiment
import Foundation
import Runs

struct InitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Write a commented experiment file.",
    discussion: """
      Examples:
        retain init clinic-court.yaml
        retain init -                    prints it instead

      The experiment is named after the file. Edit it, then: retain validate FILE, retain run FILE.
      """)

  @Argument(help: "The file to write; - for standard output.")
  var file: String
  @Flag(help: "Replace a file that is there.")
  var force = false

  func run() throws {
    let stem = ((file as NSString).lastPathComponent as NSString).deletingPathExtension
    let text = file == "-" ? ExperimentFile.template() : ExperimentFile.template(name: stem)
    if file == "-" { return Terminal.raw(text) }
    guard force || !FileManager.default.fileExists(atPath: file) else {
      throw RunError(
        Runs.ExitCode.cannotCreate, "\(file): there is a file already",
        hint: "choose another name, or --force")
    }
    try AtomicFile.write(text, to: file)
    Terminal.out(Terminal.plain("wrote \(file); edit it, then: retain validate \(file)"))
  }
}
