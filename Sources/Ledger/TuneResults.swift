// tune.json: what a search over method strengths tried and what it chose.
// Below tuning and reports, because one writes it and the other draws it.

import StrictJSON

/// The content of tune.json.
public struct TuneResults: Sendable, Equatable {
  public struct Trial: Sendable, Equatable {
    /// The value tried: a number, a text or a boolean; nil for naive.
    public var value: JSON?
    /// Halving round, from 0.
    public var rung: Int
    public var steps: Int
    public var retention: Double?
    public var plasticity: Double?
    public var plasticityShare: Double?
    public var forgetting: Double?
    public var forgettingAvoided: Double?
    public var seconds: Double
    /// Of the score, documents resampled in this trial and naive alike; nil where rows are not paired.
    public var scoreCI: Interval?

    public init(
      value: JSON?, rung: Int, steps: Int, retention: Double?, plasticity: Double?, plasticityShare: Double?,
      forgetting: Double?, forgettingAvoided: Double?, seconds: Double, scoreCI: Interval? = nil
    ) {
      self.value = value
      self.rung = rung
      self.steps = steps
      self.retention = retention
      self.plasticity = plasticity
      self.plasticityShare = plasticityShare
      self.forgetting = forgetting
      self.forgettingAvoided = forgettingAvoided
      self.seconds = seconds
      self.scoreCI = scoreCI
    }

    /// A trial from its summary, with the ratios against naive.
    public init(value: JSON?, rung: Int, steps: Int, summary: Summary, naive: Summary?, seconds: Double) {
      self.init(
        value: value, rung: rung, steps: steps, retention: summary.retention,
        plasticity: summary.plasticity,
        plasticityShare: Comparison.plasticityShare(summary, naive: naive),
        forgetting: summary.forgetting,
        forgettingAvoided: Comparison.forgettingAvoided(summary, naive: naive), seconds: seconds)
    }

    /// plasticity_share + forgetting_avoided, what the knee maximises; nil where either is.
    public var score: Double? {
      guard let plasticityShare, let forgettingAvoided else { return nil }
      return plasticityShare + forgettingAvoided
    }
  }
  /// The key searched, such as `methods.ewc.lambda`.
  public var key: String
  public var naive: Trial?
  public var trials: [Trial]
  public var chosen: JSON
  public var reason: String

  public init(key: String, naive: Trial?, trials: [Trial], chosen: JSON, reason: String) {
    self.key = key
    self.naive = naive
    self.trials = trials
    self.chosen = chosen
    self.reason = reason
  }

  public var json: JSON {
    [
      "schema": 1, "key": .string(key), "naive": naive?.json ?? .null,
      "trials": .array(trials.map(\.json)),
      "chosen": ["value": chosen, "reason": .string(reason)],
    ]
  }

  public init(_ json: JSON) throws(ShapeError) {
    guard json["schema"]?.int == 1 else { throw ShapeError("schema", "1, the only one this version reads") }
    key = try json.require("key", \.string, "a text")
    naive = json["naive"].flatMap { $0.members == nil ? nil : Trial($0) }
    trials = try json.require("trials", \.array, "a list").map { Trial($0) }
    let choice = try json.require("chosen", { $0.members == nil ? nil : $0 }, "an object")
    chosen = choice["value"] ?? .null
    reason = choice["reason"]?.string ?? ""
  }

  /// Reads tune.json from disk.
  public static func read(_ path: String) throws(LedgerError) -> TuneResults {
    let json = try TextFile.readJSON(path)
    do throws(ShapeError) { return try TuneResults(json) } catch {
      throw LedgerError(.malformed, path: path, what: error.description)
    }
  }
}

extension TuneResults.Trial {
  public var json: JSON {
    let own: [JSON.Member] = value.map { [JSON.Member("value", $0)] } ?? []
    return .object(
      own + [
        .init("rung", .integer(rung)), .init("steps", .integer(steps)), .init("retention", JSON(retention)),
        .init("plasticity", JSON(plasticity)), .init("plasticity_share", JSON(plasticityShare)),
        .init("forgetting", JSON(forgetting)), .init("forgetting_avoided", JSON(forgettingAvoided)),
        .init("seconds", .number(seconds)),
      ] + (scoreCI.map { [JSON.Member("score_ci", $0.json)] } ?? []))
  }

  /// Absent figures are nil or zero.
  public init(_ json: JSON) {
    self.init(
      value: json["value"], rung: json["rung"]?.int ?? 0, steps: json["steps"]?.int ?? 0,
      retention: json["retention"]?.double, plasticity: json["plasticity"]?.double,
      plasticityShare: json["plasticity_share"]?.double, forgetting: json["forgetting"]?.double,
      forgettingAvoided: json["forgetting_avoided"]?.double, seconds: json["seconds"]?.double ?? 0,
      scoreCI: Interval(json["score_ci"]))
  }
}
