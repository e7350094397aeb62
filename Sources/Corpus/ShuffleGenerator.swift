// Random order that is the same on every machine and in every version: SplitMix64 on a named stream.
// Swift's own shuffle may change its draws between releases, so the shuffle is ours too.

/// A deterministic source of 64-bit numbers; streams of one seed are independent.
public struct ShuffleGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Starts the stream `stream` of `seed`, at `position` (an epoch, for instance).
  public init(seed: UInt64, stream: UInt64 = 0, position: UInt64 = 0) {
    state = Self.mix(Self.mix(Self.mix(seed) &+ stream) &+ position)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  /// A number in 0 ..< `bound`, every one equally likely; 0 for a bound below 2.
  public mutating func below(_ bound: Int) -> Int {
    guard bound > 1 else { return 0 }
    let width = UInt64(bound)
    // Lemire: the high half of a product is uniform once the few low halves that favour some values are refused.
    let refused = (0 &- width) % width
    while true {
      let product = next().multipliedFullWidth(by: width)
      if product.low >= refused { return Int(product.high) }
    }
  }

  /// Puts the items in random order (Fisher–Yates from the end).
  public mutating func shuffle<Item>(_ items: inout [Item]) {
    for last in stride(from: items.count - 1, to: 0, by: -1) { items.swapAt(last, below(last + 1)) }
  }

  /// The numbers 0 ..< `count` in random order.
  public mutating func permutation(_ count: Int) -> [Int] {
    var order = Array(0..<max(0, count))
    shuffle(&order)
    return order
  }

  /// The finaliser of SplitMix64: every input bit reaches every output bit.
  static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}
