// A save is compared with what is on the disk, not with what its own writes left in memory.
import Archive
import Foundation
import TestKit
import Testing

@Suite struct ReadBackTests {
  /// Bytes that this thread had fetched from a disk; nil where nobody counts them.
  private func fetched() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/thread-self/io", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("read_bytes: ") }
    return line.flatMap { Int($0.dropFirst("read_bytes: ".count)) }
  }
  private func fetched(by body: () throws -> Void) rethrows -> Int {
    let before = fetched()
    try body()
    guard let before, let after = fetched() else { return 0 }
    return after - before
  }

  @Test func sumsAreReadFromTheDisk() throws {
    try withTemporaryDirectory { folder in
      let values = (0..<1 << 20).map { Float($0) }
      let control = folder + "/control"
      try put(values.withUnsafeBytes { Array($0) }, at: control)
      let file = open(control, O_RDONLY)
      defer { close(file) }
      guard fsync(file) == 0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0 else { return }
      // Some file systems are memory, and some do not tell what they fetch.
      guard try fetched(by: { _ = try bytes(of: control) }) >= 3 << 20 else { return }
      var writer = ArchiveWriter()
      writer.add("values", floats: values)
      let read = try fetched { try writer.write(to: folder + "/a.h5", metadata: [:]) }
      #expect(read >= 3 << 20, "\(read) bytes came from the disk")
    }
  }
}
