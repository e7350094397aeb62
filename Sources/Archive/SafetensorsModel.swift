// The tensors of a Hugging Face folder: one file, or shards with an index that says which holds what.
// Pickle files are recognised only to be refused: loading one runs its author's code.
import Glibc
import StrictJSON

/// All tensors of a model folder under one roof.
public struct SafetensorsModel: Sendable {
  public let folder: String
  /// Every tensor, in the order of the file or of the index.
  public let names: [String]
  private let shards: [SafetensorsFile]
  private let index: [ByteKey: Int]

  /// Opens `model.safetensors`, or `model.safetensors.index.json` with the shards it names.
  ///
  /// - Throws: `ArchiveError`: missing, unsupported where there are only pickle files, damaged where the
  ///   index names a file outside the folder, a missing shard or a tensor its shard lacks; and all errors
  ///   of `SafetensorsFile`.
  public init(folder: String) throws(ArchiveError) {
    self.folder = folder
    let files = try fileNames(in: folder)
    if files.contains("model.safetensors") {
      let file = try SafetensorsFile(path: folder + "/model.safetensors")
      shards = [file]
      names = file.tensors.map(\.name)
      index = names.reduce(into: [:]) { $0[ByteKey($1)] = 0 }
      return
    }
    guard files.contains("model.safetensors.index.json") else {
      if let pickle = files.first(where: SafetensorsModel.isPickle) {
        throw ArchiveError(
          .unsupported, path: folder + "/" + pickle,
          reason: "pickle is never loaded, because loading it runs code",
          hint: "convert the model to safetensors")
      }
      throw ArchiveError(
        .missing, path: folder, reason: "has neither model.safetensors nor model.safetensors.index.json",
        hint: "check the folder")
    }
    let path = folder + "/model.safetensors.index.json"
    var shards: [SafetensorsFile] = []
    var positions: [ByteKey: Int] = [:]
    var names: [String] = []
    var index: [ByteKey: Int] = [:]
    for member in try SafetensorsModel.weightMap(path) {
      guard let shard = member.value.string, SafetensorsModel.isComponent(shard) else {
        throw .damaged(path, "places \(shown(member.key)) in something that is not a file of this folder")
      }
      let position: Int
      if let known = positions[ByteKey(shard)] {
        position = known
      } else {
        guard files.contains(where: { $0.utf8.elementsEqual(shard.utf8) }) else {
          throw .damaged(path, "names the shard \(shown(shard)), which is not there")
        }
        position = shards.count
        shards.append(try SafetensorsFile(path: folder + "/" + shard))
        positions[ByteKey(shard)] = position
      }
      guard shards[position].tensor(member.key) != nil else {
        throw .damaged(path, "places \(shown(member.key)) in \(shown(shard)), which does not hold it")
      }
      names.append(member.key)
      index[ByteKey(member.key)] = position
    }
    self.shards = shards
    self.names = names
    self.index = index
  }

  private static func weightMap(_ path: String) throws(ArchiveError) -> [JSON.Member] {
    let file = try ReadableFile(path)
    guard file.size <= 64 << 20 else {
      throw .damaged(path, "has \(file.size) bytes, more than an index needs")
    }
    let bytes = try file.bytes(0..<file.size)
    let json: JSON
    do throws(JSONError) { json = try JSON.parse(bytes) } catch {
      throw .damaged(path, "is not JSON at \(error)")
    }
    guard let map = json["weight_map"]?.members, map.count <= SafetensorsFile.maximumTensors else {
      throw .damaged(path, "has no weight_map")
    }
    return map
  }
  /// A plain name of a safetensors file: no folder, nothing hidden.
  private static func isComponent(_ name: String) -> Bool {
    name.hasSuffix(".safetensors") && !name.hasPrefix(".") && name.utf8.count <= 255
      && !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 < 0x20 }
  }
  private static func isPickle(_ name: String) -> Bool {
    [".bin", ".pt", ".pth", ".pkl", ".ckpt"].contains { name.hasSuffix($0) }
  }

  public func contains(_ name: String) -> Bool { index[ByteKey(name)] != nil }
  public func tensor(_ name: String) -> TensorInfo? {
    index[ByteKey(name)].flatMap { shards[$0].tensor(name) }
  }
  public func shape(of name: String) -> [Int]? { tensor(name)?.shape }
  /// The metadata of the first file.
  public var metadata: [(String, String)] { shards.first?.metadata ?? [] }

  /// As `SafetensorsFile.floats`.
  public func floats(
    _ name: String, into buffer: UnsafeMutableBufferPointer<Float>, allowNonFinite: Bool = false
  )
    throws(ArchiveError)
  {
    try shard(name).floats(name, into: buffer, allowNonFinite: allowNonFinite)
  }
  public func floats(_ name: String, allowNonFinite: Bool = false) throws(ArchiveError) -> [Float] {
    try shard(name).floats(name, allowNonFinite: allowNonFinite)
  }
  private func shard(_ name: String) throws(ArchiveError) -> SafetensorsFile {
    guard let position = index[ByteKey(name)] else {
      throw ArchiveError(
        .incompatible, path: folder, reason: "has no tensor \(shown(name))",
        hint: "check that the model is complete")
    }
    return shards[position]
  }
}
