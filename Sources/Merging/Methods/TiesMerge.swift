// TIES: small changes are noise, and where models pull in different directions the heavier direction wins.
import TensorCore

/// θ = θ_base + α · mean of the trimmed τ_i whose sign is the sign of their sum
///
/// Trim: of every τ_i the share `density` with the largest magnitudes stays, over the whole vector; elements as large as
/// the smallest of them stay too. Elect: the sign of Σ_i τ_i. Merge: the mean over the models whose trimmed element
/// has that sign. Where the sum is 0 no direction is elected and the base stays.
/// - Cost: two passes over every task vector once; one pass for every α; 4 bytes a parameter
/// - Source: Yadav et al. 2023, arXiv:2306.01708
public struct TiesMerge: MergeMethod {
  public static let card = MergeCard(
    name: "ties", title: "TIES: trim, elect sign, disjoint mean", paper: "Yadav et al. 2023 (arXiv:2306.01708)",
    equation: "θ_base + α · mean{trim(τ_i) : sgn trim(τ_i) = sgn Σ trim(τ_i)}",
    cost: "two passes over every task vector, then one a strength", defaultAlpha: 1, options: [.density])

  private let ingredients: MergeIngredients
  /// The merged task vector. P elements
  private let task: [Float]

  public init(_ ingredients: MergeIngredients) throws(MergeError) {
    try requireShare(ingredients.density)
    self.ingredients = ingredients
    let elements = Elements(ingredients)
    let count = elements.base.count
    let kept = max(1, Int((ingredients.density * Double(count)).rounded()))
    let thresholds = elements.tuned.indices.map { model in
      kthLargestMagnitude(kept, of: count) { Float(elements.task(model, $0)) }
    }
    task = (0..<count).map { i in
      var (up, down, ups, downs) = (0.0, 0.0, 0, 0)
      for model in thresholds.indices {
        let change = Float(elements.task(model, i))
        guard abs(change) >= thresholds[model] else { continue }
        if change > 0 { (up, ups) = (up + Double(change), ups + 1) }
        if change < 0 { (down, downs) = (down + Double(change), downs + 1) }
      }
      let sum = up + down
      return sum > 0 ? Float(up / Double(ups)) : sum < 0 ? Float(down / Double(downs)) : 0
    }
  }

  public func merge(alpha: Double, into result: Tensor) {
    let (base, target) = (ingredients.base.buffer, result.buffer)
    for i in target.indices { target[i] = moved(base[i], by: alpha * Double(task[i])) }
  }
}

/// - Throws: `MergeError` for a density outside (0, 1]
func requireShare(_ density: Double) throws(MergeError) {
  guard density > 0, density <= 1 else { throw MergeError("a density of \(density) is not in (0, 1]") }
}

/// The k-th largest |x_i|, exactly.
///
/// The bits of a Float without its sign are ordered as the numbers are: a histogram of the upper half finds the bin, a
/// second one of the lower half the number.
/// - Cost: two passes, 512 KiB
func kthLargestMagnitude(_ k: Int, of count: Int, _ element: (Int) -> Float) -> Float {
  /// The bin that holds the k-th from above, and how many of it stand above the k-th.
  func bin(_ counts: [Int], _ k: Int) -> (index: Int, rest: Int) {
    var rest = k
    for index in counts.indices.reversed() {
      if counts[index] >= rest { return (index, rest) }
      rest -= counts[index]
    }
    return (0, rest)
  }
  var counts = [Int](repeating: 0, count: 1 << 16)
  for i in 0..<count { counts[Int(element(i).magnitude.bitPattern >> 16)] += 1 }
  let (upper, rest) = bin(counts, k)
  counts = [Int](repeating: 0, count: 1 << 16)
  for i in 0..<count {
    let bits = element(i).magnitude.bitPattern
    if Int(bits >> 16) == upper { counts[Int(bits & 0xFFFF)] += 1 }
  }
  return Float(bitPattern: UInt32(upper) << 16 | UInt32(bin(counts, rest).index))
}
