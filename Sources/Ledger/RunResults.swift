// results.json, schema 1: what a run leaves for other programs.
// Everything but cost and environment is the same for an interrupted and an uninterrupted run.

import StrictJSON

/// The content of results.json.
public struct RunResults: Sendable, Equatable {
  public enum Status: String, Sendable {
    case finished, diverged, interrupted
    case gateBroken = "gate_broken"
  }
  /// The last checkpoint and the hash of its parameters.
  public struct Final: Sendable, Equatable {
    /// Relative to the run directory.
    public var checkpoint: String
    public var parametersSHA256: String
    public init(checkpoint: String, parametersSHA256: String) {
      self.checkpoint = checkpoint
      self.parametersSHA256 = parametersSHA256
    }
  }
  public struct Cost: Sendable, Equatable {
    public var wallSeconds: Double
    public var trainTokens: Int
    public var tokensPerSecond: Double
    public var peakRSSBytes: Int
    public init(
      wallSeconds: Double = 0, trainTokens: Int = 0, tokensPerSecond: Double = 0, peakRSSBytes: Int = 0
    ) {
      self.wallSeconds = wallSeconds
      self.trainTokens = trainTokens
      self.tokensPerSecond = tokensPerSecond
      self.peakRSSBytes = peakRSSBytes
    }
  }
  /// The summary of one of several seeds.
  public struct SeedRun: Sendable, Equatable {
    public var seed: Int
    public var summary: Summary
  }

  public var name: String
  public var status: Status
  public var seed: Int
  public var stages: [String]
  public var probes: [ProbeInfo]
  public var matrix: [MatrixRow]
  public var summary: Summary
  public var gates: [GateResult]
  public var final: Final?
  public var cost: Cost
  /// `version, threads, blas_core, precision` and whatever else describes the machine, in order.
  public var environment: [JSON.Member]
  /// Several seeds: one entry each, and the rest are means; empty for one seed.
  public var seedRuns: [SeedRun]

  public init(
    name: String, status: Status, seed: Int, stages: [String], probes: [ProbeInfo], matrix: [MatrixRow],
    summary: Summary, gates: [GateResult] = [], final: Final? = nil, cost: Cost = Cost(),
    environment: [JSON.Member] = [], seedRuns: [SeedRun] = []
  ) {
    self.name = name
    self.status = status
    self.seed = seed
    self.stages = stages
    self.probes = probes
    self.matrix = matrix
    self.summary = summary
    self.gates = gates
    self.final = final
    self.cost = cost
    self.environment = environment
    self.seedRuns = seedRuns
  }

  /// The cell of `probe.metric` after `base` or a stage.
  public func cell(_ key: String, after name: String) -> MatrixRow.Cell? {
    matrix.first { $0.after.utf8.elementsEqual(name.utf8) }?.cell(key)
  }

  public static func == (left: RunResults, right: RunResults) -> Bool { left.json == right.json }
}

extension RunResults.Cost {
  public var json: JSON {
    [
      "wall_seconds": .number(wallSeconds), "train_tokens": .integer(trainTokens),
      "tokens_per_second": .number(tokensPerSecond), "peak_rss_bytes": .integer(peakRSSBytes),
    ]
  }
  /// Absent figures are zero.
  public init(_ json: JSON?) {
    self.init(
      wallSeconds: json?["wall_seconds"]?.double ?? 0, trainTokens: json?["train_tokens"]?.int ?? 0,
      tokensPerSecond: json?["tokens_per_second"]?.double ?? 0,
      peakRSSBytes: json?["peak_rss_bytes"]?.int ?? 0)
  }
}

extension RunResults {
  public var json: JSON {
    var members: [JSON.Member] = [
      .init("schema", 1), .init("name", .string(name)), .init("status", .string(status.rawValue)),
      .init("seed", .integer(seed)), .init("stages", .array(stages.map { .string($0) })),
      .init("probes", .array(probes.map(\.json))), .init("matrix", .array(matrix.map(\.json))),
      .init("summary", summary.json), .init("gates", .array(gates.map(\.json))),
      .init(
        "final",
        final.map {
          ["checkpoint": .string($0.checkpoint), "parameters_sha256": .string($0.parametersSHA256)]
        } ?? .null),
      .init("cost", cost.json), .init("environment", .object(environment)),
    ]
    if !seedRuns.isEmpty {
      members.append(
        .init(
          "seeds",
          .array(seedRuns.map { ["seed": .integer($0.seed), "summary": $0.summary.json] })))
    }
    return .object(members)
  }

  /// Reads results.json.
  ///
  /// - Throws: `ShapeError` naming the key that is absent or wrong, or a schema from a later version.
  public init(_ json: JSON) throws(ShapeError) {
    guard json["schema"]?.int == 1 else { throw ShapeError("schema", "1, the only one this version reads") }
    name = try json.require("name", \.string, "a text")
    let word = try json.require("status", \.string, "a text")
    guard let status = Status(rawValue: word) else { throw ShapeError("status", "a known status: \(word)") }
    self.status = status
    seed = try json.require("seed", \.int, "an integer")
    stages = try json.strings("stages")
    probes = []
    for probe in try json.require("probes", \.array, "a list") { probes.append(try ProbeInfo(probe)) }
    matrix = []
    for row in try json.require("matrix", \.array, "a list") { matrix.append(try MatrixRow(row)) }
    summary = try Summary(json["summary"] ?? .null)
    gates = []
    for gate in json["gates"]?.array ?? [] { gates.append(try GateResult(gate)) }
    if let final = json["final"], final.members != nil {
      self.final = Final(
        checkpoint: try final.require("checkpoint", \.string, "a text"),
        parametersSHA256: try final.require("parameters_sha256", \.string, "a text"))
    }
    cost = Cost(json["cost"])
    environment = json["environment"]?.members ?? []
    seedRuns = []
    for run in json["seeds"]?.array ?? [] {
      seedRuns.append(
        SeedRun(
          seed: try run.require("seed", \.int, "an integer"), summary: try Summary(run["summary"] ?? .null)))
    }
  }

  /// Reads results.json from disk.
  public static func read(_ path: String) throws(LedgerError) -> RunResults {
    let json = try TextFile.readJSON(path)
    do throws(ShapeError) { return try RunResults(json) } catch {
      throw LedgerError(.malformed, path: path, what: error.description)
    }
  }
}
