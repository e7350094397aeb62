// How a chain hands a past to its methods, and where the past's sequences come from.
import Continual
import Experiment
import Layers
import Models
import TensorCore
import Training

extension ChainRun {
  func consolidate(past: Int, name: String) throws {
    guard !methods.isEmpty else { return }
    if past == 0, plan.baseModel.isNew, assembly.data.base.examples.isEmpty {
      try note("the model is new and there is no base_data: there is nothing to keep yet")
      return
    }
    let text = past == 0 ? assembly.data.base : assembly.data.stages[past - 1]
    let training = past == 0 ? plan.training : plan.stages[past - 1].training
    let batchTokens = batchTokens(training)
    let outer = backend.precision
    assembly.prepare(for: training)
    defer { backend.precision = outer }
    // Importance of the past is asked of every weight that a later stage may move; stages freeze their own anew.
    if past > 0, past < plan.stages.count {
      let later = plan.stages[past...].map { Set($0.training.freeze) }
      _ = store.freeze(later.dropFirst().reduce(later[0]) { $0.intersection($1) }.sorted())
    }
    let given = text.sequences
    let isReal = past > 0 || !given.isEmpty
    let sampled = isReal ? [] : try sampledSequences()
    let tokens = past == 0 ? plan.baseTokens ?? text.scoredTokens : text.scoredTokens
    for (key, methodPlan, method) in methods {
      observer.activity("consolidating \(name) for \(key)")
      var notes: [String] = []
      // As many as it asks for, whoever else in the stack or in another variant asks for more.
      let sequences = isReal ? given : Array(sampled.prefix(Self.wantedExamples(methodPlan)))
      try method.consolidate(
        ConsolidationScope(
          network: assembly.subject.network, backend: backend, past: past, name: name, sequences: sequences,
          isReal: isReal, isUntrained: past == 0 && plan.baseModel.isNew, tokens: tokens, batchTokens: batchTokens,
          makeBatches: { [assembly, backend] in assembly.subject.batches($0, on: backend) },
          write: writer(),
          sharing: past == 0 && assembly.isReused ? assembly.sharedBase.owned(by: methodPlan.name) : nil,
          random: root.forked("consolidation.\(methodPlan.name)", past), note: { notes.append($0) }))
      for fact in notes { try note(fact) }
    }
    backend.returnMemory()
  }

  /// Tokens of a micro-batch, which other passes of the stage keep to.
  func batchTokens(_ training: TrainingPlan) -> Int {
    max(1, training.microBatchSize) * min(training.sequenceLength, assembly.subject.contextLength)
  }

  /// How the model writes texts of its own; nil where it cannot.
  private func writer() -> ConsolidationScope.Writer? {
    guard let model = assembly.subject.languageModel, let prefix = model.prefixToken else { return nil }
    let context = assembly.subject.contextLength
    return { [backend] prompts, length, temperature, random in
      model.transformer.sampleSequences(
        prompts: prompts, length: min(length, context), prefix: prefix,
        stop: Set([model.eosToken].compactMap { $0 }), temperature: temperature, random: random, on: backend
      ).map { Exemplar(inputs: [prefix] + $0.dropLast(), targets: $0) }
    }
  }

  /// Sequences that stand for `examples: all` where the base writes its text itself.
  public static let sampledExamples = 512

  /// Sequences of a past that a method looks at; 0 for one that looks at none.
  static func wantedExamples(_ method: MethodPlan) -> Int {
    for key in ["fisher.examples", "examples"] {
      if let count = method.int(key) { return count }
      if method.string(key) == "all" { return sampledExamples }
    }
    return 0
  }

  /// Sequences drawn from the base itself, where no text of its past is given.
  private func sampledSequences() throws -> [Exemplar] {
    let wanted = methods.map { Self.wantedExamples($0.plan) }.max() ?? 0
    guard wanted > 0, let model = assembly.subject.languageModel else { return [] }
    guard let prefix = model.prefixToken else {
      throw RunError(
        ExitCode.configuration, "without base_data the base must write its own text, but the model has no prefix token",
        hint: "give base_data")
    }
    let length = min(plan.training.sequenceLength, assembly.subject.contextLength)
    try note("there is no base_data: \(wanted) sequences of at most \(length) tokens are sampled from the base instead")
    let sampled: [[Int32]] = assembly.sharedBase.result("sampled \(wanted) × \(length)") {
      model.transformer.sampleSequences(
        count: wanted, length: length, prefix: prefix, stop: Set([model.eosToken].compactMap { $0 }), temperature: 1,
        random: root.forked("sampled base"), on: backend)
    }
    return sampled.map { Exemplar(inputs: [prefix] + $0.dropLast(), targets: $0) }
  }
}
