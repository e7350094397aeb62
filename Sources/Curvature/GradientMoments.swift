// Squares and magnitudes of the gradients of single sequences, positions or batches, from batched backward passes.
import Layers
import TensorCore

/// F += Σ_s g_s², or Σ_s |g_s|, over the sequences of every batch that passes, g_s the gradient of sequence s alone.
///
/// A parameter with two uses (an embedding tied to the head) has both contributions summed before that.
/// - Cost: the products of a plain backward pass; no gradient of the whole batch is formed
public final class PerSequenceMoments: GradientSink {
  public enum Moment: Sendable { case squares, magnitudes }
  /// In the parameters' layout. [1, P]
  public let sums: Tensor
  public let needsWholeSegments = true
  private let moment: Moment
  private let backend: any Backend
  private var batch: Batch?
  /// For each tied weight and sequence: the distinct input tokens and the head's gradient rows for them.
  private var held: [ObjectIdentifier: [Int: (tokens: [Int32], gradient: Tensor)]] = [:]

  public init(_ store: ParameterStore, _ moment: Moment, on backend: any Backend) {
    sums = backend.zeros(1, store.count)
    self.moment = moment
    self.backend = backend
  }

  public func begin(_ batch: Batch) {
    self.batch = batch
    held.removeAll(keepingCapacity: true)
  }

  public func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap
  ) {
    if weight.uses > 1 { hold(weight, input: input, outputGradient: outputGradient, rows: rows) }
    let (a, b) = layout == .outputByInput ? (outputGradient, input) : (input, outputGradient)
    let target = weight.view(of: sums)
    // A sequence of one row has the gradient abᵀ, so all of them together are one product.
    let isSingle = rows.segments.longest <= 1
    switch (moment, isSingle) {
    case (.squares, true): backend.accumulateProductsOfSquares(a, b, into: target)
    case (.squares, false): backend.accumulateSquaredProducts(a, b, segments: rows.segments, into: target)
    case (.magnitudes, true):
      backend.multiply(
        magnitudes(a), transposed: true, magnitudes(b), transposed: false, into: target, accumulate: true)
    case (.magnitudes, false): backend.accumulateProductMagnitudes(a, b, segments: rows.segments, into: target)
    }
  }
  private func magnitudes(_ x: Tensor) -> Tensor {
    let sums = backend.zeros(x.rows, x.columns)
    backend.addMagnitudes(x, scaled: 1, into: sums)
    return sums
  }

  /// Moves the head's gradient for the sequence's own tokens aside, where the embedding's part will join it.
  private func hold(_ weight: Parameter, input: Tensor, outputGradient: Tensor, rows: RowMap) {
    guard let batch else { return }
    for (index, sequence) in rows.sequences.enumerated() {
      let tokens = distinct(batch.tokens[batch.segments[sequence]])
      let range = rows.segments[index]
      let columns = backend.empty(range.count, tokens.count)
      backend.takeColumns(outputGradient.rows(range), columns: tokens, into: columns)
      let gradient = backend.empty(tokens.count, input.columns)
      backend.multiply(
        columns, transposed: true, input.rows(range), transposed: false, into: gradient, accumulate: false)
      held[ObjectIdentifier(weight), default: [:]][sequence] = (tokens, gradient)
    }
  }

  public func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
    let target = table.view(of: sums)
    let heldHere = held.removeValue(forKey: ObjectIdentifier(table)) ?? [:]
    for sequence in 0..<segments.count {
      let range = segments[sequence]
      let present = tokens[range]
      let names: [Int32]
      let gradient: Tensor
      if let part = heldHere[sequence] {
        (names, gradient) = (part.tokens, part.gradient)
      } else {
        names = distinct(present)
        gradient = backend.zeros(names.count, outputGradient.columns)
      }
      let place = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, Int32($0)) })
      backend.scatterAdd(outputGradient.rows(range), tokens: present.map { place[$0] ?? 0 }, into: gradient)
      let own = backend.zeros(gradient.rows, gradient.columns)
      switch moment {
      case .squares: backend.addSquares(gradient, scaled: 1, into: own)
      case .magnitudes: backend.addMagnitudes(gradient, scaled: 1, into: own)
      }
      backend.scatterAdd(own, tokens: names, into: target)
    }
  }

  public func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
    let target = vector.view(of: sums)
    switch moment {
    case .squares: backend.accumulateSquaredColumnSums(terms, segments: segments, into: target)
    case .magnitudes: backend.accumulateColumnSumMagnitudes(terms, segments: segments, into: target)
    }
  }

  private func distinct(_ tokens: ArraySlice<Int32>) -> [Int32] {
    var seen = Set<Int32>()
    return tokens.filter { seen.insert($0).inserted }
  }
}

