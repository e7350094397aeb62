// The backward passes of every Fisher: labels by recipe at the output, any sink at the parameters.
import Layers
import TensorCore

/// A Fisher that cannot be had by the wanted recipe.
public struct FisherError: Error, Sendable, CustomStringConvertible {
  public let description: String

  /// Refuses an estimate with infinite or undefined numbers, by the name of the first parameter that has any.
  ///
  /// - Shapes: values [1, P]
  public static func check(
    _ values: Tensor, quantity: String = "Fisher information", of store: ParameterStore, on backend: any Backend
  ) throws(FisherError) {
    // A sum of squares may overflow where all of them are finite.
    guard !backend.dot(values, values).isFinite else { return }
    for parameter in store.parameters {
      try check(values.slice(parameter.range), quantity: quantity, of: parameter.name)
    }
  }
  static func check(
    _ values: Tensor, quantity: String = "Fisher information", of name: String
  ) throws(FisherError) {
    guard !values.toArray().allSatisfy(\.isFinite) else { return }
    throw FisherError(
      description: """
        the \(quantity) of \(name) is not finite: gradients overflow or are undefined at these parameters
        """)
  }
}

/// What passes have seen.
public struct FisherCount: Sendable, Equatable {
  public var sequences = 0
  /// Targets that carry loss.
  public var scored = 0
  /// Batches with such targets.
  public var batches = 0
  /// Estimates that were summed, each with labels drawn anew; passes over different labels are parts of one.
  public var draws = 1
}

/// −log p(y) with y drawn from the model itself: the labels of the sampled Fisher.
struct SampledSeed: HeadSeed {
  /// One draw for every place of the batch.
  let uniforms: [Double]
  mutating func seed(
    _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
  ) {
    _ = backend.sampledCrossEntropy(logits, uniforms: rows.map { uniforms[Int($0)] }, scale: 1, losses: losses)
  }
}

/// −log p(y) with y the likeliest label.
struct PredictedSeed: HeadSeed {
  mutating func seed(
    _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
  ) {
    let labels = backend.likeliest(logits, count: 1, temperature: 0).classes
    backend.crossEntropy(logits, targets: labels, scale: 1, losses: losses)
  }
}

/// √p(c)·∂(−log p(c)) at one scored place of every sequence, 0 elsewhere: one term of the expected Fisher.
struct ExpectedSeed: HeadSeed {
  let label: Int32
  /// The places that ask in this pass.
  let asking: Set<Int32>
  mutating func seed(
    _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
  ) {
    let labels = rows.map { asking.contains($0) ? label : -1 }
    backend.crossEntropy(logits, targets: labels, scale: 1, losses: losses)
    // p(c) = e^(−loss)
    let values = losses.buffer
    for (row, wanted) in labels.enumerated() where wanted >= 0 {
      backend.scale(logits.rows(row..<row + 1), by: Float(Maths.exp(-Double(values[row]) / 2)))
    }
  }
}

public enum FisherPass {
  /// Backward passes beyond which an expected Fisher of one batch is refused.
  public static let expectedPassLimit = 8192

  /// Sends ∂(−Σ log p(y)) of every batch into a sink, y by the labels of a recipe.
  ///
  /// Draws belong to a sequence's number, not to the batch that it stands in.
  /// - Parameter isEnough: asked after every batch with all that has been seen
  /// - Throws: `FisherError` where the expected Fisher would take too many passes
  /// - Cost: one forward pass; one backward pass a draw, k + 1 of the k likeliest labels
  public static func run(
    _ network: any Network, over batches: some Sequence<Batch>, labels: FisherRecipe.Labels, examples: Int,
    random: RandomStream, into sink: any GradientSink, isEnough: (FisherCount) -> Bool = { _ in false },
    on backend: any Backend
  ) throws(FisherError) -> FisherCount {
    var seen = FisherCount()
    if case .sampled(let count) = labels { seen.draws = count }
    for batch in batches where seen.sequences < examples {
      let (hidden, recorded) = network.forward(batch, recording: true, on: backend)
      guard let pullback = recorded else { continue }
      let head = network.head(batch.head)
      func pass(_ seed: some HeadSeed, isLast: Bool) {
        var seed = seed
        sink.begin(batch)
        let result = head.backward(hidden, batch: batch, seed: &seed, sink: sink, on: backend)
        pullback(result.hiddenGradient, sink, releasing: isLast)
      }
      switch labels {
      case .observed: pass(CrossEntropySeed(scale: 1), isLast: true)
      case .sampled(let count):
        for draw in 0..<count {
          let drawn = uniforms(batch, after: seen.sequences, from: random.forked("draw", draw))
          pass(SampledSeed(uniforms: drawn), isLast: draw == count - 1)
        }
      case .topK(let count):
        func draw(_ stream: RandomStream) -> [Double] { uniforms(batch, after: seen.sequences, from: stream) }
        let seed = StratifiedSeed(
          count: count, classes: head.linear.outputs, shifts: draw(random.forked("shift")),
          draws: draw(random.forked("tail")))
        for turn in 0..<seed.strata {
          seed.begin(turn, signs: draw(random.forked("sign", turn)))
          pass(seed, isLast: turn == seed.strata - 1)
        }
      case .predicted: pass(PredictedSeed(), isLast: true)
      case .expected: try expected(batch, head: head, pass: pass)
      }
      seen.sequences += batch.segments.count
      seen.scored += batch.scored
      seen.batches += batch.scored > 0 ? 1 : 0
      if isEnough(seen) { break }
    }
    return seen
  }

  /// A number in [0, 1) for every place of a batch, from a stream of each sequence's own.
  private static func uniforms(_ batch: Batch, after sequences: Int, from random: RandomStream) -> [Double] {
    var uniforms: [Double] = []
    uniforms.reserveCapacity(batch.count)
    for index in 0..<batch.segments.count {
      var stream = random.forked("sequence", sequences + index)
      for _ in batch.segments[index] { uniforms.append(stream.uniform()) }
    }
    return uniforms
  }

  /// One pass a class and scored place; sequences go side by side.
  private static func expected(
    _ batch: Batch, head: Head, pass: (ExpectedSeed, Bool) -> Void
  ) throws(FisherError) {
    let places = (0..<batch.segments.count).map { index in
      batch.segments[index].filter { batch.targets[$0] >= 0 }.map { Int32($0) }
    }
    let longest = places.map(\.count).max() ?? 0
    let classes = head.linear.outputs
    guard longest * classes <= expectedPassLimit else {
      throw FisherError(
        description: """
          the expected Fisher would take \(longest * classes) backward passes a batch (\(longest) scored positions × \
          \(classes) classes); labels: sampled and top_k estimate the same quantity in few
          """)
    }
    for step in 0..<longest {
      let asking = Set(places.compactMap { step < $0.count ? $0[step] : nil })
      for label in 0..<classes {
        pass(ExpectedSeed(label: Int32(label), asking: asking), step == longest - 1 && label == classes - 1)
      }
    }
  }
}
