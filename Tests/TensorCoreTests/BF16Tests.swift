// Products of bfloat16 numbers: against exact products of numbers rounded here, attention's against the reference's,
// and the life of rounded copies.
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite(.enabled(if: CPUBackend.supportsBF16, "no bf16 products here")) struct BF16Tests {
  let backend = CPUBackend(threads: 2, precision: .bf16)

  /// The nearest of the two bfloat16 neighbours; of two equally near ones the even one.
  static func nearest(_ value: Float) -> Float {
    let below = value.bitPattern & 0xffff_0000
    let (low, high) = (Float(bitPattern: below), Float(bitPattern: below + 0x1_0000))
    let (toLow, toHigh) = (abs(Double(value) - Double(low)), abs(Double(high) - Double(value)))
    if toLow == toHigh { return below & 0x1_0000 == 0 ? low : high }
    return toLow < toHigh ? low : high
  }
  static func values(_ rows: Int, _ columns: Int, _ name: String, on backend: any Backend) -> Tensor {
    var random = RandomStream(seed: 5).forked(name)
    return backend.tensor((0..<rows * columns).map { _ in Float(random.normal()) }, rows, columns)
  }
  func normal(_ rows: Int, _ columns: Int, _ name: String) -> Tensor {
    Self.values(rows, columns, name, on: backend)
  }

  @Test(arguments: [(130, 96, 70), (517, 64, 48), (64, 300, 129), (1, 512, 600)])
  func productsRoundTheirOperandsOnly(_ m: Int, _ k: Int, _ n: Int) {
    let reference = ReferenceBackend()
    for (transposeA, transposeB) in [(false, false), (false, true), (true, false), (true, true)] {
      for accumulate in [false, true] {
        let a = normal(transposeA ? k : m, transposeA ? m : k, "a")
        let b = normal(transposeB ? n : k, transposeB ? k : n, "b")
        let (found, expected) = (normal(m, n, "c"), Self.values(m, n, "c", on: reference))
        func rounded(_ x: Tensor) -> Tensor {
          reference.tensor(x.toArray().map(Self.nearest), x.rows, x.columns)
        }
        backend.multiply(
          a, transposed: transposeA, b, transposed: transposeB, into: found, accumulate: accumulate)
        reference.multiply(
          rounded(a), transposed: transposeA, rounded(b), transposed: transposeB, into: expected,
          accumulate: accumulate)
        let worst = zip(found.toArray(), expected.toArray()).map { abs($0 - $1) }.max() ?? .infinity
        // Sums of k products of size 1 in another order.
        #expect(worst < 1e-6 * Float(k).squareRoot() * 8, "\(m)×\(k)×\(n)")
      }
    }
  }

  @Test(arguments: [(400, 500, 70), (64, 96, 48)])
  func productsOfSquaresRoundTheSquares(_ n: Int, _ p: Int, _ q: Int) {
    let reference = ReferenceBackend()
    let (a, b, found) = (normal(n, p, "a"), normal(n, q, "b"), normal(p, q, "f"))
    let expected = Self.values(p, q, "f", on: reference)
    // What is squared in tiles is read from its rounded copy.
    let isTiled = p > 240
    let squares = [(a, isTiled), (b, false)].map { x, isRounded in
      reference.tensor(
        x.toArray().map { isRounded ? Self.nearest($0) : $0 }.map { Self.nearest($0 * $0) }, x.rows, x.columns)
    }
    reference.multiply(squares[0], transposed: true, squares[1], transposed: false, into: expected, accumulate: true)
    backend.accumulateProductsOfSquares(a, b, into: found)
    let worst = zip(found.toArray(), expected.toArray()).map { abs($0 - $1) / max(1, $1) }.max() ?? .infinity
    #expect(worst < 1e-5)
  }

  /// Operands, probabilities and the scores' gradients are rounded, so up to two hundredths of the largest number.
  @Test(arguments: BackendContract.attentionCases.filter { !$0.name.contains("sharp") })
  func attentionIsWithinWhatRoundingCosts(_ contractCase: ContractCase) {
    let tolerance = Tolerance(relative: 0.02, ofLargest: 0.02)
    #expect(BackendContract.failures(of: backend, in: contractCase, tolerance: tolerance) == [])
    if contractCase.name.contains("gradient") {
      #expect(BackendContract.failures(of: backend, in: contractCase) != [], "nothing was rounded")
    }
  }

  @Test func tiesGoToEvenAndWhatIsNotANumberStays() {
    let special: [Float] = [1, 1.00390625, 1.01171875, -1.00390625, .infinity, -.infinity, .nan, 0, 3e38]
    let x = backend.zeros(64, 64)
    for (index, value) in special.enumerated() { x.buffer[index * 64] = value }
    let ones = backend.zeros(64, 128)
    backend.fill(ones, 1)
    let y = backend.empty(64, 128)
    backend.multiply(x, transposed: false, ones, transposed: false, into: y, accumulate: false)
    let found = (0..<special.count).map { y.toArray()[$0 * 128] }
    #expect(Array(found.prefix(6)) == [1, 1, 1.015625, -1, .infinity, -.infinity])
    #expect(found[6].isNaN && found[7] == 0 && found[8] == Self.nearest(3e38))
  }

  /// Everything that writes a tensor must give up or renew its rounded copy.
  @Test func noStaleCopyIsRead() {
    let (n, c) = (96, 64)
    let weight = normal(c, c, "weight")
    func product(_ x: Tensor) -> [Float] {
      let y = backend.empty(n, c)
      backend.multiply(x, transposed: false, weight, transposed: false, into: y, accumulate: false)
      return y.toArray()
    }
    let other = normal(n, c, "other")
    let (gain, statistics) = (normal(1, c, "gain"), normal(n, 2, "statistics"))
    let places = (0..<Int32(n)).map { $0 }
    let angles = normal(n, 8, "angles")
    let segments = Segments(lengths: [n])
    let shape = AttentionShape(heads: 4, keyHeads: 4, headDimension: 16, scale: 0.25)
    let writers: [(String, (Tensor) -> Void)] = [
      ("fill", { backend.fill($0, 3) }), ("copy", { backend.copy(other, into: $0) }),
      ("add", { backend.add(other, scaled: 2, into: $0) }), ("scale", { backend.scale($0, by: 3) }),
      ("addSquares", { backend.addSquares(other, scaled: 2, into: $0) }),
      ("addProduct", { backend.addProduct(other, other, scaled: 2, into: $0) }),
      ("divide", { backend.divide(other, by: other, otherwise: other, into: $0) }),
      ("assign", { $0.assign([Float](repeating: 2, count: n * c)) }),
      ("buffer", { $0.buffer[5] = 100 }),
      (
        "multiply",
        { backend.multiply(other, transposed: false, weight, transposed: false, into: $0, accumulate: true) }
      ),
      ("addBias", { backend.addBias(gain, to: $0) }),
      (
        "normalize",
        {
          backend.normalize(
            other, gain: gain, shift: nil, epsilon: 1e-5, centred: false, into: $0, statistics: statistics)
        }
      ),
      (
        "normalizeGradient",
        {
          backend.normalizeGradient(
            other, x: other, gain: gain, statistics: statistics, centred: false, into: $0, accumulate: true)
        }
      ),
      ("normalizedProduct", { backend.normalizedProduct(other, x: other, statistics: statistics, into: $0) }),
      ("gatedSiLU", { backend.gatedSiLU(gate: other, up: other, into: $0) }),
      (
        "gatedSiLUGradient",
        {
          let rest = (backend.empty(n, c), backend.empty(n, c))
          backend.gatedSiLUGradient(other, gate: other, up: other, dGate: rest.0, dUp: rest.1, y: $0)
        }
      ),
      ("gelu", { backend.gelu(other, into: $0) }),
      ("geluGradient", { backend.geluGradient(other, x: other, into: $0) }),
      ("relu", { backend.relu(other, into: $0) }),
      ("reluGradient", { backend.reluGradient(other, y: other, into: $0) }),
      (
        "rotate",
        {
          backend.rotate(
            $0, headDimension: 16, positions: places, cosines: angles, sines: angles, inverse: false)
        }
      ),
      (
        "attention",
        {
          backend.attention(
            q: other, k: other, v: other, segments: segments, shape: shape, into: $0, logSumExp: backend.empty(n, 4))
        }
      ),
      ("gather", { backend.gather(other, tokens: places.reversed(), into: $0) }),
      ("scatterAdd", { backend.scatterAdd(other, tokens: places, into: $0) }),
      ("softmax", { backend.softmax(other, into: $0) }),
      (
        "crossEntropy",
        {
          backend.crossEntropy(
            $0, targets: [Int32](repeating: 1, count: n), scale: 2, losses: backend.empty(1, n))
        }
      ),
      (
        "sampledCrossEntropy",
        {
          _ = backend.sampledCrossEntropy(
            $0, uniforms: [Double](repeating: 0.5, count: n), scale: 2, losses: backend.empty(1, n))
        }
      ),
      ("takeColumns", { backend.takeColumns($0, columns: [3, 4], into: backend.empty(n, 2)) }),
      (
        "adamW",
        {
          _ = backend.adamW(
            $0.reshaped(1, n * c), gradient: other.reshaped(1, n * c), firstMoment: backend.zeros(1, n * c),
            secondMoment: backend.zeros(1, n * c), pulls: [], step: OptimizerStepTests.step)
        }
      ),
      (
        "sgd",
        {
          _ = backend.sgd(
            $0.reshaped(1, n * c), gradient: other.reshaped(1, n * c), momentumBuffer: nil, momentum: 0,
            learningRate: 0.5, weightDecay: 0, gradientScale: 1, pulls: [])
        }
      ),
    ]
    for (name, write) in writers {
      let x = normal(n, c, "x")
      let before = product(x)
      write(x)
      let after = product(x)
      #expect(after == product(backend.copied(x)), "\(name) left a stale copy")
      #expect(after != before, "\(name) changed nothing")
    }
  }

  @Test func theThreadCountChangesNoBit() {
    func results(_ threads: Int) -> [Float] {
      let backend = CPUBackend(threads: threads, precision: .bf16)
      let (x, w) = (
        Self.values(700, 96, "x", on: backend), Self.values(160, 96, "w", on: backend)
      )
      let (y, f) = (backend.empty(700, 160), backend.zeros(160, 96))
      backend.multiply(x, transposed: false, w, transposed: true, into: y, accumulate: false)
      backend.accumulateSquaredProducts(y, x, segments: Segments(lengths: [300, 1, 399]), into: f)
      let wide = backend.zeros(700, 160)
      backend.accumulateProductsOfSquares(
        Self.values(300, 700, "wide", on: backend), Self.values(300, 160, "narrow", on: backend), into: wide)
      let shape = AttentionShape(heads: 4, keyHeads: 2, headDimension: 16, scale: 0.25)
      let segments = Segments(lengths: [300, 1, 399])
      let (out, logSumExp) = (backend.empty(700, 64), backend.empty(700, 4))
      let (q, k, v) = (y.columns(0..<64), y.columns(64..<96), y.columns(96..<128))
      backend.attention(q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
      let (dq, dk, dv) = (backend.empty(700, 64), backend.empty(700, 32), backend.empty(700, 32))
      backend.attentionGradient(
        out, q: q, k: k, v: v, out: out, logSumExp: logSumExp, segments: segments, shape: shape, dq: dq, dk: dk, dv: dv)
      return [y, f, wide, out, dq, dk, dv].flatMap { $0.toArray() }
    }
    let one = results(1)
    #expect(one == results(2) && one == results(3))
  }
}
