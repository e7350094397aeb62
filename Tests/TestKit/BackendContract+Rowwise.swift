// Contract cases for normalisation, activations and rotary positions, with all permitted aliasing.
import TensorCore

extension BackendContract {
  static let rowwiseCases: [ContractCase] = [
    ContractCase("normalize") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        for (centred, shifted) in [(false, false), (true, true), (true, false), (false, true)] {
          let x = bench.normal("x", rows, columns, strided: strided, deviation: 2, mean: 0.5)
          let gain = bench.normal("gain", 1, columns, strided: strided)
          let shift = shifted ? bench.normal("shift", 1, columns, strided: strided) : nil
          let y = bench.blank("y", rows, columns, strided: strided)
          let statistics = bench.blank("statistics", rows, 2, strided: strided)
          bench.backend.normalize(
            x, gain: gain, shift: shift, epsilon: 1e-3, centred: centred, into: y, statistics: statistics)
          bench.output("y, centred \(centred)", y, .normalized, floor: 1)
          bench.output("statistics, centred \(centred)", statistics, .normalized, floor: 1)
        }
      }
    },
    ContractCase("normalizeGradient and normalizedProduct") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        for (centred, accumulate) in [(false, false), (true, true), (true, false), (false, true)] {
          let x = bench.normal("x", rows, columns, strided: strided, mean: 1.5)
          let gain = bench.normal("gain", 1, columns, strided: strided)
          let dy = bench.normal("dy", rows, columns, strided: strided)
          let statistics = bench.blank("statistics", rows, 2, strided: strided)
          let scratch = bench.blank("scratch", rows, columns)
          ReferenceBackend().normalize(
            x, gain: gain, shift: nil, epsilon: 0.1, centred: centred, into: scratch, statistics: statistics)
          bench.output("statistics", statistics, .exact)
          bench.output("scratch", scratch, .exact)
          let dx =
            accumulate
            ? bench.normal("dx", rows, columns, strided: strided)
            : bench.blank("dx", rows, columns, strided: strided)
          bench.backend.normalizeGradient(
            dy, x: x, gain: gain, statistics: statistics, centred: centred, into: dx, accumulate: accumulate)
          // A single column nearly cancels against itself, whatever its size.
          bench.output("dx, centred \(centred), on top \(accumulate)", dx, .normalized, floor: 3)
          let product = bench.blank("product", rows, columns, strided: strided)
          bench.backend.normalizedProduct(dy, x: x, statistics: statistics, into: product)
          bench.output("product", product, .elementary)
        }
      }
    },
    ContractCase("gatedSiLU") { bench in
      forActivations(bench) { rows, columns, strided, deviation in
        for target in ["y", "gate", "up"] {
          let gate = bench.normal("gate", rows, columns, strided: strided, deviation: deviation)
          let up = bench.normal("up", rows, columns, strided: strided)
          let y =
            target == "gate" ? gate : target == "up" ? up : bench.blank("y", rows, columns, strided: strided)
          bench.backend.gatedSiLU(gate: gate, up: up, into: y)
          bench.output("into \(target)", y, .elementary)
        }
      }
    },
    ContractCase("gatedSiLUGradient") { bench in
      forActivations(bench) { rows, columns, strided, deviation in
        for inPlace in [false, true] {
          let gate = bench.normal("gate", rows, columns, strided: strided, deviation: deviation)
          let up = bench.normal("up", rows, columns, strided: strided)
          let dy = bench.normal("dy", rows, columns, strided: strided)
          let dGate = inPlace ? gate : bench.blank("dGate", rows, columns, strided: strided)
          let dUp = inPlace ? up : bench.blank("dUp", rows, columns, strided: strided)
          let y = inPlace ? dy : bench.blank("y", rows, columns, strided: strided)
          bench.backend.gatedSiLUGradient(dy, gate: gate, up: up, dGate: dGate, dUp: dUp, y: y)
          bench.output("y, in place \(inPlace)", y, .elementary)
          bench.output("dGate, in place \(inPlace)", dGate, .elementary)
          bench.output("dUp, in place \(inPlace)", dUp, .elementary)
        }
      }
    },
    ContractCase("gelu and its gradient") { bench in
      forActivations(bench) { rows, columns, strided, deviation in
        let x = bench.normal("x", rows, columns, strided: strided, deviation: deviation)
        let y = bench.blank("y", rows, columns, strided: strided)
        bench.backend.gelu(x, into: y)
        bench.output("y", y, .elementary)
        let dy = bench.normal("dy", rows, columns, strided: strided)
        let dx = bench.blank("dx", rows, columns, strided: strided)
        bench.backend.geluGradient(dy, x: x, into: dx)
        bench.output("dx", dx, .elementary, floor: 1)
        bench.backend.geluGradient(dy, x: x, into: dy)
        bench.output("dx in dy", dy, .elementary, floor: 1)
      }
    },
    ContractCase("relu and its gradient") { bench in
      forShapes(bench, elementShapes) { rows, columns, strided in
        let x = bench.tensor("x", rows, columns, strided: strided) {
          $0.integer(below: 4) == 0 ? 0 : Float($0.normal())
        }
        let y = bench.blank("y", rows, columns, strided: strided)
        bench.backend.relu(x, into: y)
        bench.output("y", y, .exact)
        let dy = bench.normal("dy", rows, columns, strided: strided)
        let dx = bench.blank("dx", rows, columns, strided: strided)
        bench.backend.reluGradient(dy, y: y, into: dx)
        bench.output("dx", dx, .exact)
        bench.backend.reluGradient(dy, y: y, into: dy)
        bench.output("dx in dy", dy, .exact)
      }
    },
    ContractCase("rotate") { bench in
      for (rows, heads, dimension) in [(1, 1, 2), (5, 3, 4), (9, 2, 6), (3, 1, 10), (70, 4, 16), (33, 3, 64)] {
        for (strided, inverse) in [(false, false), (true, false), (false, true), (true, true)] {
          bench.context = "[\(rows), \(heads)·\(dimension)], strided \(strided), inverse \(inverse)"
          let angles = (0..<12 * dimension / 2).map { _ in 7 * bench.random.uniform() }
          let x = bench.normal("x", rows, heads * dimension, strided: strided)
          let cosines = angleTable(bench, "cosines", angles.map(Maths.cos), dimension / 2)
          let sines = angleTable(bench, "sines", angles.map(Maths.sin), dimension / 2)
          bench.backend.rotate(
            x, headDimension: dimension, positions: bench.tokens(rows, below: 12), cosines: cosines,
            sines: sines,
            inverse: inverse)
          bench.output("x", x, .arithmetic, floor: 1)
        }
      }
    },
  ]

  private static func angleTable(_ bench: ContractBench, _ name: String, _ values: [Double], _ columns: Int)
    -> Tensor
  {
    var index = -1
    return bench.tensor(name, values.count / columns, columns) { _ in
      index += 1
      return Float(values[index])
    }
  }

  /// Ordinary inputs, then inputs far out, where exp overflows and tanh is flat.
  private static func forActivations(
    _ bench: ContractBench,
    _ body: (_ rows: Int, _ columns: Int, _ strided: Bool, _ deviation: Float) -> Void
  ) {
    forShapes(bench, elementShapes) { rows, columns, strided in
      body(rows, columns, strided, 2)
      bench.context += " far out"
      body(rows, columns, strided, 200)
    }
  }
}
