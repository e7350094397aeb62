// System calls on files: interruptions retried, failures with their code, and a seam for faults.
// What this target does to a disk itself goes through here; libhdf5 writes its metadata beside it.
import Glibc
import Synchronization

/// Fails the n-th system call of the code that runs inside `$current.withValue(plan)`; for tests of fault
/// handling.
@_spi(Testing) public final class FaultPlan: Sendable {
  public enum Mode: Sendable { case once, always, short }
  @TaskLocal public static var current: FaultPlan?

  let number: Int
  let code: Int32
  let mode: Mode
  private let count = Atomic<Int>(0)
  /// - Parameter number: the first call is 1; 0 only counts.
  public init(failing number: Int, code: Int32, mode: Mode = .once) {
    self.number = number
    self.code = code
    self.mode = mode
  }
  /// Calls seen so far.
  public var calls: Int { count.load(ordering: .relaxed) }

  func strikes() -> Bool {
    let now = count.add(1, ordering: .relaxed).newValue
    return mode == .always ? number > 0 && now >= number : now == number
  }
}

struct SystemFailure: Error { let code: Int32 }

enum Disk {
  /// Runs a call until it is not interrupted; `body` is told whether it must do less than was asked.
  static func attempt(_ body: (_ short: Bool) -> Int) throws(SystemFailure) -> Int {
    while true {
      var short = false
      if let plan = FaultPlan.current, plan.strikes() {
        if plan.mode == .short {
          short = true
        } else if plan.code == EINTR {
          continue
        } else {
          throw SystemFailure(code: plan.code)
        }
      }
      let result = body(short)
      if result >= 0 { return result }
      let code = errno
      if code != EINTR { throw SystemFailure(code: code) }
    }
  }
  static func attempt(_ body: () -> Int32) throws(SystemFailure) {
    _ = try attempt { (_: Bool) in Int(body()) }
  }

  static func open(_ path: String, _ flags: Int32, mode: mode_t = 0) throws(SystemFailure) -> Int32 {
    // A NUL would silently cut the path short.
    guard !path.utf8.contains(0) else { throw SystemFailure(code: ENOENT) }
    return Int32(try attempt { _ in Int(Glibc.open(path, flags | O_CLOEXEC, mode)) })
  }
  static func status(_ descriptor: Int32) throws(SystemFailure) -> stat {
    var status = stat()
    try attempt { fstat(descriptor, &status) }
    return status
  }
  static func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, to descriptor: Int32)
    throws(SystemFailure)
  {
    var done = 0
    while done < bytes.count {
      let piece = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let written = try attempt { short in
        pwrite(descriptor, piece.baseAddress, short ? (piece.count + 1) / 2 : piece.count, offset + done)
      }
      guard written > 0 else { throw SystemFailure(code: EIO) }
      done += written
    }
  }
  /// Fills the buffer as far as the file goes and returns the number of bytes.
  static func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int, from descriptor: Int32)
    throws(SystemFailure) -> Int
  {
    var done = 0
    while done < buffer.count {
      let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = try attempt { short in
        pread(descriptor, piece.baseAddress, short ? (piece.count + 1) / 2 : piece.count, offset + done)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }
  /// Flushes a directory, so that a rename in it survives a power cut.
  static func synchronize(directory: String) throws(SystemFailure) {
    let descriptor = try open(directory, O_RDONLY | O_DIRECTORY)
    defer { close(descriptor) }
    do throws(SystemFailure) { try attempt { fsync(descriptor) } } catch {
      // Some file systems cannot flush directories and say so; there is nothing more to do on them.
      if error.code != EINVAL { throw error }
    }
  }
}

/// An open regular file that is read by position, from any thread.
final class ReadableFile: Sendable {
  let path: String
  /// Bytes when it was opened.
  let size: Int
  private let descriptor: Int32

  init(_ path: String) throws(ArchiveError) {
    self.path = path
    do throws(SystemFailure) {
      // Not blocking: opening a pipe must not wait for somebody to write into it.
      descriptor = try Disk.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    } catch { throw ArchiveError(error.code, "open", path: path, for: .reading) }
    let status: stat
    do throws(SystemFailure) { status = try Disk.status(descriptor) } catch {
      close(descriptor)
      throw ArchiveError(error.code, "open", path: path, for: .reading)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
      throw ArchiveError(.damaged, path: path, reason: "is \(what)", hint: "give the path of a file")
    }
    size = status.st_size
  }
  deinit { close(descriptor) }

  /// Fills the buffer from the offset.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ArchiveError) {
    let count: Int
    do throws(SystemFailure) { count = try Disk.read(buffer, at: offset, from: descriptor) } catch {
      throw ArchiveError(error.code, "read at byte \(offset)", path: path, for: .reading)
    }
    guard count == buffer.count else {
      throw .damaged(path, "ends at byte \(offset + count), in the middle of what is read")
    }
  }
  func bytes(_ range: Range<Int>) throws(ArchiveError) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: range.count)
    try withMutableBytes(&result) { (buffer) throws(ArchiveError) in
      try read(into: buffer, at: range.lowerBound)
    }
    return result
  }
  /// Calls the body with one piece after another, a mebibyte each, so that it stays in the cache.
  func pieces(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(ArchiveError) -> Void)
    throws(ArchiveError)
  {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(1 << 20, max(1, range.count)), alignment: 64)
    defer { buffer.deallocate() }
    var offset = range.lowerBound
    while offset < range.upperBound {
      let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(range.upperBound - offset))
      try read(into: piece, at: offset)
      try body(UnsafeRawBufferPointer(piece))
      offset += piece.count
    }
  }
}

func withBytes<Element: BitwiseCopyable, Result>(
  _ array: [Element], _ body: (UnsafeRawBufferPointer) throws(ArchiveError) -> Result
) throws(ArchiveError) -> Result {
  try array.withUnsafeBufferPointer { (buffer) throws(ArchiveError) in
    try body(UnsafeRawBufferPointer(buffer))
  }
}
func withMutableBytes<Element: BitwiseCopyable, Result>(
  _ array: inout [Element], _ body: (UnsafeMutableRawBufferPointer) throws(ArchiveError) -> Result
) throws(ArchiveError) -> Result {
  try array.withUnsafeMutableBufferPointer { (buffer) throws(ArchiveError) in
    try body(UnsafeMutableRawBufferPointer(buffer))
  }
}
