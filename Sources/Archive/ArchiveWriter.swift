// Collects named tensors and texts, then writes them as one HDF5 file that appears whole or not at all.
// libhdf5 writes the structure; the numbers, their sums and the durability are ours.
import StrictJSON

/// Collects the entries of an archive and writes it.
///
/// Names are given as `group/subgroup/name`; the last part may contain dots. Mistakes (two entries of one
/// name, bytes that do not match the shape) are kept and thrown by `write`, so that adding needs no `try`.
public struct ArchiveWriter: @unchecked Sendable {
  typealias Body = (UnsafeRawBufferPointer) throws(ArchiveError) -> Void
  private struct Entry {
    let path: String
    let type: ElementType
    let shape: [Int]
    let byteCount: Int
    let description: String?
    let withBytes: (Body) throws(ArchiveError) -> Void
  }
  private var entries: [Entry] = []
  private var descriptions: [ByteKey: String] = [:]
  private var attributes: [ByteKey: [HDF5Skeleton.Attribute]] = [:]
  private var groupOrder: [String] = []
  private var mistake: String?

  public init() {}

  /// Describes a group; a group exists as soon as it is described or something lies in it.
  public mutating func group(_ path: String, description: String) {
    note(path)
    descriptions[ByteKey(path)] = description
  }
  /// Puts a text, whole number, number or boolean beside a group's description; the empty path is the file
  /// itself.
  public mutating func attribute(_ path: String, _ name: String, _ value: JSON) {
    let converted: HDF5Skeleton.Value
    switch value {
    case .string(let text): converted = .text(text)
    case .integer(let number): converted = .integer(number)
    case .number(let number): converted = .number(number)
    case .bool(let truth): converted = .bool(truth)
    default:
      fail("the attribute \(shown(name)) is neither text nor number nor boolean")
      return
    }
    note(path)
    attributes[ByteKey(path), default: []].append(.init(name: name, value: converted))
  }
  /// Adds bytes in the machine's (little-endian) order.
  ///
  /// - Parameter bytes: must stay valid and unchanged until `write` returns.
  public mutating func add(
    _ path: String, type: ElementType, shape: [Int], description: String? = nil, bytes: UnsafeRawBufferPointer
  ) {
    append(path, type, shape, description, count: bytes.count) { (body) throws(ArchiveError) in
      try body(bytes)
    }
  }
  /// - Parameter shape: one side with all elements where nil.
  public mutating func add(_ path: String, floats: [Float], shape: [Int]? = nil, description: String? = nil) {
    append(path, .float32, shape, description, floats)
  }
  /// Stores floats rounded to bfloat16.
  public mutating func add(
    _ path: String, bfloat16 floats: [Float], shape: [Int]? = nil, description: String? = nil
  ) {
    append(path, .bfloat16, shape, description, floats.map(BFloat16.round))
  }
  public mutating func add(_ path: String, doubles: [Double], shape: [Int]? = nil, description: String? = nil) {
    append(path, .float64, shape, description, doubles)
  }
  public mutating func add(_ path: String, ints: [Int], shape: [Int]? = nil, description: String? = nil) {
    append(path, .int64, shape, description, ints)
  }
  public mutating func add(_ path: String, int32s: [Int32], shape: [Int]? = nil, description: String? = nil) {
    append(path, .int32, shape, description, int32s)
  }
  public mutating func add(_ path: String, uint64s: [UInt64], shape: [Int]? = nil, description: String? = nil) {
    append(path, .uint64, shape, description, uint64s)
  }
  public mutating func add(_ path: String, uint16s: [UInt16], shape: [Int]? = nil, description: String? = nil) {
    append(path, .uint16, shape, description, uint16s)
  }
  public mutating func add(_ path: String, uint8s: [UInt8], shape: [Int]? = nil, description: String? = nil) {
    append(path, .uint8, shape, description, uint8s)
  }
  /// Stores a text that h5dump and h5py show as one.
  public mutating func add(_ path: String, text: String, description: String? = nil) {
    append(path, .text, nil, description, Array(text.utf8))
  }

