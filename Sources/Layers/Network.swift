// What training, Fisher and probes need from any model: hidden states, a way back, heads.
import TensorCore

/// A model as the learning floors see it.
public protocol Network: AnyObject {
  var parameters: ParameterStore { get }
  /// The states that heads read, [N, C], and the way back from their gradient.
  ///
  /// - Parameter recording: without it nothing is kept for the way back, and the pullback is nil
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend)
    -> (hidden: Tensor, pullback: NetworkPullback?)
  func head(_ index: Int) -> Head
}

/// The pullbacks of one forward pass, last layer first.
public final class NetworkPullback {
  private var layers: [Pullback]
  private let input: (Tensor, any GradientSink) -> Void
  private let batch: Batch

  public init(_ batch: Batch, layers: [Pullback], input: @escaping (Tensor, any GradientSink) -> Void) {
    self.batch = batch
    self.layers = layers
    self.input = input
  }
  /// Runs backward; with `releasing` each layer's activations return to the pool as soon as they are used.
  public func callAsFunction(_ hiddenGradient: Tensor, _ sink: any GradientSink, releasing: Bool) {
    var gradient = hiddenGradient
    if releasing {
      while let layer = layers.popLast() { gradient = layer(gradient, sink) }
    } else {
      for layer in layers.reversed() { gradient = layer(gradient, sink) }
    }
    input(gradient, sink)
  }
}

extension Network {
  /// One forward and one backward pass into a sink.
  public func backward(
    _ batch: Batch, seed: some HeadSeed, sink: any GradientSink, on backend: any Backend
  ) -> (loss: Double, losses: [Float]) {
    var seed = seed
    // What lives until its layer's way back may lie where gradients of the layers before it will be written.
    backend.pool.loan = sink.spareMemory()
    let (hidden, pullback) = forward(batch, recording: true, on: backend)
    sink.begin(batch)
    let pass = head(batch.head).backward(hidden, batch: batch, seed: &seed, sink: sink, on: backend)
    // Blocks of logits are larger than anything on the way back: it takes place there.
    backend.pool.loan = pass.workspace.flatMap(Loan.whole)
    defer { backend.pool.loan = nil }
    pullback?(pass.hiddenGradient, sink, releasing: true)
    return (pass.loss, pass.losses)
  }
  /// −log p of every target in nats, no gradient.
  public func negativeLogLikelihoods(_ batch: Batch, on backend: any Backend) -> [Float] {
    let (hidden, _) = forward(batch, recording: false, on: backend)
    return head(batch.head).negativeLogLikelihoods(hidden, batch: batch, on: backend)
  }
}
