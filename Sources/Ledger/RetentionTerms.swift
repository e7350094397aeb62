// The formulas of forgetting and its relatives, for one probe over the rows of a chain.
// Kept apart from files and bootstraps, so that the definition can be read and tested by itself.

import StrictJSON

/// A probe as the matrix knows it: its first metric and the stage where it is at home.
public struct ProbeInfo: Sendable, Equatable {
  public var name: String
  /// The first metric; the only one that counts in the summary.
  public var metric: String
  public var higherIsBetter: Bool
  /// The stage that teaches what the probe asks; nil for what the base model knows.
  public var home: String?

  public init(name: String, metric: String, higherIsBetter: Bool, home: String? = nil) {
    self.name = name
    self.metric = metric
    self.higherIsBetter = higherIsBetter
    self.home = home
  }

  /// `name.metric`, the key in the matrix.
  public var key: String { "\(name).\(metric)" }

  public var json: JSON {
    .object([
      .init("name", .string(name)), .init("metric", .string(metric)),
      .init("higher_is_better", .bool(higherIsBetter)), .init("home", JSON(home)),
    ])
  }

  public init(_ json: JSON) throws(ShapeError) {
    name = try json.require("name", \.string, "a text")
    metric = try json.require("metric", \.string, "a text")
    higherIsBetter = try json.require("higher_is_better", \.bool, "true or false")
    home = json["home"]?.string
  }
}

/// What one probe adds to the means of a summary; nil where the probe takes no part.
public struct RetentionTerms: Sendable, Equatable {
  /// s·(R(T) − best), best over R(l), h ≤ l ≤ T−1; for h < T.
  public var forgetting: Double?
  /// s·(R(h) − R(T)); for 1 ≤ h < T.
  public var bwt: Double?
  /// s·(R(0) − R(h−1)); for h ≥ 2.
  public var fwt: Double?
  /// best ÷ R(T) where lower is better, R(T) ÷ best otherwise; for h < T.
  public var retention: Double?
  /// s·(R(h−1) − R(h)); for h ≥ 1.
  public var plasticity: Double?

  init() {}

  /// The terms of a probe.
  ///
  /// - Parameters:
  ///   - values: R(0) … R(T), base first; nil for a row that was not measured.
  ///   - home: h, the number of the home stage, 0 for none.
  ///   - higherIsBetter: s is −1 then, +1 otherwise.
  /// - Returns: terms in units of the metric; a term whose rows are missing is nil.
  public init(values: [Double?], home: Int, higherIsBetter: Bool) {
    let sign = higherIsBetter ? -1.0 : 1.0
    let last = values.count - 1
    func value(_ row: Int) -> Double? { values.indices.contains(row) ? values[row] : nil }
    if home >= 0, home < last, let final = value(last) {
      let earlier = values[home..<last].compactMap { $0 }
      if let first = earlier.first {
        // By hand, because min() drops NaN and a diverged row must not look whole.
        let best = earlier.dropFirst().reduce(first) { best, next in
          best.isNaN || next.isNaN ? .nan : higherIsBetter ? max(best, next) : min(best, next)
        }
        forgetting = sign * (final - best)
        let divisor = higherIsBetter ? best : final
        retention = divisor == 0 ? nil : higherIsBetter ? final / best : best / final
      }
      if home >= 1, let atHome = value(home) { bwt = sign * (atHome - final) }
    }
    if home >= 1, let before = value(home - 1), let after = value(home) {
      plasticity = sign * (before - after)
    }
    if home >= 2, let base = value(0), let before = value(home - 1) { fwt = sign * (base - before) }
  }
}
