// A curvature of Kronecker factors: what it does to a displacement, how far it can push, how two become one.
import Layers
import TensorCore

/// ½ Σ_W tr(L ΔW R ΔWᵀ) over matrices W, L and R symmetric and positive semidefinite.
///
/// For a weight [O, I] L is the second moment of output gradients and R that of inputs; for [I, O] the other way round.
public final class KroneckerCurvature {
  public struct Block {
    public let parameter: Parameter
    /// n = rows
    public let left: SymmetricMatrix
    /// n = columns; layers with one input share it
    public let right: SymmetricMatrix
    public init(parameter: Parameter, left: SymmetricMatrix, right: SymmetricMatrix) {
      self.parameter = parameter
      self.left = left
      self.right = right
    }
    /// Of whole matrices.
    public init(parameter: Parameter, left: Tensor, right: Tensor) {
      self.init(parameter: parameter, left: SymmetricMatrix(left), right: SymmetricMatrix(right))
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

  /// The same as it is kept: factors of a rank that is this share of their side, and rounded where that is asked for.
  ///
  /// - Parameter rankShare: 0 keeps them whole, and so do shares that would save nothing
  /// - Cost: `Backend.factorAnalysis` of every factor
  public func kept(rankShare: Double, storage: Precision) -> KroneckerCurvature {
    let analysed = factorAnalysed(rankShare)
    guard storage == .bf16 else { return KroneckerCurvature(analysed, on: backend) }
    return KroneckerCurvature(replacing(analysed) { $0.rounded(on: backend) }, storage: .bf16, on: backend)
  }

  /// Blocks with every factor replaced, one that several layers share only once.
  private func replacing(_ blocks: [Block], _ replacement: (SymmetricMatrix) -> SymmetricMatrix) -> [Block] {
    var known: [ObjectIdentifier: SymmetricMatrix] = [:]
    func replaced(_ factor: SymmetricMatrix) -> SymmetricMatrix {
      if let seen = known[factor.identity] { return seen }
      let fresh = replacement(factor)
      known[factor.identity] = fresh
      return fresh
    }
    return blocks.map { Block(parameter: $0.parameter, left: replaced($0.left), right: replaced($0.right)) }
  }

  private func factorAnalysed(_ rankShare: Double) -> [Block] {
    var (matrices, loadings, uniquenesses): ([Tensor], [Tensor], [Tensor]) = ([], [], [])
    let blocks = replacing(blocks) { factor in
      let rank = SymmetricMatrix.rank(share: rankShare, ofSide: factor.side)
      if factor.rank == rank { return factor }
      let whole = factor.whole(on: backend)
      guard let rank else { return SymmetricMatrix(whole) }
      let kept = SymmetricMatrix(
        loadings: backend.empty(rank, factor.side), uniquenesses: backend.empty(1, factor.side))
      matrices.append(whole)
      loadings.append(kept.values)
      if let unique = kept.uniquenesses { uniquenesses.append(unique) }
      return kept
    }
    backend.factorAnalysis(of: matrices, loadings: loadings, uniquenesses: uniquenesses)
    return blocks
  }

  /// L ΔW R for one block.
  ///
  /// - Shapes: displacement [rows, columns], the same out
  /// - Cost: 2·rows·columns·(rows + columns) operations with whole factors, two fifths of it at a rank of a fifth
  public func force(_ block: Block, _ displacement: Tensor) -> Tensor {
    let outer = backend.precision
    if storage == .bf16 { backend.precision = .bf16 }
    defer { backend.precision = outer }
    return block.right.onRight(of: block.left.onLeft(of: displacement, on: backend), on: backend)
  }

  /// ½ Σ tr(L Δ R Δᵀ) at a displacement of all parameters. [1, P]
  public func penalty(_ displacement: Tensor) -> Double {
    blocks.reduce(0) { sum, block in
      let local = block.parameter.view(of: displacement)
      return sum + backend.dot(force(block, local).slice(0..<local.count), local.slice(0..<local.count)) / 2
    }
  }

  /// A number for each place of a weight such that the diagonal matrix of all of them is at least L ⊗ R.
  ///
  /// u[i]·v[j], u[i] = √L[i,i]·Σ_k |L[i,k]|/√L[k,k], v likewise: Gershgorin's circles of the matrix scaled
  /// to a unit diagonal, which is never less than L ⊗ R in any direction.
  public func bound(_ block: Block) -> RankOneBound {
    RankOneBound(rows: circles(block.left), columns: circles(block.right))
  }

  private func circles(_ factor: SymmetricMatrix) -> Tensor {
    let matrix = factor.whole(on: backend)
    let (n, values) = (matrix.rows, matrix.buffer)
    let roots = (0..<n).map { max(0, values[$0 * n + $0]).squareRoot() }
    let inverse = roots.map { $0 > 0 ? 1 / $0 : 0 }
    let sums: [Float] = (0..<n).map { i in
      var sum: Float = 0
      for k in 0..<n { sum += abs(values[i * n + k]) * inverse[k] }
      return roots[i] * sum
    }
    return backend.tensor(sums, 1, n)
  }

  /// The same with every L multiplied.
  public func scaled(by factor: Float) -> KroneckerCurvature {
    guard factor != 1 else { return self }
    return KroneckerCurvature(
      blocks.map { block in
        Block(parameter: block.parameter, left: block.left.scaled(by: factor, on: backend), right: block.right)
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
      let left = old.left.scaled(by: Float(keep), on: backend)
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
    let (left, right) = (
      (old.left.whole(on: backend), new.left.whole(on: backend)),
      (old.right.whole(on: backend), new.right.whole(on: backend))
    )
    let (u, v) = (root(gram(left.0, left.1)), root(gram(right.0, right.1)))
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
      parameter: new.parameter, left: mix(left.0, left.1, back(x, u)), right: mix(right.0, right.1, back(y, v)))
  }

  // MARK: State

  public func write(to writer: any StateWriter, under group: String) {
    writer.group(group, description: "Kronecker factors, per scored token: second moments at both sides of each weight")
    writer.text(group + "/weights", blocks.map(\.parameter.name).joined(separator: "\n"), description: "in order")
    var owners: [ObjectIdentifier: String] = [:]
    for block in blocks {
      let path = "\(group)/\(block.parameter.name)"
      func tensor(_ name: String, _ tensor: Tensor, _ shape: [Int], _ description: String) {
        switch storage {
        case .fp32: writer.tensor("\(path)/\(name)", tensor, shape: shape, description: description)
        case .bf16: writer.roundedTensor("\(path)/\(name)", tensor, shape: shape, description: description)
        }
      }
      func factor(_ name: String, _ factor: SymmetricMatrix, _ side: String) {
        let values = factor.values
        guard let uniquenesses = factor.uniquenesses else {
          return tensor(name, values, [values.rows, values.rows], "[\(side), \(side)]")
        }
        tensor(
          name + "_loadings", values, [values.rows, values.columns],
          "Uᵀ of UUᵀ + diag(uniquenesses), [rank, \(side)]")
        tensor(name + "_uniquenesses", uniquenesses, [uniquenesses.count], "[\(side)]")
      }
      factor("left", block.left, "rows")
      if let owner = owners[block.right.identity] {
        writer.text(path + "/right_of", owner, description: "the weight whose right factor is this one's, too")
      } else {
        owners[block.right.identity] = block.parameter.name
        factor("right", block.right, "columns")
      }
    }
  }

  /// Reads what `write` wrote.
  ///
  /// - Throws: what the reader throws, also where a weight is not one of the store's
  public static func restore(
    from reader: any StateReader, under group: String, rankShare: Double, storage: Precision, _ store: ParameterStore,
    on backend: any Backend
  ) throws -> KroneckerCurvature {
    var rights: [String: SymmetricMatrix] = [:]
    func factor(_ path: String, side: Int) throws -> SymmetricMatrix {
      func tensor(_ path: String, _ rows: Int, _ columns: Int) throws -> Tensor {
        let tensor = backend.empty(rows, columns)
        try reader.tensor(path, into: tensor)
        return tensor
      }
      // A checkpoint from before factors had a rank has whole ones; they stay so until the next past joins them.
      guard let rank = SymmetricMatrix.rank(share: rankShare, ofSide: side), !reader.contains(path) else {
        return SymmetricMatrix(try tensor(path, side, side))
      }
      return SymmetricMatrix(
        loadings: try tensor(path + "_loadings", rank, side), uniquenesses: try tensor(path + "_uniquenesses", 1, side))
    }
    let names = try reader.text(group + "/weights").split(separator: "\n").map(String.init)
    return KroneckerCurvature(
      try names.map { name in
        guard let parameter = store[name] else {
          throw FisherError(description: "the checkpoint has Kronecker factors of \(name), which the model lacks")
        }
        let path = "\(group)/\(name)"
        let left = try factor(path + "/left", side: parameter.value.rows)
        if reader.contains(path + "/right_of"), let shared = rights[try reader.text(path + "/right_of")] {
          return Block(parameter: parameter, left: left, right: shared)
        }
        let right = try factor(path + "/right", side: parameter.value.columns)
        rights[name] = right
        return Block(parameter: parameter, left: left, right: right)
      }, storage: storage, on: backend)
  }
}
