// Reads archives without libhdf5: header, manifest and tensors are checked and read in Swift.
// Bytes may come from anywhere, so nothing in them can trap, allocate without bound or be taken unchecked.
import Glibc
import StrictJSON

/// An archive whose header and manifest were found whole; tensors are checked as they are read.
///
/// Reading is safe from several threads at once.
public final class ArchiveReader: Sendable {
  public var path: String { file.path }
  /// What the writer was given, numbers that are not finite as null.
  public let metadata: JSON
  public let entries: [EntryInfo]
  /// Paths and descriptions of the groups, parents first.
  public let groups: [(path: String, description: String)]
  private let file: ReadableFile
  private let manifest: Manifest
  private let place: Range<Int>
  private let index: [ByteKey: Int]

  /// Opens a file and checks its header, length, the manifest's SHA-256 and every place the manifest names.
  ///
  /// - Throws: `ArchiveError` of kind missing, permission, damaged, incompatible (another format or schema)
  ///   or io.
  public init(path: String) throws(ArchiveError) {
    file = try ReadableFile(path)
    let header = try Header(file)
    let bytes = try file.bytes(header.manifest)
    guard bytes.withUnsafeBytes({ SHA256.hash($0) }) == header.sha256 else {
      throw .damaged(path, "its manifest (at byte \(header.manifest.lowerBound)) does not have its SHA-256")
    }
    manifest = try Manifest(bytes, place: header.manifest, fileSize: file.size, path: path)
    place = header.manifest
    metadata = manifest.metadata
    entries = manifest.entries
    groups = manifest.groups.map { (path: $0.path, description: $0.description) }
    var index: [ByteKey: Int] = [:]
    index.reserveCapacity(entries.count)
    for (position, entry) in entries.enumerated() { index[ByteKey(entry.path)] = position }
    self.index = index
  }

  public func contains(_ path: String) -> Bool { index[ByteKey(path)] != nil }
  /// The entry of this path, or nil.
  public func entry(_ path: String) -> EntryInfo? { index[ByteKey(path)].map { entries[$0] } }
  /// Paths below a group, without the group and its slash, in the order of writing; all paths for the empty
  /// group.
  public func names(under group: String) -> [String] {
    guard !group.isEmpty else { return entries.map(\.path) }
    let prefix = Array((group + "/").utf8)
    return entries.compactMap { entry in
      entry.path.utf8.starts(with: prefix)
        ? String(decoding: entry.path.utf8.dropFirst(prefix.count), as: UTF8.self) : nil
    }
  }

