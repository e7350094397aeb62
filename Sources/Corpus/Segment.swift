// Cutting a token sequence that is longer than the model may see, so that every target is met exactly once.
// Training (`split`) and scoring (windows of the model's context) share this rule.

/// One window of a token sequence: which tokens go in, and which are predicted.
public struct Segment: Sendable, Equatable {
  /// Indices of the tokens that are fed.
  public let inputs: Range<Int>
  /// Indices of the tokens that are predicted: the inputs, shifted by one.
  public var targets: Range<Int> { inputs.lowerBound + 1..<inputs.upperBound + 1 }
  public init(inputs: Range<Int>) { self.inputs = inputs }

  /// The windows of a sequence of `count` tokens with at most `length` inputs each.
  ///
  /// Window k has inputs kL ..< min(kL + L, count − 1): targets 1 ..< count are covered once, in order, and every
  /// window after the first is conditioned on the one token before its first target.
  public static func cut(count: Int, length: Int) -> [Segment] {
    let length = max(1, length)
    return stride(from: 0, to: count - 1, by: length).map {
      Segment(inputs: $0..<($0 + min(length, count - 1 - $0)))
    }
  }
}
