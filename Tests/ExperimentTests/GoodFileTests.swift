// Files that can be read: every key arrives in the plan, defaults are the documented ones.
import Experiment
import Foundation
import Testing

@Suite struct GoodFileTests {
  @Test func everyKeyArrives() throws {
    try withWorkspace { directory in
      let file = try read(full, in: directory)
      let plan = file.plan
      #expect(file.warnings.isEmpty)
      #expect(plan.name == "clinic-court")
      #expect(plan.file == directory + "/my.yaml")
      #expect(plan.directory == directory)
      #expect(plan.outputDirectory == directory + "/runs/x")
      #expect(plan.baseModel == .checkpoint(directory + "/models/base.h5"))
      #expect(plan.baseData.count == 1)
      #expect(plan.baseData[0].paths == [directory + "/data/general/train.jsonl"])
      #expect(plan.baseData[0].shape == .text)
      #expect(plan.baseData[0].weight == 0.5)
      #expect(plan.baseData[0].documents == .line)
      #expect(plan.baseTokens == 4_000_000)
      #expect(plan.threads == 2)
      #expect(plan.timeLimitSeconds == 5400)
      #expect(plan.seed == 18)
      var training = plan.training
      #expect(training.sequenceLength == 256)
      #expect(!training.samplePacking)
      #expect(training.trainOnInputs)
      #expect(training.excessLength == .drop)
      #expect(training.microBatchSize == 8)
      #expect(training.gradientAccumulationSteps == 2)
      #expect(training.length == .steps(100))
      #expect(training.optimizer == .adamw)
      #expect(training.learningRate == 1e-4)
      #expect(training.scheduler == .wsd)
      #expect(training.warmupRatio == 0.05)
      #expect(training.minLearningRateRatio == 0.2)
      #expect(training.weightDecay == 0.1)
      #expect(training.maxGradNorm == 0.5)
      #expect(training.adamBeta1 == 0.8 && training.adamBeta2 == 0.95 && training.adamEpsilon == 1e-6)
      #expect(training.freeze == ["*.bias"])
      #expect(training.lossWatchdogThreshold == 4)
      #expect(plan.stages.map(\.name) == ["medical", "legal.two", "late"])
      #expect(plan.stages[1].training == training)
      training.length = .epochs(2)
      training.earlyStoppingPatience = 3
      #expect(plan.stages[0].training == training)
    }
  }

