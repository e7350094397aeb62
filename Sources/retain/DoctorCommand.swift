// `retain doctor`: a verdict and a remedy per line about the machine and the place one stands in.
import ArgumentParser
import Experiment
import Foundation
import Runs
import StrictJSON

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Check processor, libraries, memory, disk and file locking.",
    discussion: """
      Examples:
        retain doctor
        retain doctor experiment.yaml    also whether this experiment fits
        retain doctor --json

      Exit code 0 unless something is broken: 69 a library, 71 memory or disk.
      """)

  @Argument(
    help: "An experiment file whose needs are checked too.", completion: .file(extensions: ["yaml", "yml"]))
  var file: String?
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let plan = try file.map { try ExperimentPlan.load($0) }
    var findings = Checkup.machine(place: FileManager.default.currentDirectoryPath)
    if let plan { findings += try Checkup.experiment(plan) }
    let code = findings.compactMap(\.exitCode).first
    if json {
      Terminal.out([
        "schema": 1, "healthy": .bool(code == nil),
        "checks": .array(
          findings.map { finding in
            [
              "name": .string(finding.name), "verdict": .string(finding.verdict.rawValue),
              "text": .string(finding.text), "remedy": JSON(finding.remedy),
            ]
          }),
      ])
    } else {
      let width = findings.map(\.name.count).max() ?? 0
      for finding in findings {
        let style: Style = finding.verdict == .ok ? .green : finding.verdict == .warning ? .yellow : .red
        let word = finding.verdict.rawValue
        Terminal.out(
          style.paint(word) + String(repeating: " ", count: 8 - word.count) + finding.name
            + String(repeating: " ", count: width - finding.name.count) + "  " + Terminal.plain(finding.text))
        if let remedy = finding.remedy {
          Terminal.out(String(repeating: " ", count: 10 + width) + "remedy: " + remedy)
        }
      }
    }
    if let code { throw ArgumentParser.ExitCode(code) }
  }
}

/// One line of the doctor.
struct Finding {
  enum Verdict: String { case ok, warning, broken }
  let name: String
  let verdict: Verdict
  let text: String
  let remedy: String?
  /// What a broken part asks for.
  let exitCode: Int32?

  static func ok(_ name: String, _ text: String) -> Finding {
    Finding(name: name, verdict: .ok, text: text, remedy: nil, exitCode: nil)
  }
  static func warning(_ name: String, _ text: String, remedy: String) -> Finding {
    Finding(name: name, verdict: .warning, text: text, remedy: remedy, exitCode: nil)
  }
  static func broken(_ name: String, _ text: String, remedy: String, code: Int32) -> Finding {
    Finding(name: name, verdict: .broken, text: text, remedy: remedy, exitCode: code)
  }
}
