// Validation rows are measured and nothing else: they reach no buffer, no prompt, no parameter.
import Archive
import Corpus
import Foundation
import Ledger
import Runs
import StrictJSON
import TestKit
import Testing

@Suite struct HeldOutRowsTests {
  private static let share = 0.4
  /// Buffers that have room for everything.
  private static let stack = """
    [ { replay: { ratio: 0.2, budget_tokens: 100000 } }, { agem: { budget_tokens: 100000, sample_tokens: 40 } },
      { der: { ratio: 0.1, budget_tokens: 100000, top_k: 4, insert: INSERT } },
      { self_rehearsal: { ratio: 0.1, budget_tokens: 3000, text_tokens: 24, prompt_tokens: 18 } } ]
    """

  /// Inputs of the sequences that a run makes of rows.
  private func sequences(_ rows: [SourceRow], _ experiment: TinyExperiment) throws -> [[Int32]] {
    let tokenizer = try Tokenizer.load(folder: experiment.folder + "/tokenizer")
    let builder = ExampleBuilder(
      encode: { tokenizer.encode($0) }, prefixToken: tokenizer.bosToken, eosToken: tokenizer.eosToken,
      sequenceLength: 32)
    return try builder.examples(from: rows).examples.map { Array($0.tokens.dropLast()) }
  }
  private func rows(_ name: String, _ experiment: TinyExperiment) throws -> [SourceRow] {
    try DataReader.read(paths: ["\(experiment.folder)/data/\(name)-train.jsonl"])
  }
  /// Inputs of what a buffer holds of one past.
  private func held(_ archive: ArchiveReader, _ buffer: String, past: Int) throws -> [[Int32]] {
    let tokens = try archive.int32s("methods/\(buffer)/tokens")
    let (lengths, pasts) = (
      try archive.ints("methods/\(buffer)/lengths"), try archive.ints("methods/\(buffer)/past")
    )
    var (found, first): ([[Int32]], Int) = ([], 0)
    for (length, owner) in zip(lengths, pasts) {
      if owner == past { found.append(Array(tokens[first..<first + length])) }
      first += length
    }
    return found
  }
  private func sorted(_ sequences: [[Int32]]) -> [[Int32]] {
    sequences.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// Of every past the buffers hold the rows that were trained on, all of them and no other. Mistakes: buffers that are
  /// offered the stage's rows before the split, or validation rows beside them.
  @Test(arguments: ["stage_end", "step"]) func buffersHoldTrainingRowsAlone(insert: String) throws {
    try withTemporaryDirectory { folder in
      let experiment = try TinyExperiment(
        in: folder, methods: Self.stack.replacing("INSERT", with: insert))
      let code = try experiment.run([
        "stages.medical.val_set_size=\(Self.share)", "training.max_steps=8", "checkpoint.save_steps=0",
      ])
      try #require(code == ExitCode.done)
      let archive = try ArchiveReader(path: experiment.output + "/checkpoints/legal-end.h5")
      let medical = try rows("medical", experiment)
      let split = Holdout.split(medical, fraction: Self.share)
      try #require(split.validation.count > 10)
      let trained = try sequences(split.train.map { medical[$0] }, experiment)
      let heldOut = try sequences(split.validation.map { medical[$0] }, experiment)
      let pasts = [
        try sequences(rows("general", experiment), experiment), trained,
        try sequences(rows("legal", experiment), experiment),
      ]
      for (past, wanted) in pasts.enumerated() {
        for buffer in ["replay", "agem"] {
          #expect(try sorted(held(archive, buffer, past: past)) == sorted(wanted), "\(buffer), past \(past)")
        }
        for buffer in ["der/dark", "der/plain"] {
          let found = try held(archive, buffer, past: past)
          // Within a stage only what steps have come to is inserted.
          if insert == "step", past > 0 {
            #expect(!found.isEmpty && Set(found).isSubset(of: wanted), "\(buffer), past \(past)")
          } else {
            #expect(sorted(found) == sorted(wanted), "\(buffer), past \(past)")
          }
        }
      }
      // Texts that the model writes begin like training rows.
      func openings(_ sequences: [[Int32]]) -> Set<[Int32]> { Set(sequences.map { Array($0.dropFirst().prefix(18)) }) }
      let forbidden = openings(heldOut).filter { $0.count == 18 }.subtracting(openings(trained))
      let texts = try held(archive, "self_rehearsal", past: 1).map { Array($0.dropFirst()) }
      #expect(forbidden.count > 10 && texts.count > 10)
      #expect(!texts.contains { text in forbidden.contains { text.starts(with: $0) } })
      #expect(texts.contains { text in openings(trained).contains { $0.count == 18 && text.starts(with: $0) } })
    }
  }

  /// A file of validation rows beside the stage's own changes no bit of the model and of the buffers, within the stage
  /// or at its end. Mistakes: rows that are trained on, buffered, or measured with draws from a stream that steps use.
  @Test func validationFilesChangeNothing() throws {
    try withTemporaryDirectory { folder in
      func end(_ name: String, _ val: String) throws -> (experiment: TinyExperiment, archive: ArchiveReader) {
        let experiment = try TinyExperiment(
          in: "\(folder)/\(name)", methods: Self.stack.replacing("INSERT", with: "stage_end"))
        let yaml = experiment.yaml.replacing(", val_set_size: 0.1", with: val)
        try #require(yaml != experiment.yaml)
        try yaml.write(toFile: experiment.file, atomically: true, encoding: .utf8)
        let code = try experiment.run(["training.max_steps=6", "checkpoint.save_steps=0"])
        try #require(code == ExitCode.done)
        return (experiment, try ArchiveReader(path: experiment.output + "/checkpoints/legal-end.h5"))
      }
      let without = try end("without", "")
      let with = try end("with", ", val: data/medical-test.jsonl")
      func validations(_ experiment: TinyExperiment) throws -> Int {
        let events = try LedgerReader.events(experiment.output + "/ledger.jsonl")
        return events.filter { $0["event"]?.string == "validation" }.count
      }
      #expect(try validations(without.experiment) == 0 && validations(with.experiment) == 2)
      for name in with.archive.names(under: "model/parameters") {
        let path = "model/parameters/\(name)"
        #expect(try with.archive.floats(path) == without.archive.floats(path), "\(name)")
      }
      for buffer in ["replay", "agem", "der/dark", "der/plain", "self_rehearsal"] {
        let path = "methods/\(buffer)/tokens"
        #expect(try with.archive.int32s(path) == without.archive.int32s(path), "\(buffer)")
      }
      #expect(try with.experiment.steps() == without.experiment.steps())
    }
  }
}
