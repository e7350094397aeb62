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
