// Which candidates go on, which one is chosen, and the sentence that says why.
// Works on measured trials alone, so that it can be tested without training.
import Experiment
import Foundation
import Ledger
import StrictJSON

/// The choice among trials of one length.
public struct TuneChoice: Sendable {
  public let pick: TunePlan.Pick
  /// The unit of plasticity in sentences: `bits_per_byte` or `acc`.
  public let metric: String?
  public init(_ pick: TunePlan.Pick, metric: String? = nil) {
    self.pick = pick
    self.metric = metric
  }

  /// Indices of the trials, the best first; those that diverged or could not be measured come last.
  ///
  /// `knee`: by plasticity_share + forgetting_avoided. `best_plasticity_at_retention`: those that retain
  /// enough by plasticity, then the others by retention. Ties go to the earlier trial, which is the smaller
  /// value where values are tried in order.
  /// - Parameter allowance: of a short rung, its naive run's loss of retention as a share of the full naive
  ///   run's; the retention asked for is raised accordingly. 1 in full.
  public func ranking(_ trials: [TuneResults.Trial], allowance: Double = 1) -> [Int] {
    func key(_ trial: TuneResults.Trial) -> (Int, Double) {
      switch pick {
      case .knee: return trial.score.map { (1, $0) } ?? (0, 0)
      case .bestPlasticity(let wanted):
        guard let retention = trial.retention, let plasticity = trial.plasticity else { return (0, 0) }
        return retention >= 1 - (1 - wanted) * allowance ? (2, plasticity) : (1, retention)
      }
    }
    let keys = trials.map(key)
    return trials.indices.sorted { keys[$0] == keys[$1] ? $0 < $1 : keys[$0] > keys[$1] }
  }

  /// Whether a trial can be chosen at all.
  public func isUsable(_ trial: TuneResults.Trial) -> Bool {
    switch pick {
    case .knee: trial.score != nil
    case .bestPlasticity: trial.retention != nil && trial.plasticity != nil
    }
  }

  /// The candidate next to the best full trial that has not been tried in full; the smaller side first.
  ///
  /// - Parameters:
  ///   - full: trials in full by candidate
  ///   - order: candidates by value
  public func untriedNeighbour(_ full: [Int: TuneResults.Trial], order: [Int]) -> Int? {
    let tried = order.indices.filter { full[order[$0]] != nil }
    let trials = tried.compactMap { full[order[$0]] }
    guard let best = ranking(trials).first, isUsable(trials[best]) else { return nil }
    return [tried[best] - 1, tried[best] + 1].filter { order.indices.contains($0) }.map { order[$0] }
      .first { full[$0] == nil }
  }

  /// Why the best of the full trials was chosen, in figures, against its neighbours.
  ///
  /// - Parameters:
  ///   - full: the trials of full length in the order of their values
  ///   - chosen: index into them
  ///   - candidates: every value that began, in order, for a word on the edges of the range
  public func reason(_ full: [TuneResults.Trial], chosen: Int, candidates: [JSON]) -> String {
    let trial = full[chosen]
    let among = full.count == 1 ? "the one value tried in full" : "the \(full.count) values tried in full"
    var parts: [String] = []
    switch pick {
    case .knee:
      parts.append(
        "the largest plasticity_share + forgetting_avoided of \(among), \(score(trial)): it learned "
          + "\(percent(trial.plasticityShare)) of what naive fine-tuning learned and avoided "
          + "\(percent(trial.forgettingAvoided)) of its forgetting")
    case .bestPlasticity(let wanted):
      let enough = full.filter { ($0.retention ?? 0) >= wanted }.count
      let plasticity = number(trial.plasticity) + (metric.map { " \($0)" } ?? "")
      parts.append(
        enough > 0
          ? "of \(among), \(enough) retain at least \(percent(wanted)); this one learned most, "
            + "\(plasticity), with retention \(percent(trial.retention))"
          : "none of \(among) retains \(percent(wanted)); this one comes closest with "
            + "\(percent(trial.retention)) and plasticity \(plasticity)")
    }
    if chosen > 0 { parts.append(neighbour("below", full[chosen - 1], trial)) }
    if chosen + 1 < full.count { parts.append(neighbour("above", full[chosen + 1], trial)) }
    if candidates.count > 2, let value = trial.value, value == candidates.first || value == candidates.last {
      parts.append("it lies at the edge of the values tried: a wider range may hold a better one")
    }
    parts.append(
      "chosen on the experiment's own probes, so final claims want probes that took no part in the choice")
    return parts.joined(separator: "; ")
  }

  private func neighbour(
    _ side: String, _ other: TuneResults.Trial, _ chosen: TuneResults.Trial
  ) -> String {
    let name = "the next \(side), \(Self.text(other.value)), "
    guard isUsable(other) else { return name + "diverged or could not be measured" }
    if case .bestPlasticity = pick {
      return name + "retains \(percent(other.retention)) with plasticity \(number(other.plasticity))"
    }
    var overlap = ""
    if let mine = chosen.scoreCI, let its = other.scoreCI {
      let touches = mine.lower <= its.upper && its.lower <= mine.upper
      overlap = touches ? ", the intervals overlap" : ", the intervals are apart"
    }
    return name + "gives \(score(other))\(overlap)"
  }

  private func score(_ trial: TuneResults.Trial) -> String {
    number(trial.score) + (trial.scoreCI.map { " [\(number($0.lower)), \(number($0.upper))]" } ?? "")
  }
  private func number(_ value: Double?) -> String { value.map { String(format: "%.3f", $0) } ?? "–" }
  private func percent(_ value: Double?) -> String {
    value.map { String(format: "%.1f %%", 100 * $0) } ?? "–"
  }

  static func text(_ value: JSON?) -> String {
    switch value {
    case .number(let number)?: TunePoint.text(number)
    case .some(let other): other.compact
    case nil: "naive"
    }
  }
}

/// The interval of a trial's score against naive.
public enum ScoreInterval {
  /// Percentile bootstrap of p/p₀ + 1 − f/f₀, the same documents drawn for both; nil for unpaired rows.
  public static func of(
    _ trial: SummaryReplicates, naive: SummaryReplicates, confidence: Double
  ) -> Interval? {
    guard let learned = trial.plasticity, let forgot = trial.forgetting,
      let naiveLearned = naive.plasticity, let naiveForgot = naive.forgetting,
      Set([learned.count, forgot.count, naiveLearned.count, naiveForgot.count]).count == 1
    else { return nil }
    return Bootstrap.interval(
      learned.indices.map { learned[$0] / naiveLearned[$0] + 1 - forgot[$0] / naiveForgot[$0] },
      confidence: confidence)
  }
}
