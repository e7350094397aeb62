// A curvature of Kronecker factors: what it does to a displacement, how far it can push, how two become one.
import Layers
import TensorCore

/// ½ Σ_W tr(L ΔW R ΔWᵀ) over matrices W, L and R symmetric and positive semidefinite, in bf16 to within its rounding.
///
/// For a weight [O, I] L is the second moment of output gradients and R that of inputs; for [I, O] the other way round.
public final class KroneckerCurvature {
  public struct Block {
    public let parameter: Parameter
    /// [rows, rows]
    public let left: Tensor
    /// [columns, columns]; layers with one input share it
    public let right: Tensor
    public init(parameter: Parameter, left: Tensor, right: Tensor) {
      self.parameter = parameter
      self.left = left
      self.right = right
    }
  }
  public let blocks: [Block]
  /// bf16: the factors are bfloat16 numbers, and so are the operands of products with them.
  public let storage: Precision
  private let backend: any Backend

  public init(_ blocks: [Block], storage: Precision = .fp32, on backend: any Backend) {
    self.blocks = blocks
    self.storage = storage
    self.backend = backend
  }

  /// The same with every factor rounded and still positive semidefinite, unless it is kept in fp32 anyway.
  public func stored(in storage: Precision) -> KroneckerCurvature {
    guard storage == .bf16 else { return self }
    var known: [ObjectIdentifier: Tensor] = [:]
    func rounded(_ factor: Tensor) -> Tensor {
      let key = ObjectIdentifier(factor.storage)
      if let tensor = known[key] { return tensor }
      let tensor = semidefiniteRounded(factor)
      known[key] = tensor
      return tensor
    }
    return KroneckerCurvature(
      blocks.map { Block(parameter: $0.parameter, left: rounded($0.left), right: rounded($0.right)) }, storage: .bf16,
      on: backend)
  }

  /// M rounded to bfloat16 and lifted along its diagonal by ‖M − rounded M‖.
  ///
  /// Rounded alone, eigenvalues near 0 would scatter to both sides of it, and a pull with a negative one drives
  /// parameters away from their anchor in every step.
  private func semidefiniteRounded(_ matrix: Tensor) -> Tensor {
    let rounded = backend.rounded(matrix)
    let error = backend.copied(matrix)
    backend.add(rounded, scaled: -1, into: error)
    let (lift, n, values) = (spectralNorm(error), matrix.rows, rounded.buffer)
    for i in 0..<n {
      // Up to the next bfloat16 number.
      let bits = (values[i * n + i] + lift).bitPattern
      values[i * n + i] = Float(bitPattern: (bits &+ 0xFFFF) & 0xFFFF_0000)
    }
    return rounded
  }

