// `retain tokenizer train`: a byte-level BPE for a model that starts from nothing.
import Archive
import ArgumentParser
import Corpus
import Foundation
import Runs
import StrictJSON

struct TokenizerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenizer", abstract: "Make tokenizers.", subcommands: [Train.self])

  struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "train", abstract: "Train a byte-level BPE on text.",
      discussion: "Writes tokenizer.json and tokenizer_config.json, which transformers reads.")

    @Option(help: ArgumentHelp("Tokens, the 256 bytes and the special ones included.", valueName: "n"))
    var vocabSize: Int
    @Option(help: "Folder for the two files.")
    var out: String
    @Option(
      name: .customLong("special"), help: "A special token; the first marks the beginning and end of a text.")
    var special: [String] = ["<|endoftext|>"]
    @Flag(help: "Print JSON.")
    var json = false
    @Argument(help: "Text, as .txt or .jsonl, plain or gzip; patterns are allowed.")
    var files: [String]

    func run() throws {
      let paths = try files.flatMap { try DataReader.expand($0) }
      let rows = try DataReader.read(paths: paths)
      let texts = rows.map(\.sample.plainText)
      let made: (json: [UInt8], configuration: [UInt8])
      do {
        made = try TokenizerTrainer.byteLevelBPE(vocabularySize: vocabSize, specialTokens: special, documents: texts)
      } catch let error as TokenizerError {
        // Any text will do: what the trainer refuses are the options.
        throw usage(error.reason, hint: error.hint)
      }
      try OutputFolder.create(out)
      try AtomicFile.write(made.json, to: out + "/tokenizer.json")
      try AtomicFile.write(made.configuration, to: out + "/tokenizer_config.json")
      let tokenizer = try Tokenizer.load(folder: out)
      let bytes = texts.reduce(0) { $0 + $1.utf8.count }
      let tokens = texts.reduce(0) { $0 + tokenizer.encode($1).count }
      let ratio = Double(bytes) / Double(max(1, tokens))
      if tokenizer.vocabularySize < vocabSize {
        Say.note(
          "the text has no more repeated pairs: \(tokenizer.vocabularySize) tokens instead of \(vocabSize)")
      }
      guard json else {
        Terminal.out(
          "\(out): \(tokenizer.vocabularySize) tokens from \(Show.count(texts.count)) documents, "
            + "\(Show.fixed(ratio, 2)) bytes a token on them")
        return
      }
      Say.json([
        "schema": 1, "out": .string(out), "vocab_size": .integer(tokenizer.vocabularySize),
        "documents": .integer(texts.count), "bytes": .integer(bytes), "tokens": .integer(tokens),
        "bytes_per_token": .number(ratio),
      ])
    }
  }
}

/// Folders that commands write into.
enum OutputFolder {
  /// - Throws: `RunError`: 77 without permission, 73 for anything else in the way
  static func create(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch let error as CocoaError where error.code == .fileWriteNoPermission {
      throw RunError(Runs.ExitCode.permission, "\(path): no permission to create this folder")
    } catch {
      throw RunError(
        Runs.ExitCode.cannotCreate, "\(path): cannot be created",
        hint: "a file or an absent folder may stand in the way")
    }
    guard access(path, W_OK) == 0 else { throw RunError(Runs.ExitCode.permission, "\(path): not writable") }
  }
  /// Whether there is anything in it.
  static func isOccupied(_ path: String) -> Bool {
    !((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).isEmpty
  }
}
