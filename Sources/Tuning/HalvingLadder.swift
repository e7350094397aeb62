// How long the rungs of a search are and how many candidates climb: successive halving by three.
// Pure arithmetic, apart from the running of it.

/// The rungs of a search, the shortest first; the last is the full length.
///
/// Each rung below divides the steps by three once more and passes the best third of its candidates on. Every
/// rung is a complete run of its own length: warm-up, decay and all.
/// The knee moves with the length of training, so in full the neighbours of the best value are tried as well,
/// as long as the whole search stays cheaper than a grid.
/// - Cost: n candidates of S steps on two rungs take n·S/3 + (n/3 + 1 or 2)·S, a grid n·S
/// - Source: Jamieson and Talwalkar 2016, arXiv:1502.07943
public struct HalvingLadder: Sendable, Equatable {
  public static let factor = 3
  /// A rung with fewer steps than this says little about the full run and is left out.
  public static let fewestSteps = 20

  /// What the full number of steps is divided by, rung for rung; the last is 1.
  public let divisors: [Int]

  /// - Parameters:
  ///   - candidates: how many values begin
  ///   - steps: of the tuned stage in full
  ///   - halves: false for a grid or random search, which run everything in full
  public init(candidates: Int, steps: Int, halves: Bool) {
    var divisors = [1]
    var (left, divisor) = (candidates, 1)
    while halves, left > Self.factor, steps / (divisor * Self.factor) >= Self.fewestSteps {
      divisor *= Self.factor
      divisors.insert(divisor, at: 0)
      left /= Self.factor
    }
    self.divisors = divisors
  }

  /// How many of a rung's candidates go on: the best third, at least two.
  public static func survivors(of candidates: Int) -> Int {
    min(candidates, max(2, candidates / factor))
  }

  /// The steps of a rung: the full number divided, rounded up.
  public static func steps(_ full: Int, divisor: Int) -> Int { max(1, (full + divisor - 1) / divisor) }
}
