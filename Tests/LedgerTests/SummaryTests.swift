// The formulas of the summary against small matrices worked out by hand.
// The contract is product.md section 5; every branch of it has a case here.
import Ledger
import StrictJSON
import Testing

/// Two documents of equal weight whose mean is `value`.
func measurement(_ probe: String, _ metric: String, _ value: Double, spread: Double = 0) -> Measurement {
  Measurement(
    probe: probe, metric: metric, higherIsBetter: metric == "acc",
    numerators: [value - spread, value + spread],
    denominators: [1, 1], tokens: 2, bytes: 2, window: 8)
}

/// Rows `base`, then the stages, one column per probe.
func matrix(_ stages: [String], _ columns: [(probe: String, metric: String, values: [Double?])])
  -> RetentionMatrix
{
  var matrix = RetentionMatrix()
  for (row, name) in (["base"] + stages).enumerated() {
    for column in columns where row < column.values.count {
      if let value = column.values[row] {
        matrix.add(measurement(column.probe, column.metric, value), after: name)
      }
    }
  }
  return matrix
}

func close(_ left: Double?, _ right: Double, _ tolerance: Double = 1e-12) -> Bool {
  left.map { abs($0 - right) <= tolerance } ?? false
}

@Suite struct SummaryTests {
  let stages = ["medical", "legal"]
  let probes = [
    ProbeInfo(name: "general", metric: "bits_per_byte", higherIsBetter: false),
    ProbeInfo(name: "medical", metric: "bits_per_byte", higherIsBetter: false, home: "medical"),
    ProbeInfo(name: "legal", metric: "bits_per_byte", higherIsBetter: false, home: "legal"),
  ]

  @Test func threeProbesLowerIsBetter() {
    let summary = Summary(
      stages: stages, probes: probes,
      matrix: matrix(
        stages,
        [
          ("general", "bits_per_byte", [1.0, 1.2, 1.1]),
          ("medical", "bits_per_byte", [2.0, 1.5, 1.6]),
          ("legal", "bits_per_byte", [3.0, 2.9, 2.0]),
        ]), bootstrap: 20)
    // general: 1.1 − min(1.0, 1.2) = 0.1; medical: 1.6 − 1.5 = 0.1; legal has h = T.
    #expect(close(summary.forgetting, 0.1))
    #expect(close(summary.bwt, -0.1))
    #expect(close(summary.fwt, 0.1))
    #expect(close(summary.plasticity, (0.5 + 0.9) / 2))
    #expect(close(summary.retention, (1.0 / 1.1 + 1.5 / 1.6) / 2))
    #expect(summary.metric == "bits_per_byte")
    #expect(summary.byProbe.map(\.name) == ["general", "medical", "legal"])
    #expect(close(summary.byProbe[0].terms.forgetting, 0.1))
    #expect(summary.byProbe[0].terms.bwt == nil && summary.byProbe[2].terms.forgetting == nil)
    #expect(close(summary.byProbe[2].terms.fwt, 0.1))
    // Both documents are equal, so every resample gives the same.
    #expect(close(summary.forgettingCI?.lower, 0.1) && close(summary.forgettingCI?.upper, 0.1))
  }

  @Test func accuracyIsTurnedAround() {
    let probes = [
      ProbeInfo(name: "general", metric: "acc", higherIsBetter: true),
      ProbeInfo(name: "medical", metric: "acc", higherIsBetter: true, home: "medical"),
      ProbeInfo(name: "text", metric: "perplexity", higherIsBetter: false),
    ]
    let summary = Summary(
      stages: stages, probes: probes,
      matrix: matrix(
        stages,
        [
          ("general", "acc", [0.8, 0.5, 0.6]), ("medical", "acc", [0.2, 0.6, 0.7]),
          ("text", "perplexity", [9, 10, 11]),
        ]), bootstrap: 0)
    // general: best 0.8, now 0.6; medical improves after its stage: −0.1.
    #expect(summary.metric == "acc")
    #expect(close(summary.forgetting, (0.2 - 0.1) / 2))
    #expect(close(summary.bwt, 0.1))
    #expect(close(summary.plasticity, 0.4))
    #expect(close(summary.retention, (0.6 / 0.8 + 0.7 / 0.6) / 2))
    #expect(summary.fwt == nil && summary.forgettingCI == nil)
    #expect(summary.byProbe.count == 2)
  }

