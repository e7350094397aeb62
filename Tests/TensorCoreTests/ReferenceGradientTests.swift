// Proves the reference's gradients by central differences of its own forward functions.
// Bound: 1e-3 of max(1, |gradient|); Float's rounding leaves about 1e-4, a wrong factor or sign 1e-2.
import TensorCore
import TestKit
import Testing

@Suite struct ReferenceGradientTests {
  let backend = ReferenceBackend()
  let bound = 1e-3

  func normal(_ rows: Int, _ columns: Int, _ seed: UInt64, mean: Double = 0) -> Tensor {
    var random = RandomStream(seed: seed)
    return backend.tensor((0..<rows * columns).map { _ in Float(mean + random.normal()) }, rows, columns)
  }
  func error(of input: Tensor, _ gradient: Tensor, _ loss: () -> Double) -> Double {
    GradientCheck.worstError(of: input, gradient: gradient.toArray(), loss: loss)
  }

  @Test(arguments: [false, true], [false, true])
  func products(_ transposeA: Bool, _ transposeB: Bool) {
    let (m, k, n) = (4, 5, 3)
    let a = normal(transposeA ? k : m, transposeA ? m : k, 1)
    let b = normal(transposeB ? n : k, transposeB ? k : n, 2)
    let (c, dc, bias) = (backend.empty(m, n), normal(m, n, 3), normal(1, n, 4))
    func loss() -> Double {
      backend.multiply(a, transposed: transposeA, b, transposed: transposeB, into: c, accumulate: false)
      backend.addBias(bias, to: c)
      return GradientCheck.weighted(c, dc)
    }
    let (da, db) = (backend.empty(a.rows, a.columns), backend.empty(b.rows, b.columns))
    if transposeA {
      backend.multiply(b, transposed: transposeB, dc, transposed: true, into: da, accumulate: false)
    } else {
      backend.multiply(dc, transposed: false, b, transposed: !transposeB, into: da, accumulate: false)
    }
    if transposeB {
      backend.multiply(dc, transposed: true, a, transposed: transposeA, into: db, accumulate: false)
    } else {
      backend.multiply(a, transposed: !transposeA, dc, transposed: false, into: db, accumulate: false)
    }
    let dBias = backend.empty(1, n)
    backend.columnSums(dc, into: dBias, accumulate: false)
    #expect(error(of: a, da, loss) < bound)
    #expect(error(of: b, db, loss) < bound)
    #expect(error(of: bias, dBias, loss) < bound)
  }

  @Test(arguments: [false, true], [false, true])
  func normalization(_ centred: Bool, _ accumulate: Bool) {
    let (rows, columns) = (3, 7)
    let x = normal(rows, columns, 1, mean: 0.5)
    let (gain, shift, dy) = (normal(1, columns, 2), normal(1, columns, 3), normal(rows, columns, 4))
    let (y, statistics) = (backend.empty(rows, columns), backend.empty(rows, 2))
    func loss() -> Double {
      backend.normalize(
        x, gain: gain, shift: shift, epsilon: 0.01, centred: centred, into: y, statistics: statistics)
      return GradientCheck.weighted(y, dy)
    }
    _ = loss()
    let dx = backend.zeros(rows, columns)
    if accumulate { backend.fill(dx, 0.5) }
    backend.normalizeGradient(
      dy, x: x, gain: gain, statistics: statistics, centred: centred, into: dx, accumulate: accumulate)
    if accumulate {
      backend.add(backend.tensor([Float](repeating: 0.5, count: 21), 3, 7), scaled: -1, into: dx)
    }
    let (product, dGain, dShift) = (
      backend.empty(rows, columns), backend.empty(1, columns), backend.empty(1, columns)
    )
    backend.normalizedProduct(dy, x: x, statistics: statistics, into: product)
    backend.columnSums(product, into: dGain, accumulate: false)
    backend.columnSums(dy, into: dShift, accumulate: false)
    #expect(error(of: x, dx, loss) < bound)
    #expect(error(of: gain, dGain, loss) < bound)
    #expect(error(of: shift, dShift, loss) < bound)
  }

  @Test func gatedSiLU() {
    let (gate, up, dy, y) = (normal(4, 6, 1), normal(4, 6, 2), normal(4, 6, 3), backend.empty(4, 6))
    let (dGate, dUp) = (backend.empty(4, 6), backend.empty(4, 6))
    backend.gatedSiLUGradient(dy, gate: gate, up: up, dGate: dGate, dUp: dUp, y: y)
    func loss() -> Double {
      backend.gatedSiLU(gate: gate, up: up, into: y)
      return GradientCheck.weighted(y, dy)
    }
    #expect(error(of: gate, dGate, loss) < bound)
    #expect(error(of: up, dUp, loss) < bound)
  }

  @Test func geluAndRelu() {
    let (x, dy, y, dx) = (normal(5, 8, 1), normal(5, 8, 2), backend.empty(5, 8), backend.empty(5, 8))
    backend.geluGradient(dy, x: x, into: dx)
    let geluError = error(of: x, dx) {
      backend.gelu(x, into: y)
      return GradientCheck.weighted(y, dy)
    }
    #expect(geluError < bound)
    // A difference across the kink proves nothing: inputs stay 0.1 away from it.
    x.assign(x.toArray().map { $0 < 0 ? $0 - 0.1 : $0 + 0.1 })
    backend.relu(x, into: y)
    backend.reluGradient(dy, y: y, into: dx)
    let reluError = error(of: x, dx) {
      backend.relu(x, into: y)
      return GradientCheck.weighted(y, dy)
    }
    #expect(reluError < bound)
  }

