// The plan as keys and values in the order of plan.yaml: what is written, and what two plans are compared by.
// Every default is spelled out, so a later version with other defaults reads the same plan.
import Training

/// A value of plan.yaml with its scalars already rendered.
indirect enum Outline: Equatable {
  case scalar(String)
  case list([Outline])
  case map([(key: String, value: Outline)])

  static func text(_ text: String) -> Outline { .scalar(YAMLText.render(text)) }
  /// A path, in which nothing is left to expand.
  static func path(_ path: String) -> Outline { text(path.replacing("${", with: "$${")) }
  static func number(_ value: Double) -> Outline { .scalar("\(value)") }
  static func integer(_ value: some BinaryInteger) -> Outline { .scalar("\(value)") }
  static func flag(_ value: Bool) -> Outline { .scalar(value ? "true" : "false") }
  static func texts(_ values: [String]) -> Outline { .list(values.map { text($0) }) }

  static func == (left: Outline, right: Outline) -> Bool {
    switch (left, right) {
    case (.scalar(let a), .scalar(let b)): same(a, b)
    case (.list(let a), .list(let b)): a == b
    case (.map(let a), .map(let b)):
      a.count == b.count && zip(a, b).allSatisfy { same($0.key, $1.key) && $0.value == $1.value }
    default: false
    }
  }
}

/// Mappings are collected line by line; nil values are left out.
private func map(_ pairs: (String, Outline?)...) -> Outline {
  .map(pairs.compactMap { pair in pair.1.map { (pair.0, $0) } })
}

extension ExperimentPlan {
  var outline: Outline {
    map(
      ("schema", .integer(1)),
      ("plan", map(("file", .text(file)), ("overrides", .texts(overrides)))),
      ("name", .text(name)),
      ("base_model", baseModel.outline),
      ("base_data", .list(baseData.map(\.outline))),
      ("base_tokens", baseTokens.map { .integer($0) }),
      ("output_dir", .path(outputDirectory)),
      ("threads", threads.map { .integer($0) }),
      ("time_limit", timeLimitSeconds.map { .scalar(Int(exactly: $0).map { "\($0)s" } ?? "\($0)s") }),
      ("seed", seeds.count > 1 ? nil : .integer(seed)),
      ("seeds", seeds.count > 1 ? .list(seeds.map { .integer($0) }) : nil),
      ("training", training.outline),
      ("methods", .list(methods.map(\.outline))),
      ("compare", .map(compare.map { ($0.name, .list($0.methods.map(\.outline))) })),
      ("stages", .list(stages.map(\.outline))),
      ("probes", .list(probes.map(\.outline))),
      (
        "evaluate",
        map(
          ("at", .texts(evaluate.at.map(\.rawValue))), ("eval_steps", .integer(evaluate.evalSteps)),
          ("watch_items", .integer(evaluate.watchItems)), ("confidence", .number(evaluate.confidence)),
          ("bootstrap", .integer(evaluate.bootstrap)), ("window", evaluate.window.map { .integer($0) }))
      ),
      ("data_checks", dataChecks.outline),
      (
        "checkpoint",
        map(
          ("save_steps", .integer(checkpoint.saveSteps)),
          ("save_total_limit", .integer(checkpoint.saveTotalLimit)))
      ),
      (
        "logging",
        map(("logging_steps", .integer(logging.loggingSteps)), ("report_to", .texts(logging.reportTo)))
      ),
      ("tune", tune?.outline))
  }
}

extension BaseModel {
  fileprivate var outline: Outline {
    switch self {
    case .folder(let path), .checkpoint(let path): .path(path)
    case .new(.llama(let sizes)): sizes.outline("llama")
    case .new(.gpt2(let sizes)): sizes.outline("gpt2")
    case .new(.mlp(let sizes)):
      map(
        ("architecture", .text("mlp")), ("hidden_sizes", .list(sizes.hiddenSizes.map { .integer($0) })),
        ("heads", .text(sizes.heads.rawValue)), ("initialization", .text(sizes.initialization.rawValue)),
        ("input_size", sizes.inputSize.map { .integer($0) }))
    }
  }
}

