// The table of contents of an archive: JSON inside the file, and the header in front that vouches for it.
// Numbers have fixed widths, so the length of the text is known before the places of the tensors are.
import StrictJSON

/// One named array or text of an archive.
public struct EntryInfo: Sendable {
  public let path: String
  public let type: ElementType
  public let shape: [Int]
  /// First byte in the file; 0 where there are no bytes.
  public let offset: Int
  public let byteCount: Int
  /// CRC32C of the bytes.
  public let crc32c: UInt32
  public let description: String?
  /// The number of elements.
  public var count: Int { byteCount / type.size }
}

struct Manifest {
  struct Group { let path: String, description: String }

  static let format = "retain-archive"
  static let major = 1
  static let minor = 0
  static var schema: String { "\(major).\(minor)" }
  static let maximumLength = 64 << 20
  static let maximumEntries = 1_000_000
  static let maximumRank = 8

  var metadata: JSON
  var groups: [Group]
  var entries: [EntryInfo]
  /// CRC32C of all bytes after the user block that belong neither to an entry nor to the manifest, in file
  /// order.
  var restCRC: UInt32

  /// The text; its length depends on `digits` but not on offsets and sums.
  func text(digits: Int) -> String {
    func padded(_ value: Int) -> String {
      let text = String(value)
      return String(repeating: " ", count: max(0, digits - text.count)) + text
    }
    func quoted(_ text: String) -> String { JSON.string(text).compact }
    var out = "{\n\"format\":\"\(Manifest.format)\",\"schema\":\"\(Manifest.schema)\",\n"
    out += "\"metadata\":\(metadata.compact),\n\"groups\":{"
    out += groups.map { "\n\(quoted($0.path)):\(quoted($0.description))" }.joined(separator: ",")
    out += "},\n\"rest_crc32c\":\"\(hexadecimal(restCRC))\",\n\"entries\":["
    for (index, entry) in entries.enumerated() {
      out += index == 0 ? "\n" : ",\n"
      out += "{\"path\":\(quoted(entry.path)),\"type\":\"\(entry.type.rawValue)\",\"shape\":["
      out += entry.shape.map { String($0) }.joined(separator: ",")
      out += "],\"offset\":\(padded(entry.offset)),\"bytes\":\(padded(entry.byteCount))"
      out += ",\"crc32c\":\"\(hexadecimal(entry.crc32c))\""
      if let description = entry.description { out += ",\"description\":\(quoted(description))" }
      out += "}"
    }
    return out + "\n]}\n"
  }

  /// Reads a manifest whose SHA-256 was already found right, and checks what it says against the file.
  init(_ bytes: [UInt8], place: Range<Int>, fileSize: Int, path: String) throws(ArchiveError) {
    let json: JSON
    do throws(JSONError) {
      json = try JSON.parse(bytes, limits: JSONLimits(depth: 64, bytes: Manifest.maximumLength))
    } catch {
      throw .damaged(path, "its manifest is not JSON at \(error)")
    }
    guard json["format"]?.string == Manifest.format, json["schema"]?.string != nil,
      let metadata = json["metadata"],
      let groups = json["groups"]?.members, let rest = json["rest_crc32c"]?.string.flatMap(Manifest.sum),
      let list = json["entries"]?.array
    else { throw .damaged(path, "its manifest lacks a required member") }
    guard list.count <= Manifest.maximumEntries else {
      throw .damaged(path, "its manifest lists \(list.count) entries")
    }
    self.metadata = metadata
    restCRC = rest
    self.groups = []
    for group in groups {
      guard let description = group.value.string else {
        throw .damaged(path, "the description of the group \(shown(group.key)) is not a text")
      }
      self.groups.append(Group(path: group.key, description: description))
    }
    entries = []
    entries.reserveCapacity(list.count)
    var names = Set<ByteKey>(minimumCapacity: list.count)
    for value in list {
      let entry = try Manifest.entry(value, path: path)
      guard names.insert(ByteKey(entry.path)).inserted else {
        throw .damaged(path, "its manifest lists \(shown(entry.path)) twice")
      }
      entries.append(entry)
    }
    _ = try gaps(place: place, fileSize: fileSize, path: path)
  }
  init(metadata: JSON, groups: [Group], entries: [EntryInfo], restCRC: UInt32) {
    self.metadata = metadata
    self.groups = groups
    self.entries = entries
    self.restCRC = restCRC
  }

  private static func entry(_ json: JSON, path: String) throws(ArchiveError) -> EntryInfo {
    guard let name = json["path"]?.string, !name.isEmpty else {
      throw .damaged(path, "its manifest has an entry without a path")
    }
    func wrong(_ what: String) -> ArchiveError {
      .damaged(path, "the manifest's entry \(shown(name)) has \(what)")
    }
    guard let typeName = json["type"]?.string else { throw wrong("no type") }
    guard let type = ElementType(rawValue: typeName) else {
      throw wrong("the unknown type \(shown(typeName))")
    }
    guard let sides = json["shape"]?.array, sides.count <= maximumRank else {
      throw wrong("no shape of at most \(maximumRank) sides")
    }
    var shape: [Int] = []
    for side in sides {
      guard case .integer(let value) = side, value >= 0 else {
        throw wrong("a side that is not a whole number")
      }
      shape.append(value)
    }
    guard case .integer(let offset)? = json["offset"], case .integer(let bytes)? = json["bytes"], offset >= 0,
      bytes >= 0
    else { throw wrong("no place") }
    guard let crc = json["crc32c"]?.string.flatMap(sum) else { throw wrong("no checksum") }
    guard let count = checkedCount(shape), count.multipliedReportingOverflow(by: type.size) == (bytes, false)
    else {
      throw wrong("the shape \(shape) of \(type.rawValue), which does not take \(bytes) bytes")
    }
    guard type != .text || shape.count == 1 else { throw wrong("the shape \(shape), which no text has") }
    return EntryInfo(
      path: name, type: type, shape: shape, offset: offset, byteCount: bytes, crc32c: crc,
      description: json["description"]?.string)
  }
  /// Exactly eight lowercase hexadecimal digits.
  private static func sum(_ text: String) -> UInt32? {
    guard let value = UInt32(text, radix: 16), hexadecimal(value) == text else { return nil }
    return value
  }

