import Layers
import TensorCore
import Testing
import Training

/// How sequences are cut into the batches of a pass.
@Suite struct BatchRunsTests {
  private func lengths(_ lengths: [Int], _ limit: Int) -> [[Int]] {
    lengths.map { Exemplar(inputs: [Int32](repeating: 1, count: $0), targets: [Int32](repeating: 1, count: $0)) }
      .runs(ofTokens: limit).map { $0.map(\.inputs.count) }
  }

  @Test func smallCasesByHand() {
    #expect(lengths([], 8) == [])
    #expect(lengths([3], 8) == [[3]])
    #expect(lengths([4, 4], 8) == [[4, 4]])
    #expect(lengths([4, 4, 4], 8) == [[4, 4], [4]])
    // Not nine and one.
    #expect(lengths([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 9) == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    #expect(lengths([20, 1, 20], 8) == [[20], [1], [20]])
    #expect(lengths([0, 0, 5, 0], 8) == [[0, 0, 5, 0]])
  }

  /// As few runs as filling each one takes; with less in the largest there would be more of them.
  @Test func everySequenceOnceInTheFewestAndEvenestRuns() {
    func fewest(_ all: [Int], _ limit: Int) -> Int {
      var (runs, filled) = (1, 0)
      for tokens in all {
        if filled + tokens > limit { (runs, filled) = (runs + 1, 0) }
        filled += tokens
      }
      return runs
    }
    var random = RandomStream(seed: 3)
    for _ in 0..<200 {
      let limit = 16 + random.integer(below: 200)
      let all = (0..<(1 + random.integer(below: 120))).map { _ in 1 + random.integer(below: 16) }
      let runs = lengths(all, limit)
      let largest = runs.map { $0.reduce(0, +) }.max() ?? 0
      #expect(Array(runs.joined()) == all && largest <= limit && runs.count == fewest(all, limit))
      let longest = all.max() ?? 0
      #expect(largest == longest || fewest(all, largest - 1) > runs.count, "\(limit): \(runs)")
    }
  }
}
