// The model part of a Retain file: the same in checkpoints and in model files, which hold nothing else.
import Archive
import Corpus
import Foundation
import Layers
import StrictJSON
import TensorCore

public enum ModelFile {
  /// The group of the weights.
  private static let parameters = "model/parameters/"

  /// Whether a path names a file rather than a folder.
  public static func isModelFile(_ path: String) -> Bool {
    var isDirectory: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
      ? !isDirectory.boolValue : path.hasSuffix(".h5")
  }

  /// Adds configuration, tokenizer and, for a model file, weights to an archive.
  ///
  /// - Parameter weights: nil where the caller writes the parameters itself
  public static func add(_ model: LoadedModel, weights type: ElementType?, to archive: inout ArchiveWriter)
    throws(ModelError)
  {
    let family = try ModelCatalog.architecture(named: model.configuration.architecture)
    archive.group("model", description: "parameters under their Hugging Face names, and the configuration")
    archive.group("model/parameters", description: "weights, row-major, shapes as in safetensors files")
    archive.add(
      "model/config.json", text: family.json(model.configuration).pretty,
      description: "Hugging Face configuration of the architecture")
    if let tokenizer = model.tokenizer {
      archive.group("tokenizer", description: "the tokenizer's files, byte for byte")
      archive.add("tokenizer/tokenizer.json", uint8s: tokenizer.json, description: "tokenizer.json")
      if let configuration = tokenizer.configuration {
        archive.add("tokenizer/tokenizer_config.json", uint8s: configuration, description: "tokenizer_config.json")
      }
    }
    guard let type else { return }
    for parameter in model.transformer.parameters.parameters {
      let values = Array(UnsafeBufferPointer(parameter.value.buffer))
      if type == .bfloat16 {
        archive.add("model/parameters/\(parameter.name)", bfloat16: values, shape: parameter.shape)
      } else {
        archive.add("model/parameters/\(parameter.name)", floats: values, shape: parameter.shape)
      }
    }
  }

  /// Writes weights and tokenizer alone.
  public static func save(_ model: LoadedModel, to path: String, type: ElementType) throws {
    var archive = ArchiveWriter()
    try add(model, weights: type, to: &archive)
    try archive.write(to: path, metadata: ["kind": "model", "schema": 1])
  }

  /// Loads the model of a checkpoint or a model file.
  public static func load(_ path: String, on backend: any Backend) throws -> LoadedModel {
    try load(ArchiveReader(path: path), on: backend)
  }
  public static func load(_ archive: ArchiveReader, on backend: any Backend) throws -> LoadedModel {
    let place = archive.path + " /model/config.json"
    let text = try archive.text("model/config.json")
    let json: JSON
    do throws(JSONError) { json = try JSON.parse(text) } catch {
      throw ModelError(.invalid, place, "not JSON: \(error)")
    }
    let family = try ModelCatalog.architecture(of: json, path: place)
    let configuration = try family.configuration(json, path: place)
    let declarations = family.declarations(configuration)
    // Before anything is allocated on the word of the configuration.
    for declaration in declarations {
      let name = parameters + declaration.name
      guard let entry = archive.entry(name), entry.shape == declaration.shape else {
        throw ModelError(
          .invalid, archive.path,
          "\(name): expected shape \(declaration.shape), found "
            + (archive.entry(name).map { "\($0.shape)" } ?? "nothing"))
      }
    }
    try checkMemory(for: declarations, of: archive.path)
    let model = try ModelCatalog.build(configuration, on: backend)
    for parameter in model.parameters.parameters {
      let (name, values) = (parameters + parameter.name, parameter.value.buffer)
      try archive.floats(name, into: values)
      let bad = values.reduce(0) { $0 + ($1.isFinite ? 0 : 1) }
      guard bad == 0 else {
        throw ArchiveError(
          .damaged, path: archive.path, reason: "\(name) has \(bad) of \(values.count) values that are not finite",
          hint: "use another copy of the file")
      }
    }
    var tokenizer: Tokenizer?
    if archive.contains("tokenizer/tokenizer.json") {
      tokenizer = try Tokenizer(
        json: archive.uint8s("tokenizer/tokenizer.json"),
        configuration: archive.contains("tokenizer/tokenizer_config.json")
          ? archive.uint8s("tokenizer/tokenizer_config.json") : nil)
    }
    return LoadedModel(transformer: model, tokenizer: tokenizer, path: archive.path)
  }
}