extension TransformerDescription {
  fileprivate func outline(_ name: String) -> Outline {
    let rotary = ropeTheta != nil
    return map(
      ("architecture", .text(name)), ("hidden_size", .integer(hiddenSize)),
      ("intermediate_size", .integer(intermediateSize)), ("num_hidden_layers", .integer(layers)),
      ("num_attention_heads", .integer(heads)),
      ("num_key_value_heads", rotary ? .integer(keyValueHeads) : nil),
      ("max_position_embeddings", .integer(maxPositionEmbeddings)),
      ("rope_theta", ropeTheta.map { .number($0) }),
      (rotary ? "rms_norm_eps" : "layer_norm_epsilon", .number(normEpsilon)),
      ("tie_word_embeddings", .flag(tieWordEmbeddings)), ("vocab_size", vocabularySize.map { .integer($0) }),
      ("tokenizer", .path(tokenizer)))
  }
}

extension DatasetSpec {
  fileprivate var outline: Outline {
    map(
      ("path", images == nil ? paths.outline : nil), ("type", shape.map { .text($0.rawValue) }),
      ("images", images.map { .path($0.images) }), ("labels", images.map { .path($0.labels) }),
      ("classes", images?.classes.map { .list($0.map { .integer($0) }) }),
      ("limit", images?.limit.map { .integer($0) }), ("pad", images?.pad.map { .integer($0) }),
      ("normalize", images?.normalize.map(\.outline)),
      ("permute_seed", images?.permuteSeed.map { .integer($0) }), ("weight", .number(weight)),
      ("documents", images == nil ? .text(documents.rawValue) : nil))
  }
}

extension ImageSource.Normalization {
  fileprivate var outline: Outline { map(("mean", .number(mean)), ("std", .number(std))) }
}

extension [String] {
  fileprivate var outline: Outline {
    if count == 1, let only = first { .path(only) } else { .list(map { .path($0) }) }
  }
}

extension TrainingPlan {
  fileprivate var outline: Outline {
    let adam = optimizer == .adamw
    let lora = adapter == .lora
    let (lengthKey, count) =
      switch length {
      case .epochs(let count): ("num_epochs", count)
      case .steps(let count): ("max_steps", count)
      case .tokens(let count): ("max_tokens", count)
      }
    return map(
      ("sequence_len", .integer(sequenceLength)), ("sample_packing", .flag(samplePacking)),
      ("train_on_inputs", .flag(trainOnInputs)),
      ("excess_length_strategy", excessLength.map { .text($0.rawValue) }),
      ("micro_batch_size", .integer(microBatchSize)),
      ("gradient_accumulation_steps", .integer(gradientAccumulationSteps)), (lengthKey, .integer(count)),
      ("optimizer", .text(optimizer.rawValue)), ("learning_rate", .number(learningRate)),
      ("lr_scheduler", .text(scheduler.rawValue)), ("warmup_ratio", .number(warmupRatio)),
      ("min_lr_ratio", .number(minLearningRateRatio)),
      ("constant_lr_ratio", scheduler == .infinite ? .number(constantLearningRateRatio) : nil),
      ("weight_decay", .number(weightDecay)),
      ("max_grad_norm", .number(maxGradNorm)), ("adam_beta1", adam ? .number(adamBeta1) : nil),
      ("adam_beta2", adam ? .number(adamBeta2) : nil), ("adam_epsilon", adam ? .number(adamEpsilon) : nil),
      ("optimizer_state", .text(keepsOptimizerState ? "keep" : "reset")),
      ("precision", .text(precision.rawValue)), ("gradient_checkpointing", .flag(gradientCheckpointing)),
      ("freeze", .texts(freeze)),
      ("adapter", .text(adapter.rawValue)), ("lora_r", lora ? .integer(loraRank) : nil),
      ("lora_alpha", lora ? .number(loraAlpha) : nil),
      ("lora_targets", lora ? loraTargets.map { .texts($0) } : nil),
      ("lora_orthogonality", lora ? .number(loraOrthogonality) : nil),
      ("early_stopping_patience", .integer(earlyStoppingPatience)),
      ("loss_watchdog_threshold", .number(lossWatchdogThreshold)))
  }
}