  @Test func methodsStagesAndProbesArrive() throws {
    try withWorkspace { directory in
      let plan = try read(full, in: directory).plan
      #expect(plan.mainVariantName == "ewc-replay")
      let ewc = plan.methods[0]
      #expect(ewc.string("lambda") == "posterior" && ewc.double("lambda") == nil)
      #expect(
        ewc.string("variant") == "online" && ewc.double("decay") == 0.9 && ewc.string("form") == "coupled")
      #expect(ewc.string("fisher.labels") == "sampled" && ewc.string("fisher.unit") == "position")
      #expect(ewc.string("fisher.structure") == "diagonal" && ewc.string("fisher.examples") == "all")
      #expect(ewc.int("fisher.samples") == 3)
      let replay = plan.methods[1]
      #expect(replay.double("ratio") == 0.25 && replay.int("budget_tokens") == 1000)
      #expect(replay.string("selection") == "stage_balanced")
      #expect(plan.compare.map(\.name) == ["naive", "l2sp", "plain"])
      #expect(plan.compare[0].methods.isEmpty)
      let l2sp = plan.compare[1].methods[0]
      #expect(l2sp.double("lambda") == 0.1 && l2sp.string("form") == "coupled" && l2sp.string("anchor") == "base")
      #expect(l2sp.string("anneal") == "none")
      let plain = try #require(MethodPlan("ewc"))
      #expect(plan.compare[2].methods == [plain])
      #expect(plan.stages[0].datasets[0].paths == [directory + "/data/medical/train.jsonl"])
      #expect(plan.stages[0].datasets[0].shape == .promptCompletion)
      #expect(plan.stages[0].datasets[0].weight == 2)
      #expect(plan.stages[0].validation.map(\.paths) == [[directory + "/data/medical/valid.jsonl"]])
      #expect(plan.stages[0].methods == nil)
      #expect(plan.stages[1].datasets[0].paths == ["a", "b"].map { directory + "/data/legal/\($0).jsonl" })
      #expect(plan.stages[1].validationShare == 0.02)
      #expect(plan.stages[1].methods == [])
      #expect(plan.stages[2].datasets[0].paths == [directory + "/data/general/test.jsonl"])
      #expect(plan.probes.map(\.name) == ["general", "blimp", "casehold"])
      #expect(
        plan.probes[0].metrics == ["perplexity"] && plan.probes[0].documents == .file
          && plan.probes[0].limit == 7)
      #expect(plan.probes[1].kind == .minimalPairs)
      let choice = plan.probes[2]
      #expect(
        choice.kind == .multipleChoice && choice.metrics == ["acc_norm", "acc"] && choice.fewshotCount == 2)
      #expect(choice.fewshotPath == directory + "/data/probes/shots.jsonl" && choice.home == "legal.two")
      #expect(choice.prompt == "Q: {question}\n")
    }
  }

  @Test func imagesArrive() throws {
    try withWorkspace { directory in
      let plan = try read(drawings, in: directory).plan
      let images = try #require(plan.stages[0].datasets[0].images)
      #expect(
        images.images == directory + "/data/mnist/images" && images.labels == directory + "/data/mnist/labels"
      )
      #expect(images.classes == [0, 1] && images.permuteSeed == 3 && images.limit == 500 && images.pad == 2)
      #expect(images.normalize?.mean == 0.1 && images.normalize?.std == 0.2752)
      #expect(plan.probes[0].kind == .classification && plan.probes[0].images?.permuteSeed == 4)
    }
  }

  @Test func theRestArrives() throws {
    try withWorkspace { directory in
      let plan = try read(full, in: directory).plan
      #expect(
        plan.evaluate.at == [.stageEnd] && plan.evaluate.evalSteps == 50 && plan.evaluate.watchItems == 32)
      #expect(
        plan.evaluate.confidence == 0.9 && plan.evaluate.bootstrap == 500 && plan.evaluate.window == 128)
      #expect(plan.dataChecks.exactDuplicates == .warn && plan.dataChecks.probeOverlap.ngram == 8)
      #expect(
        plan.dataChecks.probeOverlap.documentShare == 0.3 && plan.dataChecks.probeOverlap.maxDocuments == 0.01
      )
      #expect(plan.dataChecks.probeOverlap.action == .warn)
      #expect(plan.checkpoint.saveSteps == 20 && plan.checkpoint.saveTotalLimit == 2)
      #expect(plan.logging.loggingSteps == 5 && plan.logging.reportTo == ["jsonl"])
      let tune = try #require(plan.tune)
      #expect(tune.stage == "legal.two" && tune.sampler == .random && tune.trials == 4)
      #expect(tune.pick == .bestPlasticity(retentionAtLeast: 0.97))
      #expect(tune.search.map(\.key) == ["methods.replay.ratio", "compare.plain.ewc.lambda"])
      #expect(tune.search.map(\.range) == [.uniform(0.1, 0.5), .logUniform(1e-3, 1e3)])
    }
  }

  @Test func defaultsAreThoseOfTheContract() throws {
    try withWorkspace { directory in
      let plan = try read(minimal, in: directory).plan
      #expect(plan.baseModel == .folder(directory + "/models/base"))
      #expect(plan.outputDirectory == directory + "/runs/small")
      #expect(
        plan.threads == nil && plan.timeLimitSeconds == nil && plan.baseTokens == nil && plan.tune == nil)
      #expect(
        plan.seed == 17 && plan.methods.isEmpty && plan.compare.isEmpty && plan.mainVariantName == "naive")
      let training = plan.stages[0].training
      #expect(training.sequenceLength == 512 && training.samplePacking && !training.trainOnInputs)
      #expect(training.excessLength == nil && training.microBatchSize == 4)
      #expect(training.gradientAccumulationSteps == 1 && training.length == .epochs(1))
      #expect(training.optimizer == .adamw && training.learningRate == 2e-5 && training.scheduler == .cosine)
      #expect(training.warmupRatio == 0.03 && training.minLearningRateRatio == 0.1)
      #expect(training.weightDecay == 0.01 && training.maxGradNorm == 1)
      #expect(training.adamBeta1 == 0.9 && training.adamBeta2 == 0.999 && training.adamEpsilon == 1e-8)
      #expect(training.earlyStoppingPatience == 0 && training.lossWatchdogThreshold == 5)
      #expect(plan.evaluate.at == [.base, .stageEnd] && plan.evaluate.evalSteps == 200)
      #expect(
        plan.evaluate.watchItems == 64 && plan.evaluate.confidence == 0.95 && plan.evaluate.bootstrap == 2000)
      #expect(plan.dataChecks.exactDuplicates == .drop && plan.dataChecks.probeOverlap.action == .error)
      #expect(plan.checkpoint.saveSteps == 200 && plan.checkpoint.saveTotalLimit == 3)
      let ewc = try #require(MethodPlan("ewc"))
      #expect(
        ewc.double("lambda") == 10 && ewc.string("variant") == "online" && ewc.string("form") == "proximal")
      #expect(ewc.int("fisher.examples") == 512 && ewc.string("fisher.labels") == "sampled")
      let replay = try #require(MethodPlan("replay"))
      #expect(replay.double("ratio") == 0.1)
      #expect(MethodPlan("unknown") == nil)
    }
  }

  @Test func newModels() throws {
    try withWorkspace { directory in
      func model(_ text: String) throws -> BaseModel {
        try read(experiment(with: text), in: directory).plan.baseModel
      }
      let llama = try model(
        "{ architecture: llama, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, tokenizer: models/tokenizer }"
      )
      guard case .new(.llama(let sizes)) = llama else {
        recordFailure("no llama")
        return
      }
      #expect(
        sizes.intermediateSize == 192 && sizes.keyValueHeads == 2 && sizes.maxPositionEmbeddings == 2048)
      #expect(sizes.ropeTheta == 10_000 && sizes.normEpsilon == 1e-5 && !sizes.tieWordEmbeddings)
      #expect(sizes.vocabularySize == nil && sizes.tokenizer == directory + "/models/tokenizer")
      let gpt2 = try model(
        "{ architecture: gpt2, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 100, max_position_embeddings: 64, layer_norm_epsilon: 1e-6, tie_word_embeddings: false, vocab_size: 300, tokenizer: models/tokenizer/tokenizer.json }"
      )
      guard case .new(.gpt2(let other)) = gpt2 else {
        recordFailure("no gpt2")
        return
      }
      #expect(other.intermediateSize == 100 && other.maxPositionEmbeddings == 64 && other.normEpsilon == 1e-6)
      #expect(other.ropeTheta == nil && !other.tieWordEmbeddings && other.vocabularySize == 300)
      let mlp = try model("{ architecture: mlp, hidden_sizes: [400, 400], heads: domain, input_size: 784 }")
      guard case .new(.mlp(let classifier)) = mlp else {
        recordFailure("no mlp")
        return
      }
      #expect(
        classifier.hiddenSizes == [400, 400] && classifier.heads == .domain && classifier.inputSize == 784)
    }
  }

  @Test func warningsSayWhatIsDoneInstead() throws {
    try withWorkspace { directory in
      let file = try read(minimal + "methods: [ewc, replay]\n", in: directory)
      #expect(file.warnings.map(\.line) == [9, 9])
      #expect(file.warnings.allSatisfy { $0.severity == .warning })
      #expect(file.plan.mainVariantName == "ewc-replay")
    }
  }

  @Test func variantsHaveTheirStackEverywhere() throws {
    try withWorkspace { directory in
      let plan = try read(full, in: directory).plan
      let variant = try #require(plan.variant("l2sp"))
      #expect(variant.methods == plan.compare[1].methods && variant.compare.isEmpty)
      #expect(variant.outputDirectory == directory + "/runs/x/l2sp")
      #expect(variant.stages.allSatisfy { $0.methods == nil })
      #expect(plan.variant("nobody") == nil)
    }
  }

  @Test func byteOrderMarkAndReturnsAreAccepted() throws {
    try withWorkspace { directory in
      let text = "\u{FEFF}" + minimal.replacing("\n", with: "\r\n")
      let (windows, unix) = (try read(text, in: directory).plan, try read(minimal, in: directory).plan)
      #expect(windows == unix)
    }
  }
}

/// `Issue` names a type of Experiment and one of Testing.
private func recordFailure(_ message: String) { Testing.Issue.record("\(message)") }
