// Several seeds of one chain as one result: means with the standard error over seeds.
// With several runs the randomness of training can be seen, so intervals here are over seeds, not documents.

import Glibc
import StrictJSON

extension RunResults {
  /// The mean of runs that differ only in their seed; nil for none or where stages or probes differ.
  ///
  /// Values and terms are means, `stderr` the sample standard deviation over √seeds, and the intervals
  /// Student's t with seeds − 1 degrees of freedom (nil for one seed). Gates keep the worst seed, cost is summed,
  /// status is the first that is not `finished`; name, final checkpoint and environment are the first run's.
  public static func averaged(_ runs: [RunResults]) -> RunResults? {
    guard var result = runs.first,
      runs.allSatisfy({ $0.stages == result.stages && $0.probes == result.probes })
    else { return nil }
    result.seedRuns = runs.map { SeedRun(seed: $0.seed, summary: $0.summary) }
    result.status = runs.map(\.status).first { $0 != .finished } ?? .finished
    for row in result.matrix.indices {
      let name = result.matrix[row].after
      for column in result.matrix[row].cells.indices {
        let key = result.matrix[row].cells[column].key
        let spread = Spread(runs.map { $0.cell(key, after: name)?.value })
        result.matrix[row].cells[column].value = spread.mean ?? .nan
        result.matrix[row].cells[column].stderr = spread.stderr
      }
    }
    result.summary = Summary.averaged(runs.map(\.summary), first: result.summary)
    for index in result.gates.indices {
      let probe = result.gates[index].probe
      let all = runs.compactMap { run in run.gates.first { $0.probe == probe } }
      if let worst = all.max(by: { ($0.observed ?? -.infinity) < ($1.observed ?? -.infinity) }) {
        result.gates[index] = all.first { !$0.passed && $0.observed == nil } ?? worst
      }
    }
    result.cost.wallSeconds = runs.reduce(0) { $0 + $1.cost.wallSeconds }
    result.cost.trainTokens = runs.reduce(0) { $0 &+ $1.cost.trainTokens }
    result.cost.peakRSSBytes = runs.map(\.cost.peakRSSBytes).max() ?? 0
    result.cost.tokensPerSecond = Spread(runs.map(\.cost.tokensPerSecond)).mean ?? 0
    return result
  }
}

extension Summary {
  fileprivate static func averaged(_ summaries: [Summary], first: Summary) -> Summary {
    var result = first
    func spread(_ term: (Summary) -> Double?) -> Spread { Spread(summaries.map(term)) }
    let forgetting = spread(\.forgetting)
    let retention = spread(\.retention)
    let plasticity = spread(\.plasticity)
    let bwt = spread(\.bwt)
    let fwt = spread(\.fwt)
    result.forgetting = forgetting.mean
    result.retention = retention.mean
    result.plasticity = plasticity.mean
    result.bwt = bwt.mean
    result.fwt = fwt.mean
    result.seedErrors = SeedErrors(
      forgetting: forgetting.stderr, bwt: bwt.stderr, fwt: fwt.stderr, retention: retention.stderr,
      plasticity: plasticity.stderr)
    if summaries.count > 1 {
      result.forgettingCI = forgetting.interval(first.confidence)
      result.retentionCI = retention.interval(first.confidence)
      result.plasticityCI = plasticity.interval(first.confidence)
    }
    for index in result.byProbe.indices {
      let name = result.byProbe[index].name
      func term(_ value: (RetentionTerms) -> Double?) -> Spread {
        spread { summary in summary.byProbe.first { $0.name == name }.flatMap { value($0.terms) } }
      }
      let own = term(\.forgetting)
      result.byProbe[index].terms.forgetting = own.mean
      result.byProbe[index].terms.retention = term(\.retention).mean
      result.byProbe[index].terms.plasticity = term(\.plasticity).mean
      result.byProbe[index].terms.bwt = term(\.bwt).mean
      result.byProbe[index].terms.fwt = term(\.fwt).mean
      if summaries.count > 1 { result.byProbe[index].forgettingCI = own.interval(first.confidence) }
    }
    return result
  }
}

/// Mean and standard error of a value over runs; nil where any run lacks it.
struct Spread {
  let mean: Double?
  let stderr: Double?
  private let count: Int

  init(_ values: [Double?]) {
    let present = values.compactMap { $0 }
    count = present.count
    guard count > 0, count == values.count, present.allSatisfy(\.isFinite) else {
      mean = nil
      stderr = nil
      return
    }
    let center = present.reduce(0, +) / Double(count)
    mean = center
    stderr =
      count < 2
      ? nil
      : (present.reduce(0) { $0 + ($1 - center) * ($1 - center) } / Double(count - 1) / Double(count))
        .squareRoot()
  }

  func interval(_ confidence: Double) -> Interval? {
    guard let mean, let stderr, let factor = StudentT.quantile(confidence, degrees: count - 1) else {
      return nil
    }
    return Interval(mean - factor * stderr, mean + factor * stderr)
  }
}

/// Student's t for whole degrees of freedom, by its finite sums (Abramowitz and Stegun 26.7.3 and 26.7.4).
public enum StudentT {
  /// The probability that |T| stays below `t`.
  static func central(_ t: Double, degrees: Int) -> Double {
    let angle = atan(t / Double(degrees).squareRoot())
    let square = cos(angle) * cos(angle)
    let isOdd = degrees % 2 == 1
    var term = isOdd ? cos(angle) : 1
    var sum = degrees == 1 ? 0 : term
    var step = isOdd ? 3 : 2
    while step < degrees {
      term *= square * Double(step - 1) / Double(step)
      sum += term
      step += 2
    }
    return isOdd ? 2 / .pi * (angle + sin(angle) * sum) : sin(angle) * sum
  }

  /// The t with a central probability of `confidence`, by bisection; nil outside 0 < confidence < 1, degrees ≥ 1.
  public static func quantile(_ confidence: Double, degrees: Int) -> Double? {
    guard confidence > 0, confidence < 1, degrees > 0 else { return nil }
    var low = 0.0
    var high = 1e6
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if central(middle, degrees: degrees) < confidence { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }
}
