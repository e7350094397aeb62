// A language model with everything that belongs to it: weights, tokenizer, and where it came from.
import Archive
import Corpus
import Layers
import StrictJSON
import TensorCore

/// Refuses parameters that this machine cannot hold, before any of them is allocated: a sparse file can claim anything.
func checkMemory(for declarations: [ParameterDeclaration], of path: String) throws(ArchiveError) {
  // In floating point, which no size makes trap.
  let bytes = declarations.reduce(0.0) { sum, declaration in
    sum + declaration.shape.reduce(4.0) { $0 * Double($1) }
  }
  try requireMemory(Int(min(bytes, 0x1p62)), for: "model/parameters", of: path)
}

/// A transformer and its tokenizer.
public struct LoadedModel {
  public let transformer: Transformer
  /// nil only for folders without tokenizer.json, which can be inspected but not fed with text.
  public let tokenizer: Tokenizer?
  public let path: String

  public init(transformer: Transformer, tokenizer: Tokenizer?, path: String) {
    self.transformer = transformer
    self.tokenizer = tokenizer
    self.path = path
  }

  public var configuration: TransformerConfiguration { transformer.configuration }
  /// What the first token of a text is conditioned on: config's bos, tokenizer's bos, else the end tokens likewise.
  public var prefixToken: Int32? {
    configuration.bosToken ?? tokenizer?.bosToken ?? configuration.eosToken ?? tokenizer?.eosToken
  }
  /// What ends a training row.
  public var eosToken: Int32? { configuration.eosToken ?? tokenizer?.eosToken }

  /// Loads a Hugging Face folder or a Retain file (.h5), whichever the path is.
  ///
  /// - Throws: `ModelError`, `ArchiveError` or `TokenizerError`
  public static func load(_ path: String, on backend: any Backend) throws -> LoadedModel {
    let loaded =
      try ModelFile.isModelFile(path)
      ? ModelFile.load(path, on: backend) : ModelFolder.load(path, on: backend)
    try loaded.check()
    return loaded
  }

  /// The ids a tokenizer makes must be rows of the embedding, and so must the marks around a text.
  func check() throws(ModelError) {
    let rows = configuration.vocabularySize
    if let tokenizer, tokenizer.vocabularySize > rows {
      throw ModelError(
        .invalid, path, "the tokenizer has \(tokenizer.vocabularySize) tokens but the model \(rows)",
        hint: "the tokenizer belongs to another model")
    }
    for token in [prefixToken, eosToken] {
      if let token, Int(token) >= rows {
        throw ModelError(.invalid, path, "token id \(token) of the configuration is not below \(rows)")
      }
    }
  }
}
