// What a chain measures: probes after stages, a look at them and at validation rows within one.
import Experiment
import Layers
import Ledger
import Probes
import TensorCore
import Training

extension ChainRun {
  func measure(after name: String) throws {
    observer.activity("measuring \(assembly.probes.count) probes after \(name)")
    let measurements: [Ledger.Measurement]
    if name == "base", let known = assembly.baseMeasurements {
      measurements = known
    } else {
      measurements = try inFP32 {
        try assembly.probes.flatMap {
          try $0.measure(
            assembly.subject.network, window: plan.evaluate.window, items: nil, batchTokens: Self.scoringTokens,
            on: backend)
        }
      }
      if name == "base" { assembly.baseMeasurements = measurements }
      // Scoring's sizes are not training's.
      backend.pool.trim()
    }
    for measurement in measurements {
      matrix.add(measurement, after: name)
      try ledger.append(.measurement(measurement, after: name))
    }
  }
  static let scoringTokens = 4096

  /// A look at the first items of every probe and at the validation rows, within a stage.
  func watch(_ stage: Int) throws {
    for probe in assembly.probes where plan.evaluate.watchItems > 0 {
      let measurements = try inFP32 {
        try probe.measure(
          assembly.subject.network, window: plan.evaluate.window, items: plan.evaluate.watchItems,
          batchTokens: Self.scoringTokens, on: backend)
      }
      for measurement in measurements {
        try ledger.append(.measurement(measurement, stage: stageNames[stage], step: progress.step))
      }
    }
  }

  /// Mean loss on the held-out rows; nil without any.
  func validate(_ stage: Int) throws -> Double? {
    let examples = assembly.data.stages[stage].validation
    guard !examples.isEmpty else { return nil }
    var (sum, count, first) = (0.0, 0, 0)
    while first < examples.count {
      var (tokens, last) = (0, first)
      while last < examples.count, last == first || tokens + examples[last].length <= Self.scoringTokens {
        tokens += examples[last].length
        last += 1
      }
      for batch in assembly.subject.batches(examples[first..<last].map(Exemplar.init), on: backend) {
        let losses = assembly.subject.network.negativeLogLikelihoods(batch, on: backend)
        sum += losses.reduce(0) { $0 + Double($1) }
        count += losses.count
      }
      first = last
    }
    let loss = sum / Double(max(1, count))
    try ledger.append(.validation(stage: stageNames[stage], step: progress.step, loss: loss, tokens: count))
    return loss
  }

  func check(_ stage: Int, _ training: TrainingPlan) throws {
    try watch(stage)
    guard let loss = try validate(stage) else { return }
    if loss < progress.bestValidation {
      progress.bestValidation = loss
      progress.checksWithoutImprovement = 0
    } else {
      progress.checksWithoutImprovement += 1
      let patience = training.earlyStoppingPatience
      progress.stoppedEarly = patience > 0 && progress.checksWithoutImprovement >= patience
      if progress.stoppedEarly {
        try note("stage \(stageNames[stage]) stops early: \(patience) validation checks without improvement")
      }
    }
  }
}
