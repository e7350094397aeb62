// Which values a search tries: even in the logarithm, even, as listed, or drawn.
// Pure functions of the plan and the seed, so that a search run again tries the same values.
import Experiment
import Foundation
import TensorCore

/// One candidate: a value for every key of the search.
public struct TunePoint: Sendable, Equatable {
  /// In the order of `TunePlan.search`.
  public var values: [Double]
  public init(_ values: [Double]) { self.values = values }

  /// The value as an experiment file writes it: `10`, `0.01`, `1e-05`.
  public static func text(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }
}

/// The candidates of a search.
public enum SearchSpace {
  /// Every candidate once, in the order they are tried.
  ///
  /// - One key, `halving` or `grid`: `trials` values from end to end, even in the logarithm for
  ///   `log_uniform`; `values` are all tried as they stand.
  /// - Several keys: the grid of ⌊trials^(1/keys)⌋ values each, at least one.
  /// - `random`: `trials` independent draws, from a stream of the seed's own.
  ///
  /// Values are rounded to four significant digits, ends excepted.
  public static func points(_ plan: TunePlan, seed: UInt64) -> [TunePoint] {
    var points: [TunePoint] = []
    if plan.sampler == .random {
      var random = RandomStream(seed: seed).forked("tune")
      for _ in 0..<plan.trials {
        points.append(TunePoint(plan.search.map { draw($0.range, &random) }))
      }
    } else {
      let count = plan.search.count == 1 ? plan.trials : side(of: plan.trials, dimensions: plan.search.count)
      points = [TunePoint([])]
      for dimension in plan.search {
        let values = spaced(dimension.range, count: count)
        points = points.flatMap { point in values.map { TunePoint(point.values + [$0]) } }
      }
    }
    return points.reduce(into: []) { unique, point in if !unique.contains(point) { unique.append(point) } }
  }

  /// `count` values from end to end; one is the middle.
  public static func spaced(_ range: TunePlan.Range, count: Int) -> [Double] {
    func even(_ low: Double, _ high: Double, _ value: (Double) -> Double) -> [Double] {
      (0..<count).map { index in
        if count > 1, index == 0 { return low }
        if count > 1, index == count - 1 { return high }
        return rounded(value(count == 1 ? 0.5 : Double(index) / Double(count - 1)), low, high)
      }
    }
    switch range {
    case .values(let values): return values
    case .uniform(let low, let high): return even(low, high) { low + (high - low) * $0 }
    case .logUniform(let low, let high): return even(low, high) { logarithmic(low, high, $0) }
    }
  }

  private static func draw(_ range: TunePlan.Range, _ random: inout RandomStream) -> Double {
    let share = random.uniform()
    switch range {
    case .values(let values): return values[min(values.count - 1, Int(share * Double(values.count)))]
    case .uniform(let low, let high): return rounded(low + (high - low) * share, low, high)
    case .logUniform(let low, let high): return rounded(logarithmic(low, high, share), low, high)
    }
  }

  private static func logarithmic(_ low: Double, _ high: Double, _ share: Double) -> Double {
    exp(log(low) + (log(high) - log(low)) * share)
  }

  private static func rounded(_ value: Double, _ low: Double, _ high: Double) -> Double {
    min(high, max(low, Double(String(format: "%.3e", value)) ?? value))
  }

  /// The largest whole side whose power is at most `count`.
  private static func side(of count: Int, dimensions: Int) -> Int {
    func power(_ side: Int) -> Int {
      (0..<dimensions).reduce(1) { product, _ in product > count ? product : product * side }
    }
    var side = 1
    while power(side + 1) <= count { side += 1 }
    return side
  }
}
