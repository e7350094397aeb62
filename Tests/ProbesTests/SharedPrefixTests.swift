// Sequences that begin alike run their beginning once: same losses as one at a time, fewer rows.
import Corpus
import Foundation
import Layers
import Models
import Probes
import TensorCPU
import TensorCore
import TestKit
import Testing

/// Hands everything on and counts the rows that are fed.
private final class CountingNetwork: Network {
  let network: any Network
  private(set) var rows = 0
  init(_ network: any Network) { self.network = network }

  var parameters: ParameterStore { network.parameters }
  func head(_ index: Int) -> Head { network.head(index) }
  func forward(_ batch: Batch, recording: Bool, on backend: any Backend) -> (
    hidden: Tensor, pullback: NetworkPullback?
  ) {
    rows += batch.count
    return network.forward(batch, recording: recording, on: backend)
  }
}

@Suite struct SharedPrefixTests {
  private func losses(
    _ sequences: [ScoredSequence], _ network: any Network, window: Int, shared: Bool, on backend: any Backend
  ) -> [[Float]] {
    SequenceScorer.losses(
      of: sequences, network: network, window: window, batchTokens: shared ? 4096 : 1, on: backend)
  }

  /// Random texts that part from each other at random places, some equal, some the beginning of the next.
  private func families(_ count: Int, below vocabulary: Int, longest: Int, seed: UInt64) -> [ScoredSequence] {
    var random = RandomStream(seed: seed)
    var tokens: [Int32] = []
    return (0..<count).map { _ in
      tokens.removeLast(random.integer(below: tokens.count + 1))
      if random.integer(below: 6) > 0 {
        let fresh = random.integer(below: longest - tokens.count + 1)
        tokens += (0..<fresh).map { _ in Int32(random.integer(below: vocabulary)) }
      }
      return ScoredSequence(tokens: tokens, firstScored: random.integer(below: tokens.count + 1))
    }
  }

  @Test(
    arguments: ["llama-tied-gqa", "llama-untied", "gpt2-tied", "gpt2-untied-noprefix"], ["cpu", "reference"])
  func lossesAreThoseOfOneSequenceAtATime(name: String, on kind: String) throws {
    let backend: any Backend = kind == "cpu" ? CPUBackend(threads: 2) : ReferenceBackend()
    let model = try LoadedModel.load(Fixtures.path("models/\(name)"), on: backend).transformer
    let context = model.configuration.contextLength
    for (seed, window) in [(1, context), (2, context), (3, max(1, context / 2))] as [(UInt64, Int)] {
      let sequences = families(
        60, below: model.configuration.vocabularySize, longest: context + 4, seed: seed)
      let counting = CountingNetwork(model)
      let found = losses(sequences, counting, window: window, shared: true, on: backend)
      let shared = counting.rows
      let wanted = losses(sequences, counting, window: window, shared: false, on: backend)
      for (index, sequence) in sequences.enumerated() {
        #expect(found[index].count == sequence.scored && wanted[index].count == sequence.scored)
        let worst = zip(found[index], wanted[index]).map { abs($0 - $1) }.max() ?? 0
        #expect(worst < 1e-5, "sequence \(index): \(worst)")
      }
      #expect(shared < counting.rows - shared)
    }
  }

  @Test func promptsRunOncePerItemAndExamplesOncePerBatch() throws {
    let backend = CPUBackend(threads: 1)
    let bigram = try BigramModel(context: 64, on: backend)
    // Examples of 20 inputs, two questions of 10, candidates of 3 and of 4 more tokens.
    let examples = [Int32](repeating: 1, count: 20)
    let sequences = [2, 3].flatMap { question in
      [[5, 6, 7], [8, 9, 10, 11], [5, 6, 8]].map { (candidate: [Int32]) in
        ScoredSequence(
          tokens: examples + [Int32](repeating: question, count: 10) + candidate, firstScored: 30)
      }
    }
    let counting = CountingNetwork(bigram.model.transformer)
    let found = losses(sequences, counting, window: 64, shared: true, on: backend)
    // The last common token begins what each sequence has for itself. The third candidate of an item
    // shares two tokens with the first, from which the second stands apart.
    #expect(counting.rows == 19 + 2 * (10 + 3 + 4 + 3))
    for (sequence, losses) in zip(sequences, found) {
      for (loss, place) in zip(losses, 30...) {
        let (from, to) = (Int(sequence.tokens[place - 1]), Int(sequence.tokens[place]))
        #expect(isClose(Double(loss), -bigram.logProbabilities[from][to]))
      }
    }
    #expect(found.map(\.count) == [3, 4, 3, 3, 4, 3])
  }

  @Test(.enabled(if: SharedData.path("models/stories260k") != nil && SharedData.path("data/probes") != nil))
  func publishedProbesDecideAlike() throws {
    let backend = CPUBackend(threads: 2)
    let model = try LoadedModel.load(try #require(SharedData.path("models/stories260k")), on: backend)
    let probes = try #require(SharedData.path("data/probes"))
    for (file, shots, count) in [
      ("arc_easy/test.jsonl", 0, 60), ("arc_easy/test.jsonl", 4, 40), ("hellaswag/val.jsonl", 0, 20),
      ("winogrande/val.jsonl", 0, 60), ("mmlu_legal/test.jsonl", 0, 30), ("blimp/blimp_mini.jsonl", 0, 200),
    ] {
      var definition = ProbeDefinition(name: "probe", paths: [probes + "/" + file])
      definition.limit = count
      definition.fewshotCount = shots
      definition.fewshotPath = probes + "/arc_easy/train.jsonl"
      let probe = try PreparedProbe(definition, model: model)
      let found = try probe.measure(model.transformer, on: backend)
      let wanted = try probe.measure(model.transformer, batchTokens: 1, on: backend)
      #expect(found.map(\.numerators) == wanted.map(\.numerators), "\(file), \(shots) examples")
    }
  }

  @Test(.enabled(if: SharedData.path("models/stories260k") != nil && SharedData.path("data/probes") != nil))
  func publishedCandidatesKeepTheirLikelihoods() throws {
    let backend = CPUBackend(threads: 2)
    let model = try LoadedModel.load(try #require(SharedData.path("models/stories260k")), on: backend)
    let tokenizer = try #require(model.tokenizer)
    let path = try #require(SharedData.path("data/probes/hellaswag/val.jsonl"))
    let sequences = try DataReader.read(paths: [path]).prefix(40).flatMap { row in
      row.sample.candidates.map { candidate in
        let prompt = [1] + tokenizer.encode(candidate.prompt)
        return ScoredSequence(
          tokens: prompt + tokenizer.encode(candidate.continuation), firstScored: prompt.count)
      }
    }
    let found = losses(sequences, model.transformer, window: 512, shared: true, on: backend)
    let wanted = losses(sequences, model.transformer, window: 512, shared: false, on: backend)
    for (one, other) in zip(found, wanted) {
      let (sum, wantedSum) = (one.reduce(0) { $0 + Double($1) }, other.reduce(0) { $0 + Double($1) })
      #expect(isClose(sum, wantedSum, 1e-5), "\(sum) instead of \(wantedSum)")
    }
  }
}
