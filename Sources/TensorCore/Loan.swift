// Memory that its owner does not need for a while: a gradient between the optimizer's step and the next way back.
// A forward pass keeps its activations there; a layer's gradient is written when the activations above are gone.
import Synchronization

/// Ranges of one buffer, lent to tensors until the owner recalls them.
///
/// A tensor that is still in use when its range is recalled moves to a buffer of its own, so recalling is always safe; it
/// costs nothing where ranges are lent in an order that lets their tensors end in time.
/// - Cost: a walk over a few dozen ranges per tensor
public final class Loan: Sendable {
  private struct Borrower {
    weak var storage: Storage?
    let range: Range<Int>
  }
  private struct State {
    /// What may be handed out, by rising begin; neighbours are one range.
    var free: [Range<Int>] = []
    /// Who has the range that begins here.
    var borrowers: [Int: Borrower] = [:]

    mutating func release(_ range: Range<Int>) {
      var (begin, end) = (range.lowerBound, range.upperBound)
      let next = free.firstIndex { $0.lowerBound >= end } ?? free.count
      var replaced = next..<next
      if next < free.count, free[next].lowerBound == end {
        end = free[next].upperBound
        replaced = next..<next + 1
      }
      if next > 0, free[next - 1].upperBound == begin {
        begin = free[next - 1].lowerBound
        replaced = next - 1..<replaced.upperBound
      }
      free.replaceSubrange(replaced, with: [begin..<end])
    }
  }
  private let owner: Storage
  private let state = Mutex(State())
  /// Smaller tensors are not worth a range.
  private static let smallest = 64 << 10
  /// Elements in a cache line.
  private static let alignment = 16

  /// - Parameter owner: nothing reads or writes a range of it between `lend` and `recall`
  public init(_ owner: Storage) { self.owner = owner }

  /// All of a buffer that nobody reads or writes any more, unless it is lent itself.
  public static func whole(_ owner: Storage) -> Loan? {
    guard !owner.isLent else { return nil }
    owner.rounded = nil
    let loan = Loan(owner)
    loan.lend(0..<owner.count)
    return loan
  }

  /// Adds a range to what may be handed out.
  public func lend(_ range: Range<Int>) {
    let begin = (range.lowerBound + Self.alignment - 1) / Self.alignment * Self.alignment
    let end = range.upperBound / Self.alignment * Self.alignment
    if begin < end { state.withLock { $0.release(begin..<end) } }
  }
  /// Nothing more is handed out.
  public func close() { state.withLock { $0.free = [] } }

  /// Takes a range back: whoever still needs it gets a buffer of the pool, with the same elements.
  public func recall(_ range: Range<Int>) {
    let borrowers = state.withLock { state in
      let overlapping = state.borrowers.values.filter { $0.range.overlaps(range) }
      for borrower in overlapping { state.borrowers[borrower.range.lowerBound] = nil }
      return overlapping
    }
    for borrower in borrowers { borrower.storage?.leave() }
  }

  func take(_ count: Int) -> Range<Int>? {
    guard count >= Self.smallest else { return nil }
    let size = (count + Self.alignment - 1) / Self.alignment * Self.alignment
    return state.withLock { state in
      guard let index = state.free.firstIndex(where: { $0.count >= size }) else { return nil }
      let (begin, end) = (state.free[index].lowerBound, state.free[index].upperBound)
      state.free.replaceSubrange(index...index, with: begin + size == end ? [] : [begin + size..<end])
      return begin..<begin + size
    }
  }
  func record(_ storage: Storage, _ range: Range<Int>) {
    state.withLock { $0.borrowers[range.lowerBound] = Borrower(storage: storage, range: range) }
  }
  func base(of range: Range<Int>) -> UnsafeMutablePointer<Float> { owner.base + range.lowerBound }
  /// A borrower is done with its range.
  func give(_ range: Range<Int>) {
    state.withLock { state in
      state.borrowers[range.lowerBound] = nil
      state.release(range)
    }
  }
}