/// F += Σ_t g_t² with g_t what position t adds to a weight's gradient: (dy²)ᵀ(x²) for a product.
///
/// Exact for networks whose positions do not mix; an approximation for attention, named `unit: position`.
public final class SquaredPerPosition: GradientSink {
  public let squares: Tensor
  public let needsWholeSegments = false
  private let backend: any Backend
  private var batch: Batch?
  private struct HeldRows {
    let places: [Int32]
    let inputs: Tensor
    /// (0, twice the gradient of the logit of the position's own token).  [n, 2]
    let factors: Tensor
  }
  private var held: [ObjectIdentifier: [HeldRows]] = [:]

  public init(_ store: ParameterStore, on backend: any Backend) {
    squares = backend.zeros(1, store.count)
    self.backend = backend
  }

  public func begin(_ batch: Batch) {
    self.batch = batch
    held.removeAll(keepingCapacity: true)
  }

  public func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap
  ) {
    if weight.uses > 1, let batch, let places = rows.places {
      // (h + e)² = h² + 2he + e²: the head's part h of the position's own token waits for the embedding's part e.
      // Read through the base, which keeps the rounded copy for the product below.
      let factors = (0..<input.rows).flatMap { row -> [Float] in
        [0, 2 * outputGradient.base[row * outputGradient.stride + Int(batch.tokens[Int(places[row])])]]
      }
      held[ObjectIdentifier(weight), default: []].append(
        HeldRows(
          places: places, inputs: backend.copied(input), factors: backend.tensor(factors, input.rows, 2)))
    }
    let (a, b) = layout == .outputByInput ? (outputGradient, input) : (input, outputGradient)
    backend.accumulateProductsOfSquares(a, b, into: weight.view(of: squares))
  }

  public func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
    let target = table.view(of: squares)
    let squared = backend.zeros(outputGradient.rows, outputGradient.columns)
    backend.addSquares(outputGradient, scaled: 1, into: squared)
    backend.scatterAdd(squared, tokens: tokens, into: target)
    for part in held.removeValue(forKey: ObjectIdentifier(table)) ?? [] {
      let own = backend.empty(part.places.count, outputGradient.columns)
      backend.gather(outputGradient, tokens: part.places, into: own)
      let cross = backend.empty(own.rows, own.columns)
      backend.normalizedProduct(own, x: part.inputs, statistics: part.factors, into: cross)
      backend.scatterAdd(cross, tokens: part.places.map { tokens[Int($0)] }, into: target)
    }
  }

  public func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
    let squared = backend.zeros(terms.rows, terms.columns)
    backend.addSquares(terms, scaled: 1, into: squared)
    backend.columnSums(squared, into: vector.view(of: squares), accumulate: true)
  }
}

/// F += (Σ g / scored targets)² for every backward pass over a batch: its mean gradient, squared.
public final class SquaredPerBatch: GradientSink {
  public let needsWholeSegments = false
  private let squares: Tensor
  private let accumulator: Accumulator
  private let store: ParameterStore
  private let backend: any Backend
  private var open = 0

  public init(_ store: ParameterStore, on backend: any Backend) {
    self.store = store
    self.backend = backend
    accumulator = Accumulator(store, on: backend)
    squares = backend.zeros(1, store.count)
  }

  public func begin(_ batch: Batch) {
    close()
    open = batch.scored
  }
  /// The squares of all batches, the last included.
  public func finish() -> Tensor {
    close()
    return squares
  }
  private func close() {
    guard open > 0 else { return }
    let scale = 1 / (Float(open) * Float(open))
    for parameter in store.parameters where accumulator.hasGradient(parameter) {
      backend.addSquares(
        accumulator.gradient.slice(parameter.range), scaled: scale, into: squares.slice(parameter.range))
    }
    accumulator.reset()
    open = 0
  }

  public func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap
  ) {
    accumulator.linear(weight, layout: layout, input: input, outputGradient: outputGradient, rows: rows)
  }
  public func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
    accumulator.rows(table, tokens: tokens, outputGradient: outputGradient, segments: segments)
  }
  public func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
    accumulator.sum(vector, terms: terms, segments: segments)
  }
}
