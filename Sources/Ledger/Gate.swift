// Gates: limits on how much worse a probe may become, checked against the matrix.
// Here and not in the run, so that a report can say what a gate saw from the files alone.

import StrictJSON

/// A limit on the relative worsening of one probe.
public struct Gate: Sendable, Equatable {
  public enum Breach: String, Sendable { case stop, warn, rollback }
  public var probe: String
  /// A share: 0.05 for 5 %. `max_increase` where lower is better, `max_drop` otherwise.
  public var limit: Double
  public var onBreach: Breach

  public init(probe: String, limit: Double, onBreach: Breach = .stop) {
    self.probe = probe
    self.limit = limit
    self.onBreach = onBreach
  }

  /// The relative worsening of the probe's first metric, s·(R(k) − R(h)) ÷ |R(h)|, worst over k ≥ max(h, 1).
  ///
  /// - Returns: a result that passes with `observed` nil while no such row is measured. A value that is not
  ///   finite, or any worsening from zero, does not pass.
  public func check(stages: [String], probes: [ProbeInfo], matrix: RetentionMatrix) -> GateResult {
    var result = GateResult(
      probe: probe, passed: true, limit: limit, observed: nil, after: nil, onBreach: onBreach)
    guard let info = probes.first(where: { $0.name.utf8.elementsEqual(probe.utf8) }) else { return result }
    let rows = ["base"] + stages
    let home = info.home.flatMap { name in rows.lastIndex { $0.utf8.elementsEqual(name.utf8) } } ?? 0
    guard let reference = matrix.measurement(info.key, after: rows[home])?.value else { return result }
    var worst = -Double.infinity
    for row in rows.dropFirst(max(home, 1)) {
      guard let value = matrix.measurement(info.key, after: row)?.value else { continue }
      let worsening = (info.higherIsBetter ? -1 : 1) * (value - reference)
      let relative = worsening == 0 ? 0 : worsening / abs(reference)
      let observed = relative.isNaN ? .infinity : relative
      if observed > worst {
        worst = observed
        result.observed = observed
        result.after = row
      }
    }
    if let observed = result.observed { result.passed = observed <= limit }
    return result
  }
}

/// What a gate saw: one entry of `gates` in results.json.
public struct GateResult: Sendable, Equatable {
  public var probe: String
  public var passed: Bool
  public var limit: Double
  /// Worst relative worsening over the stages; nil before any, null in JSON where not finite.
  public var observed: Double?
  /// The stage after which it was seen.
  public var after: String?
  public var onBreach: Gate.Breach

  public init(
    probe: String, passed: Bool, limit: Double, observed: Double?, after: String?, onBreach: Gate.Breach
  ) {
    self.probe = probe
    self.passed = passed
    self.limit = limit
    self.observed = observed
    self.after = after
    self.onBreach = onBreach
  }

  public var json: JSON {
    [
      "probe": .string(probe), "passed": .bool(passed), "limit": .number(limit),
      "observed": JSON(finite: observed),
      "after": JSON(after), "on_breach": .string(onBreach.rawValue),
    ]
  }

  public init(_ json: JSON) throws(ShapeError) {
    probe = try json.require("probe", \.string, "a text")
    passed = try json.require("passed", \.bool, "true or false")
    limit = try json.require("limit", \.double, "a number")
    observed = json["observed"]?.double
    after = json["after"]?.string
    onBreach = json["on_breach"]?.string.flatMap(Gate.Breach.init) ?? .stop
  }
}
