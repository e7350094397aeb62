// What a disk may do to a run's files: reads that fail or come in parts, interrupted flushes, names that are taken.
import Foundation
import Glibc
@_spi(Testing) import Ledger
import Synchronization
import TestKit
import Testing

@Suite struct LedgerFaultTests {
  private let line = "{\"event\":\"a\"}\n"

  /// True the first time it is asked.
  private final class Once: Sendable {
    private let isOver = Mutex(false)
    func now() -> Bool {
      isOver.withLock { isOver in
        defer { isOver = true }
        return !isOver
      }
    }
  }
  private func write(_ text: String, _ path: String) throws {
    try text.write(toFile: path, atomically: false, encoding: .utf8)
  }
  private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  /// Behind the first line stands a torn end of several blocks; the block with the line is the one that cannot be read.
  @Test func linesThatCannotBeReadAreNotCutOff() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let torn = line + String(repeating: "x", count: 10_000)
      try write(torn, path)
      var failing = LedgerCalls()
      failing.read = { file, buffer, count, offset in
        guard offset == 0 else { return pread(file, buffer, count, offset) }
        errno = EIO
        return -1
      }
      var ending = LedgerCalls()
      ending.read = { file, buffer, count, offset in offset == 0 ? 0 : pread(file, buffer, count, offset) }
      for calls in [failing, ending] {
        let error = #expect(throws: LedgerError.self) {
          _ = try LedgerWriter(path: path, truncatingTo: nil, clock: nil, calls: calls)
        }
        #expect(error?.kind == .io(EIO) && error?.path == path)
        #expect(try text(path) == torn)
      }
    }
  }

  @Test func readsInPartsAndInterruptionsChangeNothing() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let once = Once()
      var slow = LedgerCalls()
      slow.read = { file, buffer, count, offset in
        guard once.now() else { return pread(file, buffer, (count + 1) / 2, offset) }
        errno = EINTR
        return -1
      }
      try write(line + String(repeating: "x", count: 10_000), path)
      let writer = try LedgerWriter(path: path, truncatingTo: nil, clock: nil, calls: slow)
      #expect(writer.offset == line.utf8.count)
      #expect(try text(path) == line)
    }
  }

  @Test func interruptedFlushesAreRepeatedAndFailedOnesReported() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let once = Once()
      var interrupted = LedgerCalls()
      interrupted.flush = { file in
        guard once.now() else { return fsync(file) }
        errno = EINTR
        return -1
      }
      try LedgerWriter(path: path, truncatingTo: 0, clock: nil, calls: interrupted).synchronize()
      #expect(!once.now())
      var failing = LedgerCalls()
      failing.flush = { _ in
        errno = EIO
        return -1
      }
      let writer = try LedgerWriter(path: path, truncatingTo: 0, clock: nil, calls: failing)
      let error = #expect(throws: LedgerError.self) { try writer.synchronize() }
      #expect(error?.kind == .io(EIO))
    }
  }

  /// Whoever may write into the folder may put a link where a temporary of a known name would be written.
  @Test func replacingWritesThroughNoLink() throws {
    try withTemporaryDirectory { folder in
      let (path, other) = (folder + "/tune.json", folder + "/other")
      try write("mine", other)
      for link in [path, path + ".new"] {
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: other)
      }
      try TextFile.replace(path, with: "new")
      #expect(try text(other) == "mine")
      #expect(try text(path) == "new")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["other", "tune.json", "tune.json.new"])
      let absent = #expect(throws: LedgerError.self) { try TextFile.replace(folder + "/no/tune.json", with: "new") }
      #expect(absent?.kind == .missing && absent?.path == folder + "/no/tune.json")
    }
  }

  /// The disk is full for a while, once in the middle of a line.
  @Test func linesWaitForRoom() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let room = Mutex(20)
      var full = LedgerCalls()
      full.write = { file, bytes, count in
        let some = room.withLock { room in
          let some = min(count, room)
          room -= some
          return some
        }
        guard some > 0 else {
          errno = ENOSPC
          return -1
        }
        return Glibc.write(file, bytes, some)
      }
      let ledger = try LedgerWriter(path: path, truncatingTo: 0, clock: nil, calls: full)
      let lines = ["{\"event\":\"one\"}\n", "{\"event\":\"two\"}\n", "{\"event\":\"three\"}\n"]
      try ledger.append(LedgerEvent("one", []))
      #expect(!ledger.isWaiting)
      try ledger.append(LedgerEvent("two", []))
      #expect(try ledger.isWaiting && text(path) == lines[0] && ledger.offset == lines[0].utf8.count)
      let error = #expect(throws: LedgerError.self) { try ledger.synchronize() }
      #expect(error?.kind == .io(ENOSPC))
      room.withLock { $0 = 1000 }
      try ledger.append(LedgerEvent("three", []))
      try ledger.synchronize()
      #expect(try !ledger.isWaiting && text(path) == lines.joined())
      #expect(ledger.offset == lines.joined().utf8.count)
    }
  }
}
