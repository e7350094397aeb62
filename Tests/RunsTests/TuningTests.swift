// Tests of the search: which values, how long, which one is chosen, and a whole search on a tiny model.
// The whole search is interrupted again and again and must come out as the uninterrupted one.
import Experiment
import Foundation
import Ledger
import Runs
import StrictJSON
import TestKit
import Testing
import Tuning

@Suite struct SearchSpaceTests {
  @Test func spacesEvenlyInTheLogarithm() {
    #expect(SearchSpace.spaced(.logUniform(1e-2, 1e4), count: 7) == [0.01, 0.1, 1, 10, 100, 1000, 10000])
    #expect(SearchSpace.spaced(.logUniform(1e-3, 1e3), count: 2) == [1e-3, 1e3])
    #expect(SearchSpace.spaced(.logUniform(1, 100), count: 1) == [10])
    #expect(SearchSpace.spaced(.uniform(0, 1), count: 5) == [0, 0.25, 0.5, 0.75, 1])
    #expect(SearchSpace.spaced(.values([3, 1, 2]), count: 9) == [3, 1, 2])
  }

  @Test func roundsButKeepsTheEnds() {
    let values = SearchSpace.spaced(.logUniform(0.123456, 7.654321), count: 4)
    #expect(values.first == 0.123456)
    #expect(values.last == 7.654321)
    #expect(values[1] == 0.4886)
  }

  @Test func severalKeysMakeAGrid() throws {
    var plan = try TinySearch.tunePlan()
    var second = plan.search[0]
    second.range = .uniform(0, 0.5)
    plan.search.append(second)
    plan.trials = 10
    let points = SearchSpace.points(plan, seed: 1)
    #expect(points.count == 9)
    #expect(points[1].values == [0.01, 0.25])
  }

  @Test func randomDrawsDependOnTheSeedAlone() throws {
    var plan = try TinySearch.tunePlan()
    plan.sampler = .random
    plan.trials = 50
    let points = SearchSpace.points(plan, seed: 3)
    #expect(points == SearchSpace.points(plan, seed: 3))
    #expect(points != SearchSpace.points(plan, seed: 4))
    #expect(points.allSatisfy { $0.values[0] >= 0.01 && $0.values[0] <= 1e4 })
    // Even in the logarithm: about half lie below the geometric middle.
    #expect((15...35).contains(points.count { $0.values[0] < 10 }))
  }
}

@Suite struct HalvingLadderTests {
  @Test func rungsDivideByThreeWhileWorthwhile() {
    #expect(HalvingLadder(candidates: 7, steps: 60, halves: true).divisors == [3, 1])
    #expect(HalvingLadder(candidates: 7, steps: 59, halves: true).divisors == [1])
    #expect(HalvingLadder(candidates: 12, steps: 400, halves: true).divisors == [9, 3, 1])
    #expect(HalvingLadder(candidates: 3, steps: 400, halves: true).divisors == [1])
    #expect(HalvingLadder(candidates: 2, steps: 400, halves: true).divisors == [1])
    #expect(HalvingLadder(candidates: 12, steps: 400, halves: false).divisors == [1])
    #expect([1, 2, 3, 7, 9, 12].map { HalvingLadder.survivors(of: $0) } == [1, 2, 2, 2, 3, 4])
    #expect(HalvingLadder.steps(61, divisor: 3) == 21)
  }

  @Test func costsLessThanAGrid() {
    for (candidates, steps) in [(4, 60), (5, 90), (7, 60), (7, 600), (12, 1000)] {
      let ladder = HalvingLadder(candidates: candidates, steps: steps, halves: true)
      var (cost, left) = (0, candidates)
      for divisor in ladder.divisors {
        // Naive runs once on every rung.
        cost += (left + 1) * HalvingLadder.steps(steps, divisor: divisor)
        left = HalvingLadder.survivors(of: left)
      }
      #expect(cost < (candidates + 1) * steps)
    }
  }
}

@Suite struct TuneChoiceTests {
  static func trial(
    _ value: Double, _ share: Double?, _ avoided: Double?, retention: Double? = nil, interval: Interval? = nil
  ) -> TuneResults.Trial {
    TuneResults.Trial(
      value: .number(value), rung: 1, steps: 60, retention: retention, plasticity: share,
      plasticityShare: share, forgetting: 0.1, forgettingAvoided: avoided, seconds: 1, scoreCI: interval)
  }

  @Test func kneeIsTheLargestSumAndTiesGoToTheSmallerValue() {
    let choice = TuneChoice(.knee)
    let trials = [
      Self.trial(1, 0.9, 0.25), Self.trial(10, 0.75, 0.5), Self.trial(100, 0.5, 0.75),
      Self.trial(1000, nil, nil),
    ]
    #expect(choice.ranking(trials) == [1, 2, 0, 3])
    #expect(choice.isUsable(trials[3]) == false)
  }

