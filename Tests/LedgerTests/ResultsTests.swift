// results.json, comparison.json, tune.json and gates: names of the contract, and what is read equals what was written.
import Ledger
import StrictJSON
import Testing

@Suite struct ResultsTests {
  static let stages = ["medical", "legal"]
  static let probes = [
    ProbeInfo(name: "general", metric: "bits_per_byte", higherIsBetter: false),
    ProbeInfo(name: "medical", metric: "bits_per_byte", higherIsBetter: false, home: "medical"),
    ProbeInfo(name: "qa", metric: "acc", higherIsBetter: true, home: "legal"),
  ]
  static func results(_ last: Double, _ learned: Double = 1.5, name: String = "demo") -> RunResults {
    let grid = matrix(
      stages,
      [
        ("general", "bits_per_byte", [1, 1.1, last]), ("medical", "bits_per_byte", [2, learned, 1.6]),
        ("qa", "acc", [0.25, 0.25, 0.5]),
      ])
    return RunResults(
      name: name, status: .finished, seed: 17, stages: stages, probes: probes, matrix: grid.table,
      summary: Summary(stages: stages, probes: probes, matrix: grid, bootstrap: 50, seed: 17),
      gates: [Gate(probe: "general", limit: 0.05).check(stages: stages, probes: probes, matrix: grid)],
      final: .init(checkpoint: "checkpoints/legal-end.h5", parametersSHA256: "ab"),
      cost: .init(wallSeconds: 4.5, trainTokens: 2_100_000, tokensPerSecond: 5100, peakRSSBytes: 8_000_000),
      environment: [.init("version", "0.1.0"), .init("threads", 2)])
  }

