// How products are computed; everything else is Float32 whatever stands here.

/// The numbers that enter matrix products, or that a state is kept in.
public enum Precision: String, Sendable, CaseIterable {
  case fp32
  /// Products: both operands rounded to bfloat16 (nearest even), summed in Float32; weights, moments and anchors stay
  /// Float32. State: bfloat16 numbers.
  case bf16
}

extension Backend {
  /// A copy with every element rounded to bfloat16 (nearest even).
  public func rounded(_ x: Tensor) -> Tensor {
    let copy = copied(x)
    let values = copy.buffer
    for i in values.indices {
      let bits = values[i].bitPattern
      guard !values[i].isNaN else { continue }
      values[i] = Float(bitPattern: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) & 0xFFFF_0000)
    }
    return copy
  }
}
