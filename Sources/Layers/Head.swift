// The head in blocks of rows: logits of one block, loss and gradient in their place, back through the head, next block.
// With a vocabulary of tens of thousands the logits are the largest tensor of all; they never exist at once.
import TensorCore

/// What turns logits into losses and a gradient: the output end of every backward pass.
public protocol HeadSeed {
  /// Replaces the logits by the gradient of the summed loss, and fills losses in nats.
  ///
  /// - Parameter rows: places in the batch of the block's rows
  /// - Shapes: logits [n, V], targets [n], losses [1, n]
  mutating func seed(_ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend)
}

/// loss = −log softmax(logits)[target], its gradient times `scale`.
public struct CrossEntropySeed: HeadSeed {
  public let scale: Float
  public init(scale: Float) { self.scale = scale }
  public mutating func seed(
    _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
  ) {
    backend.crossEntropy(logits, targets: targets, scale: scale, losses: losses)
  }
}

/// Losses of the rows that carry one, and the gradient by the hidden states.
public struct HeadPass {
  /// Summed loss in nats, in double.
  public let loss: Double
  /// Loss of each scored row, in the batch's order.
  public let losses: [Float]
  /// [N, C]; rows without a target are 0.
  public let hiddenGradient: Tensor
  /// Where logits were: free for other uses as long as this is kept.
  let workspace: Storage?
}

/// The classifying end of a network.
public struct Head {
  public let linear: Linear
  /// Elements of the largest block of logits: 64 MiB.
  public static let blockElements = 1 << 24

  public init(_ linear: Linear) {
    self.linear = linear
    linear.weight.isAtAnEnd = true
  }

  /// Rows [n, C] that carry a target, and their places.
  private func scoredRows(_ hidden: Tensor, _ batch: Batch, on backend: any Backend)
    -> (rows: Tensor, places: [Int32], isWhole: Bool)
  {
    let places = (0..<Int32(batch.count)).filter { batch.targets[Int($0)] >= 0 }
    guard places.count < batch.count else { return (hidden, places, true) }
    let rows = backend.empty(places.count, hidden.columns)
    backend.gather(hidden, tokens: places, into: rows)
    return (rows, places, false)
  }

  /// Losses with gradients: calls the seed block by block, tells the sink about the head's weight.
  ///
  /// - Shapes: hidden [N, C]
  public func backward(
    _ hidden: Tensor, batch: Batch, seed: inout some HeadSeed, sink: any GradientSink, on backend: any Backend
  ) -> HeadPass {
    let (scored, places, isWhole) = scoredRows(hidden, batch, on: backend)
    let gradient = backend.empty(scored.rows, scored.columns)
    var losses: [Float] = []
    losses.reserveCapacity(places.count)
    var workspace: Storage?
    let blocks = blocks(batch, places: places, whole: sink.needsWholeSegments)
    for (index, block) in blocks.enumerated() {
      let rows = block.range
      let logits = linear.forward(scored.rows(rows), on: backend)
      let blockLosses = backend.empty(1, rows.count)
      seed.seed(
        logits, targets: places[rows].map { batch.targets[Int($0)] }, rows: Array(places[rows]),
        losses: blockLosses, on: backend)
      losses += blockLosses.toArray()
      linear.inputGradient(logits, into: gradient.rows(rows), accumulate: false, on: backend)
      linear.report(logits, input: scored.rows(rows), rows: block.map, to: sink)
      // Of the last one alone: before, the next block's logits take it.
      if index == blocks.count - 1 { workspace = logits.storage }
    }
    let loss = losses.reduce(0) { $0 + Double($1) }
    guard !isWhole else {
      return HeadPass(loss: loss, losses: losses, hiddenGradient: gradient, workspace: workspace)
    }
    let all = backend.zeros(hidden.rows, hidden.columns)
    backend.scatterAdd(gradient, tokens: places, into: all)
    return HeadPass(loss: loss, losses: losses, hiddenGradient: all, workspace: workspace)
  }

  /// Calls `body` with the logits of the scored rows, block by block, and their places in the batch.
  public func forEachBlock(
    _ hidden: Tensor, batch: Batch, on backend: any Backend, _ body: (_ logits: Tensor, _ places: [Int32]) -> Void
  ) {
    let (scored, places, _) = scoredRows(hidden, batch, on: backend)
    for block in blocks(batch, places: places, whole: false) {
      body(linear.forward(scored.rows(block.range), on: backend), Array(places[block.range]))
    }
  }

  /// −log p of every target, in the batch's order; rows without a target are left out.
  public func negativeLogLikelihoods(_ hidden: Tensor, batch: Batch, on backend: any Backend) -> [Float] {
    var losses: [Float] = []
    forEachBlock(hidden, batch: batch, on: backend) { logits, places in
      let blockLosses = backend.empty(1, places.count)
      backend.negativeLogLikelihood(logits, targets: places.map { batch.targets[Int($0)] }, losses: blockLosses)
      losses += blockLosses.toArray()
    }
    return losses
  }

  /// Cuts the scored rows into blocks of at most `blockElements` logits; with `whole`, only between sequences.
  private func blocks(_ batch: Batch, places: [Int32], whole: Bool) -> [(range: Range<Int>, map: RowMap)] {
    guard !places.isEmpty else { return [] }
    let largest = max(1, Self.blockElements / linear.outputs)
    // Runs of scored rows of one sequence, as (sequence, count).
    var runs: [(sequence: Int, count: Int)] = []
    var sequence = 0
    for place in places {
      while batch.segments.starts[sequence + 1] <= Int(place) { sequence += 1 }
      if runs.last?.sequence == sequence { runs[runs.count - 1].count += 1 } else { runs.append((sequence, 1)) }
    }
    var blocks: [(range: Range<Int>, map: RowMap)] = []
    func append(_ runs: [(sequence: Int, count: Int)], from first: Int) {
      let count = runs.reduce(0) { $0 + $1.count }
      blocks.append(
        (
          first..<first + count,
          RowMap(
            segments: Segments(lengths: runs.map(\.count)), sequences: runs.map(\.sequence),
            places: Array(places[first..<first + count]))
        ))
    }
    // Blocks of even size; a sequence that does not fit the rest is cut unless `whole`.
    let even = whole ? largest : (places.count + (places.count - 1) / largest) / ((places.count - 1) / largest + 1)
    var (open, filled, first): ([(sequence: Int, count: Int)], Int, Int) = ([], 0, 0)
    for run in runs {
      var left = run.count
      while left > 0 {
        let room = even - filled
        if whole ? (filled > 0 && left > room) : room == 0 {
          append(open, from: first)
          (open, first, filled) = ([], first + filled, 0)
          continue
        }
        let part = whole ? left : min(left, room)
        open.append((run.sequence, part))
        filled += part
        left -= part
      }
    }
    if filled > 0 { append(open, from: first) }
    return blocks
  }
}