  @Test func resultsReadBack() throws {
    let results = ResultsTests.results(1.2)
    let json = try JSON.parse(results.json.pretty)
    let back = try RunResults(json)
    #expect(back == results && back.summary == results.summary && back.matrix == results.matrix)
    #expect(
      json.members?.map(\.key) == [
        "schema", "name", "status", "seed", "stages", "probes", "matrix", "summary", "gates", "final", "cost",
        "environment",
      ])
    #expect(json["matrix"]?[0]?["after"]?.string == "base")
    #expect(json["matrix"]?[2]?["values"]?["general.bits_per_byte"]?["value"]?.double == 1.2)
    #expect(json["matrix"]?[2]?["values"]?["qa.acc"]?["n"]?.int == 2)
    #expect(json["probes"]?[0]?["home"]?.isNull == true)
    #expect(json["probes"]?[1]?["home"]?.string == "medical")
    #expect(results.cell("qa.acc", after: "legal")?.value == 0.5)
  }

  @Test func brokenResultsNameTheKey() {
    #expect(throws: ShapeError.self) { try RunResults([:]) }
    let text = ResultsTests.results(1.2).json.compact
    for (old, new, key) in [
      ("\"status\":\"finished\"", "\"status\":\"odd\"", "status"), ("\"schema\":1", "\"schema\":9", "schema"),
      ("\"after\":\"base\"", "\"after\":3", "after"),
      ("\"stages\":[\"medical\"", "\"stages\":[1", "stages[0]"),
    ] {
      let broken = text.replacing(old, with: new, maxReplacements: 1)
      do {
        _ = try RunResults(JSON.parse(broken))
        Issue.record("\(key) was accepted")
      } catch { #expect("\(error)".contains("'\(key)'"), "\(error)") }
    }
  }

  @Test func comparisonAgainstNaive() throws {
    let naive = ResultsTests.results(1.4, 1.2)
    let ewc = ResultsTests.results(1.1, 1.4)
    let comparison = Comparison([("naive", naive), ("ewc", ewc)])
    // naive: general 1.4 − 1.0 = 0.4, medical 1.6 − 1.2 = 0.4, plasticity 0.8; ewc: 0.1, 0.2, 0.6.
    let variant = try #require(comparison.variant("ewc"))
    #expect(close(variant.plasticityShare, 0.6 / 0.8) && close(variant.forgettingAvoided, 1 - 0.15 / 0.4))
    #expect(comparison.variant("naive")?.plasticityShare == 1)
    #expect(comparison.variant("naive")?.forgettingAvoided == 0)
    let back = try Comparison(JSON.parse(comparison.json.pretty))
    #expect(back == comparison)
    let alone = Comparison([("ewc", ewc)])
    #expect(alone.variants[0].plasticityShare == nil)
    #expect(alone.json["variants"]?["ewc"]?["forgetting_avoided"]?.isNull == true)
  }

  /// Of what naive fine-tuning did not lose nothing can be avoided, and what it did not learn has no share: no ratio
  /// with a sign turned round. Mistake: to look for a divisor of exactly 0 only.
  @Test func ratiosNeedSomethingToDivide() throws {
    // naive: general 0.5 − 1, medical 1.6 − 1.7; learned 0.3. ewc loses: general 1.2 − 1, medical 0.1.
    let (gained, ewc) = (ResultsTests.results(0.5, 1.7), ResultsTests.results(1.2, 1.5))
    #expect(close(gained.summary.forgetting, -0.3) && close(ewc.summary.forgetting, 0.15))
    let comparison = Comparison([("naive", gained), ("ewc", ewc)])
    for variant in comparison.variants {
      #expect(variant.forgettingAvoided == nil && variant.plasticityShare != nil)
      let json = comparison.json["variants"]?[variant.name]
      #expect(json?["forgetting_avoided"]?.isNull == true && json?["plasticity_share"]?.double != nil)
    }
    #expect(try Comparison(JSON.parse(comparison.json.pretty)) == comparison)
    // Nothing forgotten at all: general 1 − 1, medical 1.6 − 1.6.
    let still = ResultsTests.results(1, 1.6)
    #expect(close(still.summary.forgetting, 0))
    #expect(Comparison.forgettingAvoided(ewc.summary, naive: still.summary) == nil)
    // naive unlearned: medical 2 − 2.1.
    let worse = ResultsTests.results(1.4, 2.1)
    #expect(close(worse.summary.plasticity, -0.1))
    #expect(Comparison.plasticityShare(ewc.summary, naive: worse.summary) == nil)
    let trial = TuneResults.Trial(
      value: 1.0, rung: 0, steps: 10, summary: ewc.summary, naive: gained.summary, seconds: 1)
    #expect(trial.forgettingAvoided == nil && trial.score == nil)
  }

  @Test func tuneReadsBack() throws {
    let naive = TuneResults.Trial(
      value: nil, rung: 0, steps: 10, summary: ResultsTests.results(1.4, 1.2).summary, naive: nil, seconds: 1)
    let trial = TuneResults.Trial(
      value: 10.0, rung: 1, steps: 30, summary: ResultsTests.results(1.1, 1.4).summary,
      naive: ResultsTests.results(1.4, 1.2).summary, seconds: 2)
    let tune = TuneResults(
      key: "methods.ewc.lambda", naive: naive, trials: [trial], chosen: 10.0, reason: "knee")
    #expect(try TuneResults(JSON.parse(tune.json.pretty)) == tune)
    #expect(close(trial.score, 0.75 + 1 - 0.375))
    #expect(
      trial.json.members?.map(\.key) == [
        "value", "rung", "steps", "retention", "plasticity", "plasticity_share", "forgetting",
        "forgetting_avoided", "seconds",
      ])
  }

  @Test func gatesSeeTheWorstStageAfterHome() {
    let stages = ResultsTests.stages
    let probes = ResultsTests.probes
    let grid = matrix(
      stages,
      [
        ("general", "bits_per_byte", [2, 2.2, 2.1]), ("medical", "bits_per_byte", [9, 2, 1.9]),
        ("qa", "acc", [0.5, 0.1, 0.4]),
      ])
    func check(_ probe: String, _ limit: Double) -> GateResult {
      Gate(probe: probe, limit: limit).check(stages: stages, probes: probes, matrix: grid)
    }
    let general = check("general", 0.05)
    #expect(!general.passed && close(general.observed, 0.1) && general.after == "medical")
    #expect(check("general", 0.2).passed)
    #expect(close(check("medical", 0).observed, 0), "at home itself nothing is worse yet")
    #expect(check("qa", 0).observed == 0 && check("qa", 0).passed)
    let homeless = [ProbeInfo(name: "qa", metric: "acc", higherIsBetter: true)]
    let drop = Gate(probe: "qa", limit: 0.5).check(stages: stages, probes: homeless, matrix: grid)
    #expect(close(drop.observed, 0.8) && !drop.passed)
    let early = Gate(probe: "qa", limit: 0.5).check(
      stages: stages, probes: homeless, matrix: matrix(stages, [("qa", "acc", [0.5])]))
    #expect(early.passed && early.observed == nil)
    let diverged = Gate(probe: "qa", limit: 0.5).check(
      stages: stages, probes: homeless, matrix: matrix(stages, [("qa", "acc", [0.5, .nan])]))
    #expect(!diverged.passed && diverged.json["observed"]?.isNull == true)
  }
}
