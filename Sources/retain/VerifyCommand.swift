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
    if !json { Terminal.out("\(checkpoint): whole (\(done))") }
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
    var check = LayoutCheck(archive)
    let numbers = try check.run()
    return (
      check.faults,
      "every checksum of \(archive.entries.count) entries holds; "
        + "\(Show.count(numbers)) numbers make sense"
    )
  }
}

/// Whether a checkpoint's parts fit one another, beside what `SenseCheck` looks at.
private struct LayoutCheck {
  private let archive: ArchiveReader
  private(set) var faults: [String] = []

  init(_ archive: ArchiveReader) { self.archive = archive }

  /// - Returns: how many numbers were looked at
  mutating func run() throws -> Int {
    let outline = try ModelOutline(archive.path)
    try layout(outline)
    var sense = SenseCheck(archive)
    try sense.run(vocabulary: outline.configuration?.vocabularySize)
    faults += sense.faults
    _ = try CheckpointOutline(archive)
    return sense.numbers
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
}
