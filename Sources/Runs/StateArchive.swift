// The bridge between things with state and the archive on disk.
import Archive
import TensorCore

/// Collects state into an archive.
final class ArchiveStateWriter: StateWriter {
  var archive = ArchiveWriter()

  func group(_ path: String, description: String) { archive.group(path, description: description) }
  func tensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    archive.add(
      path, type: .float32, shape: shape, description: description, bytes: UnsafeRawBufferPointer(tensor.buffer))
  }
  func roundedTensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    archive.add(path, bfloat16: tensor.toArray(), shape: shape, description: description)
  }
  func integers(_ path: String, _ values: [Int], description: String?) {
    archive.add(path, ints: values, description: description)
  }
  func tokens(_ path: String, _ values: [Int32], description: String?) {
    archive.add(path, int32s: values, description: description)
  }
  func doubles(_ path: String, _ values: [Double], description: String?) {
    archive.add(path, doubles: values, description: description)
  }
  func text(_ path: String, _ value: String, description: String?) {
    archive.add(path, text: value, description: description)
  }
}

/// Reads state back, every checksum verified.
final class ArchiveStateReader: StateReader {
  let archive: ArchiveReader
  init(_ archive: ArchiveReader) { self.archive = archive }

  func contains(_ path: String) -> Bool { archive.contains(path) }
  func tensor(_ path: String, into tensor: Tensor) throws { try archive.floats(path, into: tensor.buffer) }
  func integers(_ path: String) throws -> [Int] { try archive.ints(path) }
  func tokens(_ path: String) throws -> [Int32] { try archive.int32s(path) }
  func doubles(_ path: String) throws -> [Double] { try archive.doubles(path) }
  func text(_ path: String) throws -> String { try archive.text(path) }
}
