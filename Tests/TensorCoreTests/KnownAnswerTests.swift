// Facts that hold whatever the reference says: sums of one, single tokens, closed forms, isolated segments.
import TensorCore
import TestKit
import Testing

@Suite struct KnownAnswerTests {
  func normal(_ backend: any Backend, _ rows: Int, _ columns: Int, _ seed: UInt64) -> Tensor {
    var random = RandomStream(seed: seed)
    return backend.tensor((0..<rows * columns).map { _ in Float(2 * random.normal()) }, rows, columns)
  }
  func bits(_ x: Tensor) -> [UInt32] { x.toArray().map(\.bitPattern) }

  @Test(arguments: NamedBackend.all)
  func handProduct(_ named: NamedBackend) {
    let backend = named.make()
    let a = backend.tensor([1, 2, 3, 4, 5, 6], 2, 3)
    let b = backend.tensor([1, 0, -1, 2, 0.5, 1], 3, 2)
    let c = backend.tensor([100, 0, 0, 0], 2, 2)
    backend.multiply(a, transposed: false, b, transposed: false, into: c, accumulate: true)
    #expect(c.toArray() == [100.5, 7, 2, 16])
    // Two sequences: rows 0–1 and row 2. (1·1 + 3·3)² + (5·5)², and Σ of single squares.
    let x = backend.tensor([1, 3, 5], 3, 1)
    let f = backend.tensor([1], 1, 1)
    backend.accumulateSquaredProducts(x, x, segments: Segments(lengths: [2, 1]), into: f)
    #expect(f.toArray() == [726])
    backend.accumulateProductsOfSquares(x, x, into: f)
    #expect(f.toArray() == [726 + 1 + 81 + 625])
    backend.fill(f, 0)
    backend.accumulateSquaredColumnSums(x, segments: Segments(lengths: [2, 1]), into: f)
    #expect(f.toArray() == [41])
  }

