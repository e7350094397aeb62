// The `summary` object of results.json and comparison.json, out and in.
// The keys that other programs rely on come first; intervals of other terms follow.

import StrictJSON

extension Interval {
  /// `[lower, upper]`
  public var json: JSON { .array([.number(lower), .number(upper)]) }

  /// Nil unless the value is a list of two numbers.
  public init?(_ json: JSON?) {
    guard let values = json?.array, values.count == 2, let lower = values[0].double,
      let upper = values[1].double
    else { return nil }
    self.init(lower, upper)
  }
}

extension RetentionTerms {
  var members: [JSON.Member] {
    [
      .init("forgetting", JSON(forgetting)), .init("bwt", JSON(bwt)), .init("fwt", JSON(fwt)),
      .init("retention", JSON(retention)), .init("plasticity", JSON(plasticity)),
    ]
  }

  init(_ json: JSON) {
    self.init()
    forgetting = json["forgetting"]?.double
    bwt = json["bwt"]?.double
    fwt = json["fwt"]?.double
    retention = json["retention"]?.double
    plasticity = json["plasticity"]?.double
  }
}

extension Summary {
  public var json: JSON {
    var members: [JSON.Member] = [
      .init("forgetting", JSON(forgetting)), .init("forgetting_ci", forgettingCI?.json ?? .null),
      .init("bwt", JSON(bwt)), .init("fwt", JSON(fwt)), .init("retention", JSON(retention)),
      .init("plasticity", JSON(plasticity)), .init("metric", JSON(metric)),
      .init("confidence", .number(confidence)),
      .init("retention_ci", retentionCI?.json ?? .null),
      .init("plasticity_ci", plasticityCI?.json ?? .null),
      .init(
        "by_probe",
        .object(
          byProbe.map { probe in
            .init(
              probe.name,
              .object(probe.terms.members + [.init("forgetting_ci", probe.forgettingCI?.json ?? .null)]))
          })),
    ]
    if let errors = seedErrors {
      members.append(
        .init(
          "seed_stderr",
          [
            "forgetting": JSON(errors.forgetting), "bwt": JSON(errors.bwt), "fwt": JSON(errors.fwt),
            "retention": JSON(errors.retention), "plasticity": JSON(errors.plasticity),
          ]))
    }
    return .object(members)
  }

  /// Reads what `json` wrote; terms that are absent are nil.
  public init(_ json: JSON) throws(ShapeError) {
    guard json.members != nil else { throw ShapeError("summary", "an object") }
    forgetting = json["forgetting"]?.double
    forgettingCI = Interval(json["forgetting_ci"])
    bwt = json["bwt"]?.double
    fwt = json["fwt"]?.double
    retention = json["retention"]?.double
    retentionCI = Interval(json["retention_ci"])
    plasticity = json["plasticity"]?.double
    plasticityCI = Interval(json["plasticity_ci"])
    metric = json["metric"]?.string
    confidence = json["confidence"]?.double ?? 0.95
    byProbe = (json["by_probe"]?.members ?? []).map { member in
      ProbeTerms(
        name: member.key, terms: RetentionTerms(member.value),
        forgettingCI: Interval(member.value["forgetting_ci"]))
    }
    if let errors = json["seed_stderr"], errors.members != nil {
      seedErrors = SeedErrors(
        forgetting: errors["forgetting"]?.double, bwt: errors["bwt"]?.double, fwt: errors["fwt"]?.double,
        retention: errors["retention"]?.double, plasticity: errors["plasticity"]?.double)
    }
  }
}
