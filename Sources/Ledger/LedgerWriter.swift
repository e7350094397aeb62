// Appends events to ledger.jsonl, one write(2) a line, and cuts the file where a checkpoint stands.
// A line is either whole in the file or not there: a failed write is taken back.

import Glibc
import StrictJSON

/// System calls under a ledger; tests of fault handling put others in their place.
@_spi(Testing) public struct LedgerCalls: Sendable {
  /// As pread(2).
  public var read: @Sendable (Int32, UnsafeMutableRawPointer?, Int, off_t) -> Int = { pread($0, $1, $2, $3) }
  /// As write(2).
  public var write: @Sendable (Int32, UnsafeRawPointer?, Int) -> Int = { Glibc.write($0, $1, $2) }
  /// As fsync(2).
  public var flush: @Sendable (Int32) -> Int32 = { fsync($0) }
  public init() {}
}

/// The open ledger of a run; not for use by several threads at once.
public final class LedgerWriter {
  public let path: String
  /// Bytes written so far: what a checkpoint stores.
  public private(set) var offset: Int
  /// Bytes that a checkpoint counted on and the file did not have, such as after a power cut.
  public let shortfall: Int
  private let file: Int32
  private let clock: (@Sendable () -> String)?
  private let calls: LedgerCalls
  /// Lines for which the disk had no room.
  private var waiting: [UInt8] = []
  /// Whether lines wait in memory for room on the disk.
  public var isWaiting: Bool { !waiting.isEmpty }
  private static let mostWaiting = 16 << 20

  /// Opens or creates a ledger.
  ///
  /// - Parameters:
  ///   - offset: the checkpoint's offset, 0 to start over, nil to append after the last whole line. A cut
  ///     inside a line moves back to the start of that line.
  ///   - clock: gives `cost.time` of every event; nil for none.
  /// - Throws: `LedgerError`, kind `io`.
  public convenience init(
    path: String, truncatingTo offset: Int?, clock: (@Sendable () -> String)? = LedgerWriter.universalTime
  ) throws(LedgerError) {
    try self.init(path: path, truncatingTo: offset, clock: clock, calls: LedgerCalls())
  }
  @_spi(Testing) public init(
    path: String, truncatingTo offset: Int?, clock: (@Sendable () -> String)?, calls: LedgerCalls
  ) throws(LedgerError) {
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw TextFile.failure(path, "cannot be opened") }
    var status = stat()
    guard fstat(file, &status) == 0 else {
      let failure = TextFile.failure(path, "cannot be examined")
      close(file)
      throw failure
    }
    let size = Int(clamping: status.st_size)
    let wanted = max(0, offset ?? size)
    let end: Int
    do throws(LedgerError) {
      end = try LedgerWriter.lineStart(file, before: min(wanted, size), of: path, calls)
    } catch {
      close(file)
      throw error
    }
    guard ftruncate(file, off_t(end)) == 0, lseek(file, off_t(end), SEEK_SET) == off_t(end) else {
      let failure = TextFile.failure(path, "cannot be cut")
      close(file)
      throw failure
    }
    self.path = path
    self.file = file
    self.offset = end
    self.clock = clock
    self.calls = calls
    shortfall = offset == nil ? 0 : wanted - end
  }

  deinit {
    if isWaiting { _ = writeWaiting() }
    close(file)
  }

  /// Writes one event and its newline; where the disk is full it waits in memory for the next call, up to 16 MiB.
  ///
  /// - Throws: `LedgerError`; the ledger then ends with the event before.
  public func append(_ event: LedgerEvent) throws(LedgerError) {
    var event = event
    if let clock { event.cost.append(.init("time", .string(clock()))) }
    let line = Array((event.json.compact + "\n").utf8)
    waiting += line
    guard let code = writeWaiting() else { return }
    if [ENOSPC, EDQUOT, EFBIG].contains(code), waiting.count <= Self.mostWaiting { return }
    waiting.removeLast(line.count)
    throw TextFile.failure(path, "cannot be appended to", code: code)
  }

  /// Returns `errno` on failure.
  private func writeWaiting() -> Int32? {
    if let code = TextFile.writeAll(file, waiting, calls.write) {
      // Take back a part of a line; if even that fails, the reader ignores the torn end.
      if ftruncate(file, off_t(offset)) == 0 { lseek(file, off_t(offset), SEEK_SET) }
      return code
    }
    offset += waiting.count
    waiting = []
    return nil
  }

  /// Waits until the lines are on the disk; before a checkpoint stores the offset.
  ///
  /// - Throws: `LedgerError`, also where the disk still has no room for lines that wait
  public func synchronize() throws(LedgerError) {
    if isWaiting, let code = writeWaiting() { throw TextFile.failure(path, "cannot be appended to", code: code) }
    if let code = TextFile.flush(file, calls.flush) {
      throw TextFile.failure(path, "cannot be flushed to the disk", code: code)
    }
  }

  /// Now, as `2026-01-31T08:05:09Z`.
  public static let universalTime: @Sendable () -> String = {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
      + "T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
  }

  /// The largest offset not above `end` that starts a line.
  ///
  /// - Throws: where a byte cannot be read; the ledger is cut here, so a guess would erase lines that are there
  private static func lineStart(_ file: Int32, before end: Int, of path: String, _ calls: LedgerCalls)
    throws(LedgerError) -> Int
  {
    var end = end
    var chunk = [UInt8](repeating: 0, count: 4096)
    while end > 0 {
      let start = max(0, end - chunk.count)
      var done = 0
      while done < end - start {
        let count = chunk.withUnsafeMutableBytes { buffer in
          calls.read(file, buffer.baseAddress.map { $0 + done }, end - start - done, off_t(start + done))
        }
        if count < 0 {
          if errno == EINTR { continue }
          throw TextFile.failure(path, "cannot be read")
        }
        guard count > 0 else { throw LedgerError(.io(EIO), path: path, what: "ends while it is read") }
        done += count
      }
      if let newline = chunk[0..<done].lastIndex(of: 0x0A) { return start + newline + 1 }
      end = start
    }
    return 0
  }
}
