// The comparison as a page: the same figures as in Markdown, whole, and nothing that runs.
import Foundation
import Ledger
import Reports
import TestKit
import Testing

@Suite struct ComparePageTests {
  @Test func runsStandBesideEachOther() throws {
    try ReportTests.withSample { folder in
      let folders = [folder + "/naive", folder + "/ewc"]
      let page = try Report.compareHTML(runDirectories: folders)
      #expect(WellFormedness.violation(page) == nil)
      #expect(!page.contains("<script") && page.contains("default-src 'none'"))
      #expect(page.contains("ewc against naive") && page.contains(">better</td>"))
      // Every figure of the Markdown tables stands on the page.
      let text = try Report.compare(runDirectories: folders)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("| forgetting |") })
      let difference = line.split(separator: "|")[1].trimmingCharacters(in: .whitespaces).replacing("\\", with: "")
      #expect(difference.contains("[") && page.contains(">\(difference)</td>"), "\(difference)")
      #expect(page.contains("Plasticity against retention of the runs"))
      #expect(throws: LedgerError.self) { try Report.compareHTML(runDirectories: [folder, folder + "/nowhere"]) }
    }
  }

  @Test func variantsStandBesideEachOther() throws {
    try ReportTests.withSample { folder in
      let comparison = try Comparison.read(folder + "/comparison.json")
      let page = Report.comparisonHTML(comparison, name: "clinic <b>")
      #expect(WellFormedness.violation(page) == nil)
      #expect(page.contains("clinic &lt;b&gt;") && page.contains("Plasticity against retention of the variants"))
      for variant in comparison.variants { #expect(page.contains(">\(variant.name)<"), "\(variant.name)") }
      #expect(page.contains("EWC scores ") && !page.contains("the ring is this run"))
    }
  }
}
