// Every catalog equals its folder: a method, an architecture or a probe kind cannot be written and forgotten.
import Continual
import Experiment
import Foundation
import Models
import Probes
import Runs
import TestKit
import Testing

@Suite struct CatalogTests {
  private static let checkout = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()

  private func sources(_ folder: String) throws -> [(name: String, text: String)] {
    let path = Self.checkout.appendingPathComponent("Sources/\(folder)").path
    return try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".swift") }.sorted().map {
      ($0, try String(contentsOfFile: path + "/" + $0, encoding: .utf8))
    }
  }
  /// The values of `name: "…"` in a card of the file.
  private func cardName(_ text: String, after mark: String) -> String? {
    guard let card = text.range(of: mark),
      let start = text.range(of: "name: \"", range: card.upperBound..<text.endIndex),
      let end = text.range(of: "\"", range: start.upperBound..<text.endIndex)
    else { return nil }
    return String(text[start.upperBound..<end.lowerBound])
  }

  @Test func everyMethodFileIsInTheCatalog() throws {
    // Name+Part.swift continues Name.swift.
    let files = try sources("Continual/Methods").filter { !$0.name.contains("+") }
    let named = files.compactMap { cardName($0.text, after: "MethodCard(") }
    #expect(named.count == files.count, "a file in Continual/Methods has no card")
    #expect(named.sorted() == MethodCatalog.cards.map(\.name).sorted())
    // The card, the options and the key in experiment files carry one name.
    #expect(MethodCatalog.cards.map(\.name) == MethodCatalog.schemas.map(\.name))
    for card in MethodCatalog.cards {
      #expect(MethodPlan(card.name) != nil)
      #expect(Manual.explain(card.name) != nil)
      for field in [card.title, card.paper, card.equation, card.cost, card.state, card.needs, card.verified] {
        #expect(!field.isEmpty, "\(card.name)")
      }
    }
  }

  @Test func everyArchitectureIsInTheCatalog() throws {
    let declared = try sources("Models").filter {
      $0.text.contains(": Architecture {") && !$0.text.contains("protocol Architecture")
    }
    var known: [String] = []
    for architecture in ModelCatalog.architectures { known.append(architecture.card.name) }
    #expect(declared.compactMap { cardName($0.text, after: "ArchitectureCard(") }.sorted() == known.sorted())
  }

  @Test func everyProbeKindIsInTheCatalog() {
    #expect(ProbeCatalog.cards.map(\.kind) == ProbeKind.allCases)
    for card in ProbeCatalog.cards { #expect(!card.metrics.isEmpty && !card.summary.isEmpty) }
  }

  @Test func everyExperimentFileParses() throws {
    let root = Self.checkout.appendingPathComponent("Experiments")
    let found = FileManager.default.enumerator(atPath: root.path)?.compactMap { $0 as? String } ?? []
    let files = found.filter { $0.hasSuffix("experiment.yaml") }
    #expect(files.count >= 3)
    for file in files {
      let plan = try ExperimentFile.read(
        root.path + "/" + file, checkingFiles: false,
        environment: ["RETAIN_DATA": "/nowhere"], workingDirectory: root.path
      ).plan
      #expect(!plan.stages.isEmpty && !plan.probes.isEmpty, "\(file)")
    }
  }

  /// The tree in the README names what is there, and nothing else.
  @Test func theReadmeShowsTheTree() throws {
    let readme = try String(contentsOf: Self.checkout.appendingPathComponent("README.md"), encoding: .utf8)
    let folders = try FileManager.default.contentsOfDirectory(
      atPath: Self.checkout.appendingPathComponent("Sources").path)
    for folder in folders.sorted() { #expect(readme.contains("\(folder)/"), "Sources/\(folder) is not in the README") }
  }
}
