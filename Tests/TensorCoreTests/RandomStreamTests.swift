// Random numbers: uniform, normal, independent between forks, and resumable from two integers.
import TensorCore
import Testing

@Suite struct RandomStreamTests {
  /// χ² of counts against equal expectations.
  func chiSquare(_ counts: [Int]) -> Double {
    let expected = Double(counts.reduce(0, +)) / Double(counts.count)
    return counts.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
  }

  /// Bounds are the 0.1 % quantiles of χ² with 9, 15 and 6 degrees of freedom.
  @Test(arguments: [1, 2, 3] as [UInt64])
  func isUniform(_ seed: UInt64) {
    var random = RandomStream(seed: seed)
    var tenths = [Int](repeating: 0, count: 10)
    var nibbles = [Int](repeating: 0, count: 16)
    var sevenths = [Int](repeating: 0, count: 7)
    for _ in 0..<50_000 {
      let uniform = random.uniform()
      #expect(uniform >= 0 && uniform < 1)
      tenths[Int(uniform * 10)] += 1
      nibbles[Int(random.next() & 15)] += 1
      sevenths[random.integer(below: 7)] += 1
    }
    #expect(chiSquare(tenths) < 27.88)
    #expect(chiSquare(nibbles) < 37.70)
    #expect(chiSquare(sevenths) < 22.46)
  }

  @Test func everyBitIsFair() {
    var random = RandomStream(seed: 8)
    var ones = [Int](repeating: 0, count: 64)
    for _ in 0..<20_000 {
      let word = random.next()
      for bit in 0..<64 where word >> UInt64(bit) & 1 == 1 { ones[bit] += 1 }
    }
    // Standard deviation 71; five of them for 64 bits.
    for count in ones { #expect(abs(count - 10_000) < 354) }
  }

  /// Mean, variance, skewness and kurtosis of 100,000 normals, each within five standard errors.
  @Test func normalsHaveTheirMoments() {
    var random = RandomStream(seed: 4)
    let values = (0..<100_000).map { _ in random.normal() }
    func moment(_ power: Int) -> Double { values.map { Maths.pow($0, Double(power)) }.reduce(0, +) / 100_000 }
    #expect(abs(moment(1)) < 5 * 0.00317)
    #expect(abs(moment(2) - 1) < 5 * 0.00448)
    #expect(abs(moment(3)) < 5 * 0.0123)
    #expect(abs(moment(4) - 3) < 5 * 0.031)
  }

  @Test func forksShareNothing() {
    var parent = RandomStream(seed: 1)
    let untouched = parent
    var streams = [parent.forked("a"), parent.forked("b"), parent.forked("ab"), parent.forked("a", 0)]
    streams += [parent.forked("a", 1), parent.forked("a", -1), RandomStream(seed: 2).forked("a")]
    #expect(parent == untouched)
    #expect(Set(streams.map(\.key)).count == streams.count)
    #expect(parent.forked("a") == streams[0])

    var seen = Set<UInt64>()
    var columns = [[Double]]()
    for index in streams.indices {
      columns.append((0..<4000).map { _ in streams[index].uniform() - 0.5 })
      for _ in 0..<4000 { seen.insert(streams[index].next()) }
    }
    columns.append((0..<4000).map { _ in parent.uniform() - 0.5 })
    #expect(seen.count == streams.count * 4000)
    // Correlations of independent uniforms have standard error 1/√4000 = 0.016.
    for one in columns.indices {
      for other in 0..<one {
        let correlation = zip(columns[one], columns[other]).reduce(0) { $0 + $1.0 * $1.1 } * 12 / 4000
        #expect(abs(correlation) < 5 * 0.0159)
      }
    }
  }

  @Test func consecutiveSeedsAndNumbersAreUncorrelated() {
    let first = (0..<4000).map { seed -> Double in
      var random = RandomStream(seed: UInt64(seed))
      return random.uniform() - 0.5
    }
    var random = RandomStream(seed: 6)
    let row = (0..<4000).map { _ in random.uniform() - 0.5 }
    for values in [first, row] {
      for lag in 1...3 {
        let correlation = zip(values, values.dropFirst(lag)).reduce(0) { $0 + $1.0 * $1.1 } * 12 / 4000
        #expect(abs(correlation) < 5 * 0.0159)
      }
    }
  }

  @Test func resumesFromKeyAndCounter() {
    var random = RandomStream(seed: 7).forked("shuffle", 3)
    for _ in 0..<17 { _ = random.normal() }
    #expect(random.counter == 34)
    var resumed = RandomStream(key: random.key, counter: random.counter)
    #expect((0..<100).map { _ in random.next() } == (0..<100).map { _ in resumed.next() })
    #expect(random == resumed)
  }
}
