// What a model file or folder says about itself, read without loading its weights.
import Archive
import Corpus
import Foundation
import Models
import Runs
import StrictJSON

/// Configuration, tokenizer and the list of weights of a model.
struct ModelOutline {
  struct Weight {
    let name: String
    let shape: [Int]
    let type: String
    let bytes: Int
    var count: Int { shape.reduce(1, *) }
  }
  enum Kind {
    case folder
    case archive(ArchiveReader)
  }

  let path: String
  let kind: Kind
  /// nil for a folder with a tokenizer and nothing else.
  let configuration: TransformerConfiguration?
  let tokenizer: Tokenizer?
  let weights: [Weight]

  /// The same rule as `LoadedModel.prefixToken`.
  var prefixToken: Int32? {
    configuration?.bosToken ?? tokenizer?.bosToken ?? configuration?.eosToken ?? tokenizer?.eosToken
  }
  var eosToken: Int32? { configuration?.eosToken ?? tokenizer?.eosToken }

  /// config.json as this program would write it.
  func configurationJSON() throws -> JSON? {
    try configuration.map { try ModelCatalog.architecture(named: $0.architecture).json($0) }
  }

  /// - Throws: `ModelError`, `ArchiveError` or `TokenizerError`
  init(_ path: String) throws {
    self.path = path
    if ModelFile.isModelFile(path) {
      let archive = try ArchiveReader(path: path)
      kind = .archive(archive)
      weights = archive.names(under: Self.parameters).compactMap { name in
        archive.entry(Self.parameters + "/" + name).map {
          Weight(name: name, shape: $0.shape, type: $0.type.rawValue, bytes: $0.byteCount)
        }
      }
      configuration =
        archive.contains("model/config.json")
        ? try Self.parse(Array(archive.text("model/config.json").utf8), path: path + " /model/config.json")
        : nil
      tokenizer = try Self.tokenizer(of: archive)
      return
    }
    kind = .folder
    let configPath = path + "/config.json"
    let tokenizerExists = FileManager.default.fileExists(atPath: path + "/tokenizer.json")
    tokenizer = tokenizerExists ? try Tokenizer.load(folder: path) : nil
    guard let data = FileManager.default.contents(atPath: configPath) else {
      guard tokenizerExists else {
        throw ModelError(
          .missing, configPath, "no such file",
          hint: "a model is a folder with config.json or a Retain .h5 file")
      }
      (configuration, weights) = (nil, [])
      return
    }
    configuration = try Self.parse(Array(data), path: configPath)
    let tensors = try SafetensorsModel(folder: path)
    weights = tensors.names.compactMap { name in
      tensors.tensor(name).map { Weight(name: name, shape: $0.shape, type: $0.dtype, bytes: $0.byteCount) }
    }
  }

  static let parameters = "model/parameters"

  /// Nil for a classifier, whose sizes `MLPConfiguration` reads.
  private static func parse(_ bytes: [UInt8], path: String) throws -> TransformerConfiguration? {
    let json: JSON
    do throws(JSONError) { json = try JSON.parse(bytes) } catch {
      throw ModelError(.invalid, path, "not JSON: \(error)")
    }
    if MLPConfiguration(json) != nil { return nil }
    return try ModelCatalog.architecture(of: json, path: path).configuration(json, path: path)
  }

  private static func tokenizer(of archive: ArchiveReader) throws -> Tokenizer? {
    let names = ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")
    guard archive.contains(names.0) else { return nil }
    return try Tokenizer(
      json: archive.uint8s(names.0), configuration: archive.contains(names.1) ? archive.uint8s(names.1) : nil)
  }
}
