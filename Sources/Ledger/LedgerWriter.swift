// Appends events to ledger.jsonl, one write(2) a line, and cuts the file where a checkpoint stands.
// A line is either whole in the file or not there: a failed write is taken back.

import Glibc
import StrictJSON

/// The open ledger of a run; not for use by several threads at once.
public final class LedgerWriter {
  public let path: String
  /// Bytes written so far: what a checkpoint stores.
  public private(set) var offset: Int
  /// Bytes that a checkpoint counted on and the file did not have, such as after a power cut.
  public let shortfall: Int
  private let file: Int32
  private let clock: (@Sendable () -> String)?

  /// Opens or creates a ledger.
  ///
  /// - Parameters:
  ///   - offset: the checkpoint's offset, 0 to start over, nil to append after the last whole line. A cut
  ///     inside a line moves back to the start of that line.
  ///   - clock: gives `cost.time` of every event; nil for none.
  /// - Throws: `LedgerError`, kind `io`.
  public init(
    path: String, truncatingTo offset: Int?, clock: (@Sendable () -> String)? = LedgerWriter.universalTime
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
    let end = LedgerWriter.lineStart(file, before: min(wanted, size))
    guard ftruncate(file, off_t(end)) == 0, lseek(file, off_t(end), SEEK_SET) == off_t(end) else {
      let failure = TextFile.failure(path, "cannot be cut")
      close(file)
      throw failure
    }
    self.path = path
    self.file = file
    self.offset = end
    self.clock = clock
    shortfall = offset == nil ? 0 : wanted - end
  }

  deinit { close(file) }

  /// Writes one event and its newline.
  ///
  /// - Throws: `LedgerError`; the ledger then ends with the event before.
  public func append(_ event: LedgerEvent) throws(LedgerError) {
    var event = event
    if let clock { event.cost.append(.init("time", .string(clock()))) }
    let line = Array((event.json.compact + "\n").utf8)
    if let code = TextFile.writeAll(file, line) {
      // Take back a part of a line; if even that fails, the reader ignores the torn end.
      if ftruncate(file, off_t(offset)) == 0 { lseek(file, off_t(offset), SEEK_SET) }
      throw TextFile.failure(path, "cannot be appended to", code: code)
    }
    offset += line.count
  }

  /// Waits until the lines are on the disk; before a checkpoint stores the offset.
  public func synchronize() throws(LedgerError) {
    guard fsync(file) == 0 else { throw TextFile.failure(path, "cannot be flushed to the disk") }
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
  private static func lineStart(_ file: Int32, before end: Int) -> Int {
    var end = end
    var chunk = [UInt8](repeating: 0, count: 4096)
    while end > 0 {
      let start = max(0, end - chunk.count)
      let count = pread(file, &chunk, end - start, off_t(start))
      guard count == end - start else { return 0 }
      if let newline = chunk[0..<count].lastIndex(of: 0x0A) { return start + newline + 1 }
      end = start
    }
    return 0
  }
}
