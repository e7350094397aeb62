// Percentile bootstrap over documents, paired: one draw serves every row and every run.
// Has its own random numbers, so that an interval is the same on every machine and after every resume.

/// A closed interval of plausible values.
public struct Interval: Sendable, Equatable {
  public var lower: Double
  public var upper: Double
  public init(_ lower: Double, _ upper: Double) {
    self.lower = lower
    self.upper = upper
  }
  /// True when zero lies outside.
  public var excludesZero: Bool { lower > 0 || upper < 0 }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit word of state, equal everywhere.
struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
    return word ^ (word >> 31)
  }

  /// A number below `count`, by the high word of a product; the bias is below count ÷ 2⁶⁴.
  mutating func below(_ count: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(count)).high)
  }
}

/// Resampling of documents.
public enum Bootstrap {
  /// A difference between two measurements on the same documents.
  public struct Difference: Sendable, Equatable {
    /// Second minus first, in units of the metric.
    public var value: Double
    /// Nil where the documents differ, are none, or a value is not finite.
    public var interval: Interval?
  }

  /// The stream of draws for a probe: by its name, so that other probes do not shift it.
  static func stream(seed: Int, probe: String) -> SplitMix64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in probe.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    var mixer = SplitMix64(seed: hash ^ UInt64(bitPattern: Int64(seed)))
    return SplitMix64(seed: mixer.next())
  }

  /// Fills `indices` with as many draws with replacement.
  static func draw(_ indices: inout [Int], from stream: inout SplitMix64) {
    for position in indices.indices { indices[position] = stream.below(indices.count) }
  }

  /// Values of `statistic` over resampled documents, the same draw for all rows.
  ///
  /// - Parameter rows: measurements of one probe metric on the same documents.
  /// - Returns: `count` values, or nil where the rows are not paired.
  /// - Cost: count · rows · documents additions.
  public static func replicates(
    of rows: [Measurement], count: Int, seed: Int, statistic: ([Double]) -> Double
  ) -> [Double]? {
    guard let first = rows.first, count > 0, rows.allSatisfy({ $0.isPaired(with: first) }) else { return nil }
    var stream = stream(seed: seed, probe: first.probe)
    var indices = [Int](repeating: 0, count: first.n)
    return (0..<count).map { _ in
      draw(&indices, from: &stream)
      return statistic(rows.map { $0.resampled(indices) })
    }
  }

  /// The percentile interval of replicates; nil for none or where one is not finite.
  ///
  /// Quantiles (1 ± confidence) ÷ 2, interpolated linearly between order statistics.
  public static func interval(_ replicates: [Double], confidence: Double) -> Interval? {
    guard !replicates.isEmpty, confidence > 0, confidence < 1, replicates.allSatisfy(\.isFinite) else {
      return nil
    }
    let sorted = replicates.sorted()
    func quantile(_ share: Double) -> Double {
      let position = share * Double(sorted.count - 1)
      let below = Int(position)
      let above = min(below + 1, sorted.count - 1)
      return sorted[below] + (position - Double(below)) * (sorted[above] - sorted[below])
    }
    return Interval(quantile((1 - confidence) / 2), quantile((1 + confidence) / 2))
  }

  /// Second minus first with a paired interval: between two rows of a run, or the same row of two runs.
  public static func difference(
    _ first: Measurement, _ second: Measurement, confidence: Double = 0.95, count: Int = 2000, seed: Int = 0
  ) -> Difference {
    let replicates = replicates(of: [first, second], count: count, seed: seed) { $0[1] - $0[0] }
    return Difference(
      value: second.value - first.value,
      interval: replicates.flatMap { interval($0, confidence: confidence) })
  }
}
