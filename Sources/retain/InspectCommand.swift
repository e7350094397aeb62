// `retain inspect`: what is inside a checkpoint, a model file or a model folder.
import Archive
import ArgumentParser
import Corpus
import Foundation
import Ledger
import Runs
import StrictJSON

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Show what is inside a checkpoint or model.")

  @Argument(help: "Retain .h5 file or Hugging Face folder.")
  var path: String
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let outline = try ModelOutline(path)
    var checkpoint: CheckpointOutline?
    if case .archive(let archive) = outline.kind { checkpoint = try CheckpointOutline(archive) }
    if json {
      Say.json(try Self.json(outline, checkpoint))
    } else {
      Terminal.out(try Self.text(outline, checkpoint))
    }
  }

  /// model, checkpoint or folder.
  private static func kind(_ checkpoint: CheckpointOutline?) -> String {
    checkpoint.map { $0.archive.metadata["kind"]?.string ?? "archive" } ?? "folder"
  }

  private static func json(_ outline: ModelOutline, _ checkpoint: CheckpointOutline?) throws -> JSON {
    var members: [JSON.Member] = [
      .init("schema", 1), .init("path", .string(outline.path)), .init("kind", .string(kind(checkpoint))),
      .init("parameter_count", .integer(outline.weights.reduce(0) { $0 + $1.count })),
      .init("config", try outline.configurationJSON() ?? .null),
      .init(
        "parameters",
        .array(
          outline.weights.map {
            [
              "name": .string($0.name), "shape": .array($0.shape.map { .integer($0) }),
              "count": .integer($0.count),
              "dtype": .string($0.type), "bytes": .integer($0.bytes),
            ]
          })),
      .init(
        "tokenizer",
        outline.tokenizer.map {
          [
            "vocab_size": .integer($0.vocabularySize), "bos_token_id": JSON($0.bosToken.map(Int.init)),
            "eos_token_id": JSON($0.eosToken.map(Int.init)),
          ]
        } ?? .null),
    ]
    if let checkpoint {
      members += [
        .init("metadata", checkpoint.archive.metadata),
        .init("sizes", .object(checkpoint.sizes.map { .init($0.group, .integer($0.bytes)) })),
        .init(
          "methods",
          .object(
            checkpoint.methods.map { method in
              .init(
                method.name,
                .object(
                  [.init("bytes", .integer(method.bytes))] + method.facts.map { .init($0.name, $0.value) }))
            })),
        .init("matrix", .array(checkpoint.matrix.table.map(\.json))),
      ]
    }
    return .object(members)
  }

  private static func text(_ outline: ModelOutline, _ checkpoint: CheckpointOutline?) throws -> String {
    var parts = ["\(outline.path): \(kind(checkpoint))"]
    if let checkpoint { parts.append(facts(checkpoint.archive.metadata)) }
    if let configuration = outline.configuration {
      let sizes =
        "\(configuration.architecture): \(configuration.layers) layers, hidden \(configuration.hiddenSize), "
        + "\(configuration.heads) heads (\(configuration.keyHeads) key heads), feed-forward "
        + "\(configuration.intermediateSize), vocabulary \(configuration.vocabularySize), context "
        + "\(configuration.contextLength)\(configuration.tiesHead ? ", head tied to the embedding" : "")"
      parts.append("model\n  " + sizes)
    }
    if let tokenizer = outline.tokenizer {
      func named(_ id: Int32?) -> String { id.map { "\($0) \(tokenizer.token($0) ?? "")" } ?? "none" }
      parts.append(
        "tokenizer\n  \(tokenizer.vocabularySize) tokens, prefix \(named(outline.prefixToken)), "
          + "end \(named(outline.eosToken))"
      )
    } else {
      parts.append("tokenizer\n  none")
    }
    if !outline.weights.isEmpty { parts.append("parameters\n" + indented(weights(outline))) }
    if let checkpoint {
      for method in checkpoint.methods {
        let said = method.facts.map { "\n  \($0.name): \($0.value.string ?? $0.value.compact)" }.joined()
        parts.append("method \(method.name): \(Show.bytes(method.bytes))\(said)")
      }
      let rows = checkpoint.matrix.table
      if !rows.isEmpty { parts.append("measurements\n" + indented(measurements(rows))) }
      var sizes = AlignedTable(["group", "size"], numeric: [1])
      for size in checkpoint.sizes { sizes.add(size.group, Show.bytes(size.bytes)) }
      parts.append("sizes\n" + indented(sizes.text))
    }
    return parts.joined(separator: "\n\n")
  }

  private static func facts(_ metadata: JSON) -> String {
    let shown = [
      "name", "variant", "stage", "stage_index", "step", "seed", "train_tokens", "wall_seconds", "version",
      "blas_core",
    ]
    return shown.compactMap { key in
      guard let value = metadata[key], !value.isNull else { return nil }
      return "  \(key): \(value.string ?? value.compact)"
    }.joined(separator: "\n")
  }
  private static func weights(_ outline: ModelOutline) -> String {
    var table = AlignedTable(["name", "shape", "count", "dtype"], numeric: [2])
    for weight in outline.weights {
      table.add(weight.name, Show.shape(weight.shape), Show.count(weight.count), weight.type)
    }
    let total = outline.weights.reduce(0) { $0 + $1.count }
    return table.text + "\n\(Show.count(total)) parameters in \(outline.weights.count) tensors, "
      + Show.bytes(outline.weights.reduce(0) { $0 + $1.bytes })
  }
  private static func measurements(_ rows: [MatrixRow]) -> String {
    var table = AlignedTable(["after", "probe.metric", "value", "stderr", "n"], numeric: [2, 3, 4])
    for row in rows {
      for cell in row.cells {
        table.add(
          row.after, cell.key, Show.fixed(cell.value, 4), cell.stderr.map { "± " + Show.fixed($0, 4) } ?? "–",
          Show.count(cell.n))
      }
    }
    return table.text
  }
  private static func indented(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { "  " + $0 }.joined(separator: "\n")
  }
}