  /// The largest magnitude of an eigenvalue of a symmetric matrix, by powers, and a tenth more for what they miss.
  private func spectralNorm(_ matrix: Tensor) -> Float {
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

  /// L ΔW R for one block.
  ///
  /// - Shapes: displacement [rows, columns], the same out
  /// - Cost: 2·rows·columns·(rows + columns) operations
  public func force(_ block: Block, _ displacement: Tensor) -> Tensor {
    let outer = backend.precision
    if storage == .bf16 { backend.precision = .bf16 }
    defer { backend.precision = outer }
    let half = backend.empty(displacement.rows, displacement.columns)
    backend.multiply(block.left, transposed: false, displacement, transposed: false, into: half, accumulate: false)
    let force = backend.empty(displacement.rows, displacement.columns)
    backend.multiply(half, transposed: false, block.right, transposed: false, into: force, accumulate: false)
    return force
  }

  /// ½ Σ tr(L Δ R Δᵀ) at a displacement of all parameters. [1, P]
  public func penalty(_ displacement: Tensor) -> Double {
    blocks.reduce(0) { sum, block in
      let local = block.parameter.view(of: displacement)
      return sum + backend.dot(force(block, local).slice(0..<local.count), local.slice(0..<local.count)) / 2
    }
  }

  /// Adds to each place of a weight a number such that the diagonal matrix of all of them is at least L ⊗ R.
  ///
  /// bound[i, j] = u[i]·v[j], u[i] = √L[i,i]·Σ_k |L[i,k]|/√L[k,k], v likewise: Gershgorin's circles of the matrix scaled
  /// to a unit diagonal, which is never less than L ⊗ R in any direction.
  public func addBounds(scaled scale: Float, into bounds: Tensor) {
    for block in blocks {
      let (u, v) = (Self.bounds(block.left), Self.bounds(block.right))
      let target = block.parameter.view(of: bounds)
      let buffer = target.buffer
      for i in u.indices { for j in v.indices { buffer[i * v.count + j] += scale * u[i] * v[j] } }
    }
  }

  static func bounds(_ matrix: Tensor) -> [Float] {
    let (n, values) = (matrix.rows, matrix.buffer)
    let roots = (0..<n).map { max(0, values[$0 * n + $0]).squareRoot() }
    let inverse = roots.map { $0 > 0 ? 1 / $0 : 0 }
    return (0..<n).map { i in
      var sum: Float = 0
      for k in 0..<n { sum += abs(values[i * n + k]) * inverse[k] }
      return roots[i] * sum
    }
  }

  /// The same with every L multiplied.
  public func scaled(by factor: Float) -> KroneckerCurvature {
    guard factor != 1 else { return self }
    return KroneckerCurvature(
      blocks.map { block in
        let left = backend.copied(block.left)
        backend.scale(left, by: factor)
        return Block(parameter: block.parameter, left: left, right: block.right)
      }, on: backend)
  }

  /// For every weight the Kronecker product nearest to keep·L₁⊗R₁ + L₂⊗R₂ in the Frobenius norm.
  ///
  /// A weight that only one of both has keeps its factors. Sums of Kronecker products are no Kronecker products: this
  /// is the leading term of the sum, exact where factors are proportional.
  public func merged(with other: KroneckerCurvature, keeping keep: Double) -> KroneckerCurvature {
    let mine = Dictionary(uniqueKeysWithValues: blocks.map { (ObjectIdentifier($0.parameter), $0) })
    var merged = other.blocks.map { new in
      guard let old = mine[ObjectIdentifier(new.parameter)] else { return new }
      return nearest(old, keep, new)
    }
    let known = Set(other.blocks.map { ObjectIdentifier($0.parameter) })
    for old in blocks where !known.contains(ObjectIdentifier(old.parameter)) {
      let left = backend.copied(old.left)
      backend.scale(left, by: Float(keep))
      merged.append(Block(parameter: old.parameter, left: left, right: old.right))
    }
    return KroneckerCurvature(merged, on: backend)
  }

  /// c₁·l₁r₁ᵀ + l₂r₂ᵀ has rank two: its leading singular pair is found in the two planes that l₁, l₂ and r₁, r₂ span.
  private func nearest(_ old: Block, _ keep: Double, _ new: Block) -> Block {
    func gram(_ a: Tensor, _ b: Tensor) -> (Double, Double, Double) {
      let (x, y) = (a.slice(0..<a.count), b.slice(0..<b.count))
      return (backend.dot(x, x), backend.dot(x, y), backend.dot(y, y))
    }
    // [l₁ l₂] = E·U with orthonormal E: U is the triangular root of their Gram matrix.
    func root(_ g: (Double, Double, Double)) -> (Double, Double, Double) {
      let a = max(g.0, 1e-300).squareRoot()
      return (a, g.1 / a, max(g.2 - g.1 * g.1 / (a * a), 0).squareRoot())
    }
    let (u, v) = (root(gram(old.left, new.left)), root(gram(old.right, new.right)))
    // K = U·diag(keep, 1)·Vᵀ
    let k = (keep * u.0 * v.0 + u.1 * v.1, u.1 * v.2, u.2 * v.1, u.2 * v.2)
    // Leading right singular vector of the 2 × 2 matrix, by the eigenvector of KᵀK.
    let (p, q, r) = (k.0 * k.0 + k.2 * k.2, k.0 * k.1 + k.2 * k.3, k.1 * k.1 + k.3 * k.3)
    let largest = (p + r) / 2 + ((p - r) * (p - r) / 4 + q * q).squareRoot()
    var y = q > 1e-15 * (p + r) ? (q, largest - p) : (p >= r ? (1.0, 0.0) : (0.0, 1.0))
    let length = (y.0 * y.0 + y.1 * y.1).squareRoot()
    y = (y.0 / length, y.1 / length)
    let x = (k.0 * y.0 + k.1 * y.1, k.2 * y.0 + k.3 * y.1)
    // E·x = [l₁ l₂]·U⁻¹x; where both are proportional the second adds nothing.
    func back(_ w: (Double, Double), _ t: (Double, Double, Double)) -> (Double, Double) {
      let second = t.2 > 1e-9 * t.0 ? w.1 / t.2 : 0
      return ((w.0 - t.1 * second) / t.0, second)
    }
    func mix(_ a: Tensor, _ b: Tensor, _ c: (Double, Double)) -> Tensor {
      let sum = backend.copied(a)
      backend.scale(sum, by: Float(c.0))
      backend.add(b, scaled: Float(c.1), into: sum)
      return sum
    }
    return Block(
      parameter: new.parameter, left: mix(old.left, new.left, back(x, u)),
      right: mix(old.right, new.right, back(y, v)))
  }

  // MARK: State

  public func write(to writer: any StateWriter, under group: String) {
    writer.group(group, description: "Kronecker factors, per scored token: second moments at both sides of each weight")
    writer.text(group + "/weights", blocks.map(\.parameter.name).joined(separator: "\n"), description: "in order")
    var owners: [ObjectIdentifier: String] = [:]
    for block in blocks {
      let path = "\(group)/\(block.parameter.name)"
      func factor(_ name: String, _ tensor: Tensor, _ description: String) {
        let shape = [tensor.rows, tensor.rows]
        switch storage {
        case .fp32: writer.tensor("\(path)/\(name)", tensor, shape: shape, description: description)
        case .bf16: writer.roundedTensor("\(path)/\(name)", tensor, shape: shape, description: description)
        }
      }
      factor("left", block.left, "[rows, rows]")
      if let owner = owners[ObjectIdentifier(block.right.storage)] {
        writer.text(path + "/right_of", owner, description: "the weight whose right factor is this one's, too")
      } else {
        owners[ObjectIdentifier(block.right.storage)] = block.parameter.name
        factor("right", block.right, "[columns, columns]")
      }
    }
  }

  /// Reads what `write` wrote.
  ///
  /// - Throws: what the reader throws, also where a weight is not one of the store's
  public static func restore(
    from reader: any StateReader, under group: String, storage: Precision = .fp32, _ store: ParameterStore,
    on backend: any Backend
  ) throws -> KroneckerCurvature {
    var rights: [String: Tensor] = [:]
    let names = try reader.text(group + "/weights").split(separator: "\n").map(String.init)
    return KroneckerCurvature(
      try names.map { name in
        guard let parameter = store[name] else {
          throw FisherError(description: "the checkpoint has Kronecker factors of \(name), which the model lacks")
        }
        let path = "\(group)/\(name)"
        let left = backend.empty(parameter.value.rows, parameter.value.rows)
        try reader.tensor(path + "/left", into: left)
        if reader.contains(path + "/right_of"), let shared = rights[try reader.text(path + "/right_of")] {
          return Block(parameter: parameter, left: left, right: shared)
        }
        let right = backend.empty(parameter.value.columns, parameter.value.columns)
        try reader.tensor(path + "/right", into: right)
        rights[name] = right
        return Block(parameter: parameter, left: left, right: right)
      }, storage: storage, on: backend)
  }
}