  /// What was best counts, wherever it stands: later text may have taught more of a probe than its home did. Mistake:
  /// the end against the home row, which is minus the backward transfer.
  @Test func forgettingIsAgainstTheBestRowSoFar() {
    let chain = ["first", "second", "third"]
    func probe(_ home: String?, _ isAccuracy: Bool) -> ProbeInfo {
      ProbeInfo(
        name: "p", metric: isAccuracy ? "acc" : "bits_per_byte", higherIsBetter: isAccuracy, home: home)
    }
    func summary(_ probe: ProbeInfo, _ values: [Double?]) -> Summary {
      Summary(
        stages: Array(chain.prefix(values.count - 1)), probes: [probe],
        matrix: matrix(Array(chain.prefix(values.count - 1)), [(probe.name, probe.metric, values)]), bootstrap: 10)
    }
    // Known before; the first stage made it better, the second worse.
    let base = summary(probe(nil, false), [2.0, 1.5, 1.8])
    #expect(close(base.forgetting, 0.3) && close(base.retention, 1.5 / 1.8) && base.bwt == nil)
    #expect(close(base.forgettingCI?.lower, 0.3) && close(base.forgettingCI?.upper, 0.3))
    // Taught by the first stage, best after the second: 1.8 − 1.5 where the home row says 1.8 − 2.0.
    let home = summary(probe("first", false), [3.0, 2.0, 1.5, 1.8])
    #expect(close(home.forgetting, 0.3) && close(home.bwt, 0.2) && close(home.retention, 1.5 / 1.8))
    // Better before its home than ever after: rows before home do not count.
    let before = summary(probe("second", false), [1.0, 1.2, 1.4, 1.6])
    #expect(close(before.forgetting, 0.2))
    let accuracy = summary(probe("first", true), [0.1, 0.3, 0.6, 0.5])
    #expect(close(accuracy.forgetting, 0.1) && close(accuracy.bwt, 0.2) && close(accuracy.retention, 0.5 / 0.6))
  }

  // MARK: Intervals

  /// Two documents, so that a resample is the first twice, both, or the second twice, with ¼, ½ and ¼: ends of the
  /// intervals by hand. Draws of two probes are independent: ends of their mean have 1/16 each, more than 2.5 %.
  @Test func intervalsOfTwoDocumentsByHand() throws {
    // Per document after base, medical and legal; the second document of `general` is three times as long.
    let documents: [(probe: String, weights: [Double], rows: [[Double]])] = [
      ("general", [1, 3], [[1.0, 2.0], [0.9, 2.4], [1.3, 2.5]]),
      ("medical", [1, 1], [[3.0, 2.0], [2.0, 1.5], [2.2, 1.5]]),
      ("legal", [1, 1], [[5.0, 5.0], [1.0, 4.0], [0.9, 3.0]]),
    ]
    var grid = RetentionMatrix()
    for (row, name) in (["base"] + stages).enumerated() {
      for probe in documents {
        grid.add(
          Measurement(
            probe: probe.probe, metric: "bits_per_byte", higherIsBetter: false,
            numerators: zip(probe.rows[row], probe.weights).map { $0 * $1 }, denominators: probe.weights), after: name)
      }
    }
    let summary = Summary(stages: stages, probes: probes, matrix: grid, confidence: 0.95, bootstrap: 2000, seed: 5)
    func expect(_ interval: Interval?, _ lower: Double, _ upper: Double, _ name: String) {
      #expect(close(interval?.lower, lower, 1e-9) && close(interval?.upper, upper, 1e-9), "\(name)")
    }
    // general: 1.3 − 0.9 and 2.5 − 2.0, the best in another row each; both together (1.3 + 7.5)/4 − (1 + 6)/4.
    expect(summary.byProbe[0].forgettingCI, 0.4, 0.5, "general")
    #expect(close(summary.byProbe[0].terms.forgetting, 0.45))
    // medical: 0.2 and 0.
    expect(summary.byProbe[1].forgettingCI, 0, 0.2, "medical")
    #expect(summary.byProbe[2].forgettingCI == nil)
    expect(summary.forgettingCI, 0.2, 0.35, "forgetting")
    expect(summary.retentionCI, (0.9 / 1.3 + 2.0 / 2.2) / 2, (2.0 / 2.5 + 1) / 2, "retention")
    // medical 3 − 2 and 2 − 1.5; legal 1 − 0.9 and 4 − 3.
    expect(summary.plasticityCI, 0.3, 1, "plasticity")
  }

