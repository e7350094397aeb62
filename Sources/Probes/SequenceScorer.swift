// Token sequences to log-likelihoods: windows of the model's context, laid end to end in batches.
// No sequence sees another's own tokens: what is shared, and the batch size, change nothing but speed.
import Corpus
import Layers
import TensorCore

/// A token sequence of which the last part is scored.
public struct ScoredSequence: Sendable, Equatable {
  /// With the prefix token, where the model has one.
  public let tokens: [Int32]
  /// Index in `tokens` of the first scored token; at least 1, since a token is predicted from the one before.
  public let firstScored: Int

  public init(tokens: [Int32], firstScored: Int) {
    self.tokens = tokens
    self.firstScored = max(1, firstScored)
  }
  public var scored: Int { max(0, tokens.count - firstScored) }
  /// Its bytes; the length before the tokens keeps neighbours apart.
  func contents(_ take: (UnsafeRawBufferPointer) -> Void) {
    withUnsafeBytes(of: (Int64(tokens.count), Int64(firstScored)), take)
    tokens.withUnsafeBytes(take)
  }
  /// Whether tokens before the scored ones are lost in a window of that length.
  public func isCut(window: Int) -> Bool { scored > 0 && firstScored > 1 && tokens.count - 1 > window }

  /// What is fed at a time, each a range of inputs of at most `window` tokens.
  ///
  /// A sequence that fits is one range. If its scored part fits, what comes before is cut from the left. Else
  /// the scored part falls into disjoint windows, each conditioned on the one token before it (`Segment.cut`).
  public func windows(_ window: Int) -> [Range<Int>] {
    let inputs = tokens.count - 1
    guard scored > 0 else { return [] }
    if inputs <= window { return [0..<inputs] }
    if scored <= window { return [inputs - window..<inputs] }
    let first = firstScored - 1
    return Segment.cut(count: tokens.count - first, length: window).map {
      first + $0.inputs.lowerBound..<first + $0.inputs.upperBound
    }
  }
}

public enum SequenceScorer {
  /// −log p in nats of every scored token of every sequence, in order.
  ///
  /// - Parameters:
  ///   - window: most tokens fed at a time; at most the model's context.
  ///   - batchTokens: most tokens of a batch; a longer window is a batch of its own.
  /// - Cost: one forward pass over all windows, where neighbours in a batch begin alike only once over their
  ///   beginning; the results stay in memory, 4 bytes a token.
  public static func losses(
    of sequences: [ScoredSequence], network: any Network, window: Int, batchTokens: Int,
    on backend: any Backend
  ) -> [[Float]] {
    var losses = [[Float]](repeating: [], count: sequences.count)
    var batch = SharedPrefixBatch()
    var owners: [Int] = []
    func flush() {
      guard !batch.isEmpty else { return }
      for (owner, found) in zip(owners, batch.losses(of: network, on: backend)) { losses[owner] += found }
      batch = SharedPrefixBatch()
      owners.removeAll(keepingCapacity: true)
    }
    for (index, sequence) in sequences.enumerated() {
      for inputs in sequence.windows(window) {
        let tokens = sequence.tokens[inputs.lowerBound...inputs.upperBound]
        if batch.rows + batch.cost(tokens) > batchTokens { flush() }
        batch.append(
          tokens, unscored: min(inputs.count, max(0, sequence.firstScored - 1 - inputs.lowerBound)))
        owners.append(index)
      }
    }
    flush()
    return losses
  }
}

extension [Float] {
  /// The sum in double.
  var total: Double { reduce(0) { $0 + Double($1) } }
}
