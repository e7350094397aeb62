// Contract cases for vectors and optimizer steps: lengths beside powers of two, every mixture of pulls.
import TensorCore

extension BackendContract {
  static let vectorCases: [ContractCase] = [
    ContractCase("fill, scale") { bench in
      forCounts(bench) { count in
        let x = bench.blank("x", 1, count)
        bench.backend.fill(x, 0.75)
        bench.output("filled", x, .exact)
        let y = bench.normal("y", 1, count)
        bench.backend.scale(y, by: -1.7)
        bench.output("scaled", y, .arithmetic)
      }
    },
    ContractCase("copy, add, subtract") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        let x = bench.normal("x", rows, columns, strided: strided)
        let y = bench.blank("y", rows, columns, strided: !strided)
        bench.backend.copy(x, into: y)
        bench.output("copy", y, .exact)
        let sum = bench.normal("sum", rows, columns, strided: !strided)
        bench.backend.add(x, scaled: 0.3, into: sum)
        bench.output("sum", sum, .arithmetic, floor: 1)
        let difference = bench.blank("difference", rows, columns, strided: strided)
        bench.backend.subtract(bench.normal("less", rows, columns, strided: !strided), from: x, into: difference)
        bench.output("difference", difference, .arithmetic, floor: 1)
      }
    },
    ContractCase("scaleRows, scaleColumns") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        let x = bench.normal("x", rows, columns, strided: strided)
        let y = bench.blank("y", rows, columns, strided: !strided)
        bench.backend.scaleRows(x, by: bench.normal("of rows", 1, rows), into: y)
        bench.output("rows", y, .arithmetic)
        bench.backend.scaleColumns(x, by: bench.normal("of columns", 1, columns), into: y)
        bench.output("columns", y, .arithmetic)
      }
    },
    ContractCase("addSquares, addProduct, divide") { bench in
      forCounts(bench) { count in
        let (a, b) = (bench.normal("a", 1, count), bench.normal("b", 1, count))
        let (x, y) = (bench.normal("x", 1, count), bench.normal("y", 1, count))
        bench.backend.addSquares(a, scaled: 0.3, into: x)
        bench.output("squares", x, .arithmetic, floor: 1)
        bench.backend.addProduct(a, b, scaled: -0.7, into: y)
        bench.output("product", y, .arithmetic, floor: 1)
        let denominator = bench.tensor("denominator", 1, count) {
          [0, -1, Float(0.1 + $0.uniform())][min(2, $0.integer(below: 5))]
        }
        let q = bench.blank("q", 1, count)
        bench.backend.divide(a, by: denominator, otherwise: b, into: q)
        bench.output("quotient", q, .arithmetic)
      }
    },
    ContractCase("addMagnitudes, addPath") { bench in
      forCounts(bench) { count in
        let (a, x) = (bench.normal("a", 1, count), bench.normal("x", 1, count))
        bench.backend.addMagnitudes(a, scaled: 0.3, into: x)
        bench.output("magnitudes", x, .arithmetic, floor: 1)
        let (previous, path) = (bench.normal("previous", 1, count), bench.normal("path", 1, count))
        let values = bench.normal("values", 1, count)
        bench.backend.addPath(gradient: a, values: values, previous: previous, into: path)
        bench.output("previous", previous, .exact)
        bench.output("path", path, .arithmetic, floor: 1)
      }
    },
    ContractCase("adamW, sgd beside bounded pulls") { bench in
      for (rows, columns, terms) in [(1, 1, 1), (3, 7, 1), (17, 130, 2), (300, 257, 3)] {
        bench.context = "[\(rows), \(columns)], \(terms) bounds"
        let gradient = bench.normal("g", rows, columns)
        let bounded = (0..<terms).map { _ in
          BoundedPull(
            strength: Float(0.2 + 3 * bench.random.uniform()), force: bench.normal("force", rows, columns),
            bounds: (0..<terms).map { _ in
              RankOneBound(rows: bench.positive("u", 1, rows), columns: bench.positive("v", 1, columns))
            })
        }
        let pull = QuadraticPull(
          strength: 0.7, curvature: bench.positive("F", rows, columns), anchor: bench.normal("θ*", rows, columns),
          form: .proximal)
        for pulls in [[], [pull]] {
          let (first, second) = (bench.normal("m", rows, columns), bench.positive("v", rows, columns))
          let adapted = bench.normal("θ", rows, columns)
          let penalty = bench.backend.adamW(
            adapted, gradient: gradient, firstMoment: first, secondMoment: second, pulls: pulls, bounded: bounded,
            step: AdamWStep(
              learningRate: 0.05, beta1: 0.9, beta2: 0.95, epsilon: 0.02, weightDecay: 0.1, step: 3, gradientScale: 0.6)
          )
          bench.output("adamW parameters", adapted, .optimizer, floor: 1)
          bench.output("adamW m", first, .optimizer)
          bench.output("adamW v", second, .optimizer)
          bench.output("adamW penalty", [penalty], .optimizer)
          let plain = bench.normal("θ", rows, columns)
          _ = bench.backend.sgd(
            plain, gradient: gradient, momentumBuffer: nil, momentum: 0, learningRate: 0.05, weightDecay: 0.1,
            gradientScale: 0.6, pulls: pulls, bounded: bounded)
          bench.output("sgd parameters", plain, .optimizer, floor: 1)
        }
      }
    },
    ContractCase("dot, quadratic") { bench in
      forCounts(bench) { count in
        let (x, y) = (bench.normal("x", 1, count), bench.normal("y", 1, count))
        let f = bench.positive("F", 1, count)
        // Products of both signs cancel: the error is judged against √(Σx²·Σy²)-like sizes, not the result.
        let dots = [bench.backend.dot(x, x), bench.backend.dot(x, y)]
        bench.output("dot", dots, Tolerance(relative: 0, ofLargest: Tolerance.doubleSum.relative), floor: 1)
        bench.output("quadratic", [bench.backend.quadratic(x, anchor: y, curvature: f)], .doubleSum)
        bench.output("distance", [bench.backend.quadratic(x, anchor: y, curvature: nil)], .doubleSum)
        bench.output("at the anchor", [bench.backend.quadratic(x, anchor: x, curvature: f)], .exact)
      }
    },
    ContractCase("adamW") { bench in
      forPulls(bench) { parameters, gradient, pulls in
        for stepNumber in [1, 7] {
          let started = stepNumber > 1
          let count = parameters.count
          let first = bench.tensor("m", 1, count) { started ? Float(0.3 * $0.normal()) : 0 }
          let second = bench.tensor("v", 1, count) { started ? Float(0.01 + $0.uniform()) : 0 }
          // ε is large because g/(|g| + ε) magnifies the rounding of a gradient that nearly cancels by 1/ε.
          let step = AdamWStep(
            learningRate: 0.05, beta1: 0.9, beta2: 0.95, epsilon: 0.02, weightDecay: 0.1, step: stepNumber,
            gradientScale: 0.6)
          let penalty = bench.backend.adamW(
            parameters, gradient: gradient, firstMoment: first, secondMoment: second, pulls: pulls, step: step
          )
          bench.output("step \(stepNumber) parameters", parameters, .optimizer)
          bench.output("step \(stepNumber) m", first, .optimizer)
          bench.output("step \(stepNumber) v", second, .optimizer)
          bench.output("step \(stepNumber) penalty", [penalty], .optimizer)
        }
      }
    },
    ContractCase("sgd") { bench in
      forPulls(bench) { parameters, gradient, pulls in
        for momentum in [Float(0), 0.9] {
          let buffer = momentum > 0 ? bench.normal("b", 1, parameters.count) : nil
          let penalty = bench.backend.sgd(
            parameters, gradient: gradient, momentumBuffer: buffer, momentum: momentum, learningRate: 0.05,
            weightDecay: 0.1, gradientScale: 0.6, pulls: pulls)
          bench.output("momentum \(momentum) parameters", parameters, .optimizer)
          if let buffer { bench.output("momentum \(momentum) buffer", buffer, .optimizer) }
          bench.output("momentum \(momentum) penalty", [penalty], .optimizer)
        }
      }
    },
  ]

  private static func forCounts(_ bench: ContractBench, _ body: (Int) -> Void) {
    for count in [1, 7, 64, 1003, 70_001] {
      bench.context = "\(count) elements"
      body(count)
    }
  }

  /// No pull, each form with and without curvature, and all of them at once; parameters also as a matrix.
  private static func forPulls(
    _ bench: ContractBench,
    _ body: (_ parameters: Tensor, _ gradient: Tensor, _ pulls: [QuadraticPull]) -> Void
  ) {
    let kinds: [(QuadraticPull.Form, Bool)] = [
      (.coupled, true), (.proximal, true), (.coupled, false), (.proximal, false),
    ]
    let mixtures = [[], [0], [1], [2], [3], [0, 1], [1, 1], [0, 1, 2, 3]]
    for (rows, columns) in [(1, 1), (1, 67), (17, 59), (1, 70_001)] {
      for mixture in mixtures {
        bench.context = "[\(rows), \(columns)], pulls \(mixture)"
        let count = rows * columns
        let parameters = bench.normal("θ", rows, columns)
        let gradient = bench.normal("g", 1, count)
        let pulls = mixture.map { kind in
          // A third of the curvature is 0: parameters that no earlier task cared for.
          let curvature = bench.tensor("F", 1, count) {
            $0.integer(below: 3) == 0 ? 0 : Float(abs($0.normal()))
          }
          return QuadraticPull(
            strength: Float(0.2 + 3 * bench.random.uniform()), curvature: kinds[kind].1 ? curvature : nil,
            anchor: bench.normal("θ*", 1, count), form: kinds[kind].0)
        }
        body(parameters, gradient, pulls)
      }
    }
  }
}
