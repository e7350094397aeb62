// Every way of merging against what it must be: identities, examples done by hand, and expectations.
import Foundation
import Merging
import TensorCPU
import TensorCore
import TestKit
import Testing

@Suite struct MergeFormulaTests {
  let backend = ReferenceBackend()

  private func vector(_ values: [Float]) -> Tensor { backend.tensor(values, 1, values.count) }
  /// Numbers of many magnitudes, a negative zero among them.
  private func random(_ seed: UInt64, _ count: Int = 1000) -> [Float] {
    var stream = RandomStream(seed: seed)
    return (0..<count).map { $0 == 3 ? -0.0 : Float(stream.normal() * Maths.exp(6 * stream.normal())) }
  }
  private func merged(_ method: any MergeMethod, _ alpha: Double, count: Int) throws -> [Float] {
    let result = backend.zeros(1, count)
    try method.merge(alpha: alpha, into: result)
    return result.toArray()
  }
  private func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }
  /// θ_base, two tuned models and a Fisher for each.
  private func ingredients(_ base: [Float], _ tuned: [[Float]], density: Double = 0.3, seed: UInt64 = 1)
    -> MergeIngredients
  {
    let fishers = (0...tuned.count).map { index in
      random(UInt64(50 + index), base.count).enumerated().map { $0.offset % 7 == 0 ? 0 : abs($0.element) }
    }
    return MergeIngredients(
      base: vector(base), tuned: tuned.map(vector), density: density, seed: seed, fishers: fishers.map(vector))
  }

  // MARK: Identities

  @Test func theEndsOfTheLineAreTheModelsBitForBit() throws {
    let (base, tuned) = (random(1), random(2))
    let line = try LinearMerge(ingredients(base, [tuned]))
    #expect(bits(try merged(line, 0, count: base.count)) == bits(base))
    #expect(bits(try merged(line, 1, count: base.count)) == bits(tuned))
    // Between them the line is straight.
    for (x, (a, b)) in zip(try merged(line, 0.25, count: base.count), zip(base, tuned)) {
      let wanted = 0.75 * Double(a) + 0.25 * Double(b)
      #expect(abs(Double(x) - wanted) <= 1e-7 * (abs(Double(a)) + abs(Double(b))))
    }
  }

  @Test(arguments: MergeCatalog.cards.map(\.name)) func alphaZeroIsTheBase(_ name: String) throws {
    let (base, way) = (random(1), try #require(MergeCatalog.method(named: name)))
    let merge = try way.init(ingredients(base, [random(2), random(3)]))
    #expect(bits(try merged(merge, 0, count: base.count)) == bits(base))
  }

  @Test(arguments: MergeCatalog.cards.map(\.name)) func mergedWithItselfAModelStaysAsItIs(_ name: String) throws {
    let (base, way) = (random(1), try #require(MergeCatalog.method(named: name)))
    for tuned in [[base], [base, base, base]] {
      let merge = try way.init(ingredients(base, tuned))
      for alpha in [0.3, 0.5, 1] {
        #expect(bits(try merged(merge, alpha, count: base.count)) == bits(base), "\(name), alpha \(alpha)")
      }
    }
  }

  @Test func aLineOfSeveralModelsWeighsThem() throws {
    let line = try LinearMerge(
      MergeIngredients(base: vector([1, 2]), tuned: [vector([3, 2]), vector([1, 10])], weights: [3, 1]))
    // Σ w τ / Σ w = (1.5, 2)
    #expect(try merged(line, 1, count: 2) == [2.5, 4])
    #expect(try merged(line, 0.5, count: 2) == [1.75, 3])
    #expect(throws: MergeError.self) {
      try LinearMerge(
        MergeIngredients(base: vector([1]), tuned: [vector([2]), vector([3])], weights: [1, -1]))
    }
  }

  // MARK: Task arithmetic

  @Test func tasksAreAddedAndTakenAway() throws {
    let base: [Float] = [1, -2, 0.5]
    let both = TaskArithmetic(
      MergeIngredients(base: vector(base), tuned: [vector([2, -2, 0]), vector([1, 0, 1])], weights: [1, 2]))
    // τ = (1, 0, −0.5) and (0, 2, 0.5); Σ w τ = (1, 4, 0.5)
    #expect(try merged(both, 1, count: 3) == [2, 2, 1])
    #expect(try merged(both, -1, count: 3) == [0, -6, 0])
    // Taken away and added again, a task leaves the base.
    let forgetting = TaskArithmetic(MergeIngredients(base: vector(base), tuned: [vector([2, -2, 0])]))
    let without = try merged(forgetting, -1, count: 3)
    #expect(without == [0, -2, 1])
    let again = TaskArithmetic(MergeIngredients(base: vector(without), tuned: [vector(base)]))
    #expect(try merged(again, 1, count: 3) == base)
  }

  // MARK: TIES

  /// One model: what is left are its largest changes, as they are.
  @Test(arguments: [0.001, 0.2, 0.5, 1]) func tiesOfOneModelIsTrimming(density: Double) throws {
    let base = random(1)
    let tuned = zip(base, random(2)).map { $0 + $1 }
    let found = try merged(TiesMerge(ingredients(base, [tuned], density: density)), 1, count: base.count)
    let changes = zip(base, tuned).map { Float(Double($1) - Double($0)) }
    let order = changes.indices.sorted { abs(changes[$0]) > abs(changes[$1]) }
    let kept = Set(order.prefix(Int((density * Double(base.count)).rounded())))
    #expect(kept.count == Int(density * 1000))
    for i in base.indices {
      let wanted = kept.contains(i) && changes[i] != 0 ? Float(Double(base[i]) + Double(changes[i])) : base[i]
      #expect(found[i].bitPattern == wanted.bitPattern, "element \(i) of density \(density)")
    }
  }

  /// Three models of five parameters, density 0.6: three changes stay of each.
  @Test func tiesOfThreeModelsByHand() throws {
    let base: [Float] = [1, 1, 1, 1, 1]
    let tasks: [[Float]] = [
      [4, -2, 0.5, 0.25, 3],  // trimmed: 4, −2, ·, ·, 3
      [-1, -6, 2, 0.5, 0],  // trimmed: −1, −6, 2, ·, ·
      [-1, 3, 2, -8, 0.5],  // trimmed: ·, 3, 2, −8, ·
    ]
    let tuned = tasks.map { zip(base, $0).map { $0 + $1 } }
    let merge = try TiesMerge(ingredients(base, tuned, density: 0.6))
    // Sums 3, −5, 4, −8, 3; those that agree: {4}, {−2, −6}, {2, 2}, {−8}, {3}
    #expect(try merged(merge, 1, count: 5) == [5, -3, 3, -7, 4])
    #expect(try merged(merge, 0.5, count: 5) == [3, -1, 2, -3, 2.5])
  }

  /// Where the changes cancel no direction is elected; of equal magnitudes all stay.
  @Test func tiesWithoutAMajorityLeavesTheBase() throws {
    let merge = try TiesMerge(ingredients([1, 1], [[3, 3], [-1, 3]], density: 0.5))
    #expect(try merged(merge, 1, count: 2) == [1, 3])
    #expect(throws: MergeError.self) { try TiesMerge(ingredients([1], [[2]], density: 0)) }
    #expect(throws: MergeError.self) { try DareMerge(ingredients([1], [[2]], density: 1.5)) }
  }

  // MARK: DARE

  @Test func dareKeepsTheSumInExpectation() throws {
    let (base, tuned): ([Float], [Float]) = ([1, 2, 3, 4], [2, 0, 3.5, 4])
    let (density, draws) = (0.2, 4000)
    var sums = [Double](repeating: 0, count: 4)
    var strange: Set<Double> = []
    for seed in 0..<UInt64(draws) {
      let found = try merged(
        DareMerge(ingredients(base, [tuned], density: density, seed: seed)), 1, count: 4)
      for i in 0..<4 {
        let change = Double(found[i]) - Double(base[i])
        // Nothing, or the change scaled up.
        if change != 0, abs(change - Double(tuned[i] - base[i]) / density) > 1e-6 { strange.insert(change) }
        sums[i] += change
      }
    }
    #expect(strange.isEmpty)
    for i in 0..<4 {
      let change = Double(tuned[i] - base[i])
      // The deviation of m/p is √((1 − p)/p).
      let error = abs(change) * ((1 - density) / density / Double(draws)).squareRoot()
      #expect(abs(sums[i] / Double(draws) - change) <= 4 * error, "element \(i)")
    }
  }

  @Test func dareIsItsSeed() throws {
    let (base, tuned) = (random(1), [random(2), random(3)])
    func draw(_ seed: UInt64, _ tuned: [[Float]]) throws -> [Float] {
      try merged(DareMerge(ingredients(base, tuned, density: 0.5, seed: seed)), 1, count: base.count)
    }
    #expect(bits(try draw(7, tuned)) == bits(try draw(7, tuned)))
    #expect(bits(try draw(7, tuned)) != bits(try draw(8, tuned)))
    // Models draw apart: two equal ones do not lose the same elements.
    let (one, two) = (try draw(7, [tuned[0]]), try draw(7, [tuned[0], tuned[0]]))
    let doubled = zip(one, base).map { Float(Double($1) + 2 * (Double($0) - Double($1))) }
    #expect(bits(two) != bits(doubled))
    // Keeping everything is task arithmetic.
    let all = try merged(DareMerge(ingredients(base, tuned, density: 1)), 0.5, count: base.count)
    let sum = try merged(TaskArithmetic(ingredients(base, tuned)), 0.5, count: base.count)
    for (i, (a, b)) in zip(all, sum).enumerated() { #expect(abs(a - b) <= 1e-6 * (abs(a) + abs(base[i]))) }
  }

  // MARK: Fisher

  @Test func fisherAverageMinimisesTheSummedQuadratics() throws {
    let base: [Float] = [0, 1, 2, 5]
    let tuned: [[Float]] = [[4, 1, -2, 1], [1, 3, 6, 3]]
    let fishers: [[Float]] = [[1, 2, 0, 0], [3, 0, 1, 0], [0, 6, 3, 0]]
    let merge = try FisherMerge(
      MergeIngredients(base: vector(base), tuned: tuned.map(vector), fishers: fishers.map(vector)))
    // Σ Fθ/ΣF: 12/4, (2 + 18)/8, (−2 + 18)/4; where no Fisher says anything the plain average of 5, 1, 3.
    #expect(try merged(merge, 0.5, count: 4) == [3, 2.5, 4, 3])

    let alpha = 0.3
    let found = try merged(merge, alpha, count: 4).map(Double.init)
    func cost(_ x: Double, _ i: Int) -> Double {
      func term(_ say: Double, _ f: Float, _ anchor: Float) -> Double {
        say * Double(f) * (x - Double(anchor)) * (x - Double(anchor))
      }
      return term(1 - alpha, fishers[0][i], base[i])
        + (0..<2).reduce(0) { $0 + term(alpha, fishers[$1 + 1][i], tuned[$1][i]) }
    }
    for i in 0..<3 {
      #expect(cost(found[i], i) < cost(found[i] + 1e-3, i) && cost(found[i], i) < cost(found[i] - 1e-3, i), "\(i)")
    }
    #expect(throws: MergeError.self) { try merged(merge, 1.5, count: 4) }
    #expect(throws: MergeError.self) {
      try FisherMerge(
        MergeIngredients(base: vector([1]), tuned: [vector([1])], weights: [-1], fishers: [vector([1]), vector([1])]))
    }
  }

  // MARK: The table

  /// A way of merging cannot be written and forgotten.
  @Test func everyFileIsInTheCatalog() throws {
    let folder = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Sources/Merging/Methods")
    let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".swift") }
    #expect(files.count == MergeCatalog.cards.count)
    let text = try files.map { try String(contentsOf: folder.appendingPathComponent($0), encoding: .utf8) }.joined()
    for card in MergeCatalog.cards { #expect(text.contains("name: \"\(card.name)\""), "\(card.name)") }
    #expect(Set(MergeCatalog.cards.map(\.name)).count == MergeCatalog.cards.count)
  }
}
