// `retain data`: looks at training data and probes before anything is trained on them.
import ArgumentParser
import Corpus
import Experiment
import Foundation
import Models
import Runs

struct DataCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "data", abstract: "Check, show and count data.",
    subcommands: [DataCheckCommand.self, DataShowCommand.self, DataStatsCommand.self])
}

/// Rows with the role they play.
struct DataPart {
  enum Role: String { case data, base, training, validation, probe }
  let role: Role
  /// `stage medical`, `probe general`, or the file.
  let place: String
  let paths: [String]
  let rows: [SourceRow]
  let training: TrainingPlan?
}

/// All rows that a command line means: data files, or everything an experiment file reads.
struct DataParts {
  private(set) var parts: [DataPart] = []
  /// What could not be read, one part each.
  private(set) var errors: [DataError] = []
  let plan: ExperimentPlan?

  /// - Throws: `ExperimentError` for an experiment file with mistakes; bad data go into `errors`.
  init(_ files: [String]) throws {
    let experiments = files.filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
    guard let experiment = experiments.first else {
      plan = nil
      for file in files {
        do throws(DataError) {
          let paths = try DataReader.expand(file)
          for path in paths { read(.data, path, [path]) }
        } catch { errors.append(error) }
      }
      return
    }
    guard files.count == 1 else {
      throw usage("an experiment file stands alone", hint: "it names its data itself")
    }
    let plan = try ExperimentPlan.load(experiment)
    self.plan = plan
    for spec in plan.baseData { read(.base, "base_data", spec, plan.training) }
    for stage in plan.stages {
      for spec in stage.datasets { read(.training, "stage \(stage.name)", spec, stage.training) }
      for spec in stage.validation { read(.validation, "val of stage \(stage.name)", spec, stage.training) }
    }
    for probe in plan.probes where probe.images == nil {
      read(.probe, probe.name, probe.paths, DocumentRule(rawValue: probe.documents.rawValue) ?? .blankLine)
    }
  }

  private mutating func read(
    _ role: DataPart.Role, _ place: String, _ spec: DatasetSpec, _ training: TrainingPlan
  ) {
    guard spec.images == nil else { return }
    let shape: DataShape? =
      switch spec.shape {
      case .text: .text
      case .promptCompletion: .pair
      case .textLabel: .labelled
      case .idxImages, nil: nil
      }
    read(
      role, place, spec.paths, DocumentRule(rawValue: spec.documents.rawValue) ?? .blankLine, shape: shape,
      training: training)
  }
  private mutating func read(
    _ role: DataPart.Role, _ place: String, _ paths: [String], _ documents: DocumentRule = .blankLine,
    shape: DataShape? = nil, training: TrainingPlan? = nil
  ) {
    do throws(DataError) {
      let rows = try DataReader.read(paths: paths, shape: shape, documents: documents)
      parts.append(DataPart(role: role, place: place, paths: paths, rows: rows, training: training))
    } catch { errors.append(error) }
  }

  /// The first thing that could not be read, as the command's own failure.
  func requireReadable() throws {
    guard let first = errors.first else { return }
    guard errors.count > 1 else { throw first }
    throw RunError(first.kind.exitCode, errors.map(\.description).joined(separator: "\n"))
  }
}

/// Text to tokens as a model's training does it.
struct TextCoder {
  let tokenizer: Tokenizer
  let prefixToken: Int32?
  let eosToken: Int32?
  /// nil for a tokenizer without a model.
  let contextLength: Int?

  private init(_ tokenizer: Tokenizer, prefixToken: Int32?, eosToken: Int32?, contextLength: Int?) {
    self.tokenizer = tokenizer
    self.prefixToken = prefixToken
    self.eosToken = eosToken
    self.contextLength = contextLength
  }
  init(model path: String) throws {
    let outline = try ModelOutline(path)
    guard let tokenizer = outline.tokenizer else {
      throw RunError(Runs.ExitCode.missingInput, "\(path): there is no tokenizer.json")
    }
    self.init(
      tokenizer, prefixToken: outline.prefixToken, eosToken: outline.eosToken,
      contextLength: outline.configuration?.contextLength)
  }
  /// The coder of an experiment's base model; nil for a classifier of images.
  init?(_ base: BaseModel) throws {
    switch base {
    case .folder(let path), .checkpoint(let path): try self.init(model: path)
    case .new(.llama(let sizes)), .new(.gpt2(let sizes)):
      let file = "/tokenizer.json"
      let path = sizes.tokenizer
      let tokenizer = try Tokenizer.load(
        folder: path.hasSuffix(file) ? String(path.dropLast(file.count)) : path)
      self.init(
        tokenizer, prefixToken: tokenizer.bosToken ?? tokenizer.eosToken, eosToken: tokenizer.eosToken,
        contextLength: sizes.maxPositionEmbeddings)
    case .new(.mlp): return nil
    }
  }
  /// The coder that a command line asks for; nil where neither a model nor an experiment names one.
  static func chosen(model: String?, plan: ExperimentPlan?) throws -> TextCoder? {
    if let model { return try TextCoder(model: model) }
    return try plan.flatMap { try TextCoder($0.baseModel) }
  }

  /// Makes training sequences as a stage with these settings would.
  func builder(_ training: TrainingPlan?, sequenceLength: Int?, trainOnInputs: Bool) -> ExampleBuilder {
    let longest = contextLength ?? .max
    return ExampleBuilder(
      encode: { tokenizer.encode($0) }, prefixToken: prefixToken, eosToken: eosToken,
      sequenceLength: min(sequenceLength ?? training?.sequenceLength ?? longest, longest),
      trainOnInputs: trainOnInputs || training?.trainOnInputs == true,
      excess: training?.excessLength.flatMap { ExcessStrategy(rawValue: $0.rawValue) })
  }
}