  /// With one token a segment, the sum of squared products is the product of squares.
  @Test(arguments: NamedBackend.all)
  func segmentsOfOne(_ named: NamedBackend) {
    let backend = named.make()
    let (a, b) = (normal(backend, 6, 5, 1), normal(backend, 6, 4, 2))
    let (f, g) = (backend.zeros(5, 4), backend.zeros(5, 4))
    backend.accumulateSquaredProducts(a, b, segments: Segments(lengths: [1, 1, 1, 1, 1, 1]), into: f)
    backend.accumulateProductsOfSquares(a, b, into: g)
    for (one, other) in zip(f.toArray(), g.toArray()) { #expect(abs(one - other) <= 1e-5 * max(1, other)) }
  }

  @Test(arguments: NamedBackend.all)
  func softmaxRowsSumToOne(_ named: NamedBackend) {
    let backend = named.make()
    let logits = normal(backend, 7, 129, 3)
    let probabilities = backend.empty(7, 129)
    backend.softmax(logits, into: probabilities)
    for row in 0..<7 {
      let values = probabilities.rows(row..<row + 1).toArray()
      #expect(values.allSatisfy { $0 >= 0 })
      #expect(abs(values.reduce(0) { $0 + Double($1) } - 1) < 1e-6)
    }
    backend.fill(logits, 4)
    let losses = backend.empty(1, 7)
    backend.negativeLogLikelihood(logits, targets: [0, 1, 2, 3, 4, 5, -1], losses: losses)
    for (row, loss) in losses.toArray().enumerated() {
      #expect(abs(Double(loss) - (row < 6 ? Maths.log(129) : 0)) < 1e-6)
    }
  }

  @Test(arguments: NamedBackend.all)
  func singleTokenAttendsToItself(_ named: NamedBackend) {
    let backend = named.make()
    let shape = AttentionShape(heads: 2, keyHeads: 1, headDimension: 4, scale: 0.5)
    let (q, k, v) = (normal(backend, 3, 8, 1), normal(backend, 3, 4, 2), normal(backend, 3, 4, 3))
    let (out, logSumExp) = (backend.empty(3, 8), backend.empty(3, 2))
    backend.attention(
      q: q, k: k, v: v, segments: Segments(lengths: [1, 1, 1]), shape: shape, into: out, logSumExp: logSumExp)
    for token in 0..<3 {
      let value = v.rows(token..<token + 1).toArray()
      #expect(out.rows(token..<token + 1).toArray() == value + value)
    }
  }

  /// What lies in the other segments of a batch changes no bit of a segment's results.
  @Test(arguments: NamedBackend.all)
  func segmentsAreIsolated(_ named: NamedBackend) {
    let backend = named.make()
    let shape = AttentionShape(heads: 4, keyHeads: 2, headDimension: 8, scale: 0.35)
    let segments = Segments(lengths: [9, 21, 1, 34])
    let inside = segments[1]
    func results(others seed: UInt64) -> [[UInt32]] {
      func input(_ columns: Int, _ own: UInt64) -> Tensor {
        let x = normal(backend, segments.tokens, columns, own + seed)
        backend.copy(normal(backend, inside.count, columns, own), into: x.rows(inside))
        return x
      }
      let (q, k, v, dOut) = (input(32, 1), input(16, 2), input(16, 3), input(32, 4))
      let (out, logSumExp) = (backend.empty(q.rows, 32), backend.empty(q.rows, 4))
      backend.attention(q: q, k: k, v: v, segments: segments, shape: shape, into: out, logSumExp: logSumExp)
      let (dq, dk, dv) = (backend.empty(q.rows, 32), backend.empty(q.rows, 16), backend.empty(q.rows, 16))
      backend.attentionGradient(
        dOut, q: q, k: k, v: v, out: out, logSumExp: logSumExp, segments: segments, shape: shape, dq: dq,
        dk: dk,
        dv: dv)
      return [out, logSumExp, dq, dk, dv].map { bits($0.rows(inside)) }
    }
    #expect(results(others: 100) == results(others: 200))
  }

  @Test(arguments: NamedBackend.all)
  func rotationKeepsLengthsAndTurnsBack(_ named: NamedBackend) {
    let backend = named.make()
    let x = normal(backend, 2, 4, 1)
    let before = x.toArray()
    // A quarter turn: (a, b) becomes (−b, a).
    let (cosines, sines) = (backend.zeros(2, 2), backend.tensor([0, 0, 1, 1], 2, 2))
    backend.fill(cosines.rows(0..<1), 1)
    backend.rotate(x, headDimension: 4, positions: [0, 1], cosines: cosines, sines: sines, inverse: false)
    #expect(x.rows(0..<1).toArray() == Array(before[0..<4]))
    #expect(x.rows(1..<2).toArray() == [-before[6], -before[7], before[4], before[5]])
    backend.rotate(x, headDimension: 4, positions: [0, 1], cosines: cosines, sines: sines, inverse: true)
    #expect(x.toArray() == before)
  }

  /// Values from the definitions, worked out by hand in double.
  @Test(arguments: NamedBackend.all)
  func activationsAndNormalization(_ named: NamedBackend) {
    let backend = named.make()
    let x = backend.tensor([-1, 0, 1, 2], 1, 4)
    let y = backend.empty(1, 4)
    func close(_ expected: [Float], _ comment: Comment) {
      for (found, value) in zip(y.toArray(), expected) {
        #expect(abs(found - value) < 2e-6 * max(1, abs(value)), comment)
      }
    }
    backend.gelu(x, into: y)
    close([-0.158808, 0, 0.841192, 1.9545977], "gelu")
    backend.gatedSiLU(gate: x, up: backend.tensor([1, 1, 1, 10], 1, 4), into: y)
    close([-0.26894142, 0, 0.73105858, 17.615942], "SiLU")
    let (gain, statistics) = (backend.tensor([1, 1, 1, 2], 1, 4), backend.empty(1, 2))
    backend.normalize(x, gain: gain, shift: nil, epsilon: 0, centred: false, into: y, statistics: statistics)
    close([-0.81649658, 0, 0.81649658, 3.2659863], "root mean square √1.5")
    backend.normalize(x, gain: gain, shift: gain, epsilon: 0, centred: true, into: y, statistics: statistics)
    close([-0.34164079, 0.5527864, 1.4472136, 4.6832816], "mean 0.5, variance 1.25")
  }

  /// 20,000 labels of each row against their probabilities: χ² below its 0.1 % quantile.
  @Test(arguments: NamedBackend.all)
  func labelsFollowTheirProbabilities(_ named: NamedBackend) {
    let backend = named.make()
    let draws = 20_000
    let probabilities = [0.05, 0.4, 0.0, 0.25, 0.2, 0.1]
    let row = probabilities.map { $0 > 0 ? Float(Maths.log($0)) + 3 : -1000 }
    let logits = backend.empty(draws, row.count)
    for index in 0..<draws { logits.rows(index..<index + 1).assign(row) }
    var random = RandomStream(seed: 5)
    let uniforms = (0..<draws).map { _ in random.uniform() }
    let labels = backend.sampleLabels(logits, uniforms: uniforms)
    let (losses, gradient) = (backend.empty(1, draws), backend.copied(logits))
    #expect(backend.sampledCrossEntropy(gradient, uniforms: uniforms, scale: 1, losses: losses) == labels)
    var chiSquare = 0.0
    for (label, probability) in probabilities.enumerated() {
      let found = Double(labels.filter { $0 == Int32(label) }.count)
      if probability == 0 {
        #expect(found == 0)
      } else {
        let expected = probability * Double(draws)
        chiSquare += (found - expected) * (found - expected) / expected
      }
    }
    // Four degrees of freedom.
    #expect(chiSquare < 18.47)
  }

  /// T²·(Σ q·log(q/p) over the teacher's likeliest classes + q·log(q/p) of all others as one outcome): above 0, below
  /// the divergence over all classes, and equal to it where nothing or one class is left over.
  @Test(arguments: NamedBackend.all, [1, 1.5, 2])
  func divergenceOfTheLikeliestAndTheRest(_ named: NamedBackend, _ temperature: Double) {
    let backend = named.make()
    let teacher: [[Float]] = [
      [2, 0, -1, 0.5, 1, -0.5], [-1.5, 0.25, 1.25, -0.75, 0, 0.75], [0.3, -0.2, 0.1, 1.1, -1.3, 0.6],
    ]
    let student: [[Float]] = [
      [-0.5, 1, 0.3, 0, 0.8, -1], [1.5, -1, 0.75, 0.5, -0.25, 0.2], [1.2, 0.4, -0.9, 0, 0.7, -0.3],
    ]
    let targets: [Int32] = [5, 0, 2]
    func softened(_ logits: [Float], _ temperature: Double) -> [Double] {
      let exponentials = logits.map { Maths.exp(Double($0) / temperature) }
      let total = exponentials.reduce(0, +)
      return exponentials.map { $0 / total }
    }
    func term(_ q: Double, _ p: Double) -> Double { q * Maths.log(q / p) }
    let square = temperature * temperature
    for count in [1, 2, 4, 5, 6] {
      let top = backend.likeliest(
        backend.tensor(Array(teacher.joined()), 3, 6), count: count, temperature: Float(temperature))
      var soft = SoftRows()
      for row in 0..<3 {
        let range = row * count..<(row + 1) * count
        soft.append(
          hard: 1, soft: 0.5, temperature: Float(temperature), classes: top.classes[range], values: top.values[range])
      }
      let logits = backend.tensor(Array(student.joined()), 3, 6)
      let (losses, softLosses) = (backend.empty(1, 3), backend.empty(1, 3))
      backend.blend(logits, targets: targets, soft: soft, scale: 1, losses: losses, softLosses: softLosses)
      let (ofTargets, ofTeachers) = (losses.toArray(), softLosses.toArray())
      for row in 0..<3 {
        let (q, p) = (softened(teacher[row], temperature), softened(student[row], temperature))
        let order = q.indices.sorted { q[$0] > q[$1] }
        var (full, wanted, restOfQ, restOfP) = (0.0, 0.0, 0.0, 0.0)
        for (rank, index) in order.enumerated() {
          full += square * term(q[index], p[index])
          if rank < count {
            wanted += square * term(q[index], p[index])
          } else {
            restOfQ += q[index]
            restOfP += p[index]
          }
        }
        if count < 6 { wanted += square * term(restOfQ, restOfP) }
        let found = Double(ofTeachers[row])
        #expect(abs(found - wanted) < 1e-5)
        if count < 5 {
          #expect(found > 0 && found < full - 1e-3)
        } else {
          #expect(abs(found - full) < 1e-5)
        }
        let likelihood = softened(student[row], 1)[Int(targets[row])]
        #expect(abs(Double(ofTargets[row]) + Maths.log(likelihood)) < 1e-5)
      }
    }
  }

  /// Σ(z − v)² of the listed logits over the number of all classes; the others have neither loss nor gradient.
  @Test(arguments: NamedBackend.all)
  func squaresOfTheListedLogits(_ named: NamedBackend) {
    let backend = named.make()
    let logits = backend.tensor([1, -0.5, 2, 0.25, 0, 3, -1, 0.5], 2, 4)
    var soft = SoftRows()
    soft.append(hard: 0, soft: 0.5, temperature: 0, classes: [2, 0] as [Int32], values: [1, 1.5] as [Float])
    soft.append(hard: 0, soft: 1, temperature: 0, classes: [1] as [Int32], values: [1] as [Float])
    let (losses, softLosses) = (backend.empty(1, 2), backend.empty(1, 2))
    backend.blend(logits, targets: [3, 0], soft: soft, scale: 4, losses: losses, softLosses: softLosses)
    // (1² + 0.5²)/4 and 2²/4; scale·soft·2(z − v)/4.
    #expect(softLosses.toArray() == [0.3125, 1])
    #expect(logits.toArray() == [-0.5, 0, 1, 0, 0, 4, 0, 0])
  }
}
