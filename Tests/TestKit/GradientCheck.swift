// Central differences for tensors stored as Float: large steps against rounding, then extrapolation.
import TensorCore

public enum GradientCheck {
  /// The largest |difference quotient − gradient| / max(1, |gradient|) over all elements of `input`.
  ///
  /// With D(h) the central difference, (4·D(h) − D(2h))/3 has an error of order h⁴.
  /// Float's rounding of the function's value (6e-8 of it) becomes, at h = 1/64, about 1e-5 times the value.
  /// - Cost: four evaluations of `loss` per element; `input` is restored bit for bit
  public static func worstError(of input: Tensor, gradient: [Float], step: Float = 1 / 64, loss: () -> Double)
    -> Double
  {
    var worst = 0.0
    for row in 0..<input.rows {
      for column in 0..<input.columns {
        let place = input.base + row * input.stride + column
        let value = place.pointee
        func central(_ step: Float) -> Double {
          // The step that was really taken: θ ± h is rounded to a Float.
          place.pointee = value + step
          let (above, highest) = (loss(), Double(place.pointee))
          place.pointee = value - step
          let (below, lowest) = (loss(), Double(place.pointee))
          place.pointee = value
          return (above - below) / (highest - lowest)
        }
        let difference = (4 * central(step) - central(2 * step)) / 3
        let expected = Double(gradient[row * input.columns + column])
        worst = max(worst, abs(difference - expected) / max(1, abs(expected)))
      }
    }
    return worst
  }

  /// Σ weights ⊙ x in double: a scalar function whose gradient with respect to x is `weights`.
  public static func weighted(_ x: Tensor, _ weights: Tensor) -> Double {
    zip(x.toArray(), weights.toArray()).reduce(0) { $0 + Double($1.0) * Double($1.1) }
  }
}
