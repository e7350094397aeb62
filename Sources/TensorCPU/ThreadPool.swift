// The only pool of threads: it hands out the chunks of one loop at a time.
// OpenBLAS stays single-threaded inside a chunk; chunks are fixed by shape, so results never depend on the pool's size.
import Glibc
import Synchronization

/// Runs the chunks of a loop on a fixed number of threads, the calling one included.
///
/// - Cost: a few microseconds a loop while the workers spin; they sleep when nothing comes for a while
public final class ThreadPool: Sendable {
  public let threads: Int
  /// Whether loops are not run at all.
  public let isIdle: Bool
  private let shared: Shared?

  public init(threads: Int, isIdle: Bool = false) {
    precondition(threads >= 1, "a pool needs a thread")
    self.threads = threads
    self.isIdle = isIdle
    guard threads > 1, !isIdle else {
      shared = nil
      return
    }
    let shared = Shared(workers: threads - 1)
    self.shared = shared
    for _ in 1..<threads { Shared.start(shared) }
  }
  deinit { shared?.stop() }

  /// Calls `body` once for every chunk in 0 ..< count, in any order, and returns when all are done.
  ///
  /// - Precondition: called from one thread at a time, and not from inside a body
  public func run(_ count: Int, _ body: (Int) -> Void) {
    if isIdle { return }
    guard let shared, count > 1 else {
      for chunk in 0..<count { body(chunk) }
      return
    }
    withoutActuallyEscaping(body) { shared.run(count, $0) }
  }
}

private final class Shared: @unchecked Sendable {
  private let workers: Int
  private let generation = Atomic<Int>(0)
  private let next = Atomic<Int>(0)
  private let running = Atomic<Int>(0)
  private let sleeping = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var body: ((Int) -> Void)?
  private var count = 0
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>

  init(workers: Int) {
    self.workers = workers
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }
  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  static func start(_ shared: Shared) {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(shared).toOpaque()
    // Signals belong to the main thread; a worker must never be interrupted inside a product.
    var all = sigset_t()
    var old = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &old)
    let status = pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        Unmanaged<Shared>.fromOpaque(context).takeRetainedValue().work()
        return nil
      }, context)
    pthread_sigmask(SIG_SETMASK, &old, nil)
    precondition(status == 0, "cannot start a worker thread: error \(status)")
    pthread_detach(thread)
  }

  func run(_ count: Int, _ body: @escaping (Int) -> Void) {
    self.body = body
    self.count = count
    next.store(0, ordering: .relaxed)
    running.store(workers, ordering: .relaxed)
    generation.add(1, ordering: .sequentiallyConsistent)
    if sleeping.load(ordering: .sequentiallyConsistent) > 0 { wake() }
    drain(body, count)
    var turns = 0
    while running.load(ordering: .acquiring) > 0 {
      turns += 1
      if turns > 4096 { sched_yield() }
    }
    self.body = nil
  }

  func stop() {
    stopping.store(true, ordering: .sequentiallyConsistent)
    generation.add(1, ordering: .sequentiallyConsistent)
    wake()
  }

  private func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  private func drain(_ body: (Int) -> Void, _ count: Int) {
    while true {
      let chunk = next.add(1, ordering: .relaxed).oldValue
      guard chunk < count else { return }
      body(chunk)
    }
  }

  private func work() {
    var seen = 0
    while true {
      var turns = 0
      while generation.load(ordering: .acquiring) == seen {
        turns += 1
        if turns > 20_000 { sleepUntil(changedFrom: seen) }
      }
      seen += 1
      if stopping.load(ordering: .acquiring) { return }
      if let body { drain(body, count) }
      running.subtract(1, ordering: .releasing)
    }
  }

  private func sleepUntil(changedFrom seen: Int) {
    pthread_mutex_lock(mutex)
    sleeping.add(1, ordering: .sequentiallyConsistent)
    while generation.load(ordering: .sequentiallyConsistent) == seen { pthread_cond_wait(condition, mutex) }
    sleeping.subtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }
}