  @Test func rotation() {
    let (heads, dimension, rows) = (2, 6, 4)
    let angles = normal(9, dimension / 2, 1).toArray().map(Double.init)
    let cosines = backend.tensor(angles.map { Float(Maths.cos($0)) }, 9, dimension / 2)
    let sines = backend.tensor(angles.map { Float(Maths.sin($0)) }, 9, dimension / 2)
    let (x, dy) = (normal(rows, heads * dimension, 2), normal(rows, heads * dimension, 3))
    let positions: [Int32] = [0, 8, 3, 3]
    let dx = backend.copied(dy)
    backend.rotate(
      dx, headDimension: dimension, positions: positions, cosines: cosines, sines: sines, inverse: true)
    let worst = error(of: x, dx) {
      let y = backend.copied(x)
      backend.rotate(
        y, headDimension: dimension, positions: positions, cosines: cosines, sines: sines, inverse: false)
      return GradientCheck.weighted(y, dy)
    }
    #expect(worst < bound)
  }

  @Test(arguments: [1, 2, 4])
  func attention(_ keyHeads: Int) {
    let shape = AttentionShape(heads: 4, keyHeads: keyHeads, headDimension: 3, scale: 0.7)
    let segments = Segments(lengths: [4, 1, 3])
    let q = normal(8, 12, 1)
    let (k, v) = (normal(8, 3 * keyHeads, 2), normal(8, 3 * keyHeads, 3))
    let (dOut, out, logSumExp) = (normal(8, 12, 4), backend.empty(8, 12), backend.empty(8, 4))
    func loss() -> Double {
      backend.attention(
        q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
      return GradientCheck.weighted(out, dOut)
    }
    _ = loss()
    let (dq, dk, dv) = (backend.empty(8, 12), backend.empty(8, k.columns), backend.empty(8, k.columns))
    backend.attentionGradient(
      dOut, q: q, k: k, v: v, out: out, logSumExp: logSumExp, segments: segments, shape: shape, dq: dq,
      dk: dk,
      dv: dv)
    #expect(error(of: q, dq, loss) < bound)
    #expect(error(of: k, dk, loss) < bound)
    #expect(error(of: v, dv, loss) < bound)
  }

  @Test func embeddingAndCrossEntropy() {
    let (table, dy, y) = (normal(5, 4, 1), normal(6, 4, 2), backend.empty(6, 4))
    let tokens: [Int32] = [3, 0, 3, 3, 1, 4]
    let dTable = backend.zeros(5, 4)
    backend.scatterAdd(dy, tokens: tokens, into: dTable)
    let gatherError = error(of: table, dTable) {
      backend.gather(table, tokens: tokens, into: y)
      return GradientCheck.weighted(y, dy)
    }
    #expect(gatherError < bound)

    let (logits, losses) = (normal(6, 9, 3), backend.empty(1, 6))
    let targets: [Int32] = [0, 8, -1, 4, 4, -1]
    let gradient = backend.copied(logits)
    backend.crossEntropy(gradient, targets: targets, scale: 0.25, losses: losses)
    let lossError = error(of: logits, gradient) {
      backend.negativeLogLikelihood(logits, targets: targets, losses: losses)
      return losses.toArray().reduce(0) { $0 + 0.25 * Double($1) }
    }
    #expect(lossError < bound)
  }

  /// hard·(−log p(target)) + soft·D, with one class listed, some or all of them; targets on the lists and beside them.
  @Test(arguments: [0, 1, 1.5, 2], [1, 3, 7])
  func blend(_ temperature: Double, _ listed: Int) {
    let (logits, teacher) = (normal(5, 7, 1), normal(5, 7, 2))
    let hard: [Float] = [1, 0, 0.5, 1, 1]
    let soft: [Float] = [0.75, 2, 0.5, 0, 1]
    let targets: [Int32] = [0, 6, 3, 2, -1]
    let top = backend.likeliest(teacher, count: listed, temperature: Float(temperature))
    var rows = SoftRows()
    for row in 0..<5 {
      let range = row * listed..<(row + 1) * listed
      rows.append(
        hard: hard[row], soft: soft[row], temperature: Float(temperature), classes: top.classes[range],
        values: top.values[range])
    }
    let (losses, softLosses) = (backend.empty(1, 5), backend.empty(1, 5))
    let gradient = backend.copied(logits)
    backend.blend(gradient, targets: targets, soft: rows, scale: 0.5, losses: losses, softLosses: softLosses)
    let worst = error(of: logits, gradient) {
      backend.blend(
        backend.copied(logits), targets: targets, soft: rows, scale: 0.5, losses: losses, softLosses: softLosses)
      let (ofTargets, ofTeachers) = (losses.toArray(), softLosses.toArray())
      var total = 0.0
      for row in 0..<5 {
        total += 0.5 * (Double(hard[row]) * Double(ofTargets[row]) + Double(soft[row]) * Double(ofTeachers[row]))
      }
      return total
    }
    #expect(worst < bound)
    #expect(gradient.rows(4..<5).toArray() == [Float](repeating: 0, count: 7))
  }
}
