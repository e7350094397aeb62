// What a benchmark works on when it is not the named shape with random weights and ids: so that another engine
// can be given the same, and so that cost can be followed along length, size, documents and pasts.
import ArgumentParser
import Continual
import Curvature
import Foundation
import Layers
import Models
import Runs
import StrictJSON
import TensorCPU
import Training

struct BenchInputs: ParsableArguments {
  @Option(help: ArgumentHelp("Other sizes than the shape's: \(ShapeChanges.help).", valueName: "key=n,…"))
  var shape: ShapeChanges?
  @Option(
    help: ArgumentHelp("Weights of a Hugging Face folder or .h5 file instead of --model.", valueName: "path"))
  var weights: String?
  @Option(
    help: ArgumentHelp(
      "Ids to train on: rows of --seq + 1, as a JSON array of arrays or as lines; --batch rows are a step.",
      valueName: "file"))
  var tokens: String?
  @Option(help: ArgumentHelp("Constant learning rate of train and ewc.", valueName: "number"))
  var learningRate = 1e-4
  @Option(help: ArgumentHelp("Documents of unlike lengths that each sequence is packed from.", valueName: "n"))
  var documents = 1
  @Option(help: ArgumentHelp("Consolidated pasts of ewc.", valueName: "n"))
  var pasts = 1
  @Option(help: "How ewc joins its pasts.")
  var variant = ElasticWeightConsolidation.Variant.online
  @Option(help: "What task fisher squares the gradient of.")
  var unit = FisherUnit.sequence
  @Option(help: "The labels that task fisher takes the gradient for.")
  var labels = FisherLabels.observed
  @Flag(help: "Take training steps in turn with the passes of task fisher, and print the ratio.")
  var besideTraining = false

  enum FisherUnit: String, ExpressibleByArgument, CaseIterable { case sequence, position }
  enum FisherLabels: String, ExpressibleByArgument, CaseIterable { case observed, sampled }
  private func recipe(sequences: Int) -> FisherRecipe {
    FisherRecipe(
      labels: labels == .observed ? .observed : .sampled(count: 1), unit: unit == .sequence ? .sequence : .position,
      examples: sequences)
  }

  /// - Throws: `RunError` where options do not go together or a file is not what it should be
  func bench(
    _ task: BenchCommand.Task, _ shape: BenchShape, batch: Int, length: Int, steps: Int, recomputes: Bool,
    backend: CPUBackend
  ) throws -> Bench {
    let learns: [BenchCommand.Task] = [.train, .ewc, .fisher]
    if weights != nil || tokens != nil, !learns.contains(task) {
      throw usage("--weights and --tokens belong to " + learns.map(\.rawValue).joined(separator: ", "))
    }
    if unit != .sequence || labels != .observed, task != .fisher {
      throw usage("--unit and --labels belong to task fisher")
    }
    if besideTraining, task != .fisher { throw usage("--beside-training belongs to task fisher") }
    if weights != nil, self.shape != nil { throw usage("--weights bring their own shape; leave --shape out") }
    guard learningRate > 0, learningRate.isFinite else { throw usage("--learning-rate must be above 0") }
    guard (1...1000).contains(pasts) else { throw usage("--pasts \(pasts) is not between 1 and 1000") }
    guard documents >= 1, documents * (documents + 1) / 2 <= length else {
      throw usage("--documents \(documents): a sequence of \(length) tokens has no room for them")
    }
    if documents > 1 && tokens != nil { throw usage("--documents are drawn at random; --tokens has none") }
    let loaded = try weights.map { try LoadedModel.load($0, on: backend).transformer }
    let named = shape.configuration(length: length)
    let configuration = try loaded?.configuration ?? self.shape?.applied(to: named) ?? named
    guard length <= configuration.contextLength else {
      throw usage("--seq \(length): the model was made for \(configuration.contextLength)")
    }
    return Bench(
      batch: batch, length: length, steps: steps, recomputes: recomputes, backend: backend,
      configuration: configuration,
      operations: OperationCount(configuration), model: loaded,
      batches: try tokens.map {
        try batches($0, batch: batch, length: length, vocabulary: configuration.vocabularySize)
      },
      documents: documents, learningRate: learningRate, pasts: pasts, variant: variant,
      recipe: recipe(sequences: batch * documents), besideTraining: besideTraining)
  }

  /// Rows in the order of the file, `batch` of them a step; the next id is the target of each.
  private func batches(_ path: String, batch: Int, length: Int, vocabulary: Int) throws -> [Batch] {
    func bad(_ reason: String) -> RunError { RunError(Runs.ExitCode.badData, "\(path): \(reason)") }
    guard let data = FileManager.default.contents(atPath: path) else { throw bad("cannot be read") }
    let rows = try Self.rows([UInt8](data), bad)
    guard !rows.isEmpty, rows.count % batch == 0 else {
      throw bad("\(rows.count) rows are not a multiple of --batch \(batch)")
    }
    let exemplars = try rows.enumerated().map { number, ids in
      guard ids.count == length + 1 else {
        throw bad("row \(number + 1) has \(ids.count) ids, expected --seq + 1 = \(length + 1)")
      }
      guard ids.allSatisfy({ (0..<vocabulary).contains($0) }) else {
        throw bad("row \(number + 1) has an id that is not between 0 and \(vocabulary - 1)")
      }
      let known = ids.map { Int32($0) }
      return Exemplar(inputs: Array(known.dropLast()), targets: Array(known.dropFirst()))
    }
    return stride(from: 0, to: exemplars.count, by: batch).map { Batch(Array(exemplars[$0..<$0 + batch])) }
  }

  private static func rows(_ bytes: [UInt8], _ bad: (String) -> RunError) throws -> [[Int]] {
    guard bytes.first(where: { $0 > 32 }) == UInt8(ascii: "[") else {
      return try String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
        try line.split(separator: " ").map {
          guard let id = Int($0) else { throw bad("\($0) is no id") }
          return id
        }
      }
    }
    let rows: [JSON]?
    do { rows = try JSON.parse(bytes).array } catch { throw bad("\(error)") }
    return try (rows ?? []).map { row in
      try (row.array ?? []).map {
        guard let id = $0.int else { throw bad("\($0.compact) is no id") }
        return id
      }
    }
  }
}

extension ElasticWeightConsolidation.Variant: ExpressibleByArgument {}