  /// Reads the bytes of an entry and checks their CRC32C.
  ///
  /// - Throws: `ArchiveError`: incompatible where there is no such entry or the buffer has another size,
  ///   damaged where the sum differs.
  public func read(_ path: String, into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveError) {
    try read(known(path), into: buffer)
  }
  private func read(_ entry: EntryInfo, into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveError) {
    guard buffer.count == entry.byteCount else {
      throw incompatible(
        "\(shown(entry.path)) has \(entry.byteCount) bytes where \(buffer.count) are asked for")
    }
    var sum = CRC32C()
    for start in stride(from: 0, to: buffer.count, by: 1 << 20) {
      let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[start..<min(buffer.count, start + 1 << 20)])
      try file.read(into: piece, at: entry.offset + start)
      sum.update(UnsafeRawBufferPointer(piece))
    }
    try compare(sum.value, entry)
  }
  private func compare(_ sum: UInt32, _ entry: EntryInfo) throws(ArchiveError) {
    guard sum == entry.crc32c else {
      throw .damaged(
        path,
        "\(shown(entry.path)) at byte \(entry.offset) has CRC32C \(hexadecimal(sum)) "
          + "where \(hexadecimal(entry.crc32c)) was written")
    }
  }

  /// Reads an F32 or BF16 entry as floats into memory of the caller.
  public func floats(_ path: String, into buffer: UnsafeMutableBufferPointer<Float>) throws(ArchiveError) {
    let entry = try known(path, [.float32, .bfloat16])
    guard buffer.count == entry.count else {
      throw incompatible("\(shown(path)) has \(entry.count) elements where \(buffer.count) are asked for")
    }
    if entry.type == .float32 { return try read(entry, into: UnsafeMutableRawBufferPointer(buffer)) }
    let halves: [UInt16] = try array(entry)
    for position in 0..<buffer.count { buffer[position] = BFloat16.expand(halves[position]) }
  }
  public func floats(_ path: String) throws(ArchiveError) -> [Float] {
    let entry = try known(path, [.float32, .bfloat16])
    if entry.type == .float32 { return try array(entry) }
    let halves: [UInt16] = try array(entry)
    return halves.map(BFloat16.expand)
  }
  public func doubles(_ path: String) throws(ArchiveError) -> [Double] { try array(known(path, [.float64])) }
  public func ints(_ path: String) throws(ArchiveError) -> [Int] { try array(known(path, [.int64])) }
  public func int32s(_ path: String) throws(ArchiveError) -> [Int32] { try array(known(path, [.int32])) }
  public func uint64s(_ path: String) throws(ArchiveError) -> [UInt64] { try array(known(path, [.uint64])) }
  public func uint16s(_ path: String) throws(ArchiveError) -> [UInt16] { try array(known(path, [.uint16])) }
  public func uint8s(_ path: String) throws(ArchiveError) -> [UInt8] { try array(known(path, [.uint8])) }
  public func text(_ path: String) throws(ArchiveError) -> String {
    let bytes: [UInt8] = try array(known(path, [.text]))
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .damaged(self.path, "\(shown(path)) is not valid UTF-8")
    }
    return text
  }

  /// Reads every byte of the file and compares every sum: tensors, the HDF5 structure and what lies between.
  ///
  /// - Throws: `ArchiveError` of kind damaged naming the first difference, or io.
  /// - Cost: one pass over the file.
  public func verify() throws(ArchiveError) {
    for entry in entries {
      var sum = CRC32C()
      try file.pieces(entry.offset..<(entry.offset + entry.byteCount)) { sum.update($0) }
      try compare(sum.value, entry)
    }
    var sum = CRC32C()
    for gap in try manifest.gaps(place: place, fileSize: file.size, path: path) {
      try file.pieces(gap) { sum.update($0) }
    }
    guard sum.value == manifest.restCRC else {
      throw .damaged(path, "the HDF5 structure between the datasets does not have its checksum")
    }
  }

  private func incompatible(_ reason: String) -> ArchiveError {
    ArchiveError(
      .incompatible, path: path, reason: reason, hint: "use a file written for this model and version")
  }
  private func known(_ path: String, _ types: [ElementType] = ElementType.allCases) throws(ArchiveError)
    -> EntryInfo
  {
    guard let entry = entry(path) else { throw incompatible("has no entry \(shown(path))") }
    guard types.contains(entry.type) else {
      let wanted = types.map(\.rawValue).joined(separator: " or ")
      throw incompatible("\(shown(path)) is \(entry.type.rawValue) where \(wanted) is asked for")
    }
    return entry
  }
  private func array<Element: BitwiseCopyable>(_ entry: EntryInfo) throws(ArchiveError) -> [Element] {
    try requireMemory(entry.byteCount, for: entry.path, of: path)
    var failure: ArchiveError?
    let result = [Element](unsafeUninitializedCapacity: entry.count) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(buffer.baseAddress), count: entry.byteCount)
      do throws(ArchiveError) {
        try read(entry, into: target)
        count = entry.count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }
}

/// A failed array allocation ends the process, so what cannot fit (a sparse file can claim anything) is
/// refused first.
public func requireMemory(_ count: Int, for name: String, of path: String) throws(ArchiveError) {
  let memory = sysconf(Int32(_SC_PHYS_PAGES)).multipliedReportingOverflow(by: sysconf(Int32(_SC_PAGESIZE)))
  guard memory.overflow || count <= memory.partialValue else {
    throw ArchiveError(
      .memory, path: path, reason: "\(shown(name)) takes \(count) bytes, more than this machine has",
      hint: "use a machine with more memory")
  }
}
