// When an estimate has seen enough: its sum is known, or both halves of what was seen agree on what matters.
import TensorCore

/// Asked after every batch of an estimate, in the order of batches.
protocol StopRule: AnyObject {
  func isEnough(_ seen: FisherCount) -> Bool
}

/// Ends an estimate once the sum of its diagonal is known well enough.
final class TraceRule: StopRule {
  private let sums: Tensor
  private let ones: Tensor
  private let tolerance: Double
  private let backend: any Backend
  private var sum = 0.0
  private var scored = 0
  /// Σ F a scored token of every batch.
  private var traces: [Double] = []

  init(_ sums: Tensor, _ tolerance: Double, on backend: any Backend) {
    self.sums = sums
    self.tolerance = tolerance
    self.backend = backend
    ones = backend.empty(1, sums.count)
    backend.fill(ones, 1)
  }

  func isEnough(_ seen: FisherCount) -> Bool {
    let now = backend.dot(sums, ones)
    traces.append((now - sum) / Double(max(1, seen.scored - scored)))
    (sum, scored) = (now, seen.scored)
    // Fewer say nothing about how they scatter.
    guard traces.count >= 4 else { return false }
    let count = Double(traces.count)
    let mean = traces.reduce(0, +) / count
    let variance = traces.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    return (variance / count).squareRoot() <= tolerance * mean
  }
}

/// Ends an estimate once even and odd batches put the coordinates of the diagonal in nearly the same order.
///
/// ρ(Σ F over even batches, Σ F over odd batches) ≥ threshold, ρ Spearman's rank correlation, after 4, 8, 16, … batches,
/// over at most 65 536 coordinates drawn once. Those with 0 in both halves are left out: as ties they would agree.
/// - Cost: 28 bytes a coordinate; one look at each after every batch, two sorts for every doubling of the batches
final class RankRule: StopRule {
  static let largestChoice = 65_536

  private let sums: Tensor
  private let threshold: Double
  private let coordinates: [Int]
  private var last: [Float]
  private var halves: [[Double]]
  private var batches = 0

  init(_ sums: Tensor, _ threshold: Double, random: RandomStream) {
    self.sums = sums
    self.threshold = threshold
    coordinates = Self.choice(of: sums.count, random)
    last = coordinates.map { _ in 0 }
    halves = [[Double]](repeating: coordinates.map { _ in 0 }, count: 2)
  }

  func isEnough(_ seen: FisherCount) -> Bool {
    let now = sums.buffer
    for (index, coordinate) in coordinates.enumerated() {
      let value = now[coordinate]
      halves[batches % 2][index] += Double(value) - Double(last[index])
      last[index] = value
    }
    batches += 1
    guard batches >= 4, batches & (batches - 1) == 0 else { return false }
    let pairs = zip(halves[0], halves[1]).filter { $0 != 0 || $1 != 0 }
    guard let correlation = RankCorrelation.spearman(pairs.map(\.0), pairs.map(\.1)) else { return false }
    return correlation >= threshold
  }

  /// Places below `count`, each subset of `largestChoice` of them equally likely; all where they are no more.
  ///
  /// - Source: Floyd's algorithm, Bentley and Floyd 1987
  private static func choice(of count: Int, _ random: RandomStream) -> [Int] {
    guard count > largestChoice else { return Array(0..<count) }
    var random = random
    var chosen = Set<Int>(minimumCapacity: largestChoice)
    for last in count - largestChoice..<count where !chosen.insert(random.integer(below: last + 1)).inserted {
      chosen.insert(last)
    }
    return chosen.sorted()
  }
}

public enum RankCorrelation {
  /// ρ = Σ (r − r̄)(s − s̄) / √(Σ (r − r̄)²·Σ (s − s̄)²), r and s the ranks of x and y, equals with the mean of theirs.
  ///
  /// - Returns: nil where all numbers of one side are equal, or none are there
  /// - Precondition: as many of x as of y
  /// - Source: Spearman 1904
  public static func spearman(_ x: [Double], _ y: [Double]) -> Double? {
    precondition(x.count == y.count, "\(x.count) numbers against \(y.count)")
    let mean = Double(x.count + 1) / 2
    var (product, left, right) = (0.0, 0.0, 0.0)
    for (r, s) in zip(ranks(x), ranks(y)) {
      product += (r - mean) * (s - mean)
      left += (r - mean) * (r - mean)
      right += (s - mean) * (s - mean)
    }
    guard left > 0, right > 0 else { return nil }
    return product / (left * right).squareRoot()
  }

  /// 1 for the smallest; equals share the mean of the ranks they take up.
  public static func ranks(_ x: [Double]) -> [Double] {
    let order = x.indices.sorted { x[$0] < x[$1] }
    var ranks = [Double](repeating: 0, count: x.count)
    var first = 0
    while first < order.count {
      var end = first + 1
      while end < order.count, x[order[end]] == x[order[first]] { end += 1 }
      for place in first..<end { ranks[order[place]] = Double(first + 1 + end) / 2 }
      first = end
    }
    return ranks
  }
}
