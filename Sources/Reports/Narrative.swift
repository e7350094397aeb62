// The sentences of a report: the verdict, what the words mean, what the numbers do not prove.
// Written from the data alone, so that no report claims more than its run measured.

import Ledger

enum Narrative {
  /// The chain, its seeds, and whether it came to its end.
  static func head(_ results: RunResults) -> String {
    let seeds = results.seedRuns.map(\.seed)
    let named =
      seeds.count > 1
      ? "seeds " + seeds.map(String.init).joined(separator: ", ") : "seed \(seeds.first ?? results.seed)"
    return (["base"] + results.stages).joined(separator: " → ") + " · \(named) · \(results.status.rawValue)"
  }

  /// One sentence on what was forgotten and how sure that is.
  static func headline(_ results: RunResults) -> String {
    let summary = results.summary
    guard let forgetting = summary.forgetting else {
      return results.status == .diverged
        ? "The run diverged before forgetting could be measured."
        : "Nothing can be said about forgetting yet: no probe was measured before and after a stage."
    }
    let unit = Format.unit(summary.metric)
    let figure = "\(Format.number(abs(forgetting))) \(unit)"
    guard let interval = summary.forgettingCI else {
      return forgetting > 0
        ? "The model forgot \(figure); how sure that is cannot be said without values per document."
        : "The model forgot nothing that was measured; on old ground it changed by \(figure) for the better."
    }
    let range =
      "\(level(summary)) interval \(Format.number(interval.lower)) to \(Format.number(interval.upper))"
    if interval.lower > 0 {
      return "The model forgot \(figure) (\(range)): forgetting is beyond chance on these documents."
    }
    if interval.upper < 0 {
      return "The model forgot nothing that was measured: on old ground it gained \(figure) "
        + "(forgetting \(Format.number(forgetting)), \(range))."
    }
    return
      "No forgetting could be shown: \(Format.number(forgetting)) \(unit) (\(range)), which includes zero."
  }

  /// What else a reader wants before any table.
  ///
  /// - Parameter curvature: paired interval of EWC's score less that of L2-SP
  static func verdict(_ run: RunFolder, paired: [String: PairedRuns], curvature: Interval?) -> [String] {
    let results = run.results
    let summary = results.summary
    let unit = Format.unit(summary.metric)
    var sentences: [String] = []
    if results.status == .diverged {
      sentences.append("The run diverged; the figures are those of the rows that were measured.")
    } else if results.status == .interrupted {
      sentences.append("The run is not finished; the same command continues it.")
    }
    if let retention = summary.retention {
      sentences.append("Of its best earlier level it kept \(Format.percent(retention)).")
    }
    if let plasticity = summary.plasticity {
      sentences.append(
        plasticity > 0
          ? "In its own stages it gained \(Format.number(plasticity)) \(unit)."
          : "In its own stages it gained nothing (\(Format.signed(plasticity)) \(unit)).")
    }
    if summary.byProbe.count > 1,
      let worst = summary.byProbe.filter({ ($0.terms.forgetting ?? 0) > 0 })
        .max(by: { ($0.terms.forgetting ?? 0) < ($1.terms.forgetting ?? 0) })
    {
      sentences.append("Most was lost on '\(worst.name)': \(Format.number(worst.terms.forgetting)).")
    }
    if let own = run.ownVariant, own.name != "naive", let naive = run.comparison?.variant("naive") {
      sentences += contrast(own, naive: naive, paired: paired["naive"]?.forgetting)
    }
    if let sentence = curvatureVerdict(run.comparison, paired: curvature) { sentences.append(sentence) }
    if !results.gates.isEmpty {
      let broken = results.gates.filter { !$0.passed }
      sentences.append(
        broken.isEmpty
          ? results.gates.count == 1 ? "The gate passed." : "All \(results.gates.count) gates passed."
          : "Broken gates: \(broken.map(\.probe).joined(separator: ", ")).")
    }
    return sentences
  }

  private static func contrast(
    _ own: Comparison.Variant, naive: Comparison.Variant, paired: PairedRuns.Term?
  ) -> [String] {
    guard let theirs = naive.summary.forgetting else { return [] }
    var sentence = "Naive fine-tuning on the same data forgot "
    sentence += theirs > 0 ? Format.number(theirs) : "nothing that was measured (\(Format.signed(theirs)))"
    if theirs > 0, let avoided = own.forgettingAvoided {
      sentence +=
        avoided >= 0
        ? "; this run avoided \(Format.percent(avoided)) of that"
        : "; this run forgot \(Format.percent(-avoided)) more than that"
      if let share = own.plasticityShare { sentence += " at \(Format.percent(share)) of its plasticity" }
    }
    guard let interval = paired?.interval else { return [sentence + "."] }
    let sure =
      interval.excludesZero
      ? " The difference is beyond chance on these documents"
      : " On these documents the difference could be chance"
    return [sentence + ".", sure.dropFirst() + " (paired interval\(Tables.interval(interval)))."]
  }

