// Which models merge, where their Fisher comes from, and which strength of a sweep is taken.
import Corpus
import Curvature
import Layers
import Ledger
import Merging
import Models
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct MergeFitTests {
  let backend = CPUBackend(threads: 2)

  private func model(
    seed: UInt64 = 1, tokenizer: Tokenizer? = nil, _ change: (inout TransformerConfiguration) -> Void = { _ in }
  ) throws -> LoadedModel {
    var c = TransformerConfiguration(
      architecture: "llama", vocabularySize: tokenizer?.vocabularySize ?? 11, hiddenSize: 8, intermediateSize: 12,
      layers: 2, heads: 2, keyHeads: 1, contextLength: 16, epsilon: 1e-5, ropeTheta: 10000, tiesHead: true)
    change(&c)
    let transformer = try ModelCatalog.initialize(c, random: RandomStream(seed: seed), on: backend)
    return LoadedModel(transformer: transformer, tokenizer: tokenizer, path: "model \(seed)")
  }
  private func tokenizer() throws -> Tokenizer { try Tokenizer.load(folder: Fixtures.path("tokenizers/gpt2")) }

  @Test func modelsOfOneLayoutMergeAndOthersAreNamed() throws {
    let base = try model()
    try MergeFit.require(model(seed: 2) { $0.contextLength = 32 }, fits: base)
    let others: [(String, (inout TransformerConfiguration) -> Void)] = [
      ("architecture gpt2 against llama", { ($0.architecture, $0.keyHeads) = ("gpt2", 2) }),
      ("vocabulary 12 against 11", { $0.vocabularySize = 12 }),
      ("hidden size 16 against 8", { ($0.hiddenSize, $0.headDimension) = (16, 8) }),
      ("intermediate size 24 against 12", { $0.intermediateSize = 24 }),
      ("layers 3 against 2", { $0.layers = 3 }),
      ("key heads 2 against 1", { $0.keyHeads = 2 }),
      ("tied head false against true", { $0.tiesHead = false }),
      ("rope theta 500000.0 against 10000.0", { $0.ropeTheta = 500_000 }),
    ]
    for (difference, change) in others {
      let other = try model(seed: 2, change)
      #expect(MergeFit.firstDifference(other, from: base) == difference)
      do {
        try MergeFit.require(other, fits: base)
        Issue.record("\(difference) was not refused")
      } catch { #expect(error.kind == .invalid && error.reason.contains(difference)) }
    }
  }

  @Test func biasesAreAnotherLayout() throws {
    let difference = MergeFit.firstDifference(try model { $0.attentionBias = true }, from: try model())
    #expect(difference?.hasPrefix("parameter ") == true, "\(difference ?? "none")")
  }

  @Test func equalSizesDoNotMakeEqualVocabularies() throws {
    let known = try tokenizer()
    var bytes = known.json
    // The first token of the vocabulary under another name.
    let (old, new) = (Array("\"!\"".utf8), Array("\"\u{00A4}\u{00A4}\"".utf8))
    let place = try #require(bytes.indices.first { bytes[$0...].starts(with: old) })
    bytes.replaceSubrange(place..<place + old.count, with: new)
    let other = try Tokenizer(json: bytes, configuration: nil)
    let base = try model(tokenizer: known)
    #expect(MergeFit.firstDifference(try model(tokenizer: tokenizer()), from: base) == nil)
    let difference = MergeFit.firstDifference(try model(tokenizer: other), from: base)
    #expect(difference?.hasPrefix("token ") == true, "\(difference ?? "none")")
  }

  // MARK: Fisher

  @Test func fishersComeFromTheRowsAndTheSeed() throws {
    let model = try model(tokenizer: tokenizer()) { $0.initializerRange = 0.3 }
    func rows(_ word: String) -> [SourceRow] {
      (0..<12).map { SourceRow(sample: .text("\(word) number \($0) is here again"), file: "rows", line: $0 + 1) }
    }
    func estimate(_ rows: [SourceRow], examples: Int = 100, seed: UInt64 = 1) throws -> FisherEstimate {
      try ModelFisher.estimate(model, rows: rows, examples: examples, random: RandomStream(seed: seed), on: backend)
    }
    let cats = try estimate(rows("the cat"))
    #expect(cats.sequences >= 12 && cats.scoredTokens > 12)
    #expect(cats.values.toArray().allSatisfy { $0 >= 0 && $0.isFinite })
    #expect(cats.values.toArray().contains { $0 > 0 })
    #expect(cats.values.toArray() == (try estimate(rows("the cat")).values.toArray()))
    #expect(cats.values.toArray() != (try estimate(rows("the cat"), seed: 2).values.toArray()))
    #expect(cats.values.toArray() != (try estimate(rows("a court")).values.toArray()))
    let few = try estimate(rows("the cat"), examples: 3)
    #expect(few.sequences == 3)
    #expect(throws: ModelError.self) {
      try ModelFisher.estimate(
        self.model(), rows: rows("x"), examples: 1, random: RandomStream(seed: 1), on: backend)
    }
  }

  // MARK: Choice

  private func measurement(_ probe: String, _ metric: String, _ value: Double, higher: Bool = false)
    -> Ledger.Measurement
  {
    Measurement(probe: probe, metric: metric, higherIsBetter: higher, numerators: [value], denominators: [1])
  }

  @Test func theBestMeanCountsEachProbeOnceByItsFirstMetric() throws {
    func measured(_ bits: Double, _ perplexity: Double, _ acc: Double) -> [Ledger.Measurement] {
      [
        measurement("text", "bits_per_byte", bits), measurement("text", "perplexity", perplexity),
        measurement("pairs", "acc", acc, higher: true),
      ]
    }
    let base = measured(2, 10, 0.5)
    let candidates = [
      MergeCandidate(alpha: 0.25, measurements: measured(1.8, 90, 0.5)),  // +10 %, 0 %
      MergeCandidate(alpha: 0.5, measurements: measured(2.2, 1, 0.7)),  // −10 %, +40 %
      MergeCandidate(alpha: 0.75, measurements: measured(1.0, 5, .nan)),
      MergeCandidate(alpha: 1, measurements: measured(2.2, 1, 0.7)),
    ]
    let means = candidates.map { $0.meanImprovement(over: base) ?? 0 }
    #expect(abs(means[0] - 0.05) < 1e-12 && abs(means[1] - 0.15) < 1e-12 && means[2].isNaN)
    #expect(MergePick.bestMean.best(of: candidates, base: base) == 1)
    #expect(MergePick.metric("text.bits_per_byte").best(of: candidates, base: base) == 2)
    #expect(MergePick.metric("text.perplexity").best(of: candidates, base: base) == 1)
    #expect(MergePick.metric("pairs.acc").best(of: candidates, base: base) == 1)
    #expect(MergePick.metric("pairs.f1").best(of: candidates, base: base) == nil)
    #expect(MergeCandidate(alpha: 1, measurements: []).meanImprovement(over: []) == nil)
    // From nothing right to a fifth right: the difference itself.
    let fromZero = MergeCandidate(alpha: 1, measurements: [measurement("p", "acc", 0.2, higher: true)])
    #expect(fromZero.meanImprovement(over: [measurement("p", "acc", 0, higher: true)]) == 0.2)
  }
}