  @Test func plasticityAmongThoseThatRetainEnough() {
    let choice = TuneChoice(.bestPlasticity(retentionAtLeast: 0.97))
    let trials = [
      Self.trial(1, 0.9, 0.2, retention: 0.90), Self.trial(10, 0.7, 0.5, retention: 0.971),
      Self.trial(100, 0.4, 0.8, retention: 0.99),
    ]
    #expect(choice.ranking(trials) == [1, 2, 0])
    // A rung whose naive run lost a quarter of what the full one lost asks for 99.25 %.
    #expect(choice.ranking(trials, allowance: 0.25) == [2, 1, 0])
    let reason = choice.reason(trials, chosen: 1, candidates: trials.compactMap(\.value))
    #expect(reason.contains("2 retain at least 97.0 %"))
  }

  @Test func neighboursOfTheBestAreTriedNext() {
    let choice = TuneChoice(.knee)
    var full = [4: Self.trial(100, 0.5, 0.9), 3: Self.trial(10, 0.9, 0.7)]
    let order = Array(0..<7)
    #expect(choice.untriedNeighbour(full, order: order) == 2)
    full[2] = Self.trial(1, 1, 0.3)
    #expect(choice.untriedNeighbour(full, order: order) == nil)
    full[4] = nil
    #expect(choice.untriedNeighbour(full, order: order) == 4)
    #expect(choice.untriedNeighbour([0: Self.trial(1, 1, 0)], order: order) == 1)
    #expect(choice.untriedNeighbour([0: Self.trial(1, nil, nil)], order: order) == nil)
  }

  @Test func theReasonNamesNeighboursAndIntervals() {
    let choice = TuneChoice(.knee)
    let trials = [
      Self.trial(1, 0.9, 0.2, interval: Interval(1.0, 1.2)),
      Self.trial(10, 0.7, 0.7, interval: Interval(1.3, 1.5)),
      Self.trial(100, 0.5, 0.8, interval: Interval(1.2, 1.4)),
    ]
    let values = trials.compactMap(\.value)
    let reason = choice.reason(trials, chosen: 1, candidates: values)
    #expect(reason.contains("1.400 [1.300, 1.500]"))
    #expect(reason.contains("the next below, 1, gives 1.100 [1.000, 1.200], the intervals are apart"))
    #expect(reason.contains("the next above, 100, gives 1.300 [1.200, 1.400], the intervals overlap"))
    #expect(!reason.contains("edge"))
    #expect(choice.reason(trials, chosen: 2, candidates: values).contains("edge"))
  }
}

/// A search of seven values for the second stage of a random model, which forgets what the first one taught.
struct TinySearch {
  let directory: String
  let file: String

  init(_ directory: String) throws {
    self.directory = directory
    file = directory + "/e.yaml"
    func write(_ name: String, _ words: [String], _ count: Int, _ seed: Int) throws {
      var state = UInt64(seed)
      var text = ""
      for _ in 0..<count {
        var sentence: [String] = []
        for _ in 0..<12 {
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          sentence.append(words[Int(state >> 33) % words.count])
        }
        text += "{\"text\": \"\(sentence.joined(separator: " "))\"}\n"
      }
      try text.write(toFile: directory + "/" + name, atomically: true, encoding: .utf8)
    }
    let plain = ["the", "river", "runs", "by", "her", "house"]
    let domain = ["dose", "drug", "pain", "mild", "oral", "acute"]
    try write("base.jsonl", plain, 40, 1)
    try write("train.jsonl", domain, 40, 2)
    try write("plain.jsonl", plain, 6, 3)
    try write("domain.jsonl", domain, 6, 4)
    try """
    schema: 1
    name: tiny
    base_model:
      architecture: llama
      hidden_size: 16
      intermediate_size: 24
      num_hidden_layers: 1
      num_attention_heads: 2
      max_position_embeddings: 64
      tokenizer: \(Fixtures.path("tokenizers/gpt2"))
    base_data: [ { path: base.jsonl } ]
    output_dir: out
    threads: 1
    training: { sequence_len: 32, micro_batch_size: 2, max_steps: 60, learning_rate: 3e-2 }
    methods: [ { ewc: { lambda: 1, fisher: { examples: 16 } } } ]
    stages:
      - { name: plain, datasets: [ { path: base.jsonl } ] }
      - { name: domain, datasets: [ { path: train.jsonl } ] }
    probes:
      - { name: plain, path: plain.jsonl, metrics: [bits_per_byte], home: plain }
      - { name: domain, path: domain.jsonl, metrics: [bits_per_byte], home: domain }
    data_checks: { exact_duplicates: off, probe_overlap: { action: off } }
    evaluate: { bootstrap: 50 }
    tune:
      stage: domain
      search: { methods.ewc.lambda: { log_uniform: [1e-2, 1e4] } }
      trials: 7

    """.write(toFile: file, atomically: true, encoding: .utf8)
  }

  func plan() throws -> ExperimentPlan { try ExperimentPlan.load(file) }

