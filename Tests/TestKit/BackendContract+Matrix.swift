// Contract cases for products and column sums: single rows and columns, odd sizes, strided windows.
import TensorCore

extension BackendContract {
  static let matrixCases: [ContractCase] = [
    ContractCase("multiply") { multiplications($0, accumulate: false) },
    ContractCase("multiply, accumulating") { multiplications($0, accumulate: true) },
    ContractCase("factorAnalysis") { bench in
      // Few samples make a matrix of low rank, equal ones a matrix of rank one; uniquenesses of very unlike sizes.
      var (matrices, loadings, uniquenesses): ([Tensor], [Tensor], [Tensor]) = ([], [], [])
      for (side, rank, samples) in [(1, 1, 3), (5, 5, 9), (24, 6, 60), (40, 7, 6), (33, 4, 1), (70, 17, 150)] {
        let rows = bench.tensor("samples", samples, side) { Float($0.normal() * ($0.integer(below: 3) == 0 ? 3 : 0.3)) }
        let matrix = bench.backend.empty(side, side)
        bench.backend.multiply(rows, transposed: true, rows, transposed: false, into: matrix, accumulate: false)
        matrices.append(matrix)
        loadings.append(bench.backend.empty(rank, side))
        uniquenesses.append(bench.blank("uniquenesses", 1, side))
      }
      bench.backend.factorAnalysis(of: matrices, loadings: loadings, uniquenesses: uniquenesses)
      for (place, basis) in loadings.enumerated() {
        // Loadings are known up to a rotation: what they stand for is compared.
        let common = bench.backend.empty(basis.columns, basis.columns)
        bench.backend.multiply(basis, transposed: true, basis, transposed: false, into: common, accumulate: false)
        bench.output("common part \(place)", common, .decomposition)
        let diagonal = (0..<basis.columns).map { matrices[place].buffer[$0 * basis.columns + $0] }
        bench.output(
          "uniquenesses \(place)", uniquenesses[place], .decomposition, floor: Double(diagonal.max() ?? 0))
      }
    },
    ContractCase("addBias") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        let bias = bench.normal("bias", 1, columns, strided: strided)
        let y = bench.normal("y", rows, columns, strided: strided)
        bench.backend.addBias(bias, to: y)
        bench.output("y", y, .arithmetic)
      }
    },
    ContractCase("columnSums") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        let x = bench.normal("x", rows, columns, strided: strided)
        let sums = bench.blank("sums", 1, columns, strided: strided)
        bench.backend.columnSums(x, into: sums, accumulate: false)
        bench.output("sums", sums, .sum, floor: 1)
        let more = bench.normal("more", 1, columns, strided: strided)
        bench.backend.columnSums(x, into: more, accumulate: true)
        bench.output("sums on top", more, .sum, floor: 1)
      }
    },
    ContractCase("accumulateSquaredProducts") { bench in
      forSegments(bench) { segments, p, q, strided in
        let a = bench.normal("a", segments.tokens, p, strided: strided)
        let b = bench.normal("b", segments.tokens, q, strided: strided)
        let f = bench.positive("F", p, q, strided: strided)
        bench.backend.accumulateSquaredProducts(a, b, segments: segments, into: f)
        bench.output("F", f, .squaredSum)
      }
    },
    ContractCase("accumulateProductsOfSquares") { bench in
      forSegments(bench) { segments, p, q, strided in
        let a = bench.normal("a", segments.tokens, p, strided: strided)
        let b = bench.normal("b", segments.tokens, q, strided: strided)
        let f = bench.positive("F", p, q, strided: strided)
        bench.backend.accumulateProductsOfSquares(a, b, into: f)
        bench.output("F", f, .squaredSum)
      }
      // Wide enough to be squared in tiles, of whole and cut sides.
      for (n, p, q) in [(7, 300, 3), (400, 500, 40), (384, 480, 33)] {
        for strided in [false, true] {
          bench.context = "\(n) rows, [\(p), \(q)]\(strided ? " strided" : "")"
          let a = bench.normal("a", n, p, strided: strided)
          let b = bench.normal("b", n, q, strided: strided)
          let f = bench.positive("F", p, q, strided: strided)
          bench.backend.accumulateProductsOfSquares(a, b, into: f)
          bench.output("F", f, .squaredSum)
        }
      }
    },
    ContractCase("accumulateProductMagnitudes, accumulateColumnSumMagnitudes") { bench in
      forSegments(bench) { segments, p, q, strided in
        let a = bench.normal("a", segments.tokens, p, strided: strided)
        let b = bench.normal("b", segments.tokens, q, strided: strided)
        let f = bench.positive("F", p, q, strided: strided)
        bench.backend.accumulateProductMagnitudes(a, b, segments: segments, into: f)
        bench.output("F", f, .sum, floor: 1)
        let sums = bench.positive("sums", 1, p, strided: strided)
        bench.backend.accumulateColumnSumMagnitudes(a, segments: segments, into: sums)
        bench.output("sums", sums, .sum, floor: 1)
      }
    },
    ContractCase("accumulateSquaredColumnSums") { bench in
      forSegments(bench) { segments, p, _, strided in
        let x = bench.normal("x", segments.tokens, p, strided: strided)
        let f = bench.positive("F", 1, p, strided: strided)
        bench.backend.accumulateSquaredColumnSums(x, segments: segments, into: f)
        bench.output("F", f, .squaredSum)
      }
    },
  ]

  /// Rows and columns for functions that work element by element or row by row.
  static let elementShapes = [(1, 1), (1, 13), (7, 1), (5, 8), (9, 33), (150, 130)]

  /// Calls `body` for every shape, compact and strided.
  static func forShapes(
    _ bench: ContractBench, _ shapes: [(Int, Int)],
    _ body: (_ rows: Int, _ columns: Int, _ strided: Bool) -> Void
  ) {
    for (rows, columns) in shapes {
      for strided in [false, true] {
        bench.context = "[\(rows), \(columns)]\(strided ? " strided" : "")"
        body(rows, columns, strided)
      }
    }
  }

  private static func forSegments(
    _ bench: ContractBench, _ body: (_ segments: Segments, _ p: Int, _ q: Int, _ strided: Bool) -> Void
  ) {
    let shapes = [
      ([1], 1, 1), ([4], 3, 1), ([1, 1, 1], 1, 5), ([3, 1, 7], 9, 17), ([40, 1, 23, 2], 65, 33),
      ([2, 1, 5, 3, 1, 4, 8, 1, 16, 9, 7], 19, 70), ([70, 3, 64], 130, 96),
    ]
    for (lengths, p, q) in shapes {
      for strided in [false, true] {
        bench.context = "segments \(lengths), [\(p), \(q)]\(strided ? " strided" : "")"
        body(Segments(lengths: lengths), p, q, strided)
      }
    }
  }

  private static func multiplications(_ bench: ContractBench, accumulate: Bool) {
    let shapes = [
      (1, 1, 1), (1, 7, 5), (5, 1, 3), (3, 4, 1), (1, 129, 70), (17, 33, 9), (64, 48, 80), (130, 65, 257),
      (300, 40, 70), (9, 8200, 20),
    ]
    for (m, k, n) in shapes {
      for (transposeA, transposeB) in [(false, false), (false, true), (true, false), (true, true)] {
        for strided in [false, true] {
          bench.context =
            "\(m)×\(k)×\(n)\(transposeA ? " Aᵀ" : "")\(transposeB ? " Bᵀ" : "")\(strided ? " strided" : "")"
          let a = bench.normal("A", transposeA ? k : m, transposeA ? m : k, strided: strided)
          let b = bench.normal("B", transposeB ? n : k, transposeB ? k : n, strided: strided)
          let c =
            accumulate ? bench.normal("C", m, n, strided: strided) : bench.blank("C", m, n, strided: strided)
          bench.backend.multiply(
            a, transposed: transposeA, b, transposed: transposeB, into: c, accumulate: accumulate)
          bench.output("C", c, .sum, floor: 1)
        }
      }
    }
  }
}
