// `retain list`: the catalogs, which are the tables that the program itself works from.
import ArgumentParser
import Runs
import StrictJSON

struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List methods, models, probes, merges or tasks.",
    discussion: """
      Examples:
        retain list methods
        retain list models --json

      methods: what guards the past; models: supported architectures;
      probes: kinds of questions and their metrics; merges: ways of averaging weights;
      tasks: forms of rows that data and probes may have.
      """)

  @Argument(
    help: "methods, models, probes, merges or tasks.", completion: .list(Catalog.allCases.map(\.rawValue)),
    transform: { text in
      guard let catalog = Catalog(rawValue: text) else {
        throw ValidationError("there is no list of \(text); there are methods, models, probes, merges and tasks")
      }
      return catalog
    })
  var catalog: Catalog
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let entries = catalog.entries
    if json {
      Terminal.out(.object([.init("schema", 1), .init(catalog.rawValue, .array(entries.map(\.json)))]))
      return
    }
    for entry in entries {
      Terminal.out(Style.bold.paint(entry.name) + "  " + entry.title)
      let width = entry.facts.map(\.key.count).max() ?? 0
      for (key, value) in entry.facts where !value.isEmpty {
        Terminal.out(
          "    " + Style.dim.paint(key + String(repeating: " ", count: width - key.count)) + "  " + value)
      }
    }
  }
}
