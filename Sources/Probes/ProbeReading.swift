// From a definition to rows: files, the kind they make, the prompt around them,
// the solved examples before them.
import Corpus
import Foundation

extension ProbeDefinition {
  /// The rows of all files and what they ask.
  func read() throws -> (rows: [SourceRow], kind: ProbeKind) {
    guard !paths.isEmpty else { throw fail(.definition, "no file is named", hint: "give `path`") }
    let files = try paths.flatMap { (path) throws(DataError) in try DataReader.expand(path) }
    let rows = try DataReader.read(paths: files, shape: shape, documents: documents)
    var found: ProbeKind?
    for row in rows {
      guard let asked = Self.kind(of: row.sample) ?? (kind == .text ? .text : nil) else {
        throw DataError(
          .unsupported, file: row.file, line: row.line, reason: "text+label rows are no probe",
          hint: "name the type: `text` scores their texts")
      }
      if let found, found != asked {
        throw DataError(
          .bad, file: row.file, line: row.line,
          reason: "a \(asked.rawValue) row in probe \(name), which began with \(found.rawValue)",
          hint: "make two probes of it")
      }
      found = asked
    }
    guard let found else { throw fail(.data, "no rows", hint: "check the files") }
    return (rows, found)
  }

  private var shape: DataShape? {
    switch kind {
    case .text: .text
    case .minimalPairs: .minimalPairs
    case .multipleChoice: .multipleChoice
    case .classification, nil: nil
    }
  }

  private static func kind(of sample: Sample) -> ProbeKind? {
    switch sample {
    case .text, .pair: .text
    case .minimalPair: .minimalPairs
    case .multipleChoice, .cloze: .multipleChoice
    case .labelled: nil
    }
  }

  /// The template of `prompt`; nil without one.
  func template(for kind: ProbeKind, rows: [SourceRow]) throws(ProbeError) -> PromptTemplate? {
    guard let prompt else { return nil }
    let asks = rows.contains { if case .multipleChoice = $0.sample { true } else { false } }
    guard kind == .multipleChoice, asks else {
      throw fail(
        .definition, "`prompt` has no meaning for these rows", hint: "only rows with a question have a prompt"
      )
    }
    guard let template = PromptTemplate(prompt) else {
      throw fail(
        .definition, "`prompt` must hold {question} once", hint: "as in \"Question: {question}\\nAnswer:\"")
    }
    return template
  }

  /// The solved examples as text before every prompt, each followed by an empty line; "" without them.
  func shots(for kind: ProbeKind, template: PromptTemplate?) throws -> String {
    guard fewshotCount > 0 else { return "" }
    guard kind == .multipleChoice else {
      throw fail(
        .definition, "`num_fewshot` has no meaning for \(kind.rawValue)",
        hint: "only multiple_choice has examples")
    }
    guard let fewshotPath else {
      throw fail(
        .definition, "`num_fewshot` without `fewshot_path`", hint: "name a file other than the probe's")
    }
    let place = Self.resolved(fewshotPath)
    let files = try paths.flatMap { (path) throws(DataError) in try DataReader.expand(path) }
    guard !files.contains(where: { Self.resolved($0) == place }) else {
      throw fail(
        .definition, "`fewshot_path` is the probe itself",
        hint: "name a file of other rows, such as the train split")
    }
    let rows = try DataReader.read(paths: [fewshotPath], shape: .multipleChoice)
    guard rows.count >= fewshotCount else {
      throw fail(
        .data, "\(fewshotPath) has \(rows.count) rows for \(fewshotCount) examples",
        hint: "lower `num_fewshot`")
    }
    var text = ""
    for row in rows.prefix(fewshotCount) {
      let candidates = template?.candidates(of: row.sample) ?? row.sample.candidates
      guard let answer = row.sample.answer, candidates.indices.contains(answer) else { continue }
      text += candidates[answer].prompt + candidates[answer].continuation + "\n\n"
    }
    return text
  }

  private static func resolved(_ path: String) -> String {
    URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path
  }
}
