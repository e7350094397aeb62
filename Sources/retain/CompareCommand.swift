// `retain compare`: several runs beside each other, with paired tests where documents are the same.
import ArgumentParser
import Foundation
import Ledger
import Reports
import Runs
import StrictJSON

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Set runs beside each other and test the differences.",
    discussion: """
      Examples:
        retain compare runs/clinic-court runs/clinic-court/naive
        retain compare runs/a runs/b runs/c --json
        retain compare runs/clinic-court        the variants of one experiment

      Every later run is tested against the first; intervals draw the same
      documents for both.
      """)

  @Argument(help: "Directories of runs.", completion: .directory)
  var runs: [String]
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard let first = runs.first, runs.count == 1 else {
      if json {
        Terminal.out(try Report.compareJSON(runDirectories: runs))
      } else {
        Terminal.raw(Terminal.plain(try Report.compare(runDirectories: runs)))
      }
      return
    }
    guard FileManager.default.fileExists(atPath: first + "/comparison.json") else {
      throw RunError(
        Runs.ExitCode.usage, "\(first) is one run without variants; there is nothing to compare",
        hint: "name two runs or more")
    }
    let comparison = try Comparison.read(first + "/comparison.json")
    if json {
      Terminal.out(comparison.json)
    } else {
      Terminal.raw(Report.comparisonTable(comparison, width: Terminal.width))
    }
  }
}
