// Small tools of the data tests: files from strings, a gzip writer without compression, a toy encoder.
// The gzip writer makes stored blocks only, so that damage can be placed at a known byte.
import Corpus
import Foundation
import TestKit

/// Writes a file into a directory and returns its path.
func writeFile(_ bytes: [UInt8], to name: String, in directory: String) throws -> String {
  let path = directory + "/" + name
  try Data(bytes).write(to: URL(fileURLWithPath: path))
  return path
}
func writeFile(_ text: String, to name: String, in directory: String) throws -> String {
  try writeFile(Array(text.utf8), to: name, in: directory)
}

/// Reads rows from the content of one file.
func readRows(
  _ text: String, name: String = "data.jsonl", shape: DataShape? = nil, documents: DocumentRule = .blankLine
) throws -> [SourceRow] {
  try readRows(Array(text.utf8), name: name, shape: shape, documents: documents)
}
func readRows(
  _ bytes: [UInt8], name: String = "data.jsonl", shape: DataShape? = nil, documents: DocumentRule = .blankLine,
  limits: DataLimits = DataLimits()
) throws -> [SourceRow] {
  try withTemporaryDirectory { directory in
    let path = try writeFile(bytes, to: name, in: directory)
    return try DataReader.read(paths: [path], shape: shape, documents: documents, limits: limits)
  }
}

/// The error that reading the content gives; nil where it gives none.
func readFailure(
  _ bytes: [UInt8], name: String = "data.jsonl", shape: DataShape? = nil, limits: DataLimits = DataLimits()
) throws -> DataError? {
  do {
    _ = try readRows(bytes, name: name, shape: shape, limits: limits)
    return nil
  } catch let error as DataError {
    return error
  }
}
func readFailure(_ text: String, name: String = "data.jsonl", shape: DataShape? = nil) throws -> DataError? {
  try readFailure(Array(text.utf8), name: name, shape: shape)
}

/// A gzip member with the bytes in stored blocks.
func storedGzip(_ bytes: [UInt8]) -> [UInt8] {
  func little(_ value: UInt32, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt32($0))) }
  }
  var packed: [UInt8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]
  var start = 0
  repeat {
    let end = min(start + 65_535, bytes.count)
    packed.append(end == bytes.count ? 1 : 0)
    packed += little(UInt32(end - start), 2) + little(~UInt32(end - start), 2) + bytes[start..<end]
    start = end
  } while start < bytes.count
  var crc = ~UInt32(0)
  for byte in bytes {
    crc ^= UInt32(byte)
    for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
  }
  return packed + little(~crc, 4) + little(UInt32(bytes.count), 4)
}

/// Words to numbers, by order of first appearance in nothing: the scalar sum, above the special tokens.
func encodeWords(_ text: String) -> [Int32] {
  text.split(whereSeparator: \.isWhitespace).map { word in
    10 + word.unicodeScalars.reduce(0) { ($0 &* 31 &+ Int32(truncatingIfNeeded: $1.value)) & 0xFFFF }
  }
}
func textRows(_ texts: [String], file: String = "a.jsonl") -> [SourceRow] {
  texts.enumerated().map { SourceRow(sample: .text($1), file: file, line: $0 + 1) }
}
func wordText(_ count: Int, from start: Int = 0) -> String {
  (start..<(start + count)).map { "w\($0)" }.joined(separator: " ")
}
