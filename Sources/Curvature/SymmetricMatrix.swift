// One Kronecker factor: the whole matrix, or what factor analysis keeps of it.
import TensorCore

/// A symmetric positive semidefinite matrix, whole or as UUᵀ + diag(d), which takes n·r + n numbers instead of n².
public struct SymmetricMatrix {
  /// [n, n], or the loadings Uᵀ [r, n].
  public let values: Tensor
  /// The uniquenesses d ≥ 0, [1, n]; nil where `values` is the whole matrix.
  public let uniquenesses: Tensor?

  public init(_ whole: Tensor) { self.init(values: whole, uniquenesses: nil) }
  public init(loadings: Tensor, uniquenesses: Tensor) { self.init(values: loadings, uniquenesses: uniquenesses) }
  private init(values: Tensor, uniquenesses: Tensor?) {
    self.values = values
    self.uniquenesses = uniquenesses
  }

  public var side: Int { values.columns }
  /// nil where it is whole.
  public var rank: Int? { uniquenesses == nil ? nil : values.rows }
  /// Whether both are one matrix in memory.
  var identity: ObjectIdentifier { ObjectIdentifier(values.storage) }

  /// The rank that a share of a side asks for, in whole registers of sixteen numbers, or nil where the matrix stays whole:
  /// two products with U and Uᵀ had better cost less than one with M, and small sides cost nothing anyway.
  static func rank(share: Double, ofSide side: Int) -> Int? {
    let rank = max(register, Int(share * Double(side)) / register * register)
    return share > 0 && 2 * rank < side && side >= smallest ? rank : nil
  }
  private static let register = 16
  private static let smallest = 128

  /// Numbers that are kept of a matrix of this side.
  public static func count(side: Int, rankShare: Double) -> Int {
    rank(share: rankShare, ofSide: side).map { side * ($0 + 1) } ?? side * side
  }
  /// Multiply-adds of a product with one vector.
  public static func work(side: Int, rankShare: Double) -> Int {
    rank(share: rankShare, ofSide: side).map { 2 * side * $0 } ?? side * side
  }

  /// [n, n]: the tensor itself where it is whole. In fp32 whatever products are in now: bounds are taken again after a
  /// restart, which may fall into a stage of another precision.
  public func whole(on backend: any Backend) -> Tensor {
    guard let uniquenesses else { return values }
    let outer = backend.precision
    backend.precision = .fp32
    defer { backend.precision = outer }
    let sum = backend.empty(side, side)
    backend.multiply(values, transposed: true, values, transposed: false, into: sum, accumulate: false)
    for i in 0..<side { sum.buffer[i * side + i] += uniquenesses.buffer[i] }
    return sum
  }

  func scaled(by factor: Float, on backend: any Backend) -> SymmetricMatrix {
    let copy = SymmetricMatrix(values: backend.copied(values), uniquenesses: uniquenesses.map(backend.copied))
    backend.scale(copy.values, by: uniquenesses == nil ? factor : factor.squareRoot())
    copy.uniquenesses.map { backend.scale($0, by: factor) }
    return copy
  }

  /// M·X.  x [n, C] → [n, C]
  func onLeft(of x: Tensor, on backend: any Backend) -> Tensor {
    let product = backend.empty(side, x.columns)
    guard let uniquenesses else {
      backend.multiply(values, transposed: false, x, transposed: false, into: product, accumulate: false)
      return product
    }
    let inner = backend.empty(values.rows, x.columns)
    backend.multiply(values, transposed: false, x, transposed: false, into: inner, accumulate: false)
    backend.scaleRows(x, by: uniquenesses, into: product)
    backend.multiply(values, transposed: true, inner, transposed: false, into: product, accumulate: true)
    return product
  }

  /// X·M.  x [C, n] → [C, n]
  func onRight(of x: Tensor, on backend: any Backend) -> Tensor {
    let product = backend.empty(x.rows, side)
    guard let uniquenesses else {
      backend.multiply(x, transposed: false, values, transposed: false, into: product, accumulate: false)
      return product
    }
    let inner = backend.empty(x.rows, values.rows)
    backend.multiply(x, transposed: false, values, transposed: true, into: inner, accumulate: false)
    backend.scaleColumns(x, by: uniquenesses, into: product)
    backend.multiply(inner, transposed: false, values, transposed: false, into: product, accumulate: true)
    return product
  }

  /// Rounded to bfloat16 and still positive semidefinite.
  func rounded(on backend: any Backend) -> SymmetricMatrix {
    guard let uniquenesses else { return SymmetricMatrix(semidefiniteRounded(on: backend)) }
    // Whatever the loadings are, UUᵀ has no negative eigenvalue.
    return SymmetricMatrix(loadings: backend.rounded(values), uniquenesses: backend.rounded(uniquenesses))
  }

  /// M rounded to bfloat16 and lifted along its diagonal by ‖M − rounded M‖.
  ///
  /// Rounded alone, eigenvalues near 0 would scatter to both sides of it, and a pull with a negative one drives
  /// parameters away from their anchor in every step.
  private func semidefiniteRounded(on backend: any Backend) -> Tensor {
    let rounded = backend.rounded(values)
    let error = backend.empty(side, side)
    backend.subtract(rounded, from: values, into: error)
    let lift = Self.spectralNorm(error, on: backend)
    for i in 0..<side {
      // Up to the next bfloat16 number.
      let bits = (rounded.buffer[i * side + i] + lift).bitPattern
      rounded.buffer[i * side + i] = Float(bitPattern: (bits &+ 0xFFFF) & 0xFFFF_0000)
    }
    return rounded
  }

  /// The largest magnitude of an eigenvalue of a symmetric matrix, by powers, and a tenth more for what they miss.
  private static func spectralNorm(_ matrix: Tensor, on backend: any Backend) -> Float {
    let outer = backend.precision
    backend.precision = .fp32
    defer { backend.precision = outer }
    var random = RandomStream(seed: 17).forked("powers")
    var vector = backend.tensor((0..<matrix.rows).map { _ in Float(random.normal()) }, matrix.rows, 1)
    var norm = 0.0
    for _ in 0..<24 {
      let length = backend.dot(vector, vector).squareRoot()
      guard length > 0 else { return 0 }
      backend.scale(vector, by: Float(1 / length))
      let next = backend.empty(matrix.rows, 1)
      backend.multiply(matrix, transposed: false, vector, transposed: false, into: next, accumulate: false)
      norm = backend.dot(next, next).squareRoot()
      vector = next
    }
    return Float(1.1 * norm)
  }
}
