// Kronecker factors of low rank: what they stand for, what they lose, what they cost.
import Curvature
import Layers
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct SymmetricMatrixTests {
  private let backend = CPUBackend(threads: 2)
  private let store: ParameterStore
  private var weight: Parameter { store.parameters[0] }
  private static let (rows, columns) = (160, 132)

  init() {
    store = ParameterStore(
      [
        ParameterDeclaration("w", [Self.rows, Self.columns], .zeros), ParameterDeclaration("small", [9, 140], .zeros),
      ],
      on: CPUBackend(threads: 2))
  }

  /// Second moments of vectors with a few common directions of falling size and noise of their own in every place.
  private func moment(_ side: Int, common: Int, noise: ClosedRange<Double> = 0.02...0.5, seed: UInt64) -> Tensor {
    var random = RandomStream(seed: seed)
    let matrix = backend.zeros(side, side)
    for direction in 0..<common {
      let vector = (0..<side).map { _ in random.normal() / (1 + 0.2 * Double(direction)) }
      for i in 0..<side { for j in 0..<side { matrix.buffer[i * side + j] += Float(vector[i] * vector[j]) } }
    }
    for i in 0..<side {
      matrix.buffer[i * side + i] += Float(noise.lowerBound + (noise.upperBound - noise.lowerBound) * random.uniform())
    }
    return matrix
  }
  private func curvature(common: Int, noise: ClosedRange<Double> = 0.02...0.5) -> KroneckerCurvature {
    KroneckerCurvature(
      [
        .init(
          parameter: weight, left: moment(Self.rows, common: common, noise: noise, seed: 1),
          right: moment(Self.columns, common: common, noise: noise, seed: 2))
      ], on: backend)
  }
  private func displacement(_ seed: UInt64) -> Tensor {
    var random = RandomStream(seed: seed)
    return backend.tensor(
      (0..<Self.rows * Self.columns).map { _ in Float(random.normal()) }, Self.rows, Self.columns)
  }
  private func doubles(_ x: Tensor) -> [Double] { x.toArray().map(Double.init) }

  /// A matrix that is low rank and a diagonal is kept as it is, and its diagonal always.
  @Test func findsLowRankAndDiagonal() {
    let exact = curvature(common: 20)
    let kept = exact.kept(rankShare: 0.25, storage: .fp32)
    for (factor, original) in [
      (kept.blocks[0].left, exact.blocks[0].left), (kept.blocks[0].right, exact.blocks[0].right),
    ] {
      #expect(factor.rank == 32 && original.rank == nil)
      #expect(factor.uniquenesses?.toArray().allSatisfy { $0 >= 0 } == true)
      let (found, wanted) = (doubles(factor.whole(on: backend)), doubles(original.values))
      let largest = wanted.max() ?? 0
      for (x, y) in zip(found, wanted) { #expect(abs(x - y) < 0.002 * largest) }
      for i in 0..<factor.side {
        #expect(abs(found[i * factor.side + i] - wanted[i * factor.side + i]) < 1e-5 * largest)
      }
    }
  }

  /// With more common directions than the rank holds the largest are kept, and a higher rank loses less. The subspace alone,
  /// without the diagonal, loses many times as much.
  @Test func losesTheLeast() {
    let side = Self.rows
    let original = moment(side, common: 80, noise: 20...60, seed: 3)
    func loss(_ found: [Double]) -> Double {
      let wanted = doubles(original)
      let squares = zip(found, wanted).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      return squares / wanted.reduce(0) { $0 + $1 * $1 }
    }
    func kept(_ share: Double) -> SymmetricMatrix {
      KroneckerCurvature(
        [.init(parameter: weight, left: original, right: moment(Self.columns, common: 3, seed: 4))], on: backend
      ).kept(rankShare: share, storage: .fp32).blocks[0].left
    }
    let losses = [0.1, 0.25].map { loss(doubles(kept($0).whole(on: backend))) }
    #expect(losses[0] < 0.003 && losses[0] > 2 * losses[1], "\(losses)")
    let factor = kept(0.25)
    let alone = SymmetricMatrix(loadings: factor.values, uniquenesses: backend.zeros(1, side))
    #expect(loss(doubles(alone.whole(on: backend))) > 5 * losses[1])
  }

  /// L ΔW R by the short way is L ΔW R by the long one, in fp32 and with rounded factors.
  @Test(arguments: [Precision.fp32, .bf16]) func forceIsThatOfTheWholeMatrices(storage: Precision) {
    let kept = curvature(common: 60).kept(rankShare: 0.25, storage: storage)
    let whole = KroneckerCurvature(
      kept.blocks.map {
        .init(parameter: $0.parameter, left: $0.left.whole(on: backend), right: $0.right.whole(on: backend))
      }, on: backend)
    let x = displacement(7)
    let (found, wanted) = (doubles(kept.force(kept.blocks[0], x)), doubles(whole.force(whole.blocks[0], x)))
    let length = wanted.reduce(0) { $0 + $1 * $1 }.squareRoot()
    let distance = zip(found, wanted).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
    #expect(distance < (storage == .bf16 ? 0.02 : 1e-5) * length)
  }

  /// Small sides, shares of a half and 0 keep what is there, number by number.
  @Test func smallSidesAndLargeSharesStayWhole() {
    let exact = curvature(common: 5)
    for share in [0, 0.5, 1] {
      let kept = exact.kept(rankShare: share, storage: .fp32).blocks[0]
      #expect(kept.left.rank == nil && kept.left.values.toArray() == exact.blocks[0].left.values.toArray())
    }
    let mixed = KroneckerCurvature(
      [
        .init(
          parameter: store.parameters[1], left: moment(9, common: 3, seed: 5), right: moment(140, common: 3, seed: 6))
      ], on: backend
    ).kept(rankShare: 0.25, storage: .fp32).blocks[0]
    #expect(mixed.left.rank == nil && mixed.right.rank == 32)
    #expect(SymmetricMatrix.count(side: 9, rankShare: 0.25) == 81)
    #expect(SymmetricMatrix.count(side: 140, rankShare: 0.25) == mixed.right.values.count + 140)
  }

  /// A factor that several layers share is analysed once and stays one in memory.
  @Test func sharedFactorsStayShared() {
    let shared = moment(132, common: 4, seed: 8)
    let store = ParameterStore(
      [ParameterDeclaration("q", [132, 132], .zeros), ParameterDeclaration("k", [132, 132], .zeros)], on: backend)
    let kept = KroneckerCurvature(
      store.parameters.enumerated().map { index, parameter in
        .init(parameter: parameter, left: moment(132, common: 4, seed: 9 + UInt64(index)), right: shared)
      }, on: backend
    ).kept(rankShare: 0.25, storage: .fp32).blocks
    #expect(kept[0].right.values.storage === kept[1].right.values.storage)
    #expect(kept[0].left.values.storage !== kept[1].left.values.storage)
  }

  /// What is written is what is read, also where a factor is shared; the pull of what was read is the same to the bit.
  @Test(arguments: [Precision.fp32, .bf16]) func survivesACheckpoint(storage: Precision) throws {
    let shared = moment(140, common: 4, seed: 8)
    let store = ParameterStore(
      [ParameterDeclaration("q", [132, 140], .zeros), ParameterDeclaration("k", [9, 140], .zeros)], on: backend)
    let kept = KroneckerCurvature(
      store.parameters.map { parameter in
        .init(parameter: parameter, left: moment(parameter.shape[0], common: 4, seed: 11), right: shared)
      }, on: backend
    ).kept(rankShare: 0.25, storage: storage)
    let memory = MemoryState()
    kept.write(to: memory, under: "factors")
    let read = try KroneckerCurvature.restore(
      from: memory, under: "factors", rankShare: 0.25, storage: storage, store, on: backend)
    #expect(read.blocks[0].right.values.storage === read.blocks[1].right.values.storage)
    for (one, other) in zip(kept.blocks, read.blocks) {
      let x = displacement(3).rows(0..<one.parameter.shape[0]).columns(0..<132)
      let wide = backend.zeros(x.rows, 140)
      backend.copy(x, into: wide.columns(0..<132))
      #expect(one.left.rank == other.left.rank)
      #expect(kept.force(one, wide).toArray() == read.force(other, wide).toArray())
    }
  }

  /// Whole factors in a checkpoint are read as they are, whatever rank is wanted by now.
  @Test func wholeFactorsAreReadToo() throws {
    let (exact, memory) = (curvature(common: 5), MemoryState())
    exact.write(to: memory, under: "factors")
    let read = try KroneckerCurvature.restore(
      from: memory, under: "factors", rankShare: 0.25, storage: .fp32, store, on: backend)
    #expect(read.blocks[0].left.rank == nil && read.kept(rankShare: 0.25, storage: .fp32).blocks[0].left.rank == 32)
    #expect(read.blocks[0].left.values.toArray() == exact.blocks[0].left.values.toArray())
  }

  /// Merging pasts of low rank is merging the matrices that they stand for.
  @Test func mergesWhatItStandsFor() {
    let (one, two) = (curvature(common: 30), curvature(common: 50).scaled(by: 3))
    let kept = one.kept(rankShare: 0.25, storage: .fp32)
    let whole = KroneckerCurvature(
      kept.blocks.map {
        .init(parameter: $0.parameter, left: $0.left.whole(on: backend), right: $0.right.whole(on: backend))
      }, on: backend)
    let (found, wanted) = (kept.merged(with: two, keeping: 0.5), whole.merged(with: two, keeping: 0.5))
    #expect(found.blocks[0].left.values.toArray() == wanted.blocks[0].left.values.toArray())
    // A factor that is scaled stands for the scaled matrix.
    let scaled = kept.scaled(by: 3).blocks[0].left.whole(on: backend)
    for (x, y) in zip(doubles(scaled), doubles(whole.blocks[0].left.values)) {
      #expect(abs(x - 3 * y) < 1e-5 * max(1, abs(y)))
    }
  }

  /// The diagonal matrix of bounds is nowhere below a curvature of low rank either.
  @Test func boundsHold() {
    let kept = curvature(common: 60).kept(rankShare: 0.25, storage: .fp32)
    let (bound, local) = (kept.bound(kept.blocks[0]), backend.empty(Self.rows, Self.columns))
    backend.multiply(
      bound.rows, transposed: true, bound.columns, transposed: false, into: local, accumulate: false)
    let x = displacement(5)
    for _ in 0..<10 {
      let force = kept.force(kept.blocks[0], x)
      let quadratic = backend.dot(force.slice(0..<force.count), x.slice(0..<x.count))
      let bound = backend.quadratic(x.slice(0..<x.count), anchor: nil, curvature: local.slice(0..<local.count))
      #expect(quadratic <= bound * (1 + 1e-5) && quadratic > 0)
      backend.copy(force, into: x)
      backend.scale(x, by: Float(1 / backend.dot(x.slice(0..<x.count), x.slice(0..<x.count)).squareRoot()))
    }
  }
}
