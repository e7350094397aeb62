// The Kronecker-factored Fisher of linear layers: second moments of their inputs and of their output gradients.
import Layers
import TensorCore

/// Collects A = Σ x xᵀ and G = Σ d dᵀ of every linear layer that can have them, squared gradients of everything else.
///
/// Every position counts for itself (the expand setting). Embeddings, heads tied to them, vectors, and weights with a
/// side longer than `largestSide` stay diagonal, per sequence.
/// - Cost: for a weight [O, I] 2(O² + I²) operations a position; 4(O² + I²) bytes
/// - Source: Martens & Grosse 2015, arXiv:1503.05671; expand: Eschenhagen et al. 2023, arXiv:2311.00636
public final class KroneckerFactors: GradientSink {
  /// A factor of this side takes 1 GiB.
  public static let largestSide = 16_384

  public let needsWholeSegments = true
  private let store: ParameterStore
  private let diagonal: PerSequenceMoments
  private let backend: any Backend
  private struct Layer {
    let members: [Parameter]
    let layout: WeightLayout
    let input: Tensor
    /// One for each member.
    let outputs: [Tensor]
    /// Rows that the input's moment was taken over.
    var rows = 0
  }
  private var layers: [ObjectIdentifier: Layer] = [:]
  /// Keys of `layers` as they came.
  private var order: [ObjectIdentifier] = []

  public init(_ store: ParameterStore, on backend: any Backend) {
    self.store = store
    diagonal = PerSequenceMoments(store, .squares, on: backend)
    self.backend = backend
  }

  public static func covers(_ weight: Parameter) -> Bool {
    weight.uses <= 1 && !weight.isTable && weight.shape.count == 2 && weight.shape.allSatisfy { $0 <= largestSide }
  }

  public func begin(_ batch: Batch) { diagonal.begin(batch) }

  public func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap
  ) {
    guard weight.members.allSatisfy(Self.covers) else {
      return diagonal.linear(weight, layout: layout, input: input, outputGradient: outputGradient, rows: rows)
    }
    let layer = layer(weight, layout: layout, inputs: input.columns)
    layers[ObjectIdentifier(weight)]?.rows += input.rows
    backend.multiply(input, transposed: true, input, transposed: false, into: layer.input, accumulate: true)
    var first = 0
    for output in layer.outputs {
      let columns = outputGradient.columns(first..<first + output.rows)
      first += output.rows
      backend.multiply(columns, transposed: true, columns, transposed: false, into: output, accumulate: true)
    }
  }

  private func layer(_ weight: Parameter, layout: WeightLayout, inputs: Int) -> Layer {
    let key = ObjectIdentifier(weight)
    if let known = layers[key] { return known }
    let sizes = weight.members.map { layout == .outputByInput ? $0.value.rows : $0.value.columns }
    let layer = Layer(
      members: weight.members, layout: layout, input: backend.zeros(inputs, inputs),
      outputs: sizes.map { backend.zeros($0, $0) })
    layers[key] = layer
    order.append(key)
    return layer
  }

  public func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
    diagonal.rows(table, tokens: tokens, outputGradient: outputGradient, segments: segments)
  }
  public func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
    diagonal.sum(vector, terms: terms, segments: segments)
  }

  /// A per row that the layer saw and G per scored token, so that A ⊗ G stands for the Fisher of one scored token; the diagonal of
  /// everything else, 0 where a layer has factors.
  ///
  /// To be called once, after all passes.
  /// - Throws: `FisherError` where a number is not finite
  public func finish(_ seen: FisherCount) throws(FisherError) -> (curvature: KroneckerCurvature, diagonal: Tensor) {
    let draws = Float(max(1, seen.draws))
    backend.scale(diagonal.sums, by: 1 / (Float(max(1, seen.scored)) * draws))
    try FisherError.check(diagonal.sums, of: store, on: backend)
    var blocks: [KroneckerCurvature.Block] = []
    for key in order {
      guard let layer = layers[key] else { continue }
      backend.scale(layer.input, by: 1 / Float(max(1, layer.rows)))
      if let first = layer.members.first { try FisherError.check(layer.input, of: first.name) }
      for (member, output) in zip(layer.members, layer.outputs) {
        backend.scale(output, by: 1 / (Float(max(1, seen.scored)) * draws))
        try FisherError.check(output, of: member.name)
        let isOutputFirst = layer.layout == .outputByInput
        blocks.append(
          KroneckerCurvature.Block(
            parameter: member, left: isOutputFirst ? output : layer.input,
            right: isOutputFirst ? layer.input : output))
      }
    }
    return (KroneckerCurvature(blocks, on: backend), diagonal.sums)
  }
}
