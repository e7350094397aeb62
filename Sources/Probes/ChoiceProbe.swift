// Choices by likelihood: minimal pairs, questions with choices, gaps.
// One item, several candidates, one answer.
import Corpus
import Layers
import Ledger
import Models
import TensorCore

/// Items as token sequences: what is scored of each candidate, and what its likelihood is divided by.
struct ChoiceProbe: Sendable {
  struct Item: Sendable {
    /// One sequence per candidate; without scored tokens where the tokenizer gave the continuation none.
    var candidates: [ScoredSequence]
    /// Unicode scalars of each continuation, its leading space included.
    var characters: [Int]
    var bytes: Int
    var answer: Int
  }
  private(set) var items: [Item] = []

  /// Items of rows that have candidates; `shots` stand before every prompt.
  init(
    _ rows: [SourceRow], template: PromptTemplate?, shots: String, tokenizer: Tokenizer, prefixToken: Int32?
  ) {
    let prefix = prefixToken.map { [$0] } ?? []
    for row in rows {
      guard let answer = row.sample.answer else { continue }
      let candidates = (template?.candidates(of: row.sample) ?? row.sample.candidates).map {
        Sample.Candidate(prompt: shots + $0.prompt, continuation: $0.continuation)
      }
      items.append(
        Item(
          candidates: Self.encode(candidates, tokenizer: tokenizer).map { encoded in
            ScoredSequence(tokens: prefix + encoded.tokens, firstScored: prefix.count + encoded.firstScored)
          }, characters: candidates.map(\.continuation.unicodeScalars.count),
          bytes: candidates.reduce(0) { $0 + $1.continuation.utf8.count }, answer: answer))
    }
  }

  /// Tokens of prompt + continuation, encoded in one go, and where the continuation starts among them.
  ///
  /// White space at the end of a prompt moves to the continuation, as in lm-evaluation-harness. The
  /// continuation starts where the tokens of the whole part from those of the prompt alone. Where a tokenizer merges across
  /// the border, the merged token is scored, and candidates of the same prompt all start at the earliest such
  /// place, so that the same characters are compared.
  private static func encode(_ candidates: [Sample.Candidate], tokenizer: Tokenizer)
    -> [(tokens: [Int32], firstScored: Int)]
  {
    var found: [(tokens: [Int32], firstScored: Int)] = []
    var known: (prompt: String, tokens: [Int32]) = ("", [])
    for candidate in candidates {
      let scalars = candidate.prompt.unicodeScalars
      let end =
        scalars.lastIndex { !$0.properties.isWhitespace }.map(scalars.index(after:)) ?? scalars.startIndex
      let prompt = String(scalars[..<end])
      if !prompt.utf8.elementsEqual(known.prompt.utf8) {
        known = (prompt, prompt.isEmpty ? [] : tokenizer.encode(prompt))
      }
      let tokens = tokenizer.encode(candidate.prompt + candidate.continuation)
      let shared = zip(known.tokens, tokens).prefix { $0 == $1 }.count
      found.append((tokens, shared))
    }
    for index in found.indices {
      let prompt = candidates[index].prompt.utf8
      let peers = candidates.indices.filter { candidates[$0].prompt.utf8.elementsEqual(prompt) }
      found[index].firstScored = peers.map { found[$0].firstScored }.min() ?? found[index].firstScored
    }
    return found
  }

  /// Candidates whose continuation has no token.
  var withoutTokens: Int { items.reduce(0) { $0 + $1.candidates.filter { $0.scored == 0 }.count } }
  /// Items of which a prompt does not fit the window.
  func cut(window: Int) -> Int { items.filter { $0.candidates.contains { $0.isCut(window: window) } }.count }

  func measure(
    _ name: String, _ metrics: [ProbeMetric], network: any Network, window: Int, items count: Int,
    batchTokens: Int, on backend: any Backend
  ) -> [Measurement] {
    let chosen = Array(items.prefix(count))
    let sequences = chosen.flatMap(\.candidates)
    let losses = SequenceScorer.losses(
      of: sequences, network: network, window: window, batchTokens: batchTokens, on: backend)
    // What has no tokens has no likelihood to win with.
    let likelihoods = zip(sequences, losses).map { $0.scored == 0 ? -Double.infinity : -$1.total }
    return metrics.map { metric in
      var first = 0
      let right = chosen.map { item -> Double in
        var scores = Array(likelihoods[first..<first + item.candidates.count])
        first += item.candidates.count
        if metric.name == "acc_norm" {
          for index in scores.indices { scores[index] /= Double(max(1, item.characters[index])) }
        }
        return Self.isRight(scores, answer: item.answer) ? 1 : 0
      }
      return Measurement(
        probe: name, metric: metric.name, higherIsBetter: metric.higherIsBetter, numerators: right,
        denominators: [Double](repeating: 1, count: right.count),
        tokens: sequences.reduce(0) { $0 + $1.scored },
        bytes: chosen.reduce(0) { $0 + $1.bytes }, window: window)
    }
  }

  /// Whether the answer beats every other candidate; ties and not-a-number are wrong.
  private static func isRight(_ scores: [Double], answer: Int) -> Bool {
    guard scores.indices.contains(answer), scores[answer].isFinite else { return false }
    return scores.indices.allSatisfy { $0 == answer || scores[answer] > scores[$0] }
  }
}

/// A prompt with a place for the question.
struct PromptTemplate: Sendable {
  private let before: String
  private let after: String

  /// nil where `{question}` does not stand in the text exactly once.
  init?(_ text: String) {
    let parts = text.split(separator: "{question}", omittingEmptySubsequences: false)
    guard parts.count == 2 else { return nil }
    (before, after) = (String(parts[0]), String(parts[1]))
  }

  /// The candidates of a row with the template as prompt; continuations stay ` CHOICE`.
  func candidates(of sample: Sample) -> [Sample.Candidate] {
    guard case .multipleChoice(let question, _, _, _) = sample else { return sample.candidates }
    return sample.candidates.map {
      Sample.Candidate(prompt: before + question + after, continuation: $0.continuation)
    }
  }
}