  /// Where EWC does not beat L2-SP, its Fisher adds nothing, and a report has to say so; nor does it say more than the
  /// intervals do where EWC scores higher.
  ///
  /// - Parameter paired: interval of EWC's score less that of L2-SP on the same documents; nil: by their own intervals
  static func curvatureVerdict(_ comparison: Comparison?, paired: Interval? = nil) -> String? {
    guard let ewc = comparison?.variant("ewc"), let plain = comparison?.variant("l2sp"),
      let share = ewc.plasticityShare, let avoided = ewc.forgettingAvoided,
      let plainShare = plain.plasticityShare, let plainAvoided = plain.forgettingAvoided
    else { return nil }
    let figures =
      "EWC scores \(Format.number(share + avoided)), L2-SP \(Format.number(plainShare + plainAvoided)) "
      + "(plasticity share + forgetting avoided)"
    guard share + avoided > plainShare + plainAvoided else {
      return "\(figures): at these strengths the Fisher information adds nothing over plain L2-SP."
    }
    if let paired {
      let range = "(paired interval of the difference\(Tables.interval(paired)))"
      return paired.lower > 0
        ? "\(figures): the Fisher information helped here \(range)."
        : "\(figures): the difference is within the noise \(range)."
    }
    let naive = comparison?.variant("naive")?.summary
    guard let mine = scoreBounds(ewc.summary, naive: naive), let its = scoreBounds(plain.summary, naive: naive) else {
      return "\(figures): without intervals nobody can say whether the difference is more than noise."
    }
    return mine.lower > its.upper
      ? "\(figures): the Fisher information helped here (their intervals are apart)."
      : "\(figures): the difference is within the noise (their intervals overlap)."
  }

  /// The score with plasticity and forgetting at the worse and at the better ends of their intervals, naive's figures
  /// as they are.
  private static func scoreBounds(_ summary: Summary, naive: Summary?) -> Interval? {
    guard let learned = summary.plasticityCI, let forgot = summary.forgettingCI, let most = naive?.plasticity,
      let worst = naive?.forgetting, most > 0, worst > 0
    else { return nil }
    return Interval(
      learned.lower / most + 1 - forgot.upper / worst, learned.upper / most + 1 - forgot.lower / worst)
  }

  static func level(_ summary: Summary) -> String { "\(Format.fixed(100 * summary.confidence, 0))%" }

  /// Terms and what they mean here.
  static func definitions(_ summary: Summary) -> [(term: String, meaning: String)] {
    [
      (
        "forgetting",
        "how much worse a probe is at the end than at its best since its home stage (since the base model for "
          + "probes without one), averaged over probes whose home lies before the last stage; negative where it "
          + "improved. In \(Format.unit(summary.metric))."
      ),
      summary.seedErrors == nil
        ? (
          "interval",
          "\(level(summary)) percentile bootstrap: the documents of each probe are drawn again with "
            + "replacement, the same draw for all rows of the matrix."
        )
        : (
          "interval",
          "\(level(summary)) interval of the mean over seeds (Student's t); documents are not drawn again."
        ),
      (
        "retention",
        "best earlier level as a share of the final one, averaged like forgetting; 100% kept all."
      ),
      ("plasticity", "improvement of a probe over its own home stage, averaged over probes with a home."),
      ("bwt", "backward transfer: change of a probe from the end of its home stage to the end of the chain."),
      ("fwt", "forward transfer: improvement of a probe over the base before its home stage began."),
      (
        "plasticity share",
        "plasticity ÷ that of naive fine-tuning on the same data in the same order; none where that learned nothing."
      ),
      ("forgetting avoided", "1 − forgetting ÷ that of naive fine-tuning; none where that forgot nothing."),
      (
        "±",
        "standard error over "
          + (summary.seedErrors == nil ? "the documents or items of a probe." : "seeds.")
      ),
      ("↑ ↓", "whether higher or lower is better; changes in brackets are relative to the base row."),
    ]
  }

  /// What the numbers do not show, from the run itself.
  static func limits(_ run: RunFolder) -> [String] {
    let results = run.results
    var limits: [String] = []
    let seeds = results.seedRuns.count
    if seeds > 1 {
      limits.append("\(seeds) seeds were run; with so few, the error over seeds is itself uncertain.")
    } else {
      limits.append(
        "One seed was run: the intervals cover the choice of documents, not the randomness of training. "
          + "Set seeds: to several for that.")
    }
    let smallest = results.matrix.flatMap(\.cells).filter { $0.n > 0 }.min { $0.n < $1.n }
    if let smallest, smallest.n < 100 {
      limits.append(
        "'\(smallest.key)' has \(smallest.n) documents or items; its standard error and interval are rough.")
    }
    if results.summary.forgetting != nil, results.summary.forgettingCI == nil {
      limits.append("There is no interval: values per document were absent or not finite.")
    }
    limits.append(
      "Only what the probes ask was measured. Knowledge without a probe, style, safety and format may have "
        + "changed unseen.")
    if !results.probes.contains(where: { $0.home == nil }) {
      limits.append("No probe without a home: what the base model knew was not measured.")
    }
    if let comparison = run.comparison {
      if comparison.variant("naive") == nil {
        limits.append("No naive variant was run, so shares against it are absent.")
      }
      limits.append(
        "The variants ran at the strengths of the experiment file; a method that loses here may win when tuned."
      )
      if curvatureVerdict(comparison) != nil {
        limits.append("The sentence on EWC and L2-SP holds for these strengths and these documents.")
      }
      if comparison.variants.contains(where: { $0.status != .finished }) {
        limits.append("Not all variants finished; their figures are of the rows that were measured.")
      }
    } else {
      limits.append(
        "Nothing was compared: whether a plain fine-tuning would have forgotten more is not shown.")
    }
    let uncounted = results.probes.filter { $0.metric != results.summary.metric }.map(\.name)
    if !uncounted.isEmpty {
      limits.append(
        "The summary counts \(Format.unit(results.summary.metric)) only; these probes stand in the matrix and "
          + "not in the summary: \(uncounted.joined(separator: ", ")).")
    }
    limits.append("Times are of one machine, listed below, with whatever else ran on it.")
    return limits
  }
}
