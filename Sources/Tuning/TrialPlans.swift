// The plans of a search: the experiment cut to what a trial needs, with a value in place or without methods.
// Every plan is read from the user's file with overrides, so a value is judged as on the command line.
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON

/// Makes the plans of trials from an experiment file.
struct TrialPlans {
  let path: String
  let overrides: [String]
  let tune: TunePlan
  /// Stages that run: the tuned one and those before it.
  let stages: Int
  /// The whole experiment, as `run` would run it.
  let experiment: ExperimentPlan

  /// - Throws: `ExperimentError`; `RunError` (78) where there is nothing to search or to measure it by
  init(path: String, overrides: [String]) throws {
    self.path = path
    self.overrides = overrides
    experiment = try ExperimentPlan.load(path, overrides: overrides)
    guard let tune = experiment.tune, !tune.search.isEmpty else {
      throw RunError(
        ExitCode.configuration, "\(path): there is no tune section",
        hint: "for example  tune: { search: { methods.ewc.lambda: { log_uniform: [1e-3, 1e3] } } }")
    }
    self.tune = tune
    stages = (experiment.stages.firstIndex { $0.name == tune.stage } ?? 0) + 1
    let homes = cut(experiment).probes.map(\.home)
    guard homes.contains(where: { $0 != nil }), homes.contains(where: { $0 != tune.stage }) else {
      throw RunError(
        ExitCode.configuration,
        "\(path): a search weighs what is learned against what is forgotten, and needs probes for both",
        hint: "give one probe home: \(tune.stage), and one without home for what the base model knows")
    }
  }

  /// The key of tune.json; several are joined by commas.
  var key: String { tune.search.map(\.key).joined(separator: ", ") }

  /// A candidate's value in tune.json: a number, or an object by key where several are searched.
  func json(_ point: TunePoint) -> JSON {
    guard point.values.count != 1 else { return .number(point.values[0]) }
    return .object(zip(tune.search, point.values).map { JSON.Member($0.key, .number($1)) })
  }

  /// Whether candidates can stand in order: with one key.
  var hasOrder: Bool { tune.search.count == 1 }

  /// Candidates by value where they have an order, else as they come.
  ///
  /// Neighbours are then neighbours, and ties go to the smaller value.
  func ordered(_ points: [TunePoint]) -> [Int] {
    hasOrder ? points.indices.sorted { points[$0].values[0] < points[$1].values[0] } : Array(points.indices)
  }

  func arguments(_ point: TunePoint) -> [String] {
    zip(tune.search, point.values).map { "\($0.key)=\(TunePoint.text($1))" }
  }

  /// The candidates with their plans; where a key takes whole numbers, values are rounded to them.
  func candidates() throws -> [(point: TunePoint, plan: ExperimentPlan)] {
    var result: [(point: TunePoint, plan: ExperimentPlan)] = []
    for point in SearchSpace.points(tune, seed: experiment.seed) {
      let whole = TunePoint(point.values.map { $0.rounded() })
      do throws(ExperimentError) { result.append((point, try plan(point))) } catch {
        guard whole != point, let plan = try? plan(whole) else { throw error }
        if !result.contains(where: { $0.point == whole }) { result.append((whole, plan)) }
      }
    }
    return result
  }

  private func plan(_ point: TunePoint) throws(ExperimentError) -> ExperimentPlan {
    cut(try ExperimentPlan.load(path, overrides: overrides + arguments(point)))
  }

  /// The reference: the same stages and data order without any method.
  var naive: ExperimentPlan {
    var plan = cut(experiment)
    plan.methods = []
    for index in plan.stages.indices { plan.stages[index].methods = nil }
    return plan
  }

  /// The plan with the stages up to the tuned one and the probes these can answer, measured at ends only.
  private func cut(_ whole: ExperimentPlan) -> ExperimentPlan {
    var plan = whole
    plan.stages = Array(whole.stages.prefix(stages))
    plan.laterStages = whole.stages.count - plan.stages.count
    let names = plan.stages.map(\.name)
    plan.probes = whole.probes.filter { probe in probe.home.map { names.contains($0) } ?? true }
    plan.compare = []
    plan.tune = nil
    plan.evaluate.at = [.base, .stageEnd]
    if plan.stages.allSatisfy({ $0.training.earlyStoppingPatience == 0 }) { plan.evaluate.evalSteps = 0 }
    plan.checkpoint.saveTotalLimit = 1
    return plan
  }

  /// The plan with every stage's steps divided.
  static func shortened(_ plan: ExperimentPlan, by divisor: Int, _ assembly: Assembly) -> ExperimentPlan {
    guard divisor > 1 else { return plan }
    var short = plan
    for index in plan.stages.indices {
      short.stages[index].training.length = .steps(
        HalvingLadder.steps(assembly.schedule(index, of: plan).steps, divisor: divisor))
    }
    return short
  }

  /// The experiment with the chosen values, the reason above it.
  func tunedFile(_ point: TunePoint, reason: String) throws -> String {
    guard let last = tune.search.last, let value = point.values.last else { return "" }
    let file = try ExperimentFile.read(path, overrides: overrides + arguments(point).dropLast())
    var lines = [""]
    for word in "\(arguments(point).joined(separator: ", ")): \(reason)".split(separator: " ") {
      if lines[lines.count - 1].count + word.count > 105 { lines.append("") }
      lines[lines.count - 1] += " " + word
    }
    return lines.map { "#\($0)\n" }.joined() + (try file.settingOverride(last.key, TunePoint.text(value)))
  }
}

extension ExperimentPlan {
  /// The plan without where and how fast it runs; trials of equal outlines give equal results.
  var trialFingerprint: [UInt8] {
    var plan = self
    (plan.file, plan.directory, plan.outputDirectory, plan.overrides) = ("/", "/", "/", [])
    (plan.threads, plan.timeLimitSeconds, plan.tune) = (nil, nil, nil)
    (plan.logging.loggingSteps, plan.logging.reportTo) = (1, [])
    (plan.checkpoint.saveSteps, plan.checkpoint.saveTotalLimit) = (0, 1)
    return Array(plan.yaml().utf8)
  }
}

/// What of a plan decides base, data, probes and the base's Fisher; plans that agree in it share an assembly.
struct AssemblyPart: Equatable {
  private struct Text: Equatable {
    let datasets: [DatasetSpec]
    let validation: [DatasetSpec]
    let validationShare: Double?
    let sequenceLength: Int
    let trainOnInputs: Bool
    let excessLength: TrainingPlan.ExcessLength?
    let microBatchSize: Int

    init(_ training: TrainingPlan, _ datasets: [DatasetSpec], _ stage: StagePlan? = nil) {
      self.datasets = datasets
      validation = stage?.validation ?? []
      validationShare = stage?.validationShare
      sequenceLength = training.sequenceLength
      trainOnInputs = training.trainOnInputs
      excessLength = training.excessLength
      microBatchSize = training.microBatchSize
    }
  }
  private let baseModel: BaseModel
  private let seed: UInt64
  private let texts: [Text]
  private let probes: [ProbePlan]
  private let evaluate: EvaluatePlan
  private let dataChecks: DataChecksPlan

  init(_ plan: ExperimentPlan) {
    baseModel = plan.baseModel
    seed = plan.seed
    texts = [Text(plan.training, plan.baseData)] + plan.stages.map { Text($0.training, $0.datasets, $0) }
    probes = plan.probes
    evaluate = plan.evaluate
    dataChecks = plan.dataChecks
  }
}
