// How products are computed; everything else is Float32 whatever stands here.

/// The numbers that enter matrix products.
public enum Precision: String, Sendable, CaseIterable {
  case fp32
  /// Both operands rounded to bfloat16 (nearest even), products summed in Float32. Weights, moments, Fisher
  /// information and anchors stay Float32.
  case bf16
}
