// Whole stacks on one, two, three and five threads: the same bits in everything that a run leaves.
import Foundation
import Ledger
import Runs
import StrictJSON
import TestKit
import Testing

@Suite struct ThreadCountTests {
  struct Stack: CustomTestStringConvertible {
    let methods: String
    var steps = 2
    var rate = "5e-3"
    /// Whether steps are held to memories, of which some must have been changed.
    var projects = false
    var testDescription: String { methods }
  }
  static let stacks = [
    Stack(
      methods: "[ { ewc: { lambda: 5, fisher: { examples: 24 } } }, { replay: { ratio: 0.2, budget_tokens: 2000 } } ]"),
    Stack(methods: "[ { ewc: { lambda: 5, fisher: { structure: kronecker, examples: 24 } } } ]"),
    Stack(
      methods: "[ { agem: { budget_tokens: 2000, sample_tokens: 400 } } ]", steps: 8, rate: "2e-2", projects: true),
    Stack(methods: "[ { lwf: { alpha: 2, teacher: cached } } ]"),
    Stack(methods: "[ { der: { alpha: 1, beta: 0.5, ratio: 0.2, budget_tokens: 2000, top_k: 9 } } ]"),
  ]
  /// About 500 tokens a step and 195 000 parameters: rows, products and sums over vectors all fall into several chunks.
  private static let sizes = [
    "base_model.hidden_size=80", "base_model.intermediate_size=256", "training.sequence_len=64",
    "training.micro_batch_size=8", "training.gradient_accumulation_steps=1", "checkpoint.save_steps=0",
  ]

  /// Mistakes: chunks that depend on the number of threads, or sums added in the order in which threads end.
  @Test(arguments: stacks) func noBitDependsOnThreads(_ stack: Stack) throws {
    try withTemporaryDirectory { folder in
      var hashes: [String] = []
      var left: [(results: JSON, steps: [String])] = []
      for threads in [1, 2, 3, 5] {
        let experiment = try TinyExperiment(in: "\(folder)/\(threads)", methods: stack.methods)
        let code = try experiment.run(
          Self.sizes + [
            "training.max_steps=\(stack.steps)", "training.learning_rate=\(stack.rate)", "threads=\(threads)",
          ])
        try #require(code == ExitCode.done)
        let results = try RunResults.read(experiment.output + "/results.json")
        hashes.append(try #require(results.final?.parametersSHA256))
        left.append((try experiment.results(), try experiment.steps()))
        guard stack.projects else { continue }
        let ends = try LedgerReader.events(experiment.output + "/ledger.jsonl").filter {
          $0["event"]?.string == "stage_ended"
        }
        #expect(ends.contains { ($0["facts"]?["projected_steps"]?.double ?? 0) > 0 })
      }
      #expect(Set(hashes).count == 1, "\(hashes)")
      for other in left.dropFirst() { #expect(other.results == left[0].results && other.steps == left[0].steps) }
    }
  }
}
