// Where commands put a model: a Hugging Face folder with everything transformers looks for, or a model file (.h5).
import Archive
import Corpus
import Foundation
import Models
import Runs
import StrictJSON

/// A folder, or a file whose name ends in .h5.
struct ModelDestination {
  let path: String
  var isFile: Bool { path.hasSuffix(".h5") }

  /// - Throws: `RunError` (73) where something is there that would be overwritten
  func requireFree() throws {
    if isFile {
      guard FileManager.default.fileExists(atPath: path) else { return }
      throw RunError(
        Runs.ExitCode.cannotCreate, "\(path) exists", hint: "choose another name, or use --force")
    }
    guard OutputFolder.isOccupied(path) else { return }
    throw RunError(
      Runs.ExitCode.cannotCreate, "\(path) is not empty", hint: "choose another folder, or use --force")
  }

  /// Creates the folder, so that work which nobody can keep is not begun.
  ///
  /// - Throws: `RunError`: 77 without permission, 73 for anything else in the way
  func prepare() throws { if !isFile { try OutputFolder.create(path) } }

  /// Writes the model with its tokenizer.
  ///
  /// - Returns: the files of the folder; none for a model file
  func write(_ model: LoadedModel, type: ElementType) throws -> [String] {
    guard !isFile else {
      try ModelFile.save(model, to: path, type: type)
      return []
    }
    try prepare()
    try ModelFolder.save(model, to: path, type: type)
    try writeSides(of: model)
    return try FileManager.default.contentsOfDirectory(atPath: path).sorted()
  }

  /// generation_config.json and the tokenizer's settings where the model brought none.
  private func writeSides(of model: LoadedModel) throws {
    var members = [JSON.Member("_from_model_config", true)]
    if let token = model.configuration.bosToken {
      members.append(.init("bos_token_id", .integer(Int(token))))
    }
    if let token = model.configuration.eosToken {
      members.append(.init("eos_token_id", .integer(Int(token))))
    }
    try AtomicFile.write(JSON.object(members).pretty, to: path + "/generation_config.json")
    guard let tokenizer = model.tokenizer else {
      Say.note("the model has no tokenizer; the folder has none either")
      return
    }
    var special: [JSON.Member] = []
    if let bytes = tokenizer.configuration, let settings = try? JSON.parse(bytes) {
      for key in ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"] {
        if let value = settings[key], !value.isNull { special.append(.init(key, value)) }
      }
    } else {
      for (key, id) in [
        ("bos_token", model.configuration.bosToken), ("eos_token", model.configuration.eosToken),
      ] {
        if let token = id.flatMap({ tokenizer.token($0) }) { special.append(.init(key, .string(token))) }
      }
      let settings = [JSON.Member("tokenizer_class", "PreTrainedTokenizerFast")] + special
      try AtomicFile.write(JSON.object(settings).pretty, to: path + "/tokenizer_config.json")
    }
    if !special.isEmpty {
      try AtomicFile.write(JSON.object(special).pretty, to: path + "/special_tokens_map.json")
    }
  }
}
