// Memory for tensors: one pool hands out aligned buffers and takes them back when nobody looks at them any more.
// A training step asks for the same sizes again and again, so after the first step nothing is allocated.
import Glibc
import Synchronization

/// A pool of 64-byte aligned Float buffers, keyed by size class.
///
/// - Cost: a lookup per tensor; a system allocation only when no free buffer of the class exists.
public final class BufferPool: Sendable {
  private struct State {
    var free: [Int: [Address]] = [:]
    var allocations = 0
    var bytesHeld = 0
    /// The most numbers that were asked of each buffer of an untouched pool.
    var touched: [UInt: Int] = [:]
    var loan: Loan?
  }
  private struct Address: @unchecked Sendable { let base: UnsafeMutablePointer<Float> }
  private let state = Mutex(State())
  fileprivate let isUntouched: Bool

  /// - Parameter isUntouched: every buffer is an address range that nobody writes to: it is counted and takes no memory
  public init(isUntouched: Bool = false) { self.isUntouched = isUntouched }

  deinit {
    state.withLock { state in
      for (count, addresses) in state.free { for address in addresses { release(address.base, count) } }
    }
  }

  /// System allocations so far; constant in the steady state.
  public var allocations: Int { state.withLock { $0.allocations } }
  /// Bytes obtained from the system and not given back.
  public var bytesHeld: Int { state.withLock { $0.bytesHeld } }
  /// Of those the bytes that would have been written to, in a pool that is untouched.
  public var bytesTouched: Int { state.withLock { 4 * $0.touched.values.reduce(0, +) } }

  /// Where large tensors are put as long as there is room, before the pool is asked.
  public var loan: Loan? {
    get { state.withLock { $0.loan } }
    set { state.withLock { $0.loan = newValue } }
  }

  /// A size that many requests share: at most one eighth larger than asked.
  static func sizeClass(_ count: Int) -> Int {
    guard count > 64 else { return 64 }
    let step = max(16, 1 << (Int.bitWidth - 1 - count.leadingZeroBitCount - 3))
    return (count + step - 1) / step * step
  }

  func take(_ count: Int) -> (base: UnsafeMutablePointer<Float>, capacity: Int) {
    let size = Self.sizeClass(count)
    let reused = state.withLock { state -> (address: Address, size: Int)? in
      if let address = state.free[size]?.popLast() { return (address, size) }
      // Batches of slightly different lengths share their large buffers: a larger one serves, a smaller one makes room.
      if size * 4 >= Self.hugePage {
        var larger = size
        for _ in 0..<2 {
          larger = Self.sizeClass(larger + 1)
          if let address = state.free[larger]?.popLast() { return (address, larger) }
        }
        let smaller = state.free.filter { $0.key < size && 5 * $0.key >= 4 * size && !$0.value.isEmpty }.keys.max()
        if let smaller, let address = state.free[smaller]?.popLast() {
          release(address.base, smaller)
          state.touched[UInt(bitPattern: address.base)] = nil
          state.bytesHeld -= smaller * 4
        }
      }
      state.allocations += 1
      state.bytesHeld += size * 4
      return nil
    }
    let (base, capacity) = reused.map { ($0.address.base, $0.size) } ?? (allocate(size), size)
    if isUntouched {
      state.withLock { $0.touched[UInt(bitPattern: base)] = max(count, $0.touched[UInt(bitPattern: base)] ?? 0) }
    }
    return (base, capacity)
  }

  func give(_ base: UnsafeMutablePointer<Float>, _ capacity: Int) {
    let address = Address(base: base)
    state.withLock { $0.free[capacity, default: []].append(address) }
  }

  /// Returns every free buffer to the system; used between stages, where sizes change.
  public func trim() {
    state.withLock { state in
      for (count, addresses) in state.free {
        for address in addresses {
          release(address.base, count)
          state.touched[UInt(bitPattern: address.base)] = nil
        }
        state.bytesHeld -= addresses.count * count * 4
      }
      state.free = [:]
    }
  }

  private static let hugePage = 2 << 20
  /// Buffers from here on are mapped: the heap keeps what it is given back, a mapping does not.
  private static let smallestMapping = 256 << 10

