// One row of data after reading: what it says, and where it stood.
// Shapes are named here once; readers produce them, trainers and probes consume them.

/// The content of a row, by shape.
public enum Sample: Sendable, Equatable {
  /// A document.
  case text(String)
  /// A prompt and what should follow it, to be joined as they are.
  case pair(prompt: String, completion: String)
  /// A text and the name of its class.
  case labelled(text: String, label: String)
  /// Two sentences of which the first is the acceptable one.
  case minimalPair(good: String, bad: String)
  /// A question (or, with `isContext`, a text to be continued) and choices, `answer` counted from 0.
  case multipleChoice(question: String, isContext: Bool, choices: [String], answer: Int)
  /// A sentence with a gap (winogrande): an option fills it, and only what comes after it is scored.
  case cloze(before: String, options: [String], after: String, answer: Int)
}

extension Sample {
  /// A prompt and the continuation whose likelihood is asked for.
  public struct Candidate: Sendable, Equatable {
    public let prompt: String
    public let continuation: String
    public init(prompt: String, continuation: String) {
      self.prompt = prompt
      self.continuation = continuation
    }
  }

  /// What a model is asked to compare, in the order of the choices; empty for shapes without choices.
  ///
  /// Questions: `Question: Q\nAnswer:` and ` CHOICE`. Contexts: the context and ` ENDING`. Gaps: the sentence
  /// up to and with the option, and what follows it. Minimal pairs: no prompt, the good sentence first.
  public var candidates: [Candidate] {
    switch self {
    case .text, .pair, .labelled: []
    case .minimalPair(let good, let bad):
      [Candidate(prompt: "", continuation: good), Candidate(prompt: "", continuation: bad)]
    case .multipleChoice(let question, let isContext, let choices, _):
      choices.map {
        Candidate(prompt: isContext ? question : "Question: \(question)\nAnswer:", continuation: " \($0)")
      }
    case .cloze(let before, let options, let after, _):
      options.map { Candidate(prompt: before + $0, continuation: after) }
    }
  }

  /// The index of the right candidate; nil for shapes without choices.
  public var answer: Int? {
    switch self {
    case .text, .pair, .labelled: nil
    case .minimalPair: 0
    case .multipleChoice(_, _, _, let answer), .cloze(_, _, _, let answer): answer
    }
  }

  /// The words of the row as running text, with the right answer filled in: what overlap and splits compare.
  public var plainText: String {
    switch self {
    case .text(let text), .labelled(let text, _): text
    case .pair(let prompt, let completion): prompt + "\n" + completion
    case .minimalPair(let good, _): good
    case .multipleChoice(let question, _, let choices, let answer):
      choices.indices.contains(answer) ? question + " " + choices[answer] : question
    case .cloze(let before, let options, let after, let answer):
      before + (options.indices.contains(answer) ? options[answer] : "") + after
    }
  }

  /// Everything the row says, field by field, white space at the ends dropped: equal rows have equal bytes.
  var identity: String {
    let separator = "\u{1F}"
    switch self {
    case .text(let text): return text.trimmed
    case .pair(let prompt, let completion): return prompt.trimmed + separator + completion.trimmed
    case .labelled(let text, let label): return text.trimmed + separator + label.trimmed
    case .minimalPair(let good, let bad): return good.trimmed + separator + bad.trimmed
    case .multipleChoice(let question, _, let choices, let answer):
      return ([question] + choices).map(\.trimmed).joined(separator: separator) + separator + String(answer)
    case .cloze(let before, let options, let after, let answer):
      return ([before] + options + [after]).map(\.trimmed).joined(separator: separator) + separator + String(answer)
    }
  }
}

/// A row and the place it was read from.
public struct SourceRow: Sendable, Equatable {
  public let sample: Sample
  /// The path as it was given to the reader.
  public let file: String
  /// The line on which the row starts in the unpacked file, counted from 1.
  public let line: Int
  public init(sample: Sample, file: String, line: Int) {
    self.sample = sample
    self.file = file
    self.line = line
  }
}

/// The shapes of rows, in the order in which they are looked for; raw values are the names in experiment files.
public enum DataShape: String, Sendable, CaseIterable {
  case messages
  case conversations = "sharegpt"
  case instruction = "alpaca"
  case pair = "prompt+completion"
  case minimalPairs = "minimal_pairs"
  case multipleChoice = "multiple_choice"
  case labelled = "text+label"
  case text

  /// Whether this version can turn rows of the shape into samples.
  public var isSupported: Bool {
    switch self {
    case .messages, .conversations, .instruction: false
    case .pair, .minimalPairs, .multipleChoice, .labelled, .text: true
    }
  }
}

/// Where a document of a `.txt` file ends; raw values are the names in experiment files.
public enum DocumentRule: String, Sendable, CaseIterable {
  /// At a line that is empty or only white space.
  case blankLine = "blank_line"
  /// At every line end.
  case line
  /// At the end of the file.
  case file
}
