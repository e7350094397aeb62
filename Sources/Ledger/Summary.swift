// One number for what was forgotten, one for what was learned, with an interval: the summary of a chain.
// Each probe counts once, by its first metric; documents are resampled, rows stay paired.

import StrictJSON

/// Forgetting, transfer, retention and plasticity of a chain, as results.json has them.
public struct Summary: Sendable, Equatable {
  /// The terms of one probe, repeated under `by_probe`.
  public struct ProbeTerms: Sendable, Equatable {
    public var name: String
    public var terms: RetentionTerms
    public var forgettingCI: Interval?
  }
  /// Standard errors over seeds, where results are means over several.
  public struct SeedErrors: Sendable, Equatable {
    public var forgetting: Double?
    public var bwt: Double?
    public var fwt: Double?
    public var retention: Double?
    public var plasticity: Double?
  }

  /// Mean over probes with h < T of s·(R(T) − best of R(l), h ≤ l ≤ T−1); may be negative; nil for none.
  public var forgetting: Double?
  public var forgettingCI: Interval?
  /// Mean over 1 ≤ h < T of s·(R(h) − R(T)).
  public var bwt: Double?
  /// Mean over h ≥ 2 of s·(R(0) − R(h−1)).
  public var fwt: Double?
  /// Mean over the forgetting probes of best ÷ R(T), or R(T) ÷ best where higher is better.
  public var retention: Double?
  public var retentionCI: Interval?
  /// Mean over h ≥ 1 of s·(R(h−1) − R(h)).
  public var plasticity: Double?
  public var plasticityCI: Interval?
  /// `bits_per_byte`, else `acc`; nil where no probe has either first.
  public var metric: String?
  /// Level of the intervals.
  public var confidence: Double
  public var byProbe: [ProbeTerms]
  public var seedErrors: SeedErrors?

  /// Computes the summary of a chain, whole or cut short.
  ///
  /// T is the last stage that has a row. A probe whose home is no stage of the chain takes no part.
  /// - Parameters:
  ///   - matrix: rows `base` and stage names, with sums per document.
  ///   - confidence: level of the percentile intervals.
  ///   - bootstrap: number of resamples; 0 for no intervals.
  ///   - seed: of the resampling only.
  /// - Cost: bootstrap · probes · rows · documents additions.
  public init(
    stages: [String], probes: [ProbeInfo], matrix: RetentionMatrix, confidence: Double = 0.95,
    bootstrap: Int = 2000, seed: Int = 0
  ) {
    let counted = CountedProbe.all(stages: stages, probes: probes, matrix: matrix)
    let terms = counted.map(\.terms)
    metric = counted.first?.info.metric
    self.confidence = confidence
    forgetting = Summary.mean(terms.map(\.forgetting))
    bwt = Summary.mean(terms.map(\.bwt))
    fwt = Summary.mean(terms.map(\.fwt))
    retention = Summary.mean(terms.map(\.retention))
    plasticity = Summary.mean(terms.map(\.plasticity))
    let replicates = SummaryReplicates(counted: counted, count: bootstrap, seed: seed)
    func interval(_ values: [Double]?) -> Interval? {
      values.flatMap { Bootstrap.interval($0, confidence: confidence) }
    }
    forgettingCI = interval(replicates.forgetting)
    retentionCI = interval(replicates.retention)
    plasticityCI = interval(replicates.plasticity)
    byProbe = zip(counted, replicates.forgettingByProbe).map { probe, values in
      ProbeTerms(name: probe.info.name, terms: probe.terms, forgettingCI: interval(values))
    }
  }

  /// The mean of what is there; nil for nothing or where it is not finite.
  static func mean(_ values: [Double?]) -> Double? {
    let present = values.compactMap { $0 }
    guard !present.isEmpty else { return nil }
    let mean = present.reduce(0, +) / Double(present.count)
    return mean.isFinite ? mean : nil
  }
}

/// A probe that counts in the summary, with its row numbers resolved.
struct CountedProbe {
  let info: ProbeInfo
  let home: Int
  /// R(0) … R(T); nil where the row was not measured.
  let rows: [Measurement?]

  var terms: RetentionTerms {
    RetentionTerms(values: rows.map { $0?.value }, home: home, higherIsBetter: info.higherIsBetter)
  }

  static func all(stages: [String], probes: [ProbeInfo], matrix: RetentionMatrix) -> [CountedProbe] {
    let names = ["base"] + stages
    let measured = Set(matrix.rows.map { ByteKey($0.after) })
    guard let last = names.indices.last(where: { measured.contains(ByteKey(names[$0])) }) else { return [] }
    let metric = ["bits_per_byte", "acc"].first { name in probes.contains { $0.metric == name } }
    return probes.compactMap { probe in
      guard probe.metric == metric else { return nil }
      let home = probe.home.map { name in
        stages.firstIndex { $0.utf8.elementsEqual(name.utf8) }.map { $0 + 1 }
      }
      guard let home = home ?? 0 else { return nil }
      return CountedProbe(
        info: probe, home: home,
        rows: names[0...last].map { matrix.measurement(probe.key, after: $0) })
    }
  }
}

/// Resampled values of a summary's terms; equal seeds give equal draws per probe in every run.
public struct SummaryReplicates: Sendable {
  /// Nil where the term is empty or the rows of a probe are not paired.
  public let forgetting: [Double]?
  public let retention: [Double]?
  public let plasticity: [Double]?
  let forgettingByProbe: [[Double]?]

  /// Resamples the documents of every counted probe of a chain.
  public init(
    stages: [String], probes: [ProbeInfo], matrix: RetentionMatrix, count: Int = 2000, seed: Int = 0
  ) {
    self.init(
      counted: CountedProbe.all(stages: stages, probes: probes, matrix: matrix), count: count, seed: seed)
  }

  init(counted: [CountedProbe], count: Int, seed: Int) {
    let resampled = counted.map { SummaryReplicates.terms(of: $0, count: count, seed: seed) }
    let points = counted.map(\.terms)
    func byProbe(_ term: (RetentionTerms) -> Double?) -> [[Double]?] {
      zip(points, resampled).map { point, terms in
        term(point) == nil ? nil : terms?.map { term($0) ?? .nan }
      }
    }
    func mean(_ term: (RetentionTerms) -> Double?) -> [Double]? {
      let parts = zip(points, byProbe(term)).filter { term($0.0) != nil }.map(\.1)
      guard !parts.isEmpty else { return nil }
      var sums = [Double](repeating: 0, count: count)
      for part in parts {
        guard let part else { return nil }
        for index in sums.indices { sums[index] += part[index] }
      }
      return sums.map { $0 / Double(parts.count) }
    }
    forgetting = mean(\.forgetting)
    retention = mean(\.retention)
    plasticity = mean(\.plasticity)
    forgettingByProbe = byProbe(\.forgetting)
  }

  private static func terms(of probe: CountedProbe, count: Int, seed: Int) -> [RetentionTerms]? {
    let present = probe.rows.compactMap { $0 }
    guard count > 0, let first = present.first, present.allSatisfy({ $0.isPaired(with: first) }) else {
      return nil
    }
    var stream = Bootstrap.stream(seed: seed, probe: probe.info.name)
    var indices = [Int](repeating: 0, count: first.n)
    return (0..<count).map { _ in
      Bootstrap.draw(&indices, from: &stream)
      return RetentionTerms(
        values: probe.rows.map { $0?.resampled(indices) }, home: probe.home,
        higherIsBetter: probe.info.higherIsBetter)
    }
  }
}
