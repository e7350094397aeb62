// A run's directory between processes: whose temporaries may go, and who holds the lock.
// Process ids come again after a restart, so a process is named by its id and its start time.
import Glibc

enum Temporary {
  static let suffix = ".retain-tmp"

  /// `.<name>.<pid>-<start>-<number>.retain-tmp`; hidden, and its owner can be asked whether it lives.
  static func name(for name: String, number: Int) -> String {
    let pid = getpid()
    return ".\(String(name.unicodeScalars.prefix(40))).\(pid)-\(startTime(of: pid) ?? 0)-\(number)\(suffix)"
  }
  /// Clock ticks from boot to the start of a process; nil where it is gone or /proc is absent.
  static func startTime(of pid: Int32) -> Int? {
    guard let file = fopen("/proc/\(pid)/stat", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 2048)
    let count = fread(&buffer, 1, buffer.count, file)
    // The second field is a name in parentheses that may contain anything; count from the last one.
    guard let end = buffer[..<count].lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let fields = buffer[(end + 1)..<count].split(separator: UInt8(ascii: " "))
    return fields.count > 19 ? Int(String(decoding: fields[19], as: UTF8.self)) : nil
  }
  /// Whether the process that made a temporary of this name is gone; false for any other name.
  static func isStale(_ name: String) -> Bool {
    guard name.hasPrefix("."), name.hasSuffix(suffix) else { return false }
    let owner = name.dropLast(suffix.count).split(separator: ".").last ?? ""
    let parts = owner.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, let pid = Int32(parts[0]), pid > 0, let start = Int(parts[1]) else {
      return false
    }
    if start == 0 { return kill(pid, 0) != 0 && errno == ESRCH }
    return startTime(of: pid) != start
  }
}

/// Removes what processes that no longer live left half written, and returns the names; call it holding the
/// lock.
///
/// - Throws: `ArchiveError` where the folder cannot be listed; a file that cannot be removed is left.
@discardableResult
public func removeStaleTemporaries(in directory: String) throws(ArchiveError) -> [String] {
  try fileNames(in: directory).filter { Temporary.isStale($0) && unlink(directory + "/" + $0) == 0 }
}

/// The names in a folder without "." and "..", sorted by their bytes.
func fileNames(in directory: String) throws(ArchiveError) -> [String] {
  guard let stream = opendir(directory) else {
    throw ArchiveError(errno, "list the folder", path: directory, for: .reading)
  }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

/// Holds a directory against other processes (and other holders in this one) from creation to the end of
/// its life.
///
/// A lock of the kernel on `run.lock`: it goes with the process, however that ends. The file stays behind
/// and tells who held it last; over NFS the lock is as good as the server's.
public final class DirectoryLock: Sendable {
  public let path: String
  private let descriptor: Int32

  /// - Throws: `ArchiveError` of kind locked where somebody else holds it, else cannotCreate, permission or
  ///   io.
  public init(directory: String, name: String = "run.lock") throws(ArchiveError) {
    path = directory + "/" + name
    do throws(SystemFailure) {
      descriptor = try Disk.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o666)
    } catch { throw ArchiveError(error.code, "create the lock", path: path, for: .writing) }
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      let holder = DirectoryLock.holder(of: descriptor)
      // All properties are set, so leaving by an error runs deinit, which closes; twice would hit another file.
      guard code == EWOULDBLOCK else { throw ArchiveError(code, "lock", path: path, for: .writing) }
      throw ArchiveError(
        .locked, path: directory,
        reason: "another run holds this directory" + (holder.map { " (\($0))" } ?? ""),
        hint: "wait for it, stop it, or choose another directory")
    }
    // Only a courtesy to the one who comes second, so failures do not matter.
    var host = [CChar](repeating: 0, count: 256)
    gethostname(&host, host.count - 1)
    let hostName = String(decoding: host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    let text = Array("process \(getpid()) on \(hostName)\n".utf8)
    if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
  }
  deinit {
    // A child on its way to exec may hold a copy of the descriptor: the lock must not wait for it.
    flock(descriptor, LOCK_UN)
    close(descriptor)
  }

  private static func holder(of descriptor: Int32) -> String? {
    var buffer = [UInt8](repeating: 0, count: 200)
    let count = pread(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { return nil }
    let line = buffer[..<count].prefix { $0 >= 0x20 && $0 < 0x7F }
    return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
  }
}
