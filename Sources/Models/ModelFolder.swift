// Hugging Face folders: config.json, safetensors in one file or many, tokenizer.json; read and written.
import Archive
import Corpus
import Foundation
import Layers
import StrictJSON
import TensorCore

public enum ModelFolder {
  /// Loads config, weights and, where present, the tokenizer.
  ///
  /// - Throws: `ModelError` for the configuration and for tensors that do not fit it, all in one message
  public static func load(_ folder: String, on backend: any Backend) throws -> LoadedModel {
    let configPath = folder + "/config.json"
    guard let data = FileManager.default.contents(atPath: configPath) else {
      throw ModelError(
        .missing, configPath, "no such file", hint: "a model is a folder with config.json or a Retain .h5 file")
    }
    let json: JSON
    do throws(JSONError) { json = try JSON.parse(Array(data)) } catch {
      throw ModelError(.invalid, configPath, "not JSON: \(error)")
    }
    let family = try ModelCatalog.architecture(of: json, path: configPath)
    let configuration = try family.configuration(json, path: configPath)
    let tensors = try SafetensorsModel(folder: folder)
    try match(tensors, to: configuration, family: family, folder: folder)
    try checkMemory(for: family.declarations(configuration), of: folder)
    let model = try ModelCatalog.build(configuration, on: backend)
    for parameter in model.parameters.parameters {
      try tensors.floats(fileName(of: parameter.name, family, in: tensors), into: parameter.value.buffer)
    }
    var tokenizer: Tokenizer?
    if FileManager.default.fileExists(atPath: folder + "/tokenizer.json") {
      tokenizer = try Tokenizer.load(folder: folder)
    }
    return LoadedModel(transformer: model, tokenizer: tokenizer, path: folder)
  }

  private static func fileName(of name: String, _ family: any Architecture.Type, in tensors: SafetensorsModel)
    -> String
  {
    ([name] + family.aliases(of: name)).first { tensors.contains($0) } ?? name
  }

  /// Every parameter has a tensor of its shape, and every tensor a parameter; reports all that is not so.
  private static func match(
    _ tensors: SafetensorsModel, to configuration: TransformerConfiguration, family: any Architecture.Type,
    folder: String
  ) throws(ModelError) {
    var wrong: [String] = []
    var known = Set<String>()
    for declaration in family.declarations(configuration) {
      let name = fileName(of: declaration.name, family, in: tensors)
      known.insert(name)
      guard let shape = tensors.shape(of: name) else {
        wrong.append("\(declaration.name) is missing")
        continue
      }
      if shape != declaration.shape { wrong.append("\(name) has shape \(shape), expected \(declaration.shape)") }
    }
    for name in tensors.names where !known.contains(name) && !family.isIgnored(name) {
      // A tied head may stand in the file a second time.
      if configuration.tiesHead, name == "lm_head.weight" { continue }
      wrong.append("\(name) is not a parameter of this configuration")
    }
    guard wrong.isEmpty else {
      let shown = wrong.prefix(8).joined(separator: "; ")
      throw ModelError(
        .invalid, folder, wrong.count > 8 ? "\(shown); and \(wrong.count - 8) more" : shown,
        hint: "config.json and the weights disagree")
    }
  }

  /// Writes a folder that transformers loads with the same logits.
  ///
  /// - Parameter type: float32 or bfloat16 (rounded to nearest even)
  public static func save(_ model: LoadedModel, to folder: String, type: ElementType = .float32) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let family = try ModelCatalog.architecture(named: model.configuration.architecture)
    guard case .object(var members) = family.json(model.configuration) else { return }
    members.append(JSON.Member("torch_dtype", .string(type == .bfloat16 ? "bfloat16" : "float32")))
    try SafetensorsWriter.write(
      model.transformer.parameters.parameters.map { parameter in
        (parameter.name, parameter.shape, type, UnsafeBufferPointer(parameter.value.buffer))
      }, metadata: ["format": "pt"], to: folder + "/model.safetensors")
    try AtomicFile.write(JSON.object(members).pretty, to: folder + "/config.json")
    if let tokenizer = model.tokenizer {
      try AtomicFile.write(tokenizer.json, to: folder + "/tokenizer.json")
      if let configuration = tokenizer.configuration {
        try AtomicFile.write(configuration, to: folder + "/tokenizer_config.json")
      }
    }
  }
}
