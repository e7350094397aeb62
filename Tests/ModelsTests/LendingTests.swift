// A gradient lends its memory to the forward pass: the same bits in less memory.
import Layers
import Models
import TensorCPU
import TensorCore
import Testing

@Suite struct LendingTests {
  /// Hands everything on to an accumulator and lends nothing.
  private final class Keeping: GradientSink {
    let inner: Accumulator
    let needsWholeSegments = false
    init(_ inner: Accumulator) { self.inner = inner }
    func begin(_ batch: Batch) { inner.begin(batch) }
    func linear(_ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap) {
      inner.linear(weight, layout: layout, input: input, outputGradient: outputGradient, rows: rows)
    }
    func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
      inner.rows(table, tokens: tokens, outputGradient: outputGradient, segments: segments)
    }
    func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
      inner.sum(vector, terms: terms, segments: segments)
    }
  }

  private func model(_ architecture: String, isTied: Bool, on backend: CPUBackend) throws -> Transformer {
    try ModelCatalog.initialize(
      TransformerConfiguration(
        architecture: architecture, vocabularySize: 1500, hiddenSize: 192, intermediateSize: 512, layers: 4, heads: 4,
        keyHeads: 4, contextLength: 128, epsilon: 1e-5, ropeTheta: 10000, tiesHead: isTied),
      random: RandomStream(seed: 4), on: backend)
  }
  private func batch(_ sequences: Int, seed: Int) -> Batch {
    let ids = (0..<sequences * 128).map { Int32(($0 * 7 + seed) % 1500) }
    return Batch(tokens: ids, targets: ids, lengths: [Int](repeating: 128, count: sequences))
  }
  private struct Outcome: Equatable {
    var losses: [[Float]] = []
    var gradient: [Float] = []
  }

  @Test(arguments: ["llama", "gpt2"], [true, false]) func bitsAreTheSame(architecture: String, isTied: Bool) throws {
    for recomputes in [false, true] {
      for precision in Precision.allCases where precision == .fp32 || CPUBackend.supportsBF16 {
        /// Two steps of two micro-batches, of which the first is large: nothing is lent to the second.
        func pass(lending: Bool) throws -> (outcome: Outcome, bytes: Int) {
          let backend = CPUBackend(threads: 2, precision: precision)
          let model = try model(architecture, isTied: isTied, on: backend)
          model.recomputesBlocks = recomputes
          let accumulator = Accumulator(model.parameters, on: backend)
          let sink: any GradientSink = lending ? accumulator : Keeping(accumulator)
          var outcome = Outcome()
          let before = backend.pool.bytesHeld
          for step in 0..<2 {
            accumulator.reset()
            for sequences in [6, 2] {
              let seed = CrossEntropySeed(scale: 0.01)
              outcome.losses.append(
                model.backward(batch(sequences, seed: step), seed: seed, sink: sink, on: backend).losses)
            }
            outcome.gradient += accumulator.gradient.toArray()
          }
          return (outcome, backend.pool.bytesHeld - before)
        }
        let (kept, lent) = (try pass(lending: false), try pass(lending: true))
        // Answers, not arrays: a failure would spell out the difference of millions of numbers.
        let (areSame, areMeant) = (
          kept.outcome == lent.outcome,
          kept.outcome.gradient.contains { $0 != 0 } && kept.outcome.gradient.allSatisfy(\.isFinite)
        )
        #expect(areSame && areMeant, "\(precision), recomputing \(recomputes)")
        #expect(lent.bytes < kept.bytes, "\(precision), recomputing \(recomputes)")
      }
    }
  }

  /// Whoever keeps what a forward pass left keeps it, though the gradient is written where it lay.
  @Test func gradientAndActivationsDoNotMeet() throws {
    let backend = CPUBackend(threads: 1)
    let model = try model("llama", isTied: false, on: backend)
    let accumulator = Accumulator(model.parameters, on: backend)
    backend.pool.loan = accumulator.spareMemory()
    let (hidden, pullback) = model.forward(batch(6, seed: 0), recording: true, on: backend)
    let once = hidden.toArray()
    backend.pool.loan = nil
    for parameter in model.parameters.parameters {
      let ones = backend.zeros(1, parameter.range.count)
      backend.fill(ones, 1)
      let matrix = ones.reshaped(parameter.value.rows, parameter.value.columns)
      if matrix.rows == 1 {
        accumulator.sum(parameter, terms: matrix, segments: Segments(lengths: [1]))
      } else {
        let left = backend.zeros(1, matrix.rows)
        backend.fill(left, 1)
        accumulator.add(left, transposed: true, matrix.rows(0..<1), transposed: false, to: parameter)
      }
    }
    let (isWritten, isKept) = (accumulator.gradient.toArray().allSatisfy { $0 == 1 }, hidden.toArray() == once)
    #expect(isWritten && isKept)
    // The way back finds its activations as well.
    func back(_ pullback: NetworkPullback?, _ hidden: Tensor) -> [Float] {
      let sink = Accumulator(model.parameters, on: backend)
      pullback?(backend.copied(hidden), sink, releasing: true)
      return sink.gradient.toArray()
    }
    let moved = back(pullback, hidden)
    let (again, other) = model.forward(batch(6, seed: 0), recording: true, on: backend)
    let isSame = moved == back(other, again)
    #expect(isSame)
  }
}
