// A run directory made of synthetic numbers: what a demo leaves, without training anything.
// Names carry markup on purpose, so that every page made from it tests the escaping.
import Ledger
import StrictJSON

enum SampleRun {
  static let name = "clinic <script>alert(1)</script> & court | \u{1B}[31m"
  static let stages = ["medical", "legal"]
  static let probes = [
    ProbeInfo(name: "general", metric: "bits_per_byte", higherIsBetter: false),
    ProbeInfo(name: "medical", metric: "bits_per_byte", higherIsBetter: false, home: "medical"),
    ProbeInfo(name: "legal", metric: "bits_per_byte", higherIsBetter: false, home: "legal"),
    ProbeInfo(name: "blimp", metric: "acc", higherIsBetter: true),
  ]
  /// Forgetting of general per stage, and the share of the possible gain that is learned.
  static let variants: [(name: String, drift: Double, learned: Double)] = [
    ("naive", 0.12, 1), ("l2sp", 0.05, 0.82), ("ewc", 0.03, 0.9), ("ewc-replay", 0.012, 0.94),
  ]

  /// 120 documents with their own lengths and difficulties, the same in every variant.
  static func measurement(_ probe: ProbeInfo, mean: Double, salt: UInt64) -> Measurement {
    var documents = Noise(state: UInt64(probe.name.utf8.reduce(7) { $0 * 31 + Int($1) }))
    var noise = Noise(state: salt)
    var numerators: [Double] = []
    var weights: [Double] = []
    for _ in 0..<120 {
      let level = documents.next()
      let weight = probe.metric == "acc" ? 1 : 200 + 600 * documents.next()
      weights.append(weight)
      numerators.append(
        probe.metric == "acc"
          ? (level < mean ? 1 : 0)
          : weight * (mean + 0.5 * (level - 0.5) + 0.02 * (noise.next() - 0.5)))
    }
    return Measurement(
      probe: probe.name, metric: probe.metric, higherIsBetter: probe.higherIsBetter, numerators: numerators,
      denominators: weights, tokens: 20_000, bytes: 60_000, window: 512)
  }

  static func matrix(drift: Double, learned: Double) -> RetentionMatrix {
    let values: [[Double]] = [
      [1.31, 1.31 + drift, 1.31 + 1.7 * drift],
      [1.62, 1.62 - 0.42 * learned, 1.62 - 0.42 * learned + drift],
      [1.55, 1.54, 1.54 - 0.38 * learned],
      [0.71, 0.71 - drift, 0.71 - 1.5 * drift],
    ]
    var matrix = RetentionMatrix()
    for (row, name) in (["base"] + stages).enumerated() {
      for (column, probe) in probes.enumerated() {
        matrix.add(
          measurement(probe, mean: values[column][row], salt: UInt64(row * 10 + column + Int(drift * 1e4))),
          after: name)
      }
    }
    return matrix
  }

  static func results(_ matrix: RetentionMatrix, seconds: Double) -> RunResults {
    RunResults(
      name: name, status: .finished, seed: 17, stages: stages, probes: probes, matrix: matrix.table,
      summary: Summary(stages: stages, probes: probes, matrix: matrix, bootstrap: 300, seed: 17),
      gates: [Gate(probe: "general", limit: 0.05).check(stages: stages, probes: probes, matrix: matrix)],
      final: .init(checkpoint: "checkpoints/legal-end.h5", parametersSHA256: "00ff"),
      cost: .init(
        wallSeconds: seconds, trainTokens: 2_100_000, tokensPerSecond: 5100, peakRSSBytes: 812_000_000),
      environment: [.init("version", "0.1.0"), .init("threads", 2), .init("blas_core", "SkylakeX")])
  }

  /// Writes a main run `ewc-replay` with its three companions.
  static func write(to folder: String, makeFolder: (String) throws -> Void) throws {
    var runs: [(name: String, results: RunResults)] = []
    for variant in variants {
      let matrix = matrix(drift: variant.drift, learned: variant.learned)
      let results = results(matrix, seconds: 300 + 1000 * variant.drift)
      runs.append((variant.name, results))
      let path = variant.name == "ewc-replay" ? folder : folder + "/" + variant.name
      if path != folder { try makeFolder(path) }
      try TextFile.replace(path + "/results.json", with: results.json.pretty)
      try ledger(path + "/ledger.jsonl", matrix: matrix)
    }
    try TextFile.replace(folder + "/comparison.json", with: Comparison(runs).json.pretty)
    try TextFile.replace(
      folder + "/samples.md", with: "# Samples\n\n<img src=x onerror=alert(2)> said the patient\n")
    try TextFile.replace(folder + "/plan.yaml", with: "schema: 1\nname: \"<b>\"\n")
  }

  static func ledger(_ path: String, matrix: RetentionMatrix) throws {
    let writer = try LedgerWriter(path: path, truncatingTo: 0, clock: nil)
    try writer.append(
      .runStarted(
        name: name, seed: 17, stages: stages, probes: probes, confidence: 0.95, bootstrap: 300,
        environment: [.init("threads", 2)]))
    for measurement in matrix.rows[0].measurements {
      try writer.append(.measurement(measurement, after: "base"))
    }
    var noise = Noise(state: 5)
    for (row, stage) in stages.enumerated() {
      try writer.append(.stageStarted(stage, steps: 300))
      for step in 1...300 {
        let progress = Double(step) / 300
        try writer.append(
          .step(
            StepRecord(
              stage: stage, step: step, loss: 3.1 - 0.7 * progress.squareRoot() + 0.3 * (noise.next() - 0.5),
              penalty: 0.05 * progress, learningRate: 1e-4, gradientNorm: 1, tokens: step * 512, seconds: 0.1,
              tokensPerSecond: 5120)))
        if step == 140 { try writer.append(.resumed(checkpoint: "c.h5", stage: stage, step: step)) }
        if step.isMultiple(of: 100) {
          try writer.append(.validation(stage: stage, step: step, loss: 3 - 0.5 * progress, tokens: 900))
        }
      }
      for measurement in matrix.rows[row + 1].measurements {
        try writer.append(.measurement(measurement, after: stage))
      }
      try writer.append(.stageEnded(stage, steps: 300, tokens: 153_600, seconds: 30))
    }
    try writer.append(.runFinished(status: .finished, seconds: 60))
  }

  static var tune: TuneResults {
    let naive = Summary(stages: stages, probes: probes, matrix: matrix(drift: 0.12, learned: 1), bootstrap: 0)
    let values = [0.01, 0.1, 1, 10, 100, 1000]
    return TuneResults(
      key: "methods.ewc.<lambda>",
      naive: .init(value: nil, rung: 1, steps: 300, summary: naive, naive: naive, seconds: 60),
      trials: values.enumerated().map { index, value in
        let strength = Double(index) / 5
        let summary = Summary(
          stages: stages, probes: probes,
          matrix: matrix(
            drift: 0.12 * (1 - 0.95 * strength.squareRoot()), learned: 1 - 0.8 * strength * strength),
          bootstrap: 0)
        return .init(value: .number(value), rung: 1, steps: 300, summary: summary, naive: naive, seconds: 61)
      }, chosen: 1.0, reason: "knee")
  }
}

/// SplitMix64 to a uniform number.
struct Noise {
  var state: UInt64
  mutating func next() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
    return Double((word ^ (word >> 31)) >> 11) / Double(1 << 53)
  }
}
