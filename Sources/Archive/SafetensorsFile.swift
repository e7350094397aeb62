// Reads one safetensors file: an eight-byte length, a JSON header, and the numbers.
// Files come from strangers; every claim of the header is checked before a byte is read on its word.
import StrictJSON

/// One tensor of a safetensors file.
public struct TensorInfo: Sendable {
  public let name: String
  /// As in the header, for instance "BF16".
  public let dtype: String
  public let shape: [Int]
  public let byteCount: Int
  /// First byte in the file.
  public let offset: Int
  /// The number of elements.
  public var count: Int { shape.reduce(1, *) }
}

/// A safetensors file whose header was checked; tensors are read on demand, from any thread.
public final class SafetensorsFile: Sendable {
  public var path: String { file.path }
  /// In the order of their bytes.
  public let tensors: [TensorInfo]
  /// The header's `__metadata__`.
  public let metadata: [(String, String)]
  private let file: ReadableFile
  private let index: [ByteKey: Int]

  static let maximumHeader = 100_000_000
  static let maximumTensors = 1_000_000
  static let maximumName = 512
  /// Types of whole bytes; the others of the format pack several elements in one byte.
  static let sizes: [String: Int] = [
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I64": 8, "I32": 4,
    "I16": 2,
    "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
  ]

  /// Opens a file and checks the whole header: types, shapes, sizes, and that the tensors fill the file
  /// without a hole.
  ///
  /// - Throws: `ArchiveError` naming the tensor: missing, permission, damaged, unsupported (dtype) or io.
  public init(path: String) throws(ArchiveError) {
    file = try ReadableFile(path)
    guard file.size >= 8 else {
      throw .damaged(path, "has \(file.size) bytes, too few for a safetensors header")
    }
    let length = try file.bytes(0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(SafetensorsFile.maximumHeader) else {
      throw .damaged(
        path, "claims a header of \(length) bytes at byte 0, more than \(SafetensorsFile.maximumHeader)")
    }
    let start = 8 + Int(length)
    guard start <= file.size else {
      throw .damaged(path, "ends at byte \(file.size) inside its header of \(length) bytes")
    }
    let text = try file.bytes(8..<start)
    guard text.first == UInt8(ascii: "{") else {
      throw .damaged(path, "has a header at byte 8 that does not start with {")
    }
    // Only spaces may follow; the parser would also take tabs and newlines.
    guard text.last(where: { $0 != 0x20 }) == UInt8(ascii: "}") else {
      throw .damaged(path, "has a header that does not end with } and spaces")
    }
    let json: JSON
    do throws(JSONError) {
      json = try JSON.parse(text, limits: JSONLimits(depth: 8, bytes: SafetensorsFile.maximumHeader))
    } catch { throw .damaged(path, "has a header that is not JSON at \(error)") }
    let members = json.members ?? []
    guard members.count <= SafetensorsFile.maximumTensors else {
      throw .damaged(path, "lists \(members.count) tensors, more than \(SafetensorsFile.maximumTensors)")
    }
    var metadata: [(String, String)] = []
    var tensors: [TensorInfo] = []
    tensors.reserveCapacity(members.count)
    for member in members {
      if member.key.utf8.elementsEqual("__metadata__".utf8) {
        guard let pairs = member.value.members else {
          throw .damaged(path, "has a __metadata__ that is not an object")
        }
        for pair in pairs {
          guard let value = pair.value.string else {
            throw .damaged(path, "has a __metadata__ whose \(shown(pair.key)) is not a text")
          }
          metadata.append((pair.key, value))
        }
      } else {
        tensors.append(try SafetensorsFile.tensor(member, dataStart: start, fileSize: file.size, path: path))
      }
    }
    tensors.sort { ($0.offset, $0.byteCount) < ($1.offset, $1.byteCount) }
    var position = start
    for tensor in tensors {
      guard tensor.offset == position else {
        let what = tensor.offset > position ? "leaves a hole before it" : "overlaps the tensor before it"
        throw .damaged(path, "the tensor \(shown(tensor.name)) starts at byte \(tensor.offset) and \(what)")
      }
      position += tensor.byteCount
    }
    guard position == file.size else {
      throw .damaged(path, "has \(file.size - position) bytes after its last tensor, at byte \(position)")
    }
    self.metadata = metadata
    self.tensors = tensors
    var index: [ByteKey: Int] = [:]
    index.reserveCapacity(tensors.count)
    for (position, tensor) in tensors.enumerated() { index[ByteKey(tensor.name)] = position }
    self.index = index
  }

  private static func tensor(_ member: JSON.Member, dataStart: Int, fileSize: Int, path: String)
    throws(ArchiveError) -> TensorInfo
  {
    func wrong(_ what: String) -> ArchiveError { .damaged(path, "the tensor \(shown(member.key)) \(what)") }
    guard member.key.utf8.count <= maximumName else {
      throw wrong("has a name of more than \(maximumName) bytes")
    }
    guard let fields = member.value.members, fields.count == 3, let dtype = member.value["dtype"]?.string,
      let sides = member.value["shape"]?.array, let offsets = member.value["data_offsets"]?.array
    else { throw wrong("needs exactly dtype, shape and data_offsets") }
    guard let size = sizes[dtype] else {
      throw ArchiveError(
        .unsupported, path: path,
        reason: "the tensor \(shown(member.key)) has the unknown dtype \(shown(dtype))",
        hint: "convert it to F32 or BF16")
    }
    guard sides.count <= Manifest.maximumRank else {
      throw wrong("has \(sides.count) dimensions, more than \(Manifest.maximumRank)")
    }
    var shape: [Int] = []
    for side in sides {
      guard case .integer(let value) = side, value >= 0 else {
        throw wrong("has a side that is not a whole number")
      }
      shape.append(value)
    }
    guard offsets.count == 2, case .integer(let begin) = offsets[0], case .integer(let end) = offsets[1],
      begin >= 0
    else { throw wrong("needs two whole numbers as data_offsets") }
    guard begin <= end else { throw wrong("ends at \(end) before it begins at \(begin)") }
    guard end <= fileSize - dataStart else {
      throw wrong("ends at \(end) where the file has \(fileSize - dataStart) bytes of data")
    }
    guard let count = checkedCount(shape) else { throw wrong("has a shape whose product overflows") }
    guard count.multipliedReportingOverflow(by: size) == (end - begin, false) else {
      throw wrong("has \(end - begin) bytes, which \(shape) of \(dtype) do not take")
    }
    return TensorInfo(
      name: member.key, dtype: dtype, shape: shape, byteCount: end - begin, offset: dataStart + begin)
  }

  /// The tensor of this name, or nil.
  public func tensor(_ name: String) -> TensorInfo? { index[ByteKey(name)].map { tensors[$0] } }

  /// Reads a tensor of F32, F16, BF16 or F64 as floats; F64 is rounded to nearest.
  ///
  /// - Parameter allowNonFinite: whether infinities and NaN pass.
  /// - Throws: `ArchiveError` naming the tensor: incompatible (no such tensor, another count), unsupported
  ///   (dtype), damaged (numbers that are not finite, file cut short) or io.
  public func floats(
    _ name: String, into buffer: UnsafeMutableBufferPointer<Float>, allowNonFinite: Bool = false
  )
    throws(ArchiveError)
  {
    guard let tensor = tensor(name) else {
      throw ArchiveError(
        .incompatible, path: path, reason: "has no tensor \(shown(name))",
        hint: "check that the model is complete")
    }
    guard tensor.count == buffer.count else {
      throw ArchiveError(
        .incompatible, path: path,
        reason: "the tensor \(shown(name)) has \(tensor.count) elements where \(buffer.count) are expected",
        hint: "check that config.json belongs to this file")
    }
    let range = tensor.offset..<(tensor.offset + tensor.byteCount)
    switch tensor.dtype {
    case "F32": try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: tensor.offset)
    case "BF16": try convert(range, into: buffer) { BFloat16.expand($0) }
    case "F16": try convert(range, into: buffer) { Half.expand($0) }
    case "F64": try convert(range, into: buffer) { (value: Double) in Float(value) }
    default:
      throw ArchiveError(
        .unsupported, path: path,
        reason: "the tensor \(shown(name)) has dtype \(tensor.dtype), which is not read as floats",
        hint: "convert it to F32 or BF16")
    }
    if allowNonFinite { return }
    var bad = 0
    for value in buffer where !value.isFinite { bad += 1 }
    guard bad == 0 else {
      throw .damaged(
        path, "the tensor \(shown(name)) has \(bad) of \(tensor.count) values that are not finite")
    }
  }
  public func floats(_ name: String, allowNonFinite: Bool = false) throws(ArchiveError) -> [Float] {
    let count = tensor(name)?.count ?? 0
    try requireMemory(count.multipliedReportingOverflow(by: 4).partialValue, for: name, of: path)
    var result = [Float](repeating: 0, count: count)
    var failure: ArchiveError?
    result.withUnsafeMutableBufferPointer { buffer in
      do throws(ArchiveError) { try floats(name, into: buffer, allowNonFinite: allowNonFinite) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return result
  }
  private func convert<Source: BitwiseCopyable>(
    _ range: Range<Int>, into buffer: UnsafeMutableBufferPointer<Float>, _ expand: (Source) -> Float
  ) throws(ArchiveError) {
    var done = 0
    try file.pieces(range) { (bytes) throws(ArchiveError) in
      let values = bytes.assumingMemoryBound(to: Source.self)
      for position in 0..<values.count { buffer[done + position] = expand(values[position]) }
      done += values.count
    }
  }
}