  /// Sixty documents of unlike lengths against a bootstrap written out here with other random numbers: ends agree to
  /// within what the draws scatter.
  @Test func intervalsAgreeWithAnotherBootstrap() throws {
    var stream = LCG(19)
    let names = ["general", "medical"]
    let weights = names.map { _ in (0..<60).map { _ in 20 + 80 * stream.uniform() } }
    // Losses per document by probe and row.
    let means = [[1.0, 1.15, 1.3], [2.0, 1.5, 1.58]]
    let rows = names.indices.map { probe in
      let documents = (0..<60).map { _ in 0.3 * stream.normal() }
      return means[probe].map { mean in documents.map { mean + $0 + 0.15 * stream.normal() } }
    }
    var grid = RetentionMatrix()
    for (row, name) in (["base"] + stages).enumerated() {
      for (probe, info) in probes.prefix(2).enumerated() {
        grid.add(
          Measurement(
            probe: info.name, metric: info.metric, higherIsBetter: false,
            numerators: zip(rows[probe][row], weights[probe]).map { $0 * $1 }, denominators: weights[probe]),
          after: name)
      }
    }
    let summary = Summary(
      stages: stages, probes: Array(probes.prefix(2)), matrix: grid, confidence: 0.9, bootstrap: 4000, seed: 1)
    var (forgetting, retention, plasticity): ([Double], [Double], [Double]) = ([], [], [])
    for _ in 0..<4000 {
      let values = names.indices.map { probe in
        let drawn = (0..<60).map { _ in min(59, Int(60 * stream.uniform())) }
        let length = drawn.reduce(0.0) { $0 + weights[probe][$1] }
        return (0..<3).map { row in
          drawn.reduce(0.0) { $0 + rows[probe][row][$1] * weights[probe][$1] } / length
        }
      }
      let best = [min(values[0][0], values[0][1]), values[1][1]]
      forgetting.append((values[0][2] - best[0] + values[1][2] - best[1]) / 2)
      retention.append((best[0] / values[0][2] + best[1] / values[1][2]) / 2)
      plasticity.append(values[1][0] - values[1][1])
    }
    for (found, draws) in [
      (summary.forgettingCI, forgetting), (summary.retentionCI, retention), (summary.plasticityCI, plasticity),
    ] {
      let interval = try #require(found)
      let sorted = draws.sorted()
      let (lower, upper) = (sorted[200], sorted[3800])
      let width = upper - lower
      #expect(width > 0 && abs(interval.lower - lower) < 0.08 * width && abs(interval.upper - upper) < 0.08 * width)
    }
  }

  @Test func bitsPerByteWinsOverAccuracyAndOnlyAsFirstMetric() {
    let probes = [
      ProbeInfo(name: "qa", metric: "acc", higherIsBetter: true),
      ProbeInfo(name: "general", metric: "bits_per_byte", higherIsBetter: false),
    ]
    let summary = Summary(
      stages: ["only"], probes: probes,
      matrix: matrix(
        ["only"],
        [
          ("qa", "acc", [0.9, 0.1]), ("general", "bits_per_byte", [1, 0.75]),
          ("qa", "bits_per_byte", [5, 9]),
        ]))
    #expect(summary.metric == "bits_per_byte")
    #expect(close(summary.forgetting, -0.25), "one stage: R(1) − R(0), negative where it improved")
    #expect(close(summary.retention, 1 / 0.75))
    #expect(summary.bwt == nil && summary.fwt == nil && summary.plasticity == nil)
  }

