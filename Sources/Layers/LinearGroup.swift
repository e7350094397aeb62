// Several products of one input: queries, keys and values, or gate and up.
// Their weights are neighbours in the flat vector, so that one wide product can stand for all of them.
import TensorCore

/// [y₁ | y₂ | …] = [x W₁ᵀ + b₁ | x W₂ᵀ + b₂ | …].
///
/// - Shapes: x [N, I] → [N, ΣO]
/// - Cost: one product where the weights adjoin and have no biases, else one each
public struct LinearGroup {
  public let members: [Linear]
  /// The columns of each member's output.
  public let columns: [Range<Int>]
  private let joined: Linear?

  public init(_ members: [Linear]) {
    self.members = members
    var first = 0
    columns = members.map { member in
      defer { first += member.outputs }
      return first..<first + member.outputs
    }
    let areAlike = members.allSatisfy { $0.layout == .outputByInput && $0.bias == nil }
    joined = areAlike && members.count > 1 ? Parameter.joining(members.map(\.weight)).map { Linear($0) } : nil
  }
  public var inputs: Int { members[0].inputs }
  public var outputs: Int { columns.last?.upperBound ?? 0 }

  public func forward(_ x: Tensor, on backend: any Backend) -> Tensor {
    if let joined { return joined.forward(x, on: backend) }
    if members.count == 1 { return members[0].forward(x, on: backend) }
    let y = backend.empty(x.rows, outputs)
    for (member, range) in zip(members, columns) { member.forward(x, into: y.columns(range), on: backend) }
    return y
  }
  /// dx ← Σ dyᵢ Wᵢ.
  public func inputGradient(_ dy: Tensor, into dx: Tensor, on backend: any Backend) {
    if let joined { return joined.inputGradient(dy, into: dx, accumulate: false, on: backend) }
    for (index, (member, range)) in zip(members, columns).enumerated() {
      member.inputGradient(dy.columns(range), into: dx, accumulate: index > 0, on: backend)
    }
  }
  /// Tells the sink about weights and biases. Call after `inputGradient`: the sink may overwrite dy.
  public func report(_ dy: Tensor, input x: Tensor, rows: RowMap, to sink: any GradientSink) {
    if let joined, members.allSatisfy(\.weight.isTrainable) {
      return joined.report(dy, input: x, rows: rows, to: sink)
    }
    for (member, range) in zip(members, columns) {
      member.report(dy.columns(range), input: x, rows: rows, to: sink)
    }
  }
}