  /// What lies between the entries and the manifest; throws where two of them overlap or one leaves the file.
  func gaps(place: Range<Int>, fileSize: Int, path: String) throws(ArchiveError) -> [Range<Int>] {
    var parts = entries.filter { $0.byteCount > 0 }.map {
      (name: $0.path, start: $0.offset, count: $0.byteCount)
    }
    parts.append((name: "the manifest", start: place.lowerBound, count: place.count))
    parts.sort { $0.start < $1.start }
    var gaps: [Range<Int>] = []
    var position = HDF5Skeleton.userBlock
    for part in parts {
      guard part.start >= position, part.start <= fileSize, part.count <= fileSize - part.start else {
        throw .damaged(
          path, "\(shown(part.name)) lies at byte \(part.start), outside the file or inside another entry")
      }
      if part.start > position { gaps.append(position..<part.start) }
      position = part.start + part.count
    }
    if position < fileSize { gaps.append(position..<fileSize) }
    return gaps
  }
}

/// The first 4096 bytes: text for people, zeros, and at the end the CRC32C of all bytes before it.
struct Header {
  static let magic = "Retain archive "
  let fileSize: Int
  let manifest: Range<Int>
  let sha256: String

  var bytes: [UInt8] {
    var text = Header.magic + Manifest.schema + "\n"
    text += "An HDF5 file behind 4096 bytes of header: open it with h5dump, h5py or HDFView.\n"
    text += "length \(fileSize)\nmanifest \(manifest.lowerBound) \(manifest.count)\nsha256 \(sha256)\n"
    var bytes = Array(text.utf8)
    bytes += [UInt8](repeating: 0, count: HDF5Skeleton.userBlock - 4 - bytes.count)
    let crc = bytes.withUnsafeBytes { CRC32C.hash($0) }
    return bytes + withUnsafeBytes(of: crc.littleEndian) { Array($0) }
  }
  init(fileSize: Int, manifest: Range<Int>, sha256: String) {
    self.fileSize = fileSize
    self.manifest = manifest
    self.sha256 = sha256
  }
  init(_ file: ReadableFile) throws(ArchiveError) {
    let path = file.path
    let front = try file.bytes(0..<min(file.size, HDF5Skeleton.userBlock))
    guard front.starts(with: Array(Header.magic.utf8)) else {
      if front.starts(with: [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) {
        throw ArchiveError(
          .incompatible, path: path, reason: "is an HDF5 file, but not one that Retain wrote",
          hint: "convert its tensors to safetensors first")
      }
      throw ArchiveError(
        .damaged, path: path, reason: file.size == 0 ? "is empty" : "is not a Retain archive",
        hint: "check the path, or use another copy of the file")
    }
    guard front.count == HDF5Skeleton.userBlock else { throw .damaged(path, "ends inside its header") }
    let stored = (0..<4).reduce(UInt32(0)) { $0 | UInt32(front[front.count - 4 + $1]) << UInt32(8 * $1) }
    guard front.withUnsafeBytes({ CRC32C.hash(UnsafeRawBufferPointer(rebasing: $0.dropLast(4))) }) == stored
    else {
      throw .damaged(path, "its header (bytes 0 to 4095) does not have its checksum")
    }
    let lines = front.prefix { $0 != 0 }.split(separator: UInt8(ascii: "\n")).map {
      String(decoding: $0, as: UTF8.self)
    }
    let version = lines[0].dropFirst(Header.magic.count).split(separator: ".").compactMap { Int($0) }
    guard version.count == 2 else { throw .damaged(path, "its header names no schema version") }
    guard version[0] == Manifest.major else {
      throw ArchiveError(
        .incompatible, path: path,
        reason: "has schema \(version[0]).\(version[1]) where this program reads \(Manifest.major)",
        hint: version[0] > Manifest.major
          ? "use a newer version of Retain" : "convert it with the version that wrote it")
    }
    func values(_ key: String) -> [Substring] {
      lines.first { $0.hasPrefix(key + " ") }?.split(separator: " ").dropFirst().map { $0 } ?? []
    }
    guard let size = values("length").first.flatMap({ Int($0) }), size >= 0, values("manifest").count == 2,
      let start = Int(values("manifest")[0]), let count = Int(values("manifest")[1]),
      let sum = values("sha256").first
    else { throw .damaged(path, "its header lacks a required line") }
    guard size == file.size else { throw .damaged(path, "has \(file.size) bytes where \(size) were written") }
    guard start >= HDF5Skeleton.userBlock, start <= size, count > 0, count <= size - start,
      count <= Manifest.maximumLength
    else { throw .damaged(path, "its manifest lies at byte \(start), outside the file") }
    self.init(fileSize: size, manifest: start..<(start + count), sha256: String(sum))
  }
}
