// Reads everything a run would read and trains nothing: behind `retain validate`.
// The happy path reads once; after a failure each input is read alone, so that every mistake is found.
import Corpus
import Experiment
import Models
import Probes
import StrictJSON
import TensorCPU
import TensorCore

/// What reading an experiment's inputs found.
public struct ExperimentCheck {
  /// Every mistake, in the order of the file.
  public private(set) var errors: [any Error] = []
  /// What was read; nil where there are errors.
  public private(set) var assembly: Assembly?

  /// 0 without errors; else 78 if any mistake is in the experiment, else 69, 66, 65, else the first one's code.
  public var exitCode: Int32 {
    let codes = errors.map(ExitCode.of)
    for code in [ExitCode.configuration, ExitCode.unavailable, ExitCode.missingInput, ExitCode.badData]
    where codes.contains(code) { return code }
    return codes.first ?? ExitCode.done
  }

  /// Checks the inputs of a plan.
  ///
  /// - Cost: reading and tokenising all data once; twice where something is wrong
  public init(_ plan: ExperimentPlan) {
    do {
      let assembly = try Assembly(plan, reuse: false)
      for variant in [plan] + plan.compare.compactMap({ plan.variant($0.name) }) {
        // What all variants share is found once.
        for error in assembly.problems(of: variant) where !errors.contains(where: { "\($0)" == "\(error)" }) {
          errors.append(error)
        }
      }
      self.assembly = errors.isEmpty ? assembly : nil
    } catch {
      errors = Self.everyError(plan, first: error)
    }
  }

  private static func everyError(_ plan: ExperimentPlan, first: any Error) -> [any Error] {
    var errors: [any Error] = []
    func attempt<Result>(_ body: () throws -> Result) -> Result? {
      do { return try body() } catch {
        let text = "\(error)"
        if !errors.contains(where: { "\($0)" == text }) { errors.append(error) }
        return nil
      }
    }
    if case .new(.mlp) = plan.baseModel {
      for source in imageSources(plan) {
        _ = attempt {
          try IdxImages.read(
            images: source.images, labels: source.labels, classes: source.classes, first: source.limit)
        }
      }
      _ = attempt { throw first }
      return errors
    }
    let backend = CPUBackend(threads: plan.threads)
    let model = attempt { try Assembly.baseModel(plan, on: backend) }
    for spec in plan.baseData + plan.stages.flatMap({ $0.datasets + $0.validation }) {
      _ = attempt { try ChainData.rows(spec) }
    }
    for probe in plan.probes where probe.images == nil {
      if let model {
        _ = attempt { try PreparedProbe(Assembly.definition(probe), model: model) }
      } else {
        _ = attempt {
          try DataReader.read(
            paths: probe.paths, documents: DocumentRule(rawValue: probe.documents.rawValue) ?? .blankLine)
        }
      }
    }
    _ = attempt { throw first }
    return errors
  }

  /// Every pair of files that a classifier's experiment reads, once for each choice of images.
  private static func imageSources(_ plan: ExperimentPlan) -> [ImageSource] {
    var sources: [ImageSource] = []
    let sets = plan.baseData + plan.stages.flatMap { $0.datasets + $0.validation }
    for var source in sets.compactMap(\.images) + plan.probes.compactMap(\.images) {
      source.permuteSeed = nil
      source.pad = nil
      source.normalize = nil
      if !sources.contains(source) { sources.append(source) }
    }
    return sources
  }
}
