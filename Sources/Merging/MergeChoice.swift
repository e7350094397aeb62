// Which strength of a sweep is taken: the one that probes like best.
import Ledger

/// One strength with what probes say of it.
public struct MergeCandidate: Sendable {
  public let alpha: Double
  public let measurements: [Measurement]
  public init(alpha: Double, measurements: [Measurement]) {
    self.alpha = alpha
    self.measurements = measurements
  }

  /// Mean over probes of the relative improvement of their first metric against the base; nil without probes.
  ///
  /// (R_base − R) / |R_base|, with the other sign where higher is better; where R_base is 0, the difference itself.
  public func meanImprovement(over base: [Measurement]) -> Double? {
    var seen = Set<String>()
    var gains: [Double] = []
    for old in base where seen.insert(old.probe).inserted {
      guard let new = measurements.first(where: { $0.key == old.key }) else { continue }
      let gain = old.higherIsBetter ? new.value - old.value : old.value - new.value
      gains.append(old.value == 0 ? gain : gain / abs(old.value))
    }
    return gains.isEmpty ? nil : gains.reduce(0, +) / Double(gains.count)
  }
}

/// What a sweep is decided by.
public enum MergePick: Sendable, Equatable {
  case bestMean
  /// `probe.metric`
  case metric(String)

  /// How good a candidate is, higher is better; nil where it cannot be said.
  func score(_ candidate: MergeCandidate, base: [Measurement]) -> Double? {
    let score: Double? =
      switch self {
      case .bestMean: candidate.meanImprovement(over: base)
      case .metric(let key):
        candidate.measurements.first { $0.key == key }.map { $0.higherIsBetter ? $0.value : -$0.value }
      }
    return score.flatMap { $0.isFinite ? $0 : nil }
  }

  /// The best candidate, of equals the first; nil where no score is finite.
  public func best(of candidates: [MergeCandidate], base: [Measurement]) -> Int? {
    var best: (index: Int, score: Double)?
    for (index, candidate) in candidates.enumerated() {
      guard let score = score(candidate, base: base) else { continue }
      if best.map({ score > $0.score }) ?? true { best = (index, score) }
    }
    return best?.index
  }
}
