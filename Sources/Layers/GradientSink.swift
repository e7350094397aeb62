// Where layers send what they learn about their parameters. Training, Fisher and Kronecker factors are sinks;
// a layer does not know which one asks.
import TensorCore

/// How a weight lies in memory.
public enum WeightLayout: Sendable {
  /// [O, I]: y = x Wᵀ, gradient dyᵀ x.
  case outputByInput
  /// [I, O]: y = x W, gradient xᵀ dy (GPT-2's files).
  case inputByOutput
}

/// The three ways in which a parameter enters a network.
///
/// Gradients are of the summed, scaled loss; rows are grouped into sequences by `segments`.
public protocol GradientSink: AnyObject {
  /// Whether a call must hold whole sequences only, so that their gradients can be told apart.
  var needsWholeSegments: Bool { get }
  /// Memory in the layout of the parameters that the sink does not need before it is told about them, or nil: what a
  /// network lends to its activations.
  func spareMemory() -> Loan?
  /// A backward pass over these tokens begins; for embeddings tied to a head.
  func begin(_ batch: Batch)
  /// A product with a weight.  input [N, I], outputGradient [N, O]; the sink may overwrite outputGradient
  func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap)
  /// Rows of a table, added up by token.  outputGradient [N, C]
  func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments)
  /// A vector that acts on every row: its gradient is the sum of the terms' rows.  terms [N, C]
  func sum(_ vector: Parameter, terms: Tensor, segments: Segments)
}

extension GradientSink {
  public func spareMemory() -> Loan? { nil }
}

/// Which sequences the rows of a product belong to.
public struct RowMap: Sendable {
  /// Lengths of runs of rows of one sequence.
  public let segments: Segments
  /// The sequence of each run in the batch.
  public let sequences: [Int]
  /// For each row its token's place in the batch, or nil where rows are the batch itself.
  public let places: [Int32]?
  public init(segments: Segments, sequences: [Int], places: [Int32]?) {
    self.segments = segments
    self.sequences = sequences
    self.places = places
  }
  public init(_ segments: Segments) {
    self.init(segments: segments, sequences: Array(0..<segments.count), places: nil)
  }
}

/// The plain gradient, in the layout of the parameters.
///
/// Elements of parameters without a gradient are undefined.
/// - Cost: the first contribution to a parameter overwrites, so nothing is cleared between steps
public final class Accumulator: GradientSink {
  public let gradient: Tensor
  public let needsWholeSegments = false
  private let backend: any Backend
  private let loan: Loan
  private var touched: Set<ObjectIdentifier> = []

  public init(_ store: ParameterStore, on backend: any Backend) {
    gradient = backend.zeros(1, store.count)
    loan = Loan(gradient.storage)
    self.backend = backend
  }

  /// The next contributions belong to a new step.
  public func reset() { touched.removeAll(keepingCapacity: true) }
  public func hasGradient(_ parameter: Parameter) -> Bool { touched.contains(ObjectIdentifier(parameter)) }

  /// All of the gradient until the first contribution; from then on it is full.
  public func spareMemory() -> Loan? {
    guard touched.isEmpty else { return nil }
    loan.recall(0..<gradient.count)
    loan.close()
    return loan
  }

  private func isFirst(_ parameter: Parameter) -> Bool {
    var isFirst = true
    for member in parameter.members {
      let isNew = touched.insert(ObjectIdentifier(member)).inserted
      if isNew { loan.recall(member.range) }
      isFirst = isNew && isFirst
    }
    return isFirst
  }

  /// Adds a product op(a)·op(b) of the parameter's shape to its gradient; op transposes where asked.
  public func add(
    _ a: Tensor, transposed transposeA: Bool, _ b: Tensor, transposed transposeB: Bool, to parameter: Parameter
  ) {
    backend.multiply(
      a, transposed: transposeA, b, transposed: transposeB, into: parameter.view(of: gradient),
      accumulate: !isFirst(parameter))
  }

  public func begin(_ batch: Batch) {}

  public func linear(
    _ weight: Parameter, layout: WeightLayout, input: Tensor, outputGradient: Tensor, rows: RowMap
  ) {
    let (a, b) = layout == .outputByInput ? (outputGradient, input) : (input, outputGradient)
    add(a, transposed: true, b, transposed: false, to: weight)
  }
  public func rows(_ table: Parameter, tokens: [Int32], outputGradient: Tensor, segments: Segments) {
    let target = table.view(of: gradient)
    if isFirst(table) { backend.fill(target, 0) }
    backend.scatterAdd(outputGradient, tokens: tokens, into: target)
  }
  public func sum(_ vector: Parameter, terms: Tensor, segments: Segments) {
    backend.columnSums(terms, into: vector.view(of: gradient), accumulate: !isFirst(vector))
  }
}