extension MethodPlan {
  /// The options in the order of the schema, nested where their keys have a dot.
  fileprivate var outline: Outline {
    var pairs: [(key: String, value: Outline)] = []
    for option in MethodSchema.named(name)?.options ?? [] {
      guard let value = options[option.key]?.outline else { continue }
      guard let dot = option.key.firstIndex(of: ".") else {
        pairs.append((option.key, value))
        continue
      }
      let (group, key) = (String(option.key[..<dot]), String(option.key[option.key.index(after: dot)...]))
      if let index = pairs.firstIndex(where: { $0.key == group }), case .map(let inner) = pairs[index].value {
        pairs[index].value = .map(inner + [(key, value)])
      } else {
        pairs.append((group, .map([(key, value)])))
      }
    }
    return .map([(name, .map(pairs))])
  }
}

extension OptionValue {
  fileprivate var outline: Outline {
    switch self {
    case .number(let value): .number(value)
    case .integer(let value): .integer(value)
    case .word(let word): .text(word)
    }
  }
}

extension StagePlan {
  fileprivate var outline: Outline {
    map(
      ("name", .text(name)), ("datasets", .list(datasets.map(\.outline))),
      ("val", validation.isEmpty ? nil : .list(validation.map(\.outline))),
      ("val_set_size", validationShare.map { .number($0) }), ("training", training.outline),
      ("methods", methods.map { .list($0.map(\.outline)) }))
  }
}

extension ProbePlan {
  fileprivate var outline: Outline {
    let asks = kind == nil || kind == .multipleChoice
    return map(
      ("name", .text(name)), ("path", images == nil ? paths.outline : nil),
      ("images", images.map { .path($0.images) }), ("labels", images.map { .path($0.labels) }),
      ("classes", images?.classes.map { .list($0.map { .integer($0) }) }),
      ("pad", images?.pad.map { .integer($0) }), ("normalize", images?.normalize.map(\.outline)),
      ("permute_seed", images?.permuteSeed.map { .integer($0) }), ("type", kind.map { .text($0.rawValue) }),
      ("metrics", metrics.map { .texts($0) }), ("home", home.map { .text($0) }),
      ("prompt", prompt.map { .text($0) }), ("num_fewshot", asks ? .integer(fewshotCount) : nil),
      ("fewshot_path", fewshotPath.map { .path($0) }), ("limit", limit.map { .integer($0) }),
      ("documents", images == nil ? .text(documents.rawValue) : nil))
  }
}

extension DataChecksPlan {
  fileprivate var outline: Outline {
    map(
      ("exact_duplicates", .text(exactDuplicates.rawValue)), ("near_duplicates", .text("off")),
      (
        "probe_overlap",
        map(
          ("ngram", .integer(probeOverlap.ngram)), ("document_share", .number(probeOverlap.documentShare)),
          ("max_documents", .number(probeOverlap.maxDocuments)),
          ("action", .text(probeOverlap.action.rawValue)))
      ))
  }
}

extension TunePlan {
  fileprivate var outline: Outline {
    func range(_ range: Range) -> Outline {
      switch range {
      case .logUniform(let low, let high): map(("log_uniform", .list([.number(low), .number(high)])))
      case .uniform(let low, let high): map(("uniform", .list([.number(low), .number(high)])))
      case .values(let values): map(("values", .list(values.map { .number($0) })))
      }
    }
    let rule =
      switch pick {
      case .knee: "knee"
      case .bestPlasticity(let share): "best_plasticity_at_retention>=\(share)"
      }
    return map(
      ("stage", .text(stage)), ("search", .map(search.map { ($0.key, range($0.range)) })),
      ("sampler", .text(sampler.rawValue)), ("trials", .integer(trials)), ("pick", .text(rule)))
  }
}
