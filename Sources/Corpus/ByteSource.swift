// The bytes of a file in chunks, unpacked on the way when the file is gzip.
// Recognises other packers by their first bytes, damaged gzip, bombs, and files that change while being read.
import CZlib
import Glibc

/// What a data file may ask of the reader before it is refused.
public struct DataLimits: Sendable {
  /// Longest line, in bytes.
  public var lineBytes = 16 << 20
  /// Most bytes of one file after unpacking.
  public var fileBytes = 16 << 30
  /// Deepest nesting of a JSON row.
  public var depth = 64
  /// Most keys of a JSON row.
  public var keys = 256
  public init() {}
}

/// Reads one file front to back; chunks are valid until the next call.
final class ByteSource {
  private static let chunk = 256 << 10
  private let path: String
  private let limit: Int
  private let descriptor: Int32
  private let opened: stat
  private let input = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: ByteSource.chunk)
  private let output = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: ByteSource.chunk)
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
  private var isGzip = false
  /// Bytes of `input` that are filled, and those of them already consumed.
  private var filled = 0
  private var taken = 0
  private var bytesRead = 0
  private var produced = 0
  private var memberEnded = false

  /// - Throws: `missing` where the file cannot be opened, `bad` for directories and foreign packers.
  init(path: String, limit: Int) throws(DataError) {
    self.path = path
    self.limit = limit
    stream.initialize(to: z_stream())
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    let failure = errno
    var status = stat()
    if descriptor >= 0 { _ = fstat(descriptor, &status) }
    opened = status
    guard descriptor >= 0 else {
      throw DataError(.missing, file: path, reason: String(cString: strerror(failure)), hint: "check the path")
    }
    guard status.st_mode & S_IFMT != S_IFDIR else {
      throw DataError(
        .bad, file: path, reason: "this is a directory, not a file",
        hint: "name the files in it, for example \(path)/*.jsonl")
    }
    try fill()
    try recognise()
  }

  deinit {
    if isGzip { inflateEnd(stream) }
    stream.deallocate()
    input.deallocate()
    output.deallocate()
    if descriptor >= 0 { close(descriptor) }
  }

  /// The next bytes; empty at the end of the file.
  func next() throws(DataError) -> UnsafeBufferPointer<UInt8> {
    let bytes = isGzip ? try inflated() : try plain()
    produced += bytes.count
    guard produced <= limit else {
      throw bad("more than \(limit) bytes\(isGzip ? " after unpacking" : "")", "split the file")
    }
    return bytes
  }

  /// The whole rest of the file.
  func all() throws(DataError) -> [UInt8] {
    var bytes: [UInt8] = []
    while true {
      let chunk = try next()
      if chunk.isEmpty { return bytes }
      bytes.append(contentsOf: chunk)
    }
  }

  private func bad(_ reason: String, _ hint: String) -> DataError {
    DataError(.bad, file: path, reason: reason, hint: hint)
  }

  private func fill() throws(DataError) {
    taken = 0
    filled = 0
    // Pipes return short counts: the first bytes decide the format, so fill as far as possible.
    while filled < input.count {
      let count = read(descriptor, input.baseAddress.map { $0 + filled }, input.count - filled)
      if count == 0 { break }
      if count < 0 {
        if errno == EINTR { continue }
        throw DataError(
          .io, file: path, reason: "reading failed at byte \(bytesRead): \(String(cString: strerror(errno)))",
          hint: "check the disk and try again")
      }
      filled += count
      bytesRead += count
    }
    if filled < input.count { try checkUnchanged() }
  }

  private func checkUnchanged() throws(DataError) {
    guard opened.st_mode & S_IFMT == S_IFREG else { return }
    var now = stat()
    guard fstat(descriptor, &now) == 0 else { return }
    guard now.st_size == opened.st_size, bytesRead == Int(opened.st_size),
      now.st_mtim.tv_sec == opened.st_mtim.tv_sec, now.st_mtim.tv_nsec == opened.st_mtim.tv_nsec
    else {
      throw bad(
        "the file changed while it was read (\(opened.st_size) bytes at first, \(now.st_size) now)",
        "wait until nothing writes to it")
    }
  }

  private func recognise() throws(DataError) {
    func starts(_ magic: [UInt8]) -> Bool {
      filled >= magic.count && magic.indices.allSatisfy { input[$0] == magic[$0] }
    }
    let others: [([UInt8], String)] = [
      ([0x28, 0xB5, 0x2F, 0xFD], "zstd"), ([0x50, 0x4B, 0x03, 0x04], "zip"),
      ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "xz"), ([0x42, 0x5A, 0x68, 0x39, 0x31, 0x41, 0x59], "bzip2"),
    ]
    for (magic, name) in others where starts(magic) {
      throw bad("this is \(name), which is not read", "decompress first, or pack with gzip")
    }
    if starts([0xFF, 0xFE]) || starts([0xFE, 0xFF]) {
      throw bad("this is UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8")
    }
    guard starts([0x1F, 0x8B]) else { return }
    // 15 + 16: the largest window, gzip header and checksum required.
    guard inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw DataError(.io, file: path, reason: "zlib cannot start", hint: "check the installation of zlib")
    }
    isGzip = true
  }

  private func plain() throws(DataError) -> UnsafeBufferPointer<UInt8> {
    if taken == filled {
      guard filled == input.count else { return UnsafeBufferPointer(start: nil, count: 0) }
      try fill()
    }
    let bytes = UnsafeBufferPointer(rebasing: input[taken..<filled])
    taken = filled
    return bytes
  }

  private func inflated() throws(DataError) -> UnsafeBufferPointer<UInt8> {
    stream.pointee.next_out = output.baseAddress
    stream.pointee.avail_out = UInt32(output.count)
    while stream.pointee.avail_out == UInt32(output.count) {
      if taken == filled {
        let ended = filled < input.count
        if !ended { try fill() }
        if ended || filled == 0 {
          guard memberEnded else {
            throw bad("the gzip file ends early", "it is truncated: fetch or pack it again")
          }
          break
        }
      }
      if memberEnded {
        // Files joined by `cat` hold several members; anything else after the end is not data.
        guard input[taken] == 0x1F else { throw bad("bytes follow the gzip data", "pack it again") }
        inflateReset(stream)
        memberEnded = false
      }
      stream.pointee.next_in = input.baseAddress.map { $0 + taken }
      stream.pointee.avail_in = UInt32(filled - taken)
      let code = inflate(stream, Z_NO_FLUSH)
      taken = filled - Int(stream.pointee.avail_in)
      switch code {
      case Z_OK, Z_BUF_ERROR: continue
      case Z_STREAM_END: memberEnded = true
      default:
        let words = stream.pointee.msg.map { String(cString: $0) } ?? "code \(code)"
        throw bad("the gzip data is damaged: \(words)", "fetch or pack it again")
      }
    }
    return UnsafeBufferPointer(rebasing: output[0..<(output.count - Int(stream.pointee.avail_out))])
  }
}
