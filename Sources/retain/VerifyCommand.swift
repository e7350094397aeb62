// `retain verify`: whether every byte is what was written, and whether the numbers can be what they claim.
import Archive
import ArgumentParser
import Corpus
import Foundation
import Layers
import Models
import Runs
import StrictJSON
import TensorCPU

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check that a checkpoint is whole and makes sense.",
    discussion: "Exit code 0: whole; 65: damaged or senseless; 66: not there.")

  @Argument(help: "Retain .h5 file, or a Hugging Face folder.")
  var checkpoint: String
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard FileManager.default.fileExists(atPath: checkpoint) else {
      throw RunError(Runs.ExitCode.missingInput, "\(checkpoint): no such file")
    }
    let faults: [String]
    let done: String
    do { (faults, done) = try check() } catch {
      if json { Say.json(report(whole: false, faults: ["\(error)"])) }
      throw error
    }
    if json { Say.json(report(whole: true, faults: faults)) }
    guard faults.isEmpty else {
      throw RunError(
        Runs.ExitCode.badData, "\(checkpoint): " + faults.joined(separator: "; "),
        hint: "the bytes are as written, but training cannot go on from them; use an earlier checkpoint")
    }
    if !json { print("\(checkpoint): whole (\(done))") }
  }

  private func report(whole: Bool, faults: [String]) -> JSON {
    [
      "schema": 1, "path": .string(checkpoint), "whole": .bool(whole),
      "valid": .bool(whole && faults.isEmpty),
      "faults": .array(faults.map { .string($0) }),
    ]
  }

  /// What makes no sense although it is whole, and what was looked at.
  private func check() throws -> (faults: [String], done: String) {
    guard ModelFile.isModelFile(checkpoint) else {
      // Loading checks shapes and that every number is finite.
      let model = try LoadedModel.load(checkpoint, on: CPUBackend(threads: 1))
      return (
        [], "\(Show.count(model.transformer.parameters.count)) parameters are finite and fit config.json"
      )
    }
    let archive = try ArchiveReader(path: checkpoint)
    try archive.verify()
    var check = SenseCheck(archive)
    try check.run()
    return (
      check.faults,
      "every checksum of \(archive.entries.count) entries holds; "
        + "\(Show.count(check.numbers)) numbers make sense"
    )
  }
}

/// Checks of meaning, after the checksums: what no run would have written.
struct SenseCheck {
  private let archive: ArchiveReader
  private(set) var faults: [String] = []
  /// How many numbers were looked at.
  private(set) var numbers = 0

  init(_ archive: ArchiveReader) { self.archive = archive }

  mutating func run() throws {
    let outline = try ModelOutline(archive.path)
    try layout(outline)
    for entry in archive.entries where [.float32, .bfloat16, .float64].contains(entry.type) {
      try values(entry)
    }
    try tokens(below: outline.configuration?.vocabularySize)
    _ = try CheckpointOutline(archive)
  }

  /// Every parameter of the configuration is there under its shape, and no other.
  private mutating func layout(_ outline: ModelOutline) throws {
    let declared: [ParameterDeclaration]
    if let configuration = outline.configuration {
      declared = try ModelCatalog.architecture(named: configuration.architecture).declarations(configuration)
    } else if archive.contains("model/config.json"),
      let classifier = MLPConfiguration(try JSON.parse(archive.text("model/config.json")))
    {
      declared = MLP.declarations(classifier)
    } else {
      return faults.append("there is no model/config.json")
    }
    let shapes = Dictionary(outline.weights.map { ($0.name, $0.shape) }) { first, _ in first }
    for parameter in declared where shapes[parameter.name] != parameter.shape {
      faults.append("\(parameter.name) is \(shapes[parameter.name].map(Show.shape) ?? "missing")")
    }
    if shapes.count != declared.count {
      faults.append("\(shapes.count) parameters instead of \(declared.count)")
    }
    if let tokenizer = outline.tokenizer, let configuration = outline.configuration,
      tokenizer.vocabularySize > configuration.vocabularySize
    {
      faults.append(
        "the tokenizer has \(tokenizer.vocabularySize) tokens, the model \(configuration.vocabularySize)")
    }
  }

  /// Finite, and not negative where the quantity is a mean of squares.
  private mutating func values(_ entry: EntryInfo) throws {
    let parts = entry.path.split(separator: "/")
    let isSquare =
      entry.path.hasPrefix("optimizer/second_moment/")
      || (parts.count > 3 && parts[0] == "methods" && parts[2] == "fisher")
    numbers += entry.count
    // The best validation loss is infinite until there is one.
    if entry.path == "progress/losses" { return }
    var (infinite, negative) = (0, 0)
    if entry.type == .float64 {
      for value in try archive.doubles(entry.path) where !value.isFinite { infinite += 1 }
    } else {
      for value in try archive.floats(entry.path) {
        if !value.isFinite { infinite += 1 } else if value < 0 { negative += 1 }
      }
    }
    if infinite > 0 { faults.append("\(entry.path): \(infinite) of \(entry.count) values are not finite") }
    if isSquare, negative > 0 {
      faults.append(
        "\(entry.path): \(negative) of \(entry.count) values are negative where squares should stand")
    }
  }

  /// Replayed tokens are rows of the embedding; targets too, or below 0.
  private mutating func tokens(below vocabulary: Int?) throws {
    guard let vocabulary else { return }
    for entry in archive.entries where entry.type == .int32 && entry.path.hasPrefix("methods/") {
      let ids = try archive.int32s(entry.path)
      numbers += ids.count
      let mayBeNegative = entry.path.hasSuffix("/targets")
      let bad = ids.reduce(0) { $0 + (Int($1) >= vocabulary || ($1 < 0 && !mayBeNegative) ? 1 : 0) }
      if bad > 0 {
        faults.append("\(entry.path): \(bad) of \(ids.count) token ids are not below \(vocabulary)")
      }
    }
  }
}