  /// The tune section alone.
  static func tunePlan() throws -> TunePlan {
    try withTemporaryDirectory { try #require(try TinySearch($0).plan().tune) }
  }

  /// tune.json of this search without seconds, and how often it was stopped.
  func search(_ overrides: [String]) throws -> (results: TuneResults, stops: Int) {
    for stops in 0..<2000 {
      let tuner = try Tuner(path: file, overrides: overrides, observer: SilentObserver())
      if case .finished(let results) = try tuner.execute() {
        #expect(try TuneResults.read(tuner.directory + "/tune.json") == results)
        return (results, stops)
      }
    }
    throw RunError(ExitCode.bug, "the search does not end")
  }

  static func withoutSeconds(_ results: TuneResults) -> TuneResults {
    var results = results
    results.naive?.seconds = 0
    for index in results.trials.indices { results.trials[index].seconds = 0 }
    return results
  }
}

@Suite struct TunerTests {
  @Test func anInterruptedSearchIsTheUninterruptedOne() throws {
    try withTemporaryDirectory { directory in
      let tiny = try TinySearch(directory)
      let start = Date()
      let whole = try tiny.search(["output_dir=\(directory)/whole"])
      // Some attempts: what is left of the limit after reading the data is the time for steps, at least one.
      let limit = String(format: "%.3fs", max(0.05, Date().timeIntervalSince(start) / 6))
      #expect(whole.stops == 0)
      let parts = try tiny.search(["output_dir=\(directory)/parts", "time_limit=\(limit)"])
      #expect(parts.stops > 2)
      #expect(TinySearch.withoutSeconds(whole.results) == TinySearch.withoutSeconds(parts.results))

      let results = whole.results
      let short = results.trials.filter { $0.rung == 0 }
      #expect(short.map(\.steps) == [Int](repeating: 20, count: 7))
      #expect(results.trials.allSatisfy { $0.rung == 0 || $0.steps == 60 })
      #expect((2...4).contains(results.trials.count - short.count))
      #expect(results.naive?.steps == 60)
      #expect(results.trials.allSatisfy { $0.score != nil && $0.scoreCI != nil })
      let full = results.trials.filter { $0.rung == 1 }
      #expect(results.chosen == full.max { ($0.score ?? 0) < ($1.score ?? 0) }?.value)
      // Finished trials keep what they measured and no checkpoint.
      let folder = directory + "/whole"
      for name in ["tune.html", "tune.md", "trials/naive/results.json", "trials/05/ledger.jsonl"] {
        #expect(FileManager.default.fileExists(atPath: folder + "/" + name))
      }
      #expect(!FileManager.default.fileExists(atPath: folder + "/trials/01/checkpoints"))
      // The tuned experiment lies elsewhere and gives the same plan with the value in it.
      let text = try String(contentsOfFile: folder + "/tuned.yaml", encoding: .utf8)
      #expect(text.hasPrefix("# methods.ewc.lambda="))
      var tuned = try ExperimentPlan.load(folder + "/tuned.yaml")
      #expect(tuned.methods[0].double("lambda") == results.chosen.double)
      #expect(tuned.outputDirectory == folder)
      tuned.methods = try tiny.plan().methods
      #expect(tuned.resumeCompatibilityDifferences(try tiny.plan()).isEmpty)
    }
  }

  @Test func aRungThatTellsNothingIsLeftOut() throws {
    try withTemporaryDirectory { directory in
      let tiny = try TinySearch(directory)
      // At this rate naive fine-tuning forgets in 60 steps, and still learns the first text in 20.
      let results = try tiny.search(["training.learning_rate=1e-2"]).results
      #expect(results.trials.map(\.rung) == [Int](repeating: 1, count: 7))
      #expect(results.trials.allSatisfy { $0.score != nil })
    }
  }

  @Test func trialsThatLieThereAreNotRunAgain() throws {
    try withTemporaryDirectory { directory in
      let tiny = try TinySearch(directory)
      let first = try tiny.search(["tune.sampler=grid", "tune.trials=2"])
      let again = try tiny.search(["tune.sampler=grid", "tune.trials=3"])
      // Seconds are measured, so equal ones come from the same run.
      #expect(again.results.trials.count == 3)
      #expect(again.results.trials[0] == first.results.trials[0])
      #expect(again.results.trials[2] == first.results.trials[1])
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/out/trials").count == 4)
    }
  }

  @Test func nothingToSearchIsAConfigurationError() throws {
    try withTemporaryDirectory { directory in
      let tiny = try TinySearch(directory)
      let text = try String(contentsOfFile: tiny.file, encoding: .utf8)
      try text.replacingOccurrences(of: ", home: plain", with: ", home: domain")
        .write(toFile: tiny.file, atomically: true, encoding: .utf8)
      let error = #expect(throws: RunError.self) {
        try Tuner(path: tiny.file, observer: SilentObserver())
      }
      #expect(error?.exitCode == ExitCode.configuration)
    }
  }
}
