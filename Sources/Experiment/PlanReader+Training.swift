// Reads `training`, at the top and in a stage, where its keys lie over the defaults.
import TensorCore

extension PlanReader {
  /// The names of the three keys that say how long a stage lasts.
  static let lengthKeys = ["num_epochs", "max_steps", "max_tokens"]

  func training(_ section: Section?, over base: TrainingPlan) -> TrainingPlan {
    var plan = base
    guard let section else { return plan }
    rows(section, &plan)
    length(section, &plan)
    optimizer(section, &plan)
    if let freeze = section.texts("freeze") { plan.freeze = freeze }
    plan.earlyStoppingPatience =
      section.integer("early_stopping_patience", in: 0...1_000_000) ?? plan.earlyStoppingPatience
    plan.lossWatchdogThreshold =
      section.number("loss_watchdog_threshold", .nonNegative) ?? plan.lossWatchdogThreshold
    if let word = section.word("precision", Precision.allCases.map(\.rawValue), notYet: ["fp16"]) {
      plan.precision = Precision(rawValue: word) ?? plan.precision
    }
    adapter(section, &plan)
    plan.gradientCheckpointing = section.bool("gradient_checkpointing") ?? plan.gradientCheckpointing
    section.finish()
    return plan
  }

  private func adapter(_ section: Section, _ plan: inout TrainingPlan) {
    if let word = section.word("adapter", ["none", "lora"]) { plan.adapter = .init(rawValue: word) ?? plan.adapter }
    plan.loraRank = section.integer("lora_r", in: 1...65_536) ?? plan.loraRank
    plan.loraAlpha = section.number("lora_alpha", .positive) ?? plan.loraAlpha
    if let targets = section.texts("lora_targets") {
      if section.tree("lora_targets")?.items?.isEmpty == true {
        section.report(
          "lora_targets", "expected at least one pattern",
          hint: "remove the key for every matrix except embeddings and heads")
      }
      plan.loraTargets = targets
    }
    plan.loraOrthogonality = section.number("lora_orthogonality", .nonNegative) ?? plan.loraOrthogonality
    for key in ["lora_r", "lora_alpha", "lora_targets", "lora_orthogonality"]
    where plan.adapter == .none && section.has(key) {
      section.report(
        key, "has no effect without adapter: lora", hint: "remove the key, or write adapter: lora beside it")
    }
  }

  private func rows(_ section: Section, _ plan: inout TrainingPlan) {
    plan.sequenceLength = section.integer("sequence_len", in: 2...1_048_576) ?? plan.sequenceLength
    plan.samplePacking = section.bool("sample_packing") ?? plan.samplePacking
    plan.trainOnInputs = section.bool("train_on_inputs") ?? plan.trainOnInputs
    if let word = section.word("excess_length_strategy", ["split", "truncate", "drop", "raise"]) {
      plan.excessLength = .init(rawValue: word)
    }
    plan.microBatchSize = section.integer("micro_batch_size", in: 1...65_536) ?? plan.microBatchSize
    plan.gradientAccumulationSteps =
      section.integer("gradient_accumulation_steps", in: 1...65_536) ?? plan.gradientAccumulationSteps
  }

  private func length(_ section: Section, _ plan: inout TrainingPlan) {
    let given = PlanReader.lengthKeys.filter { section.has($0) }
    if let second = given.dropFirst().first, let entry = section.entry(second) {
      collector.report(
        "\(section.name): \(given.joined(separator: " and ")) exclude one another", at: entry.keyPlace,
        hint: "keep one of them")
    }
    if let epochs = section.integer("num_epochs", in: 1...1_000_000) { plan.length = .epochs(epochs) }
    if let steps = section.integer("max_steps", in: 1...Int.max) { plan.length = .steps(steps) }
    if let tokens = section.integer("max_tokens", in: 1...Int.max) { plan.length = .tokens(tokens) }
  }

  private func optimizer(_ section: Section, _ plan: inout TrainingPlan) {
    if let word = section.word("optimizer", ["adamw", "sgd"]) {
      plan.optimizer = .init(rawValue: word) ?? plan.optimizer
    }
    if let word = section.word("optimizer_state", ["reset", "keep"]) { plan.keepsOptimizerState = word == "keep" }
    plan.learningRate = section.number("learning_rate", .positive) ?? plan.learningRate
    if let word = section.word("lr_scheduler", ["cosine", "linear", "constant", "wsd", "infinite"]) {
      plan.scheduler = .init(rawValue: word) ?? plan.scheduler
    }
    plan.warmupRatio = section.share("warmup_ratio", .belowOne) ?? plan.warmupRatio
    plan.minLearningRateRatio = section.share("min_lr_ratio", .unit) ?? plan.minLearningRateRatio
    plan.constantLearningRateRatio = section.share("constant_lr_ratio", .unit) ?? plan.constantLearningRateRatio
    if plan.scheduler != .infinite, section.has("constant_lr_ratio") {
      section.report("constant_lr_ratio", "has no effect without lr_scheduler: infinite", hint: "remove the key")
    }
    if plan.scheduler == .infinite, plan.constantLearningRateRatio < plan.minLearningRateRatio {
      section.report(
        section.has("constant_lr_ratio") ? "constant_lr_ratio" : "min_lr_ratio",
        "the constant rate is below the last one: constant_lr_ratio \(plan.constantLearningRateRatio), "
          + "min_lr_ratio \(plan.minLearningRateRatio)", hint: "annealing goes down")
    }
    plan.weightDecay = section.number("weight_decay", .nonNegative) ?? plan.weightDecay
    plan.maxGradNorm = section.number("max_grad_norm", .nonNegative) ?? plan.maxGradNorm
    plan.adamBeta1 = section.number("adam_beta1", .belowOne) ?? plan.adamBeta1
    plan.adamBeta2 = section.number("adam_beta2", .belowOne) ?? plan.adamBeta2
    plan.adamEpsilon = section.number("adam_epsilon", .positive) ?? plan.adamEpsilon
    for key in ["adam_beta1", "adam_beta2", "adam_epsilon"] where plan.optimizer == .sgd && section.has(key) {
      section.report(key, "has no effect with optimizer: sgd", hint: "remove the key, or use adamw")
    }
  }
}