  private func allocate(_ count: Int) -> UnsafeMutablePointer<Float> {
    let bytes = count * 4
    if bytes >= Self.smallestMapping || isUntouched {
      // The large ones live on huge pages: fewer faults, fewer misses in the translation buffer.
      let rounded = (bytes + 4095) / 4096 * 4096
      let pointer = mmap(
        nil, rounded, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | (isUntouched ? Int32(MAP_NORESERVE) : 0), -1, 0)
      precondition(pointer != MAP_FAILED, "out of memory: cannot map \(rounded) bytes for a tensor")
      if let pointer {
        // An untouched range may be read in places: a page of zeros, not a huge one.
        if !isUntouched && bytes >= Self.hugePage { madvise(pointer, rounded, Int32(MADV_HUGEPAGE)) }
        return pointer.bindMemory(to: Float.self, capacity: count)
      }
    }
    let pointer = aligned_alloc(64, (bytes + 63) / 64 * 64)
    guard let pointer else { preconditionFailure("out of memory: cannot allocate \(bytes) bytes for a tensor") }
    return pointer.bindMemory(to: Float.self, capacity: count)
  }

  private func release(_ base: UnsafeMutablePointer<Float>, _ count: Int) {
    let bytes = count * 4
    if bytes >= Self.smallestMapping || isUntouched { munmap(base, (bytes + 4095) / 4096 * 4096) } else { free(base) }
  }
}

/// One buffer of a pool; it returns there when the last tensor that looks at it is gone.
public final class Storage: @unchecked Sendable {
  public private(set) var base: UnsafeMutablePointer<Float>
  public let count: Int
  private var place: Place
  private let pool: BufferPool
  private enum Place {
    case pool(capacity: Int)
    case loan(Loan, Range<Int>)
    case nowhere
  }
  var isLent: Bool { if case .loan = place { true } else { false } }
  /// The same elements in bfloat16, two to a Float's place, while they agree with the buffer: kept by backends that
  /// compute products from them, given up by everything that writes the buffer. Touched by one thread at a time.
  public var rounded: Storage?

  /// A buffer for the bfloat16 copy of this one.
  public func roundedStorage() -> Storage { Storage((count + 1) / 2, from: pool) }

  /// Changes places with another buffer of the same size: everything that looks at one sees the other's elements.
  public func exchange(with other: Storage) {
    precondition(other.count == count && other.pool === pool, "only buffers of one size and pool change places")
    guard case .pool = place, case .pool = other.place else {
      preconditionFailure("a buffer that is lent or given back changes no places")
    }
    swap(&base, &other.base)
    swap(&place, &other.place)
    swap(&rounded, &other.rounded)
  }

  /// Gives the buffer back for others to use. Nothing may be read or written before `occupy`.
  public func vacate() {
    if case .nowhere = place { preconditionFailure("a buffer is given back once") }
    rounded = nil
    giveBack()
    place = .nowhere
  }
  /// Takes a buffer again after `vacate`, with whatever is in it; false if there is one.
  public func occupy() -> Bool {
    guard case .nowhere = place else { return false }
    takeFromPool()
    return true
  }
  /// Moves out of a lent range that is recalled, with all elements.
  func leave() {
    let old = base
    takeFromPool()
    if !pool.isUntouched { base.update(from: old, count: count) }
  }

  init(_ count: Int, from pool: BufferPool) {
    self.count = count
    self.pool = pool
    if let loan = pool.loan, let range = loan.take(count) {
      base = loan.base(of: range)
      place = .loan(loan, range)
      loan.record(self, range)
    } else {
      let taken = pool.take(max(1, count))
      base = taken.base
      place = .pool(capacity: taken.capacity)
    }
  }
  deinit { giveBack() }

  private func takeFromPool() {
    let taken = pool.take(max(1, count))
    base = taken.base
    place = .pool(capacity: taken.capacity)
  }
  private func giveBack() {
    switch place {
    case .pool(let capacity): pool.give(base, capacity)
    case .loan(let loan, let range): loan.give(range)
    case .nowhere: break
    }
  }
}
