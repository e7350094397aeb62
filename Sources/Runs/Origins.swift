// What a run learns from, by content: importance and memories belong to one base and one text and to no other.
import Archive
import Continual
import StrictJSON
import TensorCore

/// SHA-256 of the base's parameters and of every training set, as a checkpoint keeps them beside what follows from them.
///
/// A path says where something lay, not what it was. A checkpoint whose Fisher, anchor, buffer or half of a stage comes
/// from other content is refused.
/// - Cost: a second per two billion bytes, once a process
struct Origins: Equatable {
  /// Parameters in the order of the layout.
  let base: String
  let baseData: String
  let stages: [String]
  /// Pixels of a classifier's images, which its sequences only point to.
  let images: String?

  init(_ assembly: Assembly) {
    base = assembly.parametersHash()
    baseData = Self.hash(assembly.data.base)
    stages = assembly.data.stages.map(Self.hash)
    if case .classifier(let classifier) = assembly.subject { images = classifier.imagesHash } else { images = nil }
  }

  /// nil where a file has another form.
  init?(_ json: JSON) {
    guard let base = json["base_model"]?.string, let baseData = json["base_data"]?.string,
      let stages = json["stages"]?.array?.compactMap(\.string)
    else { return nil }
    (self.base, self.baseData, self.stages, images) = (base, baseData, stages, json["images"]?.string)
  }

  var json: JSON {
    .object([
      .init("base_model", .string(base)), .init("base_data", .string(baseData)),
      .init("stages", .array(stages.map { .string($0) })), .init("images", JSON(images)),
    ])
  }

  static let place = "origins/sha256.json"
  func write(to writer: any StateWriter) {
    writer.group("origins", description: "what the run learned from")
    writer.text(Self.place, json.pretty, description: "SHA-256 of the base's parameters and of each training set")
  }

  /// Refuses an archive that learned from something else.
  ///
  /// Data of stages that had not begun may have changed. Files of before origins were kept are taken as they are.
  /// - Parameter begun: how many stages had
  /// - Throws: `RunError` (78), `ArchiveError`
  func check(_ reader: any StateReader, path: String, begun: Int, stageNames: [String]) throws {
    guard reader.contains(Self.place) else { return }
    guard let earlier = Origins(try JSON.parse(reader.text(Self.place))) else {
      throw RunError(ExitCode.badData, "\(path): \(Self.place) has another form")
    }
    var changed: [String] = []
    if earlier.base != base { changed.append("base_model") }
    if earlier.baseData != baseData { changed.append("base_data") }
    if earlier.images != images { changed.append("images") }
    for (index, name) in stageNames.prefix(begun).enumerated()
    where index >= earlier.stages.count || index >= stages.count || earlier.stages[index] != stages[index] {
      changed.append("the data of stage \(name)")
    }
    guard changed.isEmpty else {
      throw RunError(
        ExitCode.configuration,
        "\(path): \(changed.joined(separator: ", ")) changed since this run began (their SHA-256 differs)",
        hint: "put back what was there, start over with --fresh, or choose another output_dir")
    }
  }

  /// Tokens, what of them is scored, and how often each example counts; lengths keep neighbours apart.
  private static func hash(_ set: TextSet) -> String {
    var stream = SHA256Stream()
    for example in set.examples {
      withUnsafeBytes(of: (Int64(example.tokens.count), Int64(example.lossStart))) { stream.update($0) }
      example.tokens.withUnsafeBytes { stream.update($0) }
    }
    set.weights?.withUnsafeBytes { stream.update($0) }
    return stream.finish()
  }
}

extension ImageClassifier {
  /// SHA-256 of all pixels and of the orders in which tasks see them.
  var imagesHash: String {
    var stream = SHA256Stream()
    stream.update(UnsafeRawBufferPointer(table.buffer))
    for order in orders { order.withUnsafeBytes { stream.update($0) } }
    return stream.finish()
  }
}
