// comparison.json: the same chain under several stacks of methods, measured against naive fine-tuning.
// The ratios are computed here once, so that screens, pages and tuning agree.

import StrictJSON

/// The content of comparison.json.
public struct Comparison: Sendable, Equatable {
  public struct Variant: Sendable, Equatable {
    public var name: String
    public var status: RunResults.Status
    public var summary: Summary
    public var matrix: [MatrixRow]
    public var cost: RunResults.Cost
    /// plasticity ÷ naive's; nil without naive or where naive learned nothing.
    public var plasticityShare: Double?
    /// 1 − forgetting ÷ naive's; nil without naive or where naive forgot nothing.
    public var forgettingAvoided: Double?
  }
  /// In the order they were given.
  public private(set) var variants: [Variant]

  /// Variants under their names; the one called `naive` is the reference.
  public init(_ runs: [(name: String, results: RunResults)]) {
    let naive = runs.first { $0.name == "naive" }?.results.summary
    variants = runs.map { run in
      let summary = run.results.summary
      return Variant(
        name: run.name, status: run.results.status, summary: summary, matrix: run.results.matrix,
        cost: run.results.cost,
        plasticityShare: Comparison.plasticityShare(summary, naive: naive),
        forgettingAvoided: Comparison.forgettingAvoided(summary, naive: naive))
    }
  }

  /// plasticity ÷ naive's plasticity; nil unless that is above 0: of a loss there are no shares.
  public static func plasticityShare(_ summary: Summary, naive: Summary?) -> Double? {
    guard let own = summary.plasticity, let reference = naive?.plasticity, reference > 0 else { return nil }
    return own / reference
  }

  /// 1 − forgetting ÷ naive's forgetting; nil unless that is above 0: nothing can be avoided where nothing was lost.
  public static func forgettingAvoided(_ summary: Summary, naive: Summary?) -> Double? {
    guard let own = summary.forgetting, let reference = naive?.forgetting, reference > 0 else { return nil }
    return 1 - own / reference
  }

  public func variant(_ name: String) -> Variant? {
    variants.first { $0.name.utf8.elementsEqual(name.utf8) }
  }

  public var json: JSON {
    [
      "schema": 1,
      "variants": .object(
        variants.map { variant in
          .init(
            variant.name,
            [
              "status": .string(variant.status.rawValue), "summary": variant.summary.json,
              "matrix": .array(variant.matrix.map(\.json)), "cost": variant.cost.json,
              "plasticity_share": JSON(variant.plasticityShare),
              "forgetting_avoided": JSON(variant.forgettingAvoided),
            ])
        }),
    ]
  }

  public init(_ json: JSON) throws(ShapeError) {
    guard json["schema"]?.int == 1 else { throw ShapeError("schema", "1, the only one this version reads") }
    variants = []
    for member in try json.require("variants", \.members, "an object") {
      var matrix: [MatrixRow] = []
      for row in member.value["matrix"]?.array ?? [] { matrix.append(try MatrixRow(row)) }
      variants.append(
        Variant(
          name: member.key,
          status: member.value["status"]?.string.flatMap(RunResults.Status.init) ?? .finished,
          summary: try Summary(member.value["summary"] ?? .null), matrix: matrix,
          cost: RunResults.Cost(member.value["cost"]),
          plasticityShare: member.value["plasticity_share"]?.double,
          forgettingAvoided: member.value["forgetting_avoided"]?.double))
    }
  }

  /// Reads comparison.json from disk.
  public static func read(_ path: String) throws(LedgerError) -> Comparison {
    let json = try TextFile.readJSON(path)
    do throws(ShapeError) { return try Comparison(json) } catch {
      throw LedgerError(.malformed, path: path, what: error.description)
    }
  }
}
