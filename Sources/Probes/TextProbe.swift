// Perplexity and bits per byte: every document on its own, every token once, EOS never.
import Corpus
import Layers
import Ledger
import Models
import TensorCore

/// Documents as token sequences, with the bytes that their scored tokens stand for.
struct TextProbe: Sendable {
  private(set) var documents: [ScoredSequence] = []
  private(set) var bytes: [Int] = []
  /// Documents that lost their first token for want of a prefix token.
  private(set) var unscoredFirstTokens = 0

  /// Texts are scored whole; of pairs the completion, encoded apart from its prompt as in training.
  init(_ rows: [SourceRow], tokenizer: Tokenizer, prefixToken: Int32?) {
    let prefix = prefixToken.map { [$0] } ?? []
    for row in rows {
      let (prompt, text): (String, String)
      switch row.sample {
      case .pair(let before, let completion): (prompt, text) = (before, completion)
      case .text(let document): (prompt, text) = ("", document)
      default: (prompt, text) = ("", row.sample.plainText)
      }
      let before = prefix + (prompt.isEmpty ? [] : tokenizer.encode(prompt))
      let scored = tokenizer.encode(text)
      documents.append(ScoredSequence(tokens: before + scored, firstScored: before.count))
      var covered = text.utf8.count
      if before.isEmpty, let first = scored.first {
        covered -= Self.bytes(of: first, startOf: text, tokenizer)
        unscoredFirstTokens += 1
      }
      bytes.append(covered)
    }
  }

  /// UTF-8 bytes of a text that its first token stands for.
  private static func bytes(of token: Int32, startOf text: String, _ tokenizer: Tokenizer) -> Int {
    let decoded = Array(tokenizer.decode([token]).utf8)
    if text.utf8.starts(with: decoded) { return decoded.count }
    // A piece of a character: byte-fallback spells its one byte in hexadecimal, byte-level one scalar a byte.
    guard let spelled = tokenizer.token(token) else { return 0 }
    let isHexadecimal = spelled.utf8.count == 6 && spelled.hasPrefix("<0x") && spelled.hasSuffix(">")
    return min(text.utf8.count, isHexadecimal ? 1 : spelled.unicodeScalars.count)
  }

  func measure(
    _ name: String, _ metrics: [ProbeMetric], network: any Network, window: Int, items: Int, batchTokens: Int,
    on backend: any Backend
  ) -> [Measurement] {
    let chosen = Array(documents.prefix(items))
    let losses = SequenceScorer.losses(
      of: chosen, network: network, window: window, batchTokens: batchTokens, on: backend)
    let nats = losses.map(\.total)
    let tokens = chosen.map(\.scored)
    let covered = Array(bytes.prefix(items))
    return metrics.map { metric in
      let isPerplexity = metric.name == "perplexity"
      return Measurement(
        probe: name, metric: metric.name, form: isPerplexity ? .exponentialOfRatio : .ratio,
        higherIsBetter: metric.higherIsBetter,
        numerators: isPerplexity ? nats : nats.map { $0 / Maths.log(2) },
        denominators: (isPerplexity ? tokens : covered).map(Double.init), tokens: tokens.reduce(0, +),
        bytes: covered.reduce(0, +), window: window)
    }
  }
}
