// The expected Fisher by strata of labels: the likeliest ones, each for itself, and one draw from all others.
import Layers
import TensorCore

/// ε·√p(y)·∂(−log p(y)) at every scored place, y from another of its strata in every pass: the k likeliest labels are one
/// each, the tail of all others one more, with a label drawn from it and its whole mass in place of p(y).
///
/// Σ_y p(y) g_y² = Σ_{j ≤ k} p(y_j) g_{y_j}² + p_tail·E[g_y² | y in the tail]; independent signs ε = ±1 take products of
/// two places out of the expectation of a sequence's square. The strata of a place take their turns from a random one
/// on: were all places at the same one, those of large p(y) g_y² would meet in one pass, and their products would scatter
/// more than with k + 1 independent draws.
/// - Cost: one look for the likeliest labels and one draw, kept for all passes: 8·(k + 1) bytes a place
/// - Source: stratified sampling, Cochran 1977, chapter 5
final class StratifiedSeed: HeadSeed {
  /// Passes: k + 1, or as many as there are classes where that is fewer.
  let strata: Int
  /// Strata of one label.
  private let listed: Int
  /// By place, one for every stratum: the label, and √p(y).
  private var labels: [Int32]
  private var weights: [Float]
  /// By place, the stratum of the first pass.
  private let shifts: [Int]
  private let draws: [Double]
  private var turn = 0
  private var signs: [Double] = []

  /// - Parameters:
  ///   - shifts: a number in [0, 1) for every place of the batch
  ///   - draws: the same, for a label of each place's tail
  init(count: Int, classes: Int, shifts: [Double], draws: [Double]) {
    listed = min(count, classes)
    // Without labels beside the listed ones there is no tail.
    let strata = listed < classes ? listed + 1 : listed
    self.strata = strata
    self.shifts = shifts.map { Int($0 * Double(strata)) }
    self.draws = draws
    labels = [Int32](repeating: 0, count: strata * shifts.count)
    weights = [Float](repeating: 0, count: strata * shifts.count)
  }

  /// - Parameter signs: a number in [0, 1) for every place of the batch
  func begin(_ turn: Int, signs: [Double]) {
    self.turn = turn
    self.signs = signs
  }

  func seed(_ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend) {
    if turn == 0 { divide(logits, rows.map { Int($0) }, on: backend) }
    var chosen: [Int32] = []
    var factors = SoftRows()
    for place in rows.map({ Int($0) }) {
      let entry = place * strata + (turn + shifts[place]) % strata
      chosen.append(labels[entry])
      factors.append(
        hard: signs[place] < 0.5 ? -weights[entry] : weights[entry], soft: 0, temperature: 1,
        classes: EmptyCollection<Int32>(), values: EmptyCollection<Float>())
    }
    backend.blend(
      logits, targets: chosen, soft: factors, scale: 1, losses: losses, softLosses: backend.empty(1, rows.count))
  }

  /// Finds labels and weights of all strata; the logits are left as they were.
  private func divide(_ logits: Tensor, _ places: [Int], on backend: any Backend) {
    let top = backend.likeliest(logits, count: listed, temperature: 1)
    for (row, place) in places.enumerated() {
      for rank in 0..<listed {
        labels[place * strata + rank] = top.classes[row * listed + rank]
        weights[place * strata + rank] = Float(Maths.exp(Double(top.values[row * listed + rank]) / 2))
      }
    }
    guard strata > listed else { return }
    var kept: [Float] = []
    for (row, place) in places.enumerated() {
      let values = logits.rows(row..<row + 1).buffer
      for label in labels[place * strata..<place * strata + listed] {
        kept.append(values[Int(label)])
        // So far below every logit that its probability is none.
        values[Int(label)] = -1e30
      }
    }
    let rest = backend.likeliest(logits, count: 1, temperature: 1)
    let drawn = backend.sampleLabels(logits, uniforms: places.map { draws[$0] })
    for (row, place) in places.enumerated() {
      let values = logits.rows(row..<row + 1).buffer
      let own = labels[place * strata..<place * strata + listed]
      for (rank, label) in own.enumerated() { values[Int(label)] = kept[row * listed + rank] }
      // log p_tail = log p(c) − log p(c | tail), c the tail's likeliest label: nothing cancels where the tail is small.
      let norm = Double(kept[row * listed]) - Double(top.values[row * listed])
      let logarithm = Double(values[Int(rest.classes[row])]) - norm - Double(rest.values[row])
      weights[place * strata + listed] = Float(Maths.exp(min(0, logarithm) / 2))
      // Rounding at the end of the cumulative sum can lead out of the tail.
      labels[place * strata + listed] = own.contains(drawn[row]) ? rest.classes[row] : drawn[row]
    }
  }
}