  private mutating func append<Element: BitwiseCopyable>(
    _ path: String, _ type: ElementType, _ shape: [Int]?, _ description: String?, _ values: [Element]
  ) {
    append(path, type, shape ?? [values.count], description, count: values.count * type.size) {
      (body) throws(ArchiveError) in try withBytes(values, body)
    }
  }
  private mutating func append(
    _ path: String, _ type: ElementType, _ shape: [Int], _ description: String?, count: Int,
    _ withBytes: @escaping (Body) throws(ArchiveError) -> Void
  ) {
    let fits =
      checkedCount(shape).map { $0.multipliedReportingOverflow(by: type.size) == (count, false) } ?? false
    if !fits || shape.count > Manifest.maximumRank || (type == .text && shape.count != 1) {
      fail("\(shown(path)) has \(count) bytes for the shape \(shape) of \(type.rawValue)")
    }
    if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) { note(String(path[..<slash])) }
    entries.append(
      Entry(
        path: path, type: type, shape: shape, byteCount: count, description: description, withBytes: withBytes
      ))
  }
  private mutating func fail(_ reason: String) {
    if mistake == nil { mistake = reason }
  }
  /// Remembers a group and its parents in the order of their first mention.
  private mutating func note(_ path: String) {
    guard !path.isEmpty, descriptions[ByteKey(path)] == nil else { return }
    if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) { note(String(path[..<slash])) }
    descriptions[ByteKey(path)] = ""
    groupOrder.append(path)
  }

  /// Writes everything as one file: temporary name, structure, reserved space, tensors with their sums,
  /// manifest, header, fsync, every sum read back from the disk, rename, fsync of the folder.
  ///
  /// Equal content gives equal bytes. An existing file of this name is replaced at the rename and not before.
  ///
  /// - Parameter metadata: kept in the manifest and given back by `ArchiveReader.metadata`; numbers must be
  ///   finite.
  /// - Throws: `ArchiveError`; the old file is then untouched and the temporary gone (a failed flush of the
  ///   folder is reported although the new file is in place).
  /// - Cost: one pass over memory, one over the file on the disk; no copy of the tensors.
  public func write(to path: String, metadata: JSON) throws(ArchiveError) {
    if let mistake = mistake ?? namingMistake() { throw .invalid(path, mistake) }
    var infos = entries.map { entry in
      EntryInfo(
        path: entry.path, type: entry.type, shape: entry.shape, offset: 0,
        byteCount: entry.byteCount, crc32c: 0, description: entry.description)
    }
    var total = 0
    for info in infos {
      let (sum, overflow) = total.addingReportingOverflow(info.byteCount)
      guard !overflow, sum < 1 << 60 else { throw .invalid(path, "its entries take more than 2^60 bytes") }
      total = sum
    }
    let groups = groupOrder.map { Manifest.Group(path: $0, description: description(of: $0)) }
    var manifest = Manifest(metadata: metadata, groups: groups, entries: infos, restCRC: 0)
    // Generous for structure and alignment; only its number of digits counts.
    let digits = String((total + (entries.count + 16) * 16384) * 2).count
    let manifestLength = manifest.text(digits: digits).utf8.count
    guard manifestLength <= Manifest.maximumLength else {
      throw .invalid(
        path, "its manifest takes \(manifestLength) bytes where \(Manifest.maximumLength) are allowed")
    }

    let file = try PendingFile(for: path)
    try file.checkSpace(for: total)
    let places = try skeleton(manifestLength: manifestLength).write(to: file.temporaryPath, shownAs: path)
    let size = try file.size
    try file.reserve(size)
    for (index, entry) in entries.enumerated() {
      let info = infos[index]
      let offset = places[index] ?? 0
      var sum = CRC32C()
      try entry.withBytes { (bytes) throws(ArchiveError) in
        // Pieces that stay in the cache between the sum and the copy into the kernel.
        for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
          let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + 1 << 20)])
          sum.update(piece)
          try file.write(piece, at: offset + start)
        }
      }
      infos[index] = EntryInfo(
        path: info.path, type: info.type, shape: info.shape, offset: offset, byteCount: info.byteCount,
        crc32c: sum.value, description: info.description)
    }
    guard let start = places.last ?? nil else { throw .invalid(path, "its manifest has no place") }
    let place = start..<(start + manifestLength)
    manifest.entries = infos
    manifest.restCRC = try restSum(manifest.gaps(place: place, fileSize: size, path: path), of: file)
    let text = Array(manifest.text(digits: digits).utf8)
    guard text.count == manifestLength else { throw .invalid(path, "its manifest changed its length") }
    try withBytes(text) { (bytes) throws(ArchiveError) in try file.write(bytes, at: place.lowerBound) }
    let header = Header(fileSize: size, manifest: place, sha256: text.withUnsafeBytes { SHA256.hash($0) })
    try withBytes(header.bytes) { (bytes) throws(ArchiveError) in try file.write(bytes, at: 0) }
    try file.synchronize()
    file.dropPages()
    do throws(ArchiveError) { try ArchiveReader(path: file.temporaryPath).verify() } catch {
      throw ArchiveError(
        .io, path: path, reason: "does not read back as it was written: \(error.reason)",
        hint: "check the disk and memory")
    }
    try file.publish()
  }

  private func restSum(_ gaps: [Range<Int>], of file: PendingFile) throws(ArchiveError) -> UInt32 {
    var sum = CRC32C()
    for gap in gaps {
      // Gaps are object headers and alignment: a few kilobytes each.
      var buffer = [UInt8](repeating: 0, count: gap.count)
      try withMutableBytes(&buffer) { (bytes) throws(ArchiveError) in
        try file.read(into: bytes, at: gap.lowerBound)
      }
      buffer.withUnsafeBytes { sum.update($0) }
    }
    return sum.value
  }

  private func skeleton(manifestLength: Int) -> HDF5Skeleton {
    var root: [HDF5Skeleton.Attribute] = [
      .init(name: "README", value: .text(ArchiveWriter.readme)),
      .init(name: "format", value: .text(Manifest.format)),
      .init(name: "schema_version", value: .text(Manifest.schema)),
    ]
    root += attributes[ByteKey("")] ?? []
    var groups = [HDF5Skeleton.Group(path: "", attributes: root)]
    for path in groupOrder {
      let about = HDF5Skeleton.Attribute(name: "description", value: .text(description(of: path)))
      groups.append(.init(path: path, attributes: [about] + (attributes[ByteKey(path)] ?? [])))
    }
    var datasets = entries.map { entry in
      HDF5Skeleton.Dataset(
        path: entry.path, type: entry.type, shape: entry.shape, byteCount: entry.byteCount,
        attributes: entry.description.map { [.init(name: "description", value: .text($0))] } ?? [])
    }
    datasets.append(
      .init(
        path: "manifest", type: .text, shape: [manifestLength], byteCount: manifestLength,
        attributes: [
          .init(
            name: "description",
            value: .text(
              "JSON: metadata of the writer, and for every dataset its place in the file and its CRC32C."))
        ]))
    return HDF5Skeleton(groups: groups, datasets: datasets)
  }
  private func description(of group: String) -> String {
    if let given = descriptions[ByteKey(group)], !given.isEmpty { return given }
    let prefix = Array((group + "/").utf8)
    let count = entries.count { $0.path.utf8.starts(with: prefix) }
    return "Holds \(count) dataset\(count == 1 ? "" : "s")."
  }

  /// What HDF5 or the layout forbids in names and attributes, or nil.
  private func namingMistake() -> String? {
    if entries.count >= Manifest.maximumEntries { return "it has \(entries.count) entries" }
    var taken: Set<ByteKey> = [ByteKey("manifest")]
    for path in groupOrder + entries.map(\.path) {
      let parts = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      guard path.utf8.count <= 1024, !path.utf8.contains(0), parts.count <= 16,
        parts.allSatisfy({ !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8) })
      else { return "\(shown(path)) is not a name of the form group/name" }
      guard taken.insert(ByteKey(path)).inserted else { return "\(shown(path)) is there twice" }
    }
    // One object header holds all attributes of a group, and none of them may exceed 64 KiB.
    let limit = 60_000
    let texts = groupOrder.map { description(of: $0) } + entries.compactMap(\.description)
    if texts.contains(where: { $0.utf8.count > limit || $0.utf8.contains(0) }) {
      return "a description is longer than \(limit) bytes or contains a NUL"
    }
    for (group, list) in attributes {
      var names: Set<ByteKey> =
        group.text.isEmpty
        ? ["README", "format", "schema_version"].reduce(into: []) { $0.insert(ByteKey($1)) }
        : [ByteKey("description")]
      for attribute in list {
        guard !attribute.name.isEmpty, attribute.name.utf8.count <= 255, !attribute.name.utf8.contains(0),
          names.insert(ByteKey(attribute.name)).inserted
        else { return "the attribute \(shown(attribute.name)) is there twice or has no proper name" }
        if case .text(let text) = attribute.value, text.utf8.count > limit || text.utf8.contains(0) {
          return "the attribute \(shown(attribute.name)) is longer than \(limit) bytes or contains a NUL"
        }
      }
    }
    return nil
  }

  private static let readme = """
    This file was written by Retain, which trains language models stage after stage. Everything that \
    decides what the training does next is in here, as plain datasets in described groups; nothing is \
    pickled or compressed. Read a tensor with h5py.File(name)["model/..."][:]; 16-bit floats of type \
    bfloat16 arrive as numbers. The dataset /manifest lists every dataset with its place and CRC32C; the \
    text before the HDF5 part (head -c 300) holds the SHA-256 of that manifest. Retain itself refuses the \
    file if any byte was changed.
    """
}