  @Test func chainsCutShortCountWhatIsThere() {
    let full: [(probe: String, metric: String, values: [Double?])] = [
      ("general", "bits_per_byte", [1.0, 1.2]), ("medical", "bits_per_byte", [2.0, 1.5]),
      ("legal", "bits_per_byte", [3.0, 2.9]),
    ]
    let cut = Summary(stages: stages, probes: probes, matrix: matrix(stages, full), bootstrap: 0)
    #expect(close(cut.forgetting, 0.2) && close(cut.plasticity, 0.5) && close(cut.fwt, 0.1))
    #expect(cut.bwt == nil)
    let base = Summary(
      stages: stages, probes: probes, matrix: matrix(stages, [("general", "bits_per_byte", [1.0])]))
    #expect(base.forgetting == nil && base.retention == nil && base.forgettingCI == nil)
    let nothing = Summary(stages: stages, probes: probes, matrix: RetentionMatrix())
    #expect(nothing.forgetting == nil && nothing.metric == nil)
    // Without the base row the best is taken over the rows that exist.
    let baseless = Summary(
      stages: stages, probes: Array(probes.prefix(1)),
      matrix: matrix(stages, [("general", "bits_per_byte", [nil, 1.2, 1.5])]), bootstrap: 0)
    #expect(close(baseless.forgetting, 0.3))
  }

  @Test func divisionByNothingAndDivergenceBecomeNull() {
    let acc = [ProbeInfo(name: "q", metric: "acc", higherIsBetter: true)]
    let zero = Summary(
      stages: ["s"], probes: acc, matrix: matrix(["s"], [("q", "acc", [0, 0.5])]), bootstrap: 0)
    #expect(zero.retention == nil && close(zero.forgetting, -0.5))
    let broken = Summary(
      stages: stages, probes: Array(probes.prefix(1)),
      matrix: matrix(stages, [("general", "bits_per_byte", [1, .nan, 1.5])]), bootstrap: 10)
    #expect(broken.forgetting == nil && broken.forgettingCI == nil)
    #expect(broken.json["forgetting"]?.isNull == true)
    let unknown = Summary(
      stages: ["s"], probes: [ProbeInfo(name: "q", metric: "acc", higherIsBetter: true, home: "elsewhere")],
      matrix: matrix(["s"], [("q", "acc", [0.1, 0.5])]))
    #expect(unknown.forgetting == nil && unknown.plasticity == nil)
  }

  @Test func summaryReadsBack() throws {
    var stream = LCG(7)
    var grid = RetentionMatrix()
    for row in ["base", "medical", "legal"] {
      for probe in probes {
        grid.add(
          Measurement(
            probe: probe.name, metric: probe.metric, higherIsBetter: false,
            numerators: (0..<30).map { _ in stream.uniform() }, denominators: (1...30).map { Double($0) }),
          after: row)
      }
    }
    let summary = Summary(stages: stages, probes: probes, matrix: grid, bootstrap: 200, seed: 3)
    let interval = try #require(summary.forgettingCI)
    #expect(interval.lower < interval.upper)
    let text = summary.json.pretty
    #expect(try Summary(JSON.parse(text)) == summary)
    #expect(
      summary.json.members?.prefix(7).map(\.key) == [
        "forgetting", "forgetting_ci", "bwt", "fwt", "retention", "plasticity", "metric",
      ])
    // Adding a probe must not shift the draws of another.
    let alone = Summary(stages: stages, probes: [probes[0]], matrix: grid, bootstrap: 200, seed: 3)
    #expect(alone.byProbe[0].forgettingCI == summary.byProbe[0].forgettingCI)
    #expect(Summary(stages: stages, probes: probes, matrix: grid, bootstrap: 200, seed: 4) != summary)
  }
}

/// A small generator for synthetic data.
struct LCG {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 2_862_933_555_777_941_757 &+ 3_037_000_493 }
  mutating func uniform() -> Double {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Double(state >> 11) / Double(1 << 53)
  }
  /// Sum of twelve uniforms less six: mean 0, variance 1.
  mutating func normal() -> Double { (0..<12).reduce(-6.0) { sum, _ in sum + uniform() } }
}
