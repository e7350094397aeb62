// Rotary position embedding: the tables of angles, computed once per model.
import TensorCore

/// Cosines and sines of position · θ^(−2i/D), i < D/2.
///
/// - Shapes: [positions, D/2] each
/// - Source: Su et al. 2021, arXiv:2104.09864; pairs (i, i + D/2) as in Hugging Face's files
public struct Rotary {
  public let headDimension: Int
  public let cosines: Tensor
  public let sines: Tensor

  public init(headDimension: Int, positions: Int, theta: Double, on backend: any Backend) {
    self.headDimension = headDimension
    let half = headDimension / 2
    cosines = backend.empty(positions, half)
    sines = backend.empty(positions, half)
    let (cosine, sine) = (cosines.buffer, sines.buffer)
    for position in 0..<positions {
      for i in 0..<half {
        let angle = Double(position) * Maths.pow(theta, -2 * Double(i) / Double(headDimension))
        cosine[position * half + i] = Float(Maths.cos(angle))
        sine[position * half + i] = Float(Maths.sin(angle))
      }
    }
  }
  public func rotate(_ x: Tensor, _ context: Context, inverse: Bool) {
    context.backend.rotate(
      x, headDimension: headDimension, positions: context.positions, cosines: cosines, sines: sines,
      inverse: inverse)
  }
}
