// A pre-norm decoder: embedding, residual blocks, final norm, head. Families differ in what they hand to it.
import Layers
import TensorCore

/// One decoder block.
public struct TransformerBlock {
  public enum FeedForwardKind {
    case gated(GatedFeedForward)
    case plain(FeedForward)
  }
  public let attentionNorm: Normalization
  public let attention: SelfAttention
  public let feedForwardNorm: Normalization
  public let feedForward: FeedForwardKind

  public init(
    attentionNorm: Normalization, attention: SelfAttention, feedForwardNorm: Normalization,
    feedForward: FeedForwardKind
  ) {
    self.attentionNorm = attentionNorm
    self.attention = attention
    self.feedForwardNorm = feedForwardNorm
    self.feedForward = feedForward
  }

  /// Where its parameters begin in the flat vector.
  var firstElement: Int {
    min(attentionNorm.gain.range.lowerBound, attention.projections.members[0].weight.range.lowerBound)
  }

  func attend(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    residual(x, norm: attentionNorm, context: context) { x, context in attention(x, context) }
  }
  func feed(_ x: Tensor, _ context: Context) -> (Tensor, Pullback) {
    residual(x, norm: feedForwardNorm, context: context) { x, context in
      switch feedForward {
      case .gated(let layer): layer(x, context)
      case .plain(let layer): layer(x, context)
      }
    }
  }
}

/// A language model.
///
/// - Shapes: tokens [N] → hidden states [N, C] → logits [N, V]
public final class Transformer: Network {
  public let configuration: TransformerConfiguration
  public let parameters: ParameterStore
  private let embedding: Embedding
  private let blocks: [TransformerBlock]
  private let finalNorm: Normalization
  private let outputHead: Head
  /// Whether a recording forward pass keeps the inputs of its blocks alone, for a third more work on the way back.
  public var recomputesBlocks = false

  public init(
    configuration: TransformerConfiguration, parameters: ParameterStore, embedding: Embedding,
    blocks: [TransformerBlock], finalNorm: Normalization, head: Linear
  ) {
    self.configuration = configuration
    self.parameters = parameters
    self.embedding = embedding
    self.blocks = blocks
    self.finalNorm = finalNorm
    outputHead = Head(head)
  }

  public func head(_ index: Int) -> Head { outputHead }

  public func forward(_ batch: Batch, recording: Bool, on backend: any Backend)
    -> (hidden: Tensor, pullback: NetworkPullback?)
  {
    precondition(
      batch.segments.longest <= configuration.contextLength,
      "a sequence of \(batch.segments.longest) tokens exceeds the context of \(configuration.contextLength)")
    let context = Context(batch, on: backend)
    var pullbacks: [Pullback] = []
    let (embedded, inputBack) = embedding(batch, context)
    var x = embedded
    // A tied table is written first on the way back, one of its own last.
    var lent = embedding.table.uses > 1 ? embedding.table.range.upperBound : 0
    for block in blocks {
      if recording, let loan = backend.pool.loan {
        loan.lend(lent..<block.firstElement)
        lent = block.firstElement
      }
      if recording, recomputesBlocks {
        let (y, blockBack) = recomputed(x) { x in
          let (attended, attentionBack) = block.attend(x, context)
          let (fed, feedBack) = block.feed(attended, context)
          return (fed, { dy, sink in attentionBack(feedBack(dy, sink), sink) })
        }
        x = y
        pullbacks.append(blockBack)
      } else {
        let (attended, attentionBack) = block.attend(x, context)
        let (fed, feedBack) = block.feed(attended, context)
        x = fed
        if recording { pullbacks += [attentionBack, feedBack] }
      }
    }
    let (hidden, normBack) = finalNorm(x, context)
    guard recording else { return (hidden, nil) }
    pullbacks.append { dy, sink in
      let dx = backend.empty(dy.rows, dy.columns)
      normBack(dy, dx, false, sink)
      return dx
    }
    return (hidden, NetworkPullback(batch, layers: pullbacks, input: inputBack))
  }

  /// Logits of every token.  [N, V]; for short batches: nothing is cut into blocks.
  public func logits(_ batch: Batch, on backend: any Backend) -> Tensor {
    outputHead.linear.forward(forward(batch, recording: false, on: backend).hidden, on: backend)
  }

  /// An empty cache for `sequences` texts of at most `capacity` tokens each.
  ///
  /// - Cost: 8 · layers · sequences · capacity · keyHeads · headDimension bytes
  public func cache(sequences: Int, capacity: Int, on backend: any Backend) -> KeyValueCache {
    KeyValueCache(
      layers: blocks.count, width: configuration.keyHeads * configuration.headDimension, sequences: sequences,
      capacity: min(capacity, configuration.contextLength), on: backend)
  }
  /// Feeds the next tokens of every cached sequence and gives the logits after each one's last.
  ///
  /// The tokens of one sequence stand together: all at once into an empty cache, then one at a time.
  /// - Shapes: tokens [sequences · n] → [sequences, V]
  public func extend(_ tokens: [Int32], cache: KeyValueCache, on backend: any Backend) -> Tensor {
    let fresh = tokens.count / cache.sequences
    precondition(
      fresh > 0 && fresh * cache.sequences == tokens.count && cache.length + fresh <= cache.capacity,
      "\(tokens.count) tokens for \(cache.sequences) sequences at \(cache.length) of \(cache.capacity)")
    var batch = Batch(
      tokens: tokens, targets: [Int32](repeating: -1, count: tokens.count),
      lengths: [Int](repeating: fresh, count: cache.sequences))
    for index in batch.positions.indices { batch.positions[index] += Int32(cache.length) }
    let context = Context(batch, on: backend)
    var (x, _) = embedding(batch, context)
    for (layer, block) in blocks.enumerated() {
      let (normalized, _) = block.attentionNorm(x, context)
      let attended = block.attention.extend(normalized, context, cache: cache, layer: layer)
      backend.add(x, scaled: 1, into: attended)
      (x, _) = block.feed(attended, context)
    }
    cache.advance(by: fresh)
    let (hidden, _) = finalNorm(x, context)
    let last = backend.empty(cache.sequences, hidden.columns)
    backend.gather(hidden, tokens: (1...cache.sequences).map { Int32($0 * fresh - 1) }, into: last)
    return outputHead.linear.forward(last, on: backend)
  }
}
