// `retain compare`: several runs beside each other, with paired tests where documents are the same.
import Archive
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
        retain compare runs/a runs/b --html comparison.html
        retain compare runs/clinic-court        the variants of one experiment

      Every later run is tested against the first; intervals draw the same
      documents for both. Several runs are printed as Markdown; --html also
      writes a page.
      """)

  @Argument(help: "Directories of runs.", completion: .directory)
  var runs: [String]
  @Option(
    help: ArgumentHelp("Also write the comparison as one HTML page.", valueName: "file"),
    completion: .file(extensions: ["html"]))
  var html: String?
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    for path in runs where !FileManager.default.fileExists(atPath: path) {
      throw RunError(Runs.ExitCode.missingInput, "\(path): no such run")
    }
    guard let first = runs.first, runs.count == 1 else {
      if let html { try AtomicFile.write(Report.compareHTML(runDirectories: runs), to: html) }
      if json {
        Terminal.out(try Report.compareJSON(runDirectories: runs))
      } else {
        Terminal.raw(Terminal.plain(try Report.compare(runDirectories: runs)))
      }
      return
    }
    guard FileManager.default.fileExists(atPath: first + "/comparison.json") else {
      throw RunError(
        Runs.ExitCode.usage, "\(first) holds no comparison of variants; there is nothing to compare",
        hint: "name two runs or more")
    }
    let comparison = try Comparison.read(first + "/comparison.json")
    if let html {
      let name = first.split(separator: "/").last.map(String.init) ?? first
      try AtomicFile.write(Report.comparisonHTML(comparison, name: name, runDirectory: first), to: html)
    }
    if json {
      Terminal.out(comparison.json)
    } else {
      Terminal.raw(Report.comparisonTable(comparison, runDirectory: first, width: Terminal.width))
    }
  }
}
