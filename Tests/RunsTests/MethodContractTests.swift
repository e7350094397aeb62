// What every method of the catalog promises: nothing at strength 0 where it has one, the same bits after interruptions and for any
// number of threads, the same course however a step's rows are cut into micro-batches, and company in a stack.
// Interfered retrieval chooses by the gradient of a micro-batch and products in bf16 round its sums, so these two are not
// held to the third.
import Continual
import Foundation
import Ledger
import Runs
import StrictJSON
import TestKit
import Testing

@Suite struct MethodContractTests {
  /// A stack that does something, and where there is such a thing the same at strength 0.
  struct Entry: CustomTestStringConvertible {
    let method: String
    let stack: String
    var idle: String?
    /// Steps a stage, and the learning rate at which the method has something to do within them.
    var steps = 4
    var rate = "5e-3"
    /// Whether it chooses or rounds otherwise where a step's rows are cut in another way.
    var differsByMicroBatch = false
    /// Whether stages with an adapter refuse it.
    var refusesAdapters = false
    var testDescription: String { stack }
  }
  static let entries = [
    Entry(
      method: "ewc", stack: "[ { ewc: { lambda: 5, fisher: { structure: kronecker, examples: 24 } } } ]",
      idle: "[ { ewc: { lambda: 0, fisher: { structure: kronecker, examples: 24 } } } ]", refusesAdapters: true),
    Entry(
      method: "ewc",
      stack:
        "[ { ewc: { lambda: posterior, form: coupled, variant: separate, fisher: { structure: kronecker, examples: 24 } } } ]",
      idle: "[ { ewc: { lambda: 0, form: coupled, fisher: { structure: kronecker, examples: 24 } } } ]"),
    Entry(
      method: "ewc",
      stack: "[ { ewc: { lambda: 5, variant: separate, fisher: { structure: kronecker, examples: 24 } } } ]",
      refusesAdapters: true),
    Entry(
      method: "ewc", stack: "[ { ewc: { lambda: 5, fisher: { labels: observed, unit: batch, batch: 8 } } } ]",
      idle: "[ { ewc: { lambda: 0 } } ]"),
    Entry(
      method: "ewc",
      stack: "[ { ewc: { lambda: 5, fisher: { labels: top_k, top_k: 3, storage: bf16, examples: 24 } } } ]"),
    // Where rounding falls is decided by the last digits of sums, which a cut may change.
    Entry(
      method: "ewc", stack: "[ { ewc: { lambda: 5, fisher: { structure: kronecker, storage: bf16, examples: 24 } } } ]",
      differsByMicroBatch: true, refusesAdapters: true),
    Entry(method: "l2sp", stack: "[ { l2sp: { lambda: 0.5 } } ]", idle: "[ { l2sp: { lambda: 0 } } ]"),
    Entry(method: "l2sp", stack: "[ { l2sp: { lambda: 5, anneal: sigmoid, anneal_rate: 2 } } ]"),
    Entry(
      method: "rwalk", stack: "[ { rwalk: { lambda: 0.5, window: 3, examples: 24 } } ]",
      idle: "[ { rwalk: { lambda: 0 } } ]"),
    Entry(
      method: "fisher_freeze", stack: "[ { fisher_freeze: { mass: 0.7, examples: 24 } } ]",
      idle: "[ { fisher_freeze: { mass: 0 } } ]", refusesAdapters: true),
    Entry(method: "replay", stack: "[ { replay: { ratio: 0.3, weight: 2, budget_tokens: 400 } } ]"),
    Entry(method: "replay", stack: "[ { replay: { ratio: 0.3, selection: surprise, budget_tokens: 400 } } ]"),
    Entry(
      method: "replay", stack: "[ { replay: { ratio: 0.3, learn: distill, top_k: 9, budget_tokens: 400 } } ]",
      idle: "[ { replay: { ratio: 0 } } ]"),
    Entry(
      method: "replay",
      stack: "[ { replay: { ratio: 0.3, retrieval: interfered, candidates: 2, budget_tokens: 400 } } ]",
      idle: "[ { replay: { ratio: 0, retrieval: interfered } } ]", differsByMicroBatch: true),
    Entry(
      method: "self_rehearsal",
      stack: "[ { self_rehearsal: { ratio: 0.3, budget_tokens: 300, text_tokens: 20, filter: typical } } ]",
      idle: "[ { self_rehearsal: { ratio: 0, budget_tokens: 60, text_tokens: 20 } } ]"),
    Entry(
      method: "self_rehearsal",
      stack:
        "[ { self_rehearsal: { ratio: 0.3, budget_tokens: 300, text_tokens: 20, learn: distill, temperature: 2, top_k: 9 } } ]"
    ),
    Entry(
      method: "self_rehearsal",
      stack: "[ { self_rehearsal: { ratio: 0.3, budget_tokens: 300, text_tokens: 20, prompt_tokens: 6 } } ]",
      idle: "[ { self_rehearsal: { ratio: 0, budget_tokens: 60, text_tokens: 20, prompt_tokens: 6 } } ]"),
    Entry(method: "lwf", stack: "[ { lwf: { alpha: 2, top_k: 9 } } ]", idle: "[ { lwf: { alpha: 0 } } ]"),
    Entry(method: "lwf", stack: "[ { lwf: { alpha: 2, teacher: cached } } ]"),
    Entry(method: "si", stack: "[ { si: { c: 5, xi: 0.01 } } ]", idle: "[ { si: { c: 0 } } ]"),
    Entry(method: "mas", stack: "[ { mas: { lambda: 0.5, examples: 24 } } ]", idle: "[ { mas: { lambda: 0 } } ]"),
    Entry(
      method: "der", stack: "[ { der: { alpha: 1, beta: 0.5, ratio: 0.2, budget_tokens: 400, top_k: 9 } } ]",
      idle: "[ { der: { alpha: 0, beta: 0 } } ]"),
    Entry(method: "der", stack: "[ { der: { loss: mse, ratio: 0.2, budget_tokens: 400, top_k: 4096 } } ]"),
    Entry(method: "der", stack: "[ { der: { insert: step, ratio: 0.2, budget_tokens: 400, top_k: 9 } } ]"),
    Entry(
      method: "agem", stack: "[ { agem: { budget_tokens: 400, sample_tokens: 60 } } ]", steps: 8, rate: "4e-2",
      refusesAdapters: true),
    Entry(method: "gem", stack: "[ { gem: { budget_tokens: 200 } } ]", steps: 8, rate: "4e-2", refusesAdapters: true),
    Entry(method: "wise_ft", stack: "[ { wise_ft: { alpha: 0.6 } } ]", idle: "[ { wise_ft: { alpha: 1 } } ]"),
    Entry(method: "ogd", stack: "[ { ogd: { directions: 3, examples: 24 } } ]", refusesAdapters: true),
    Entry(
      method: "everything",
      stack: """
        [ { ewc: { lambda: 2, fisher: { structure: kronecker, examples: 24 } } }, { replay: { ratio: 0.2, budget_tokens: 300 } },
          { self_rehearsal: { ratio: 0.1, budget_tokens: 200, text_tokens: 20 } }, { lwf: { alpha: 0.5, on: all } }, { si: { c: 1 } },
          { mas: { lambda: 0.1 } }, { l2sp: { lambda: 0.01 } }, { der: { ratio: 0.1, budget_tokens: 200 } }, { agem: { budget_tokens: 200 } },
          { wise_ft: { alpha: 0.8 } }, { ogd: { directions: 2, examples: 24 } } ]
        """, refusesAdapters: true),
  ]
  private func short(_ entry: Entry) -> [String] {
    [
      "training.max_steps=\(entry.steps)", "training.learning_rate=\(entry.rate)", "checkpoint.save_total_limit=1",
    ]
  }

