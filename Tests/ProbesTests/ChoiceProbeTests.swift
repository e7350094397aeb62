// Minimal pairs, multiple choice and gaps on a model whose probabilities are known;
// images on a classifier.
import Corpus
import Foundation
import Ledger
import Models
import Probes
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct ChoiceProbeTests {
  let backend = CPUBackend(threads: 1)

  func ask(
    _ bigram: BigramModel, _ rows: String, shots: String? = nil,
    _ change: (inout ProbeDefinition) -> Void = { _ in }
  ) throws -> [Ledger.Measurement] {
    try withRows(rows) { path in
      var definition = ProbeDefinition(name: "p", paths: [path])
      if let shots {
        definition.fewshotPath = path + ".shots.jsonl"
        try Data(shots.utf8).write(to: URL(fileURLWithPath: path + ".shots.jsonl"))
      }
      change(&definition)
      let probe = try PreparedProbe(definition, model: bigram.model)
      return try probe.measure(bigram.model.transformer, on: backend)
    }
  }

  @Test func minimalPairsCompareWholeSentences() throws {
    let bigram = try BigramModel(scores: ["ab": 5, "ba": -3], on: backend)
    let found = try ask(
      bigram,
      """
      {"sentence_good": "ab", "sentence_bad": "ba"}
      {"sentence_good": "ba", "sentence_bad": "ab"}
      {"sentence_good": "cab", "sentence_bad": "cab"}
      {"sentence_good": "abab and over sixteen letters", "sentence_bad": "bbbb and over sixteen letters"}
      """)
    #expect(found.count == 1 && found[0].metric == "acc" && found[0].higherIsBetter)
    #expect(found[0].numerators == [1, 0, 0, 1])
    #expect(found[0].value == 0.5)
  }

  @Test func accuracyAndItsNormalisedForm() throws {
    // After a space, b is likely and x rare; b is followed by b at a middling price, so length decides.
    let bigram = try BigramModel(scores: [" b": 4, " x": -1, "bb": 2.5, "xx": -2], on: backend)
    let rows = """
      {"question": "who", "choices": ["b", "bbbb", "x"], "answer": 1}
      {"ctx": "who", "endings": ["x", "b"], "label": "1"}
      {"question": "who", "choices": ["b", "b"], "answer": 0}
      """
    let found = try ask(bigram, rows) { $0.kind = .multipleChoice }
    #expect(found.map(\.metric) == ["acc", "acc_norm"])
    let first = try ["b", "bbbb", "x"].map { choice -> Double in
      try bigram.nats("Question: who\nAnswer: " + choice, from: 21)
    }
    #expect(first[0] < first[1] && first[1] / 5 < first[0] / 2)
    #expect(found[0].numerators == [0, 1, 0])
    #expect(found[1].numerators == [1, 1, 0])
    // Scored tokens: " b" " bbbb" " x", " x" " b", " b" " b".
    #expect(found[0].tokens == 2 + 5 + 2 + 4 + 4)
  }

  @Test func gapsScoreWhatFollowsThem() throws {
    // The sentence after the gap begins with a space: only the step from the option's last letter differs.
    let bigram = try BigramModel(scores: ["b ": 3, "c ": -3, " b": 5], on: backend)
    let rows = """
      {"sentence": "the _ ran", "option1": "b", "option2": "c", "answer": "1"}
      {"sentence": "the _ ran", "option1": "b", "option2": "c", "answer": "2"}
      """
    #expect(try ask(bigram, rows)[0].numerators == [1, 0])
  }

  @Test func mergesAcrossTheBorderCompareTheSameCharacters() throws {
    // "z " is one token: choice "b" merges the prompt's z with the space, choice "zb" too.
    let bigram = try BigramModel(scores: ["z b": 4, "z c": 1], on: backend)
    let rows = #"{"ctx": "quiz", "endings": ["c", "b"], "label": 1}"#
    let found = try ask(bigram, rows)
    #expect(found[0].numerators == [1])
    // The merged token is scored with each: "z " and the letter.
    #expect(found[0].tokens == 4)
  }

  @Test func promptsFewShotsAndTheirErrors() throws {
    let bigram = try BigramModel(scores: [" b": 4], on: backend)
    let row = #"{"question": "who", "choices": ["b", "c"], "answer": 0}"#
    let shots = #"{"question": "how", "choices": ["c", "d"], "answer": 1}"# + "\n" + row
    #expect(try ask(bigram, row) { $0.prompt = "Q: {question} A:" }[0].value == 1)
    #expect(try ask(bigram, row, shots: shots) { $0.fewshotCount = 2 }[0].value == 1)
    #expect(throws: ProbeError.self) { try ask(bigram, row) { $0.prompt = "no place" } }
    #expect(throws: ProbeError.self) { try ask(bigram, row, shots: shots) { $0.fewshotCount = 3 } }
    #expect(throws: ProbeError.self) { try ask(bigram, row) { $0.fewshotCount = 1 } }
    #expect(throws: ProbeError.self) {
      try ask(bigram, row) {
        $0.fewshotCount = 1
        $0.fewshotPath = $0.paths[0]
      }
    }
    #expect(throws: ProbeError.self) { try ask(bigram, row) { $0.images = .init(images: "a", labels: "b") } }
  }

  @Test func solvedExamplesStandBeforeTheQuestion() throws {
    let model = try BigramModel(on: backend).model
    let row = #"{"question": "who", "choices": ["b", "c"], "answer": 0}"#
    let shots = #"{"question": "how", "choices": ["c", "dd"], "answer": 1}"#
    let text = "Question: how\nAnswer: dd\n\nQuestion: who\nAnswer: b"
    // One token a letter, the prefix token first, the last letter not fed.
    let inputs = text.count
    try withRows(row) { path in
      try Data(shots.utf8).write(to: URL(fileURLWithPath: path + ".shots.jsonl"))
      var definition = ProbeDefinition(name: "p", paths: [path])
      definition.fewshotPath = path + ".shots.jsonl"
      definition.fewshotCount = 1
      for (context, notes) in [(inputs, 0), (inputs - 1, 1)] {
        let probe = try PreparedProbe(
          definition, tokenizer: model.tokenizer, prefixToken: 0, contextLength: context)
        #expect(probe.notes.count == notes)
      }
    }
  }

  @Test func longPromptsAreCutFromTheLeftAndSaidSo() throws {
    let bigram = try BigramModel(scores: [" b": 4], on: backend)
    let row = #"{"question": "a question of many letters", "choices": ["c", "b"], "answer": 1}"#
    try withRows(row) { path in
      let probe = try PreparedProbe(ProbeDefinition(name: "p", paths: [path]), model: bigram.model)
      #expect(probe.notes.count == 1)
      #expect(try probe.measure(bigram.model.transformer, on: backend)[0].value == 1)
    }
  }

  @Test func lettersThatTheTokenizerLacksWinNothing() throws {
    let bigram = try BigramModel(on: backend)
    try withRows(#"{"sentence_good": "ÄÖ", "sentence_bad": "ab"}"#) { path in
      let probe = try PreparedProbe(ProbeDefinition(name: "p", paths: [path]), model: bigram.model)
      #expect(probe.notes.count == 1)
      #expect(try probe.measure(bigram.model.transformer, on: backend)[0].value == 0)
    }
  }

  @Test func imagesByAHead() throws {
    // Two pixels; head 1 answers the brighter one: weights of a fresh classifier are overwritten.
    let images = ([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2] + [255, 0, 0, 255, 200, 10]) as [UInt8]
    let labels = [0, 0, 8, 1, 0, 0, 0, 3, 6, 7, 7] as [UInt8]
    let network = MLP(
      MLPConfiguration(inputs: 2, hiddenSizes: [], classes: [3, 2]), random: RandomStream(seed: 1),
      on: backend)
    network.parameters["heads.1.weight"]?.value.assign([1, 0, 0, 1])
    network.parameters["heads.1.bias"]?.value.assign([0, 0])
    try withTemporaryDirectory { directory in
      try Data(images).write(to: URL(fileURLWithPath: directory + "/images"))
      try Data(labels).write(to: URL(fileURLWithPath: directory + "/labels"))
      var source = ProbeDefinition.ImageSource(images: directory + "/images", labels: directory + "/labels")
      source.classes = [6, 7]
      source.head = 1
      source.countsWithinClasses = true
      var definition = ProbeDefinition(name: "digits", kind: .classification)
      definition.images = source
      let probe = try PreparedProbe(images: definition)
      #expect(probe.items == 3 && probe.features == 2 && probe.kind == .classification)
      let found = try probe.measure(network, on: backend)
      #expect(found.count == 1 && found[0].numerators == [1, 1, 0])
      definition.images?.countsWithinClasses = false
      #expect(try PreparedProbe(images: definition).measure(network, on: backend)[0].value == 0)
    }
  }

  @Test func theCatalogNamesEveryKind() {
    #expect(ProbeCatalog.cards.map(\.kind) == ProbeKind.allCases)
    #expect(ProbeCatalog.cards.allSatisfy { !$0.metrics.isEmpty && !$0.summary.isEmpty })
  }
}
