// The catalogs behind `retain list`: methods, model families, kinds of probes, ways of merging, forms of rows.
// Gathered here because only this floor knows all of them.
import Continual
import Corpus
import Merging
import Models
import Probes
import StrictJSON
import Training

/// One entry of a catalog, ready to be shown.
public struct CatalogEntry: Sendable {
  public let name: String
  public let title: String
  /// Further facts in the order of display.
  public let facts: [(key: String, value: String)]

  public var json: JSON {
    .object(
      [.init("name", .string(name)), .init("title", .string(title))]
        + facts.map { .init($0.key, .string($0.value)) })
  }
}

public enum Catalog: String, Sendable, CaseIterable {
  case methods, models, probes, merges, tasks

  public var entries: [CatalogEntry] {
    switch self {
    case .methods:
      MethodCatalog.methods.map { method in
        let card = method.card
        return CatalogEntry(
          name: card.name, title: card.title,
          facts: [
            ("equation", card.equation), ("cost", card.cost), ("state", card.state), ("needs", card.needs),
            ("paper", card.paper), ("verified", card.verified),
          ])
      }
    case .models:
      ModelCatalog.architectures.map { family in
        let card = family.card
        return CatalogEntry(
          name: card.name, title: card.summary,
          facts: [
            ("model_type", card.modelTypes.joined(separator: ", ")),
            ("architectures", card.classNames.joined(separator: ", ")),
          ])
      }
    case .probes:
      ProbeCatalog.cards.map { card in
        CatalogEntry(
          name: card.name, title: card.summary,
          facts: card.metrics.map {
            ($0.name, $0.summary + ($0.higherIsBetter ? "; higher is better" : "; lower is better"))
          })
      }
    case .merges:
      MergeCatalog.cards.map { card in
        CatalogEntry(
          name: card.name, title: card.title,
          facts: [
            ("equation", card.equation), ("alpha", "\(card.defaultAlpha) unless --alpha is given"),
            (
              "options",
              MergeOption.allCases.filter(card.options.contains).map { "--" + $0.rawValue }.joined(separator: ", ")
            ),
            ("cost", card.cost), ("paper", card.paper),
          ])
      }
    case .tasks: Self.rowForms
    }
  }

  /// Forms of rows that probes and stages are read from, by their fields, in the order of detection.
  private static let rowForms: [CatalogEntry] = [
    task("prompt_completion", "pairs; loss and score on the completion", "prompt, completion", "text"),
    task("blimp", "two sentences, one acceptable", "sentence_good, sentence_bad", "minimal_pairs"),
    task(
      "question", "a question with choices, as in ARC, OpenBookQA, MMLU, PIQA",
      "question | question_stem | goal, choices | options | endings | sol1 + sol2, "
        + "label | answer | answer_idx | answerKey; choices: a list, { A: …, B: … } or { text: […], label: […] }",
      "multiple_choice"),
    task("hellaswag", "a context with endings", "ctx | context, endings, label", "multiple_choice"),
    task("winogrande", "a sentence with a gap", "sentence, option1, option2, answer", "multiple_choice"),
    task("pubmedqa", "an abstract, a question, yes, no or maybe", "pubmedqa's own fields", "multiple_choice"),
    task("classification", "a text and the name of its class", "text, label", "text"),
    task("text", "documents", "text; or a .txt file with empty lines between documents", "text"),
  ]
  private static func task(_ name: String, _ title: String, _ fields: String, _ probe: String) -> CatalogEntry {
    CatalogEntry(name: name, title: title, facts: [("fields", fields), ("probe", probe)])
  }
}
