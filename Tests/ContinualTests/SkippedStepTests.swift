// A step whose loss or gradient is not finite: nothing of it stays, in memory or across an interruption.
import Continual
import Layers
import TensorCore
import TestKit
import Testing
import Training

@Suite struct SkippedStepTests {
  private let world = RowWorld(hidden: [])

  private func method() -> DarkExperienceReplay {
    DarkExperienceReplay(
      alpha: 0, beta: 1, ratio: 0.5, budgetTokens: 100, selection: .reservoir, isSquared: false, topK: 1,
      insertsAtSteps: true)
  }

  /// Sequences that were composed for a step that was not taken do not enter with the next one, and a run that was
  /// stopped in between goes on as one that was not.
  @Test func sequencesOfASkippedStepDoNotEnterTheBuffer() throws {
    let train = world.trainer()
    let der = method()
    try der.stageWillBegin(world.stage())
    let before = world.store.values.toArray()
    _ = world.compose(Array(world.exemplars[..<6]), [der])
    let undefined = world.backend.tensor([Float](repeating: .nan, count: 4), 1, 4)
    let skipped = train(
      [Batch(features: undefined, labels: [0])], learningRate: 0.1, maximumNorm: 0, methods: [der])
    #expect(!skipped.isFinite && world.store.values.toArray() == before)

    let state = MemoryState()
    der.write(to: state)
    let resumed = method()
    try resumed.stageWillBegin(world.stage())
    try resumed.restore(from: state)
    for method in [der, resumed] {
      let rows = Array(world.exemplars[6..<12])
      let report = train(world.compose(rows, [method]), learningRate: 0.1, maximumNorm: 0, methods: [method])
      #expect(report.isFinite)
      let state = MemoryState()
      method.write(to: state)
      let kept = try state.tokens("plain/tokens").sorted()
      #expect(kept == (6..<12).map { Int32($0) })
      // The first counter: sequences seen.
      #expect(try state.integers("plain/counters").first == 6)
    }
  }
}
