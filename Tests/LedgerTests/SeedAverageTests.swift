// Means over seeds and Student's t against the printed tables.
import Ledger
import StrictJSON
import Testing

@Suite struct SeedAverageTests {
  @Test(arguments: [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (30, 2.042), (31, 2.040)])
  func studentTables(degrees: Int, expected: Double) throws {
    #expect(close(StudentT.quantile(0.95, degrees: degrees), expected, 6e-4))
  }

  @Test func threeSeeds() throws {
    var runs = [1.2, 1.3, 1.4].map { ResultsTests.results($0) }
    for index in runs.indices { runs[index].seed = 17 + index }
    let mean = try #require(RunResults.averaged(runs))
    // general forgets 0.2, 0.3, 0.4 and medical 0.1 each: the means are 0.15, 0.20, 0.25.
    #expect(close(mean.summary.forgetting, 0.2))
    let error = 0.05 / 3.0.squareRoot()
    #expect(close(mean.summary.seedErrors?.forgetting, error, 1e-9))
    #expect(close(mean.summary.forgettingCI?.upper, 0.2 + 4.30265 * error, 1e-4))
    #expect(close(mean.cell("general.bits_per_byte", after: "legal")?.value, 1.3))
    #expect(close(mean.cell("general.bits_per_byte", after: "legal")?.stderr, 0.1 / 3.0.squareRoot(), 1e-9))
    #expect(close(mean.gates.first?.observed, 0.4) && mean.gates.first?.passed == false)
    #expect(mean.seedRuns.map(\.seed) == [17, 18, 19])
    let back = try RunResults(JSON.parse(mean.json.pretty))
    #expect(back == mean && back.json["seeds"]?[2]?["seed"]?.int == 19)
  }

  @Test func oneSeedIsItself() throws {
    let run = ResultsTests.results(1.2)
    let mean = try #require(RunResults.averaged([run]))
    #expect(
      mean.summary.forgettingCI == run.summary.forgettingCI
        && mean.summary.forgetting == run.summary.forgetting)
    #expect(RunResults.averaged([]) == nil)
    var other = run
    other.stages = ["legal"]
    #expect(RunResults.averaged([run, other]) == nil)
  }
}
