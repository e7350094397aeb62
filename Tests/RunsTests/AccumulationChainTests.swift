// Whole chains under AdamW, Fisher passes and buffers included, with the rows of a step cut in four ways.
import Archive
import Foundation
import Models
import Runs
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct AccumulationChainTests {
  static let stacks = [
    "[]", TinyExperiment.guarded,
    "[ { ewc: { lambda: 5, form: coupled, fisher: { structure: kronecker, examples: 24 } } }, { si: { c: 5 } } ]",
    "[ { der: { ratio: 0.2, budget_tokens: 400, top_k: 9 } }, { agem: { budget_tokens: 400, sample_tokens: 60 } } ]",
  ]

  /// Rows of one to 32 tokens, so that a mean of micro-batch means, the mistake this is about, is another mean.
  ///
  /// AdamW divides a gradient by its own size: where that is mere rounding a number may go the other way, a whole step
  /// off. So the middle of all differences is held to what rounding costs, and all but a hundredth of them to little.
  @Test(arguments: stacks) func adamWTakesTheSameSteps(_ stack: String) throws {
    try withTemporaryDirectory { folder in
      var updates: [[Double]] = []
      for (rows, parts) in [(6, 1), (3, 2), (2, 3), (1, 6)] {
        let experiment = try TinyExperiment(in: "\(folder)/\(parts)", methods: stack)
        let code = try experiment.run([
          "training.micro_batch_size=\(rows)", "training.gradient_accumulation_steps=\(parts)",
          "training.sample_packing=false", "training.max_steps=3", "training.learning_rate=1e-3",
          "checkpoint.save_steps=0",
        ])
        try #require(code == ExitCode.done)
        let backend = CPUBackend(threads: 1)
        func values(_ name: String) throws -> [Float] {
          try LoadedModel.load("\(experiment.output)/checkpoints/\(name).h5", on: backend).transformer.parameters
            .values.toArray()
        }
        let (base, end) = (try values("base"), try values("legal-end"))
        updates.append(zip(end, base).map { Double($0.0) - Double($0.1) })
      }
      let whole = updates[0]
      let squares = whole.reduce(0) { $0 + $1 * $1 }
      let size = (squares / Double(whole.count)).squareRoot()
      #expect(size > 1e-4)
      for (index, other) in updates.enumerated().dropFirst() {
        let errors = zip(other, whole).map { abs($0.0 - $0.1) / size }.sorted()
        let (middle, most) = (errors[errors.count / 2], errors[errors.count * 99 / 100])
        #expect(middle <= 3e-5 && most <= 3e-3, "way \(index): \(middle) in the middle, 99 % below \(most)")
      }
    }
  }
}
