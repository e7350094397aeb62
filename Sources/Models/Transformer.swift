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
    for block in blocks {
      let (attended, attentionBack) = residual(x, norm: block.attentionNorm, context: context) { x, context in
        block.attention(x, context)
      }
      let (fed, feedBack) = residual(attended, norm: block.feedForwardNorm, context: context) { x, context in
        switch block.feedForward {
        case .gated(let layer): layer(x, context)
        case .plain(let layer): layer(x, context)
        }
      }
      x = fed
      if recording { pullbacks += [attentionBack, feedBack] }
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
}
