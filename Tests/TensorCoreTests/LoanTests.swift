// Lent memory: it is used, comes back, and a recall takes nothing from anybody.
import TensorCPU
import TensorCore
import Testing

@Suite struct LoanTests {
  private static let size = 1 << 17
  private let backend = ReferenceBackend()

  /// A buffer of three ranges that nobody needs, and its loan.
  private func lent() -> (owner: Tensor, loan: Loan) {
    let owner = backend.zeros(1, 3 * Self.size)
    let loan = Loan(owner.storage)
    backend.pool.loan = loan
    return (owner, loan)
  }
  private func lies(_ x: Tensor, in owner: Tensor) -> Bool {
    x.base >= owner.base && x.base < owner.base + owner.count
  }

  @Test func tensorsLieWhereMemoryIsLent() {
    let (owner, loan) = lent()
    #expect(!lies(backend.empty(1, Self.size), in: owner))
    loan.lend(0..<Self.size)
    loan.lend(Self.size..<3 * Self.size)
    // Neighbours are one range: three halves fit twice.
    let (a, b) = (backend.empty(3, Self.size / 2), backend.empty(3, Self.size / 2))
    #expect(lies(a, in: owner) && lies(b, in: owner))
    #expect(a.base + a.count <= b.base || b.base + b.count <= a.base)
    #expect(!lies(backend.empty(1, Self.size), in: owner))
    backend.pool.loan = nil
    #expect(!lies(backend.empty(1, Self.size), in: owner))
  }

  @Test func whatIsGivenBackIsLentAgain() {
    let (owner, loan) = lent()
    loan.lend(0..<3 * Self.size)
    for _ in 0..<10 {
      let x = backend.empty(1, 2 * Self.size)
      #expect(lies(x, in: owner))
    }
    let vacated = backend.empty(1, 2 * Self.size)
    vacated.storage.vacate()
    let other = backend.empty(1, 2 * Self.size)
    #expect(lies(other, in: owner))
    #expect(vacated.storage.occupy())
    #expect(!lies(vacated, in: owner))
  }

  @Test func recallMovesWhoIsStillThere() {
    let (owner, loan) = lent()
    loan.lend(0..<3 * Self.size)
    let values = (0..<Self.size).map { Float($0) }
    let tensors = (0..<3).map { _ in backend.tensor(values, 1, Self.size) }
    let window = tensors[1].slice(5..<9)
    backend.pool.loan = nil
    // The second range and a number of the third.
    loan.recall(Self.size..<2 * Self.size + 1)
    #expect(tensors.map { lies($0, in: owner) } == [true, false, false])
    backend.fill(owner.slice(Self.size..<3 * Self.size), -1)
    let areKept = tensors.allSatisfy { $0.toArray() == values }
    #expect(areKept)
    #expect(window.toArray() == [5, 6, 7, 8])
    // Who left gives nothing back that is in use.
    loan.close()
    loan.lend(Self.size..<2 * Self.size)
    backend.pool.loan = loan
    #expect(lies(backend.empty(1, Self.size), in: owner))
  }

  /// Threads that take room for their work get ranges of their own.
  @Test func threadsShareALoan() {
    let backend = CPUBackend(threads: 4)
    let owner = backend.zeros(1, 8 * Self.size)
    let shared = Loan(owner.storage)
    shared.lend(0..<owner.count)
    backend.pool.loan = shared
    // Every segment's product needs a tile, which its worker asks for.
    let (a, b) = (backend.zeros(600, 512), backend.zeros(600, 512))
    backend.fill(a, 1)
    backend.fill(b, 2)
    for _ in 0..<5 {
      let f = backend.zeros(512, 512)
      backend.accumulateSquaredProducts(a, b, segments: Segments(lengths: [300, 300]), into: f)
      let isRight = f.toArray().allSatisfy { $0 == 2 * 600 * 600 }
      #expect(isRight)
    }
  }
}
