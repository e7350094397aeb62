// Whole small files in and out: results, comparisons, reports.
// Here because results must never be half written: readers see the old file or the new one.

import Glibc
import StrictJSON
import Synchronization

/// Whole files as bytes, read at once and replaced at once.
public enum TextFile {
  /// All bytes of a file.
  ///
  /// - Throws: `LedgerError`, kind `missing` when there is no such file.
  public static func read(_ path: String) throws(LedgerError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure(path, "cannot be opened") }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw failure(path, "cannot be examined") }
    guard status.st_mode & S_IFMT != S_IFDIR else {
      throw LedgerError(.io(EISDIR), path: path, what: "is a directory")
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Int(clamping: status.st_size))
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = Glibc.read(file, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw failure(path, "cannot be read")
      }
      if count == 0 { return bytes }
      bytes.append(contentsOf: chunk[0..<count])
    }
  }

  /// The one JSON value in a file.
  ///
  /// - Throws: `LedgerError` with the line of the first violation.
  public static func readJSON(_ path: String) throws(LedgerError) -> JSON {
    let bytes = try read(path)
    do throws(JSONError) { return try JSON.parse(bytes) } catch {
      let line = bytes.prefix(error.offset).count { $0 == 0x0A } + 1
      throw LedgerError(.malformed, path: path, line: line, what: error.reason)
    }
  }

  /// Replaces a file by text: temporary name, fsync, rename, fsync of the directory.
  ///
  /// - Throws: `LedgerError`; the old file is then untouched.
  public static func replace(_ path: String, with text: String) throws(LedgerError) {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    var (temporary, file) = ("", Int32(-1))
    // Never a file that is there, whoever made it, and never through a link.
    repeat {
      temporary = "\(directory)/\(temporaryName(for: name))"
      file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
    } while file < 0 && errno == EEXIST
    guard file >= 0 else { throw failure(path, "cannot be created") }
    let problem = writeAll(file, Array(text.utf8)) ?? flush(file)
    let closed = close(file) == 0 ? nil : Optional(errno)
    if let code = problem ?? closed {
      unlink(temporary)
      throw failure(path, "cannot be written", code: code)
    }
    guard rename(temporary, path) == 0 else {
      let code = errno
      unlink(temporary)
      throw failure(path, "cannot be replaced", code: code)
    }
    let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  private static let serial = Atomic<Int>(0)
  /// As an archive's temporary, so that it is found and removed where its process died; 0 stands for the time at which
  /// the process began, t keeps the numbers apart from those of archives.
  private static func temporaryName(for name: String) -> String {
    let number = serial.add(1, ordering: .relaxed).newValue
    return ".\(String(name.unicodeScalars.prefix(40))).\(getpid())-0-t\(number).retain-tmp"
  }

  /// True when something stands at the path.
  public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Writes every byte, through short writes and signals; returns `errno` on failure.
  static func writeAll(
    _ file: Int32, _ bytes: [UInt8],
    _ call: (Int32, UnsafeRawPointer?, Int) -> Int = { Glibc.write($0, $1, $2) }
  ) -> Int32? {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { buffer in
        call(file, buffer.baseAddress.map { $0 + done }, buffer.count - done)
      }
      if count < 0 {
        if errno == EINTR { continue }
        return errno
      }
      done += count
    }
    return nil
  }

  /// Waits until everything is on the disk, through signals; returns `errno` on failure.
  static func flush(_ file: Int32, _ call: (Int32) -> Int32 = { fsync($0) }) -> Int32? {
    while call(file) != 0 {
      let code = errno
      if code != EINTR { return code }
    }
    return nil
  }

  static func failure(_ path: String, _ what: String, code: Int32 = errno) -> LedgerError {
    let reason = String(cString: strerror(code))
    let hint: String? =
      switch code {
      case ENOSPC, EDQUOT: "free some disk space, then run the same command again"
      case EACCES, EPERM, EROFS: "check the permissions of the directory"
      default: nil
      }
    return LedgerError(
      code == ENOENT ? .missing : .io(code), path: path, what: "\(what): \(reason)", hint: hint)
  }
}
