// Rows to token sequences for training: prefix + text + EOS, with the loss where it belongs.
// The tokenizer comes in as a closure, so that this file knows nothing about vocabularies.

/// Tokens of one training sequence and where its loss starts.
public struct Example: Sendable, Equatable {
  /// Prefix token (where the model has one), text, EOS; a later segment starts with the token before it.
  public var tokens: [Int32]
  /// Index in `tokens` of the first token that is scored as a target, at least 1.
  public var lossStart: Int
  /// Index of the row it comes from.
  public let source: Int
  /// How many tokens are fed: all but the last.
  public var length: Int { max(0, tokens.count - 1) }
  /// How many targets carry loss.
  public var lossTokens: Int { max(0, tokens.count - lossStart) }
  public init(tokens: [Int32], lossStart: Int, source: Int) {
    self.tokens = tokens
    self.lossStart = lossStart
    self.source = source
  }
}

/// What happens to a sequence with more inputs than `sequence_len`.
public enum ExcessStrategy: String, Sendable, CaseIterable {
  /// Cut into segments that together score every target once; segments without loss are left out.
  case split
  /// Keep the first `sequence_len` inputs and their targets.
  case truncate
  /// Leave the row out.
  case drop
  /// Refuse the data.
  case raise
}

/// What building did to the rows, for the log and the report.
public struct ExampleReport: Sendable, Equatable {
  public var rows = 0
  public var examples = 0
  /// Rows cut into several segments.
  public var split = 0
  public var truncated = 0
  public var dropped = 0
  /// Segments of split rows that lay wholly in the prompt.
  public var unscoredSegments = 0
  /// Input tokens of all examples.
  public var inputTokens = 0
  /// Targets that carry loss.
  public var lossTokens = 0
  /// Targets lost by `truncate` and `drop`.
  public var lostTokens = 0
  public init() {}
}

/// Turns rows into examples.
public struct ExampleBuilder {
  private let encode: (String) -> [Int32]
  private let prefixToken: Int32?
  private let eosToken: Int32?
  private let sequenceLength: Int
  private let trainOnInputs: Bool
  private let excess: ExcessStrategy?

  /// - Parameters:
  ///   - encode: text to ids, without special tokens.
  ///   - prefixToken: what the first token is conditioned on; without one it is never a target.
  ///   - sequenceLength: most inputs of an example.
  ///   - trainOnInputs: whether prompts carry loss too.
  ///   - excess: nil means `split` for texts and `truncate` for everything with a prompt.
  public init(
    encode: @escaping (String) -> [Int32], prefixToken: Int32?, eosToken: Int32?, sequenceLength: Int,
    trainOnInputs: Bool = false, excess: ExcessStrategy? = nil
  ) {
    self.encode = encode
    self.prefixToken = prefixToken
    self.eosToken = eosToken
    self.sequenceLength = max(1, sequenceLength)
    self.trainOnInputs = trainOnInputs
    self.excess = excess
  }

  /// The examples of the rows, in order.
  ///
  /// Text: prefix + text + EOS, all scored. Pair: prefix + prompt + completion + EOS, prompt and completion encoded
  /// apart and joined as they are, scored from the completion on. Labelled: as the pair `TEXT\nLabel:` and ` LABEL`.
  /// Multiple choice and gaps: as the pair of the right candidate. Minimal pairs are only for probes.
  ///
  /// - Throws: `DataError` at a row that has nothing to score, is too long under `raise`, or is a minimal pair.
  public func examples(from rows: [SourceRow]) throws(DataError) -> (examples: [Example], report: ExampleReport) {
    var examples: [Example] = []
    var report = ExampleReport()
    report.rows = rows.count
    for (index, row) in rows.enumerated() {
      let (whole, isPair) = try sequence(row, index)
      guard whole.lossTokens > 0 else { throw unscored(row, "the row has no token to score") }
      guard whole.length > sequenceLength else {
        examples.append(whole)
        continue
      }
      switch excess ?? (isPair ? .truncate : .split) {
      case .split:
        report.split += 1
        for segment in Segment.cut(count: whole.tokens.count, length: sequenceLength) {
          let start = segment.inputs.lowerBound
          let tokens = Array(whole.tokens[start..<segment.targets.upperBound])
          let piece = Example(tokens: tokens, lossStart: max(1, whole.lossStart - start), source: index)
          if piece.lossTokens > 0 { examples.append(piece) } else { report.unscoredSegments += 1 }
        }
      case .truncate:
        var short = whole
        short.tokens.removeLast(whole.length - sequenceLength)
        guard short.lossTokens > 0 else {
          throw unscored(row, "the prompt alone fills sequence_len \(sequenceLength); no completion is left to score")
        }
        report.truncated += 1
        report.lostTokens += whole.lossTokens - short.lossTokens
        examples.append(short)
      case .drop:
        report.dropped += 1
        report.lostTokens += whole.lossTokens
      case .raise:
        throw DataError(
          .bad, file: row.file, line: row.line,
          reason: "\(whole.length) tokens, sequence_len is \(sequenceLength)",
          hint: "raise sequence_len, or set excess_length_strategy to split, truncate or drop")
      }
    }
    report.examples = examples.count
    for example in examples {
      report.inputTokens += example.length
      report.lossTokens += example.lossTokens
    }
    return (examples, report)
  }

  private func sequence(_ row: SourceRow, _ index: Int) throws(DataError) -> (example: Example, isPair: Bool) {
    let prompt: String
    let completion: String
    switch row.sample {
    case .text(let text): (prompt, completion) = ("", text)
    case .pair(let first, let second): (prompt, completion) = (first, second)
    case .labelled(let text, let label): (prompt, completion) = (text + "\nLabel:", " " + label)
    case .multipleChoice, .cloze:
      let candidates = row.sample.candidates
      guard let answer = row.sample.answer, candidates.indices.contains(answer) else {
        throw unscored(row, "the answer names none of the choices")
      }
      (prompt, completion) = (candidates[answer].prompt, candidates[answer].continuation)
    case .minimalPair:
      throw DataError(
        .bad, file: row.file, line: row.line, reason: "minimal pairs are for probes, not for training",
        hint: "give rows with `text`, or with `prompt` and `completion`")
    }
    let head = (prefixToken.map { [$0] } ?? []) + (prompt.isEmpty ? [] : encode(prompt))
    let tail = encode(completion) + (eosToken.map { [$0] } ?? [])
    let promptEnd = trainOnInputs ? (prefixToken == nil ? 0 : 1) : head.count
    let example = Example(tokens: head + tail, lossStart: max(1, promptEnd), source: index)
    if case .text = row.sample { return (example, false) }
    return (example, true)
  }

  private func unscored(_ row: SourceRow, _ reason: String) -> DataError {
    DataError(
      .bad, file: row.file, line: row.line, reason: reason,
      hint: "lengthen sequence_len, remove the row, or set excess_length_strategy: drop")
  }
}
