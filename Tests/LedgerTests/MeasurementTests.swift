// Values, errors and resamples of measurements; coverage of the intervals on data with a known truth.
import Glibc
import Ledger
import StrictJSON
import Testing

@Suite struct MeasurementTests {
  @Test func ratioAndExponential() {
    let bits = Measurement(
      probe: "p", metric: "bits_per_byte", higherIsBetter: false, numerators: [10, 30],
      denominators: [10, 10])
    #expect(bits.value == 2 && bits.key == "p.bits_per_byte" && bits.n == 2)
    // Residuals −10 and 10: √(2/1 · 200) ÷ 20 = 1.
    #expect(close(bits.stderr, 1))
    #expect(bits.resampled([0, 0]) == 1 && bits.resampled([1, 1]) == 3)
    let perplexity = Measurement(
      probe: "p", metric: "perplexity", form: .exponentialOfRatio, higherIsBetter: false,
      numerators: [10, 30], denominators: [10, 10])
    #expect(close(perplexity.value, exp(2)) && close(perplexity.stderr, exp(2), 1e-9))
  }

  @Test func accuracyHasTheBinomialError() {
    let correct: [Double] = [1, 1, 1, 0, 0, 1, 0, 1]
    let acc = Measurement(
      probe: "q", metric: "acc", higherIsBetter: true, numerators: correct,
      denominators: correct.map { _ in 1 })
    #expect(acc.value == 0.625)
    #expect(close(acc.stderr, (0.625 * 0.375 / 7).squareRoot()))
  }

  @Test func fewDocumentsHaveNoError() {
    let one = Measurement(
      probe: "p", metric: "acc", higherIsBetter: true, numerators: [1], denominators: [1])
    #expect(one.value == 1 && one.stderr == nil && one.shortJSON["stderr"]?.isNull == true)
    let none = Measurement(probe: "p", metric: "acc", higherIsBetter: true, numerators: [], denominators: [])
    #expect(none.value.isNaN && none.stderr == nil)
  }

  @Test func jsonKeepsEveryBit() throws {
    var stream = LCG(1)
    let numerators =
      (0..<200).map { _ in stream.normal() * 1e-7 + 0.1 } + [1e300, .leastNonzeroMagnitude, 1.0 / 3, 4]
    let original = Measurement(
      probe: "q", metric: "perplexity", form: .exponentialOfRatio, higherIsBetter: false,
      numerators: numerators, denominators: numerators.indices.map { Double($0 + 1) }, tokens: 7, bytes: 9,
      window: 1024)
    let back = try Measurement(JSON.parse(original.json.compact))
    #expect(back == original)
    let diverged = Measurement(
      probe: "q", metric: "acc", higherIsBetter: true, numerators: [.nan, 1], denominators: [1, 1])
    #expect(try Measurement(JSON.parse(diverged.json.compact)).numerators[0].isNaN)
    #expect(throws: ShapeError.self) { try Measurement(["probe": "q"]) }
    #expect(throws: ShapeError.self) {
      try Measurement(JSON.parse(original.json.compact.replacing("[1.0,", with: "[")))
    }
  }

  @Test func pairedDifferencesAreNarrowerThanUnpairedOnes() throws {
    var stream = LCG(5)
    let hard = (0..<100).map { _ in 2 + stream.normal() }
    let shifted = hard.map { $0 + 0.1 + 0.01 * stream.normal() }
    func make(_ values: [Double], _ weights: [Double]? = nil) -> Measurement {
      Measurement(
        probe: "p", metric: "bits_per_byte", higherIsBetter: false, numerators: values,
        denominators: weights ?? values.map { _ in 1 })
    }
    let difference = Bootstrap.difference(make(hard), make(shifted))
    let interval = try #require(difference.interval)
    #expect(interval.excludesZero && interval.upper - interval.lower < 0.01)
    #expect(abs(difference.value - 0.1) < 0.01)
    let other = Bootstrap.difference(make(hard), make(shifted, shifted.map { _ in 2 }))
    #expect(other.interval == nil, "other documents cannot be paired")
  }

  /// 95 % intervals of a ratio must hold the truth about 95 times in 100.
  @Test func coverage() {
    var stream = LCG(11)
    var covered = 0
    let trials = 300
    for trial in 0..<trials {
      let weights = (0..<60).map { _ in 50 + 100 * stream.uniform() }
      let before = weights.map { $0 * (1.5 + 0.3 * stream.normal()) }
      let after = zip(before, weights).map { $0 + $1 * (0.05 + 0.1 * stream.normal()) }
      func make(_ values: [Double]) -> Measurement {
        Measurement(
          probe: "p", metric: "bits_per_byte", higherIsBetter: false, numerators: values,
          denominators: weights)
      }
      let interval = Bootstrap.difference(make(before), make(after), count: 400, seed: trial).interval
      if let interval, interval.lower <= 0.05, 0.05 <= interval.upper { covered += 1 }
    }
    let share = Double(covered) / Double(trials)
    #expect(share > 0.90 && share < 0.985, "covered \(share)")
  }

  @Test func intervalOfKnownNumbers() {
    let interval = Bootstrap.interval((0...100).map(Double.init), confidence: 0.9)
    #expect(close(interval?.lower, 5, 1e-9) && close(interval?.upper, 95, 1e-9))
    #expect(Bootstrap.interval([], confidence: 0.9) == nil)
    #expect(Bootstrap.interval([1, .nan], confidence: 0.9) == nil)
  }
}
