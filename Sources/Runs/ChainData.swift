// All text of a chain, read once: base, stages, validation, probes' documents for the overlap check.
import Corpus
import Experiment
import Foundation
import Models
import Training

/// The training sequences of one stage or of the base.
public struct TextSet: Sendable {
  /// What rows are packed from.
  public var examples: [Example]
  /// How often each example counts an epoch; nil where all count once.
  public var weights: [Double]?
  /// Held-out examples of the same kind.
  public var validation: [Example]
  public var report: ExampleReport

  public static let empty = TextSet(examples: [], weights: nil, validation: [], report: ExampleReport())
  /// Each example with its targets, ready to run.
  public var sequences: [Exemplar] { examples.map(Exemplar.init) }
  public var scoredTokens: Int { examples.reduce(0) { $0 + $1.lossTokens } }
  public var inputTokens: Int { examples.reduce(0) { $0 + $1.length } }
}

extension Exemplar {
  init(_ example: Example) {
    let row = packRow([0], from: [example])
    self.init(inputs: row.inputs, targets: row.targets)
  }
}

/// Reads and tokenises what a plan names.
public struct ChainData {
  public let base: TextSet
  public let stages: [TextSet]
  /// Facts worth a line in the ledger.
  public let notes: [String]

  init(base: TextSet, stages: [TextSet]) {
    self.base = base
    self.stages = stages
    notes = []
  }

  /// - Parameter probeRows: rows of every probe, for the overlap check
  /// - Throws: `DataError`, or `RunError` (65) where a probe leaked into training rows
  public init(_ plan: ExperimentPlan, model: LoadedModel, probeRows: [(name: String, rows: [SourceRow])]) throws {
    guard let tokenizer = model.tokenizer else {
      throw RunError(
        ExitCode.missingInput, "\(model.path): there is no tokenizer.json",
        hint: "text cannot be trained on without the model's tokenizer")
    }
    var notes: [String] = []
    let overlapPlan = plan.dataChecks.probeOverlap
    var overlap = OverlapFinder(
      probes: overlapPlan.action == .off ? [] : probeRows, ngram: overlapPlan.ngram,
      documentShare: overlapPlan.documentShare)

    func builder(_ training: TrainingPlan) -> ExampleBuilder {
      ExampleBuilder(
        encode: { tokenizer.encode($0) }, prefixToken: model.prefixToken, eosToken: model.eosToken,
        sequenceLength: min(training.sequenceLength, model.configuration.contextLength),
        trainOnInputs: training.trainOnInputs,
        excess: training.excessLength.flatMap { ExcessStrategy(rawValue: $0.rawValue) })
    }
    func unique(_ rows: [SourceRow], _ place: String) -> [SourceRow] {
      guard plan.dataChecks.exactDuplicates != .off else { return rows }
      let report = DuplicateFinder.find(rows)
      guard !report.repeated.isEmpty else { return rows }
      notes.append("\(place): \(report.summary(of: rows))")
      return plan.dataChecks.exactDuplicates == .drop ? report.kept.map { rows[$0] } : rows
    }
    func describe(_ report: ExampleReport, _ place: String) {
      for (count, what) in [
        (report.truncated, "rows cut to sequence_len"), (report.dropped, "rows dropped as too long"),
      ] where count > 0 { notes.append("\(place): \(count) \(what)") }
    }

    // The base is what the model knows already; leaks from there are the model's past, not the run's doing.
    var baseSet = TextSet.empty
    var baseRows: [SourceRow] = []
    for spec in plan.baseData { baseRows += try Self.rows(spec) }
    if !baseRows.isEmpty {
      (baseSet.examples, baseSet.report) = try builder(plan.training).examples(from: unique(baseRows, "base_data"))
    }

    var sets: [TextSet] = []
    for stage in plan.stages {
      let place = "stage \(stage.name)"
      var all: [SourceRow] = []
      var rowWeights: [Double] = []
      for spec in stage.datasets {
        let read = try Self.rows(spec)
        all += read
        rowWeights += [Double](repeating: spec.weight, count: read.count)
      }
      overlap.scan(all)
      var kept = Array(all.indices)
      if plan.dataChecks.exactDuplicates != .off {
        let report = DuplicateFinder.find(all)
        if !report.repeated.isEmpty { notes.append("\(place): \(report.summary(of: all))") }
        if plan.dataChecks.exactDuplicates == .drop { kept = report.kept }
      }
      var validationRows: [SourceRow] = []
      for spec in stage.validation { validationRows += try Self.rows(spec) }
      if let share = stage.validationShare {
        let split = Holdout.split(kept.map { all[$0] }, fraction: share)
        validationRows += split.validation.map { all[kept[$0]] }
        kept = split.train.map { kept[$0] }
      }
      let make = builder(stage.training)
      let (examples, report) = try make.examples(from: kept.map { all[$0] })
      describe(report, place)
      guard !examples.isEmpty else {
        throw RunError(ExitCode.badData, "\(place): no row is left to train on", hint: "look at retain data stats")
      }
      let weights = examples.map { rowWeights[kept[$0.source]] }
      sets.append(
        TextSet(
          examples: examples, weights: weights.allSatisfy { $0 == 1 } ? nil : weights,
          validation: validationRows.isEmpty ? [] : try make.examples(from: validationRows).examples, report: report))
    }
    try Self.judge(overlap.result(), overlapPlan, notes: &notes)
    base = baseSet
    stages = sets
    self.notes = notes
  }

  /// All rows of one entry of `datasets`, `base_data` or `val`.
  ///
  /// - Throws: `DataError`, or `RunError` (78) where the entry names images
  static func rows(_ spec: DatasetSpec) throws -> [SourceRow] {
    if let images = spec.images {
      throw RunError(ExitCode.configuration, "\(images.images): a language model reads text, not idx_images")
    }
    return try DataReader.read(
      paths: spec.paths, shape: spec.shape.flatMap(shape),
      documents: DocumentRule(rawValue: spec.documents.rawValue) ?? .blankLine)
  }

  private static func shape(_ shape: DatasetSpec.Shape) -> DataShape? {
    switch shape {
    case .text: .text
    case .promptCompletion: .pair
    case .textLabel: .labelled
    case .idxImages: nil
    }
  }

  /// Names the leaked documents; more than the allowed share is an error.
  private static func judge(
    _ results: [ProbeOverlap], _ plan: DataChecksPlan.ProbeOverlap, notes: inout [String]
  ) throws {
    var broken: [String] = []
    for result in results where !result.leaks.isEmpty {
      let places = result.leaks.prefix(3).map {
        "\($0.file):\($0.line) (\(Int(($0.share * 100).rounded())) % also in \($0.trainingFile):\($0.trainingLine))"
      }
      let text =
        "probe \(result.probe): \(result.leaks.count) of \(result.documents) documents stand in training rows, such as "
        + places.joined(separator: "; ")
      if result.leakedShare > plan.maxDocuments, plan.action == .error {
        broken.append(text)
      } else {
        notes.append(text)
      }
    }
    guard broken.isEmpty else {
      throw RunError(
        ExitCode.badData, broken.joined(separator: "\n"),
        hint: "remove them from the training data, or set data_checks.probe_overlap.action: warn")
    }
  }
}
