// Writes tensors as safetensors, in one file or in shards with an index, as transformers expects them.
// Each file appears whole or not at all; the index comes last, so it never names an absent shard.
import StrictJSON

public enum SafetensorsWriter {
  public typealias Tensor = (name: String, shape: [Int], type: ElementType, data: UnsafeBufferPointer<Float>)

  /// Writes floats as F32 or, rounded to nearest even, as BF16.
  ///
  /// Tensors are ordered by type (wider first, so that all are aligned) and name: equal content gives equal
  /// bytes. The metadata get `format: pt`, which transformers wants, unless they say otherwise.
  ///
  /// - Parameter maximumShardBytes: where the tensors take more, `model.safetensors` becomes
  ///   `model-00001-of-00003.safetensors` … and `model.safetensors.index.json`; nil for one file.
  /// - Returns: the names of the files written.
  /// - Throws: `ArchiveError`; files already in place stay.
  @discardableResult
  public static func write(
    _ tensors: [Tensor], metadata: [String: String] = [:], to path: String, maximumShardBytes: Int? = nil
  ) throws(ArchiveError) -> [String] {
    var seen: Set<ByteKey> = [ByteKey("__metadata__")]
    for tensor in tensors {
      guard tensor.type == .float32 || tensor.type == .bfloat16, tensor.shape.count <= Manifest.maximumRank,
        tensor.name.utf8.count <= SafetensorsFile.maximumName, checkedCount(tensor.shape) == tensor.data.count
      else {
        throw .invalid(
          path, "\(shown(tensor.name)) cannot be written as \(tensor.type.rawValue) of \(tensor.shape)")
      }
      guard seen.insert(ByteKey(tensor.name)).inserted else {
        throw .invalid(path, "\(shown(tensor.name)) is there twice")
      }
    }
    let ordered = tensors.sorted { a, b in
      a.type.size != b.type.size
        ? a.type.size > b.type.size : a.name.utf8.lexicographicallyPrecedes(b.name.utf8)
    }
    var shards: [[Tensor]] = [[]]
    var filled = 0
    for tensor in ordered {
      let bytes = tensor.data.count * tensor.type.size
      if let limit = maximumShardBytes, filled > 0, filled + bytes > limit {
        shards.append([])
        filled = 0
      }
      shards[shards.count - 1].append(tensor)
      filled += bytes
    }
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = slash.map { String(path[...$0]) } ?? ""
    let name = String(path[(slash.map { path.utf8.index(after: $0) } ?? path.startIndex)...])
    guard shards.count > 1 else {
      try write(shards[0], metadata, to: path)
      return [name]
    }
    let stem = name.hasSuffix(".safetensors") ? String(name.dropLast(12)) : name
    func five(_ number: Int) -> String {
      String(repeating: "0", count: max(0, 5 - String(number).count)) + String(number)
    }
    var places: [JSON.Member] = []
    var names: [String] = []
    for (number, shard) in shards.enumerated() {
      names.append("\(stem)-\(five(number + 1))-of-\(five(shards.count)).safetensors")
      try write(shard, metadata, to: folder + names[number])
      for tensor in shard { places.append(.init(tensor.name, .string(names[number]))) }
    }
    let total = tensors.reduce(0) { $0 + $1.data.count * $1.type.size }
    places.sort { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    let index: JSON = ["metadata": ["total_size": .integer(total)], "weight_map": .object(places)]
    names.append("\(stem).safetensors.index.json")
    try AtomicFile.write(index.pretty, to: folder + names[shards.count])
    return names
  }

  private static func write(_ tensors: [Tensor], _ metadata: [String: String], to path: String)
    throws(ArchiveError)
  {
    var pairs = metadata
    if pairs["format"] == nil { pairs["format"] = "pt" }
    let sorted = pairs.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    var members = [
      JSON.Member("__metadata__", .object(sorted.map { JSON.Member($0.key, .string($0.value)) }))
    ]
    var position = 0
    for tensor in tensors {
      let end = position + tensor.data.count * tensor.type.size
      members.append(
        .init(
          tensor.name,
          [
            "dtype": .string(tensor.type.rawValue), "shape": .array(tensor.shape.map { .integer($0) }),
            "data_offsets": [.integer(position), .integer(end)],
          ]))
      position = end
    }
    var header = Array(JSON.object(members).compact.utf8)
    // Spaces up to a multiple of eight, so that the numbers are aligned.
    header += [UInt8](repeating: 0x20, count: (8 - header.count % 8) % 8)
    guard header.count <= SafetensorsFile.maximumHeader else {
      throw .invalid(path, "its header has \(header.count) bytes")
    }
    let front = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header

    let file = try PendingFile(for: path)
    try file.checkSpace(for: front.count + position)
    try file.reserve(front.count + position)
    try withBytes(front) { (bytes) throws(ArchiveError) in try file.write(bytes, at: 0) }
    var offset = front.count
    for tensor in tensors {
      if tensor.type == .float32 {
        try file.write(UnsafeRawBufferPointer(tensor.data), at: offset)
        offset += tensor.data.count * 4
      } else {
        for start in stride(from: 0, to: tensor.data.count, by: 1 << 18) {
          let rounded = tensor.data[start..<min(tensor.data.count, start + 1 << 18)].map(BFloat16.round)
          try withBytes(rounded) { (bytes) throws(ArchiveError) in try file.write(bytes, at: offset) }
          offset += rounded.count * 2
        }
      }
    }
    try file.synchronize()
    try file.publish()
  }
}
