// What else a checkpoint carries besides a model: methods, optimizer, measurements, in sizes and counts.
import Archive
import Corpus
import Ledger
import Runs
import StrictJSON

/// The groups of a checkpoint.
struct CheckpointOutline {
  struct Method {
    let name: String
    let bytes: Int
    /// What is said of its state, in order: pasts, recipe, buffer.
    var facts: [(name: String, value: JSON)]
  }
  let archive: ArchiveReader
  let methods: [Method]
  let matrix: RetentionMatrix

  init(_ archive: ArchiveReader) throws {
    self.archive = archive
    var names: [String] = []
    for path in archive.names(under: "methods") {
      let name = String(path.prefix { $0 != "/" })
      if !names.contains(name) { names.append(name) }
    }
    methods = try names.map { try Self.method($0, in: archive) }
    matrix =
      archive.contains("measurements/matrix.json")
      ? try Self.matrix(archive.text("measurements/matrix.json"), path: archive.path) : RetentionMatrix()
  }

  private static func matrix(_ text: String, path: String) throws -> RetentionMatrix {
    do { return try RetentionMatrix(JSON.parse(text)) } catch {
      throw RunError(Runs.ExitCode.badData, "\(path): measurements/matrix.json: \(error)")
    }
  }

  private static func method(_ name: String, in archive: ArchiveReader) throws -> Method {
    let group = "methods/" + name
    var facts: [(name: String, value: JSON)] = []
    func fact(_ name: String, _ value: JSON?) { if let value { facts.append((name, value)) } }
    func integers(_ name: String) throws -> [Int]? {
      archive.entry("\(group)/\(name)")?.type == .int64 ? try archive.ints("\(group)/\(name)") : nil
    }
    fact("pasts", try integers("pasts")?.first.map { .integer($0) })
    if archive.entry(group + "/recipe")?.type == .text {
      fact("recipe", .string(try archive.text(group + "/recipe")))
    }
    if let lengths = try integers("lengths"), let tokens = archive.entry(group + "/tokens") {
      fact("sequences", .integer(lengths.count))
      fact("tokens", .integer(tokens.count))
      if let pasts = try integers("past") {
        let counts = Dictionary(grouping: pasts) { $0 }.mapValues(\.count)
        fact("sequences_by_past", .object(counts.keys.sorted().map { .init(String($0), JSON(counts[$0])) }))
      }
    }
    // Vectors in the parameters' layout, by what they are called.
    var vectors: [String] = []
    for path in archive.names(under: group) {
      guard let slash = path.firstIndex(of: "/") else { continue }
      let vector = String(path[..<slash])
      if !vectors.contains(vector) { vectors.append(vector) }
    }
    if !vectors.isEmpty { fact("vectors", .array(vectors.map { .string($0) })) }
    return Method(name: name, bytes: Self.bytes(under: group, in: archive), facts: facts)
  }

  /// Stored bytes of a group.
  static func bytes(under group: String, in archive: ArchiveReader) -> Int {
    archive.names(under: group).reduce(0) { $0 + (archive.entry(group + "/" + $1)?.byteCount ?? 0) }
  }
  /// Stored bytes of the first level of groups, in the file's order.
  var sizes: [(group: String, bytes: Int)] {
    var sizes: [(group: String, bytes: Int)] = []
    for entry in archive.entries {
      let group = String(entry.path.prefix { $0 != "/" })
      if let index = sizes.firstIndex(where: { $0.group == group }) {
        sizes[index].bytes += entry.byteCount
      } else {
        sizes.append((group, entry.byteCount))
      }
    }
    return sizes
  }
}
