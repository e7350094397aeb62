// Lines of a byte source, without their ends: LF, CRLF and a missing last one are alike, a BOM is dropped.
// A line that lies in one chunk is not copied.
import Glibc

enum LineReader {
  /// Calls `body` with every line and its number, counted from 1.
  ///
  /// - Throws: `bad` for a line longer than `limits.lineBytes`, and what the source or `body` throws.
  static func forEach(
    in path: String, limits: DataLimits,
    _ body: (UnsafeBufferPointer<UInt8>, Int) throws(DataError) -> Void
  ) throws(DataError) {
    let source = try ByteSource(path: path, limit: limits.fileBytes)
    var carry: [UInt8] = []
    var number = 0
    func emit(_ bytes: UnsafeBufferPointer<UInt8>) throws(DataError) {
      number += 1
      guard bytes.count <= limits.lineBytes else { throw tooLong(path, number, limits) }
      var line = bytes[...]
      if number == 1, line.count >= 3, line[0] == 0xEF, line[1] == 0xBB, line[2] == 0xBF { line = line.dropFirst(3) }
      if line.last == 0x0D { line = line.dropLast() }
      try body(UnsafeBufferPointer(rebasing: line), number)
    }
    while true {
      let chunk = try source.next()
      guard let base = chunk.baseAddress, !chunk.isEmpty else { break }
      var start = 0
      while start < chunk.count, let end = memchr(base + start, 0x0A, chunk.count - start) {
        let stop = UnsafeRawPointer(end) - UnsafeRawPointer(base)
        let piece = UnsafeBufferPointer(rebasing: chunk[start..<stop])
        if carry.isEmpty {
          try emit(piece)
        } else {
          carry.append(contentsOf: piece)
          try carry.withUnsafeBufferPointer { (line) throws(DataError) in try emit(line) }
          carry.removeAll(keepingCapacity: true)
        }
        start = stop + 1
      }
      carry.append(contentsOf: chunk[start...])
      guard carry.count <= limits.lineBytes else { throw tooLong(path, number + 1, limits) }
    }
    if !carry.isEmpty { try carry.withUnsafeBufferPointer { (line) throws(DataError) in try emit(line) } }
  }

  private static func tooLong(_ path: String, _ line: Int, _ limits: DataLimits) -> DataError {
    DataError(
      .bad, file: path, line: line, reason: "a line of more than \(limits.lineBytes) bytes",
      hint: "a .jsonl file has one row per line; split longer documents")
  }
}
