// Random numbers that can be named, forked and resumed: a counter under a key, nothing else.

/// A counter-based stream: number n is a mix of (key, n), so its whole state is two integers.
///
/// - Source: the mixing function is SplitMix64's finaliser (Steele et al. 2014), applied twice
public struct RandomStream: Sendable, Equatable, RandomNumberGenerator {
  public let key: UInt64
  public private(set) var counter: UInt64

  public init(seed: UInt64) { self.init(key: Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15), counter: 0) }
  public init(key: UInt64, counter: UInt64) {
    self.key = key
    self.counter = counter
  }

  public mutating func next() -> UInt64 {
    counter &+= 1
    return Self.mix(Self.mix(counter &* 0x9E37_79B9_7F4A_7C15 ^ key) &+ key)
  }
  /// A stream that shares nothing with this one; it does not advance this one.
  public func forked(_ name: String) -> RandomStream {
    var hash = key
    for byte in name.utf8 { hash = Self.mix(hash ^ UInt64(byte) &+ 0x9E37_79B9_7F4A_7C15) }
    return RandomStream(key: hash, counter: 0)
  }
  public func forked(_ name: String, _ index: Int) -> RandomStream {
    var stream = forked(name)
    stream = RandomStream(
      key: Self.mix(stream.key ^ UInt64(bitPattern: Int64(index)) &* 0xD1B5_4A32_D192_ED03), counter: 0)
    return stream
  }

  /// Uniform in [0, 1), 53 bits.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
  /// Uniform in 0 ..< bound, without bias.
  public mutating func integer(below bound: Int) -> Int {
    precondition(bound > 0, "an empty range has no random member")
    let limit = UInt64(bound)
    let threshold = (0 &- limit) % limit
    while true {
      let (high, low) = next().multipliedFullWidth(by: limit)
      if low >= threshold { return Int(high) }
    }
  }
  /// Standard normal, by Box and Muller; two uniforms a number.
  public mutating func normal() -> Double {
    let radius = (-2 * Maths.log(1 - uniform())).squareRoot()
    return radius * Maths.cos(2 * Double.pi * uniform())
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