  @Test func everyMethodIsHeldToTheContract() {
    let known = Set(Self.entries.map(\.method))
    for card in MethodCatalog.cards { #expect(known.contains(card.name), "\(card.name)") }
  }

  /// Every method changes the course; at strength 0 none of them changes a bit.
  @Test(arguments: entries) func actsAndIsIdleAtStrengthZero(_ entry: Entry) throws {
    try withTemporaryDirectory { folder in
      let idle = entry.idle.map { ", idle: \($0)" } ?? ""
      let experiment = try TinyExperiment(
        in: folder, methods: entry.stack, compare: "{ plain: []\(idle) }")
      #expect(try experiment.run(short(entry)) == ExitCode.done)
      func hash(_ variant: String) throws -> String? {
        try RunResults.read("\(experiment.output)\(variant)/results.json").final?.parametersSHA256
      }
      let plain = try hash("/plain")
      #expect(try plain != nil && hash("") != plain)
      if entry.idle != nil { #expect(try hash("/idle") == plain) }
    }
  }

  @Test(arguments: entries) func interruptionsAndThreadsChangeNoBit(_ entry: Entry) throws {
    try withTemporaryDirectory { folder in
      let whole = try TinyExperiment(in: folder + "/whole", methods: entry.stack)
      #expect(try whole.run(short(entry)) == ExitCode.done)
      let cut = try TinyExperiment(in: folder + "/cut", methods: entry.stack)
      var runs = 1
      while try cut.run(short(entry) + ["time_limit=0.000001s"]) != ExitCode.done {
        runs += 1
        try #require(runs < 50)
      }
      #expect(runs == 2 * entry.steps)
      #expect(try cut.results() == whole.results())
      #expect(try cut.steps() == whole.steps())
      let single = try TinyExperiment(in: folder + "/single", methods: entry.stack)
      #expect(try single.run(short(entry) + ["threads=1"]) == ExitCode.done)
      #expect(try single.results() == whole.results())
    }
  }

  /// Three rows, one after another or at once: equal losses to within rounding.
  @Test(arguments: entries.filter { !$0.differsByMicroBatch }) func cutsOfAStepDoNotMatter(_ entry: Entry) throws {
    try withTemporaryDirectory { folder in
      var losses: [[Double]] = []
      for (index, shape) in [("3", "1"), ("1", "3")].enumerated() {
        let experiment = try TinyExperiment(in: "\(folder)/\(index)", methods: entry.stack)
        // The base's Fisher draws by sequence, so its batches may be cut, too.
        try experiment.run(
          short(entry) + [
            "training.micro_batch_size=\(shape.0)", "training.gradient_accumulation_steps=\(shape.1)",
            "training.optimizer=sgd", "training.learning_rate=1e-2",
          ])
        losses.append(
          try LedgerReader.events(experiment.output + "/ledger.jsonl").filter { $0["event"]?.string == "step" }
            .compactMap { $0["loss"]?.double })
      }
      #expect(losses[0].count == losses[1].count && losses[0].count == 2 * entry.steps)
      for (a, b) in zip(losses[0], losses[1]) { #expect(abs(a - b) <= 1e-6 * abs(a), "\(a) \(b)") }
    }
  }
}
