// The table of probe kinds and their metrics: what can be asked, and which direction is better.

/// What a probe asks; raw values are the names in experiment files.
public enum ProbeKind: String, Sendable, CaseIterable {
  case text
  case minimalPairs = "minimal_pairs"
  case multipleChoice = "multiple_choice"
  case classification = "class"
}

/// One number that a probe can give.
public struct ProbeMetric: Sendable, Equatable {
  public let name: String
  public let higherIsBetter: Bool
  public let summary: String
}

/// What `retain list probes` shows of a kind.
public struct ProbeCard: Sendable {
  public let kind: ProbeKind
  /// In default order; the first is the primary one.
  public let metrics: [ProbeMetric]
  public let summary: String
  public var name: String { kind.rawValue }
}

public enum ProbeCatalog {
  private static let accuracy = ProbeMetric(
    name: "acc", higherIsBetter: true, summary: "share of items with the right answer on top; ties are wrong")

  public static let cards: [ProbeCard] = [
    ProbeCard(
      kind: .text,
      metrics: [
        ProbeMetric(
          name: "bits_per_byte", higherIsBetter: false, summary: "bits to code the text, per UTF-8 byte"),
        ProbeMetric(name: "perplexity", higherIsBetter: false, summary: "exp of the mean nats per token"),
      ], summary: "documents, every token scored once; of prompt+completion rows the completion"),
    ProbeCard(
      kind: .minimalPairs, metrics: [accuracy],
      summary: "two sentences each, the acceptable one should be likelier (BLiMP)"),
    ProbeCard(
      kind: .multipleChoice,
      metrics: [
        accuracy,
        ProbeMetric(
          name: "acc_norm", higherIsBetter: true, summary: "as acc, log-likelihoods divided by characters"),
      ], summary: "questions, contexts or gaps with choices; the right one should be likeliest"),
    ProbeCard(
      kind: .classification, metrics: [accuracy], summary: "images of idx files for a classifier's head"),
  ]

  public static func card(of kind: ProbeKind) -> ProbeCard {
    cards.first { $0.kind == kind } ?? ProbeCard(kind: kind, metrics: [], summary: "")
  }
}
