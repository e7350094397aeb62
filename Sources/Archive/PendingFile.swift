// A file under construction: it has a temporary name beside its final one until it is whole and on the disk.
// Whatever goes wrong, the final name keeps showing what it showed before and the temporary is removed.
import Glibc
import Synchronization

final class PendingFile {
  let path: String
  let temporaryPath: String
  let descriptor: Int32
  private let directory: String
  private var published = false
  private static let serial = Atomic<Int>(0)

  init(for path: String) throws(ArchiveError) {
    self.path = path
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard !name.isEmpty, name != ".", name != "..", !path.utf8.contains(0) else {
      throw ArchiveError(
        .cannotCreate, path: shown(path), reason: "is not the name of a file", hint: "choose another path")
    }
    var status = stat()
    if lstat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG, status.st_mode & S_IFMT != S_IFLNK {
      let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
      throw ArchiveError(.cannotCreate, path: path, reason: "is \(what)", hint: "choose another path")
    }
    let number = PendingFile.serial.add(1, ordering: .relaxed).newValue
    temporaryPath = (directory == "/" ? "/" : directory + "/") + Temporary.name(for: name, number: number)
    do throws(SystemFailure) {
      descriptor = try Disk.open(temporaryPath, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o666)
    } catch {
      throw ArchiveError(error.code, "create a file here", path: path, for: .writing)
    }
  }
  deinit {
    close(descriptor)
    if !published { unlink(temporaryPath) }
  }

  private func perform(_ action: String, _ body: () throws(SystemFailure) -> Void) throws(ArchiveError) {
    do throws(SystemFailure) { try body() } catch {
      throw ArchiveError(error.code, action, path: path, for: .writing)
    }
  }

  /// Refuses now what would not fit later.
  func checkSpace(for count: Int) throws(ArchiveError) {
    var status = statvfs()
    // Some file systems in user space report no sizes at all.
    guard fstatvfs(descriptor, &status) == 0, status.f_blocks > 0 else { return }
    let (free, overflow) = UInt(status.f_bavail).multipliedReportingOverflow(by: UInt(status.f_frsize))
    guard overflow || free >= UInt(max(0, count)) else {
      throw ArchiveError(
        .full, path: path, reason: "needs \(count) bytes where \(free) are free",
        hint: "free some space, then run again")
    }
  }
  /// Takes the space on the disk before the first byte is written.
  func reserve(_ count: Int) throws(ArchiveError) {
    guard count > 0 else { return }
    try perform("reserve \(count) bytes") { () throws(SystemFailure) in
      do throws(SystemFailure) {
        // posix_fallocate returns its code instead of setting errno.
        try Disk.attempt {
          let code = posix_fallocate(descriptor, 0, count)
          errno = code
          return code == 0 ? 0 : -1
        }
      } catch  where error.code == EOPNOTSUPP || error.code == EINVAL {
        // The file system cannot reserve; the writes will tell.
        return
      }
    }
  }
  var size: Int {
    get throws(ArchiveError) {
      do throws(SystemFailure) { return try Disk.status(descriptor).st_size } catch {
        throw ArchiveError(error.code, "measure the file", path: path, for: .writing)
      }
    }
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(ArchiveError) {
    try perform("write at byte \(offset)") { () throws(SystemFailure) in
      try Disk.write(bytes, at: offset, to: descriptor)
    }
  }
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ArchiveError) {
    var count = 0
    try perform("read back at byte \(offset)") { () throws(SystemFailure) in
      count = try Disk.read(buffer, at: offset, from: descriptor)
    }
    guard count == buffer.count else {
      throw ArchiveError(
        .io, path: path, reason: "lost bytes at \(offset) while it was written", hint: "check the disk")
    }
  }
  /// After a failed fsync the kernel may call lost pages clean, so it is never tried twice: the file is
  /// discarded.
  func synchronize() throws(ArchiveError) {
    try perform("flush to the disk") { () throws(SystemFailure) in try Disk.attempt { fsync(descriptor) } }
  }
  /// Gives up the pages in memory, so that what is read next comes from the disk; where that cannot be, it comes from
  /// memory.
  func dropPages() { posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) }
  /// Gives the file its final name and makes the name durable.
  func publish() throws(ArchiveError) {
    try perform("rename into place") { () throws(SystemFailure) in
      try Disk.attempt { rename(temporaryPath, path) }
    }
    published = true
    do throws(SystemFailure) { try Disk.synchronize(directory: directory) } catch {
      throw ArchiveError(
        error.code,
        "flush the folder (the new file is whole and in place, but a power cut may undo its name)",
        path: path, for: .writing)
    }
  }
}

/// Small files that are either as before or as given, never in between.
public enum AtomicFile {
  /// Writes under a temporary name, flushes, renames, flushes the folder.
  ///
  /// - Throws: `ArchiveError` of kind cannotCreate, permission, full or io; the old file is then untouched,
  ///   except that a failed flush of the folder is reported after the new file is in place.
  public static func write(_ bytes: [UInt8], to path: String) throws(ArchiveError) {
    let file = try PendingFile(for: path)
    try withBytes(bytes) { (buffer) throws(ArchiveError) in try file.write(buffer, at: 0) }
    try file.synchronize()
    try file.publish()
  }
  public static func write(_ text: String, to path: String) throws(ArchiveError) {
    try write(Array(text.utf8), to: path)
  }
}
