// `retain report`: report.md and report.html again, from what a run left on disk.
import ArgumentParser
import Foundation
import Ledger
import Reports
import StrictJSON

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report", abstract: "Write report.html and report.md of a run from what is on disk.",
    discussion: """
      Examples:
        retain report runs/clinic-court

      Works for unfinished runs too. The variants of `compare` get their reports
      again as well.
      """)

  @Argument(help: ArgumentHelp("The directory of a run.", valueName: "run"), completion: .directory)
  var folder: String
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let run = folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    // Variants first: the run's own report links to theirs.
    let comparison = try? Comparison.read(run + "/comparison.json")
    for variant in comparison?.variants ?? [] {
      let own = run + "/" + variant.name
      guard !variant.name.contains("/"), !variant.name.hasPrefix("."),
        FileManager.default.fileExists(atPath: own + "/results.json")
      else { continue }
      try Report.write(runDirectory: own)
    }
    let paths = try Report.write(runDirectory: run)
    if json {
      Terminal.out(["schema": 1, "html": .string(paths.html), "markdown": .string(paths.markdown)])
    } else {
      Terminal.out(Terminal.plain("\(paths.html)\n\(paths.markdown)"))
    }
  }
}
