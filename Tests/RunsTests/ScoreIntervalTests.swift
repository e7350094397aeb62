// The interval of a trial's score against naive, by hand.
import Ledger
import Testing
import Tuning

@Suite struct ScoreIntervalTests {
  private let probes = [
    ProbeInfo(name: "general", metric: "bits_per_byte", higherIsBetter: false),
    ProbeInfo(name: "domain", metric: "bits_per_byte", higherIsBetter: false, home: "s"),
  ]
  /// Base and stage of two documents of equal length in each probe.
  private func matrix(general: [[Double]], domain: [[Double]]) -> RetentionMatrix {
    var matrix = RetentionMatrix()
    for (row, name) in ["base", "s"].enumerated() {
      for (probe, values) in zip(probes, [general[row], domain[row]]) {
        matrix.add(
          Measurement(
            probe: probe.name, metric: probe.metric, higherIsBetter: false, numerators: values,
            denominators: [1, 1]), after: name)
      }
    }
    return matrix
  }
  private func replicates(_ matrix: RetentionMatrix, seed: Int = 3) -> SummaryReplicates {
    SummaryReplicates(stages: ["s"], probes: probes, matrix: matrix, count: 2000, seed: seed)
  }
  private var naive: RetentionMatrix { matrix(general: [[1, 2], [1.5, 2.2]], domain: [[3, 4], [2, 2]]) }

  /// A resample is the first document twice, both, or the second twice. naive forgets 0.5, 0.35 or 0.2 and learns 1,
  /// 1.5 or 2; the trial forgets 0.1 in any and learns 0.5, 1 or 1.5: p/p₀ is ½ to ¾ and f/f₀ is ⅕ to ½, each end with
  /// 1/16. Mistakes: other documents for naive than for the trial, and naive's figures as if they were certain.
  @Test func theEndsByHand() throws {
    let trial = matrix(general: [[1, 2], [1.1, 2.1]], domain: [[3, 4], [2.5, 2.5]])
    let interval = try #require(ScoreInterval.of(replicates(trial), naive: replicates(naive), confidence: 0.95))
    #expect(abs(interval.lower - (0.5 + 1 - 0.5)) < 1e-9)
    #expect(abs(interval.upper - (0.75 + 1 - 0.2)) < 1e-9)
    // At half the confidence the ends lie inside.
    let half = try #require(ScoreInterval.of(replicates(trial), naive: replicates(naive), confidence: 0.5))
    #expect(half.lower > interval.lower + 0.01 && half.upper < interval.upper - 0.01)
  }

  /// naive against itself scores 1 whatever is drawn.
  @Test func naiveScoresOneWithoutDoubt() throws {
    let interval = try #require(ScoreInterval.of(replicates(naive), naive: replicates(naive), confidence: 0.95))
    #expect(abs(interval.lower - 1) < 1e-12 && abs(interval.upper - 1) < 1e-12)
  }

  /// Without pairs there is no interval: a probe that one run measured on other documents, or another number of draws.
  @Test func withoutPairsThereIsNone() {
    var other = naive
    other.add(
      Measurement(
        probe: "general", metric: "bits_per_byte", higherIsBetter: false, numerators: [1, 2, 3],
        denominators: [1, 1, 1]), after: "s")
    #expect(ScoreInterval.of(replicates(other), naive: replicates(naive), confidence: 0.95) == nil)
    let short = SummaryReplicates(stages: ["s"], probes: probes, matrix: naive, count: 100, seed: 3)
    #expect(ScoreInterval.of(short, naive: replicates(naive), confidence: 0.95) == nil)
  }
}
