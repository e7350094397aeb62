// What a network is asked about: flattened tokens (or feature rows) with their sequences and targets.
import TensorCore

/// A batch of sequences laid end to end; no padding.
public struct Batch: Sendable {
  /// Inputs, one a token; empty where the network reads features.
  public var tokens: [Int32]
  /// Place of each token in its sequence, from 0.
  public var positions: [Int32]
  public var segments: Segments
  /// What should follow each token; below 0 where no loss is taken.
  public var targets: [Int32]
  /// Feature rows [N, I] of a classifier; every row is a sequence of its own.
  public var features: Tensor?
  /// Which head answers, for networks with several.
  public var head: Int
  /// For each sequence its number among those that the batch was made from; empty: as they stand.
  public var sources: [Int] = []
  public func source(of segment: Int) -> Int { sources.isEmpty ? segment : sources[segment] }
  /// What each place is taught, where that is more than its target; nil for plain batches.
  public var objectives: Objectives?

  /// - Parameter lengths: tokens of each sequence, in order
  public init(tokens: [Int32], targets: [Int32], lengths: [Int], head: Int = 0) {
    self.init(tokens: tokens, targets: targets, segments: Segments(lengths: lengths), head: head)
  }
  /// Positions of a segment that goes on from others continue theirs; such a batch runs forward only.
  public init(tokens: [Int32], targets: [Int32], segments: Segments, head: Int = 0) {
    precondition(segments.tokens == tokens.count && targets.count == tokens.count, "lengths do not cover the tokens")
    self.tokens = tokens
    self.targets = targets
    self.head = head
    self.segments = segments
    positions = (0..<segments.count).flatMap { index in
      let first = Int32(segments.position(of: index))
      return first..<first + Int32(segments[index].count)
    }
    features = nil
  }
  public init(features: Tensor, labels: [Int32], head: Int = 0) {
    precondition(features.rows == labels.count, "\(labels.count) labels for \(features.rows) rows")
    tokens = []
    positions = []
    segments = Segments(lengths: [Int](repeating: 1, count: labels.count))
    targets = labels
    self.features = features
    self.head = head
  }

  /// Targets over which the loss is averaged.
  public var counted: Int { objectives?.counted ?? scored }
  /// Tokens or rows.
  public var count: Int { targets.count }
  /// Targets that carry loss.
  public var scored: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
}

/// What a forward pass runs on.
public struct Context {
  public let backend: any Backend
  public let positions: [Int32]
  public let segments: Segments
  public init(_ batch: Batch, on backend: any Backend) {
    self.backend = backend
    positions = batch.positions
    segments = batch.segments
  }
}

/// Takes the gradient by a layer's output, tells the sink about the parameters, returns the gradient by its input.
///
/// It may overwrite the tensor it is given, never what the forward pass left; so it can be called again.
public typealias Pullback = (_ outputGradient: Tensor, _ sink: any GradientSink) -> Tensor
