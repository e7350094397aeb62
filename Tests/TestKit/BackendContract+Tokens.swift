// Contract cases between tokens and vectors: repeated tokens, unscored rows, flat and sharp logits.
import TensorCore

extension BackendContract {
  static let tokenCases: [ContractCase] = [
    ContractCase("gather and scatterAdd") { bench in
      for (vocabulary, columns, count) in [(1, 1, 1), (5, 9, 12), (3, 17, 70), (97, 33, 200)] {
        for strided in [false, true] {
          bench.context = "\(count) tokens of [\(vocabulary), \(columns)]\(strided ? " strided" : "")"
          let tokens = bench.tokens(count, below: vocabulary)
          let table = bench.normal("table", vocabulary, columns, strided: strided)
          let y = bench.blank("y", count, columns, strided: strided)
          bench.backend.gather(table, tokens: tokens, into: y)
          bench.output("y", y, .exact)
          let dy = bench.normal("dy", count, columns, strided: strided)
          bench.backend.scatterAdd(dy, tokens: tokens, into: table)
          bench.output("table", table, .sum)
        }
      }
    },
    ContractCase("crossEntropy") { bench in
      forLogits(bench) { logits, targets, strided, size in
        let losses = bench.blank("losses", 1, logits.rows, strided: strided)
        bench.backend.crossEntropy(logits, targets: targets, scale: 0.125, losses: losses)
        bench.output("losses", losses, .softmax, floor: size)
        bench.output("gradient", logits, .softmax, floor: 0.125 * size)
      }
    },
    ContractCase("sampledCrossEntropy") { bench in
      forLogits(bench) { logits, _, strided, size in
        let (losses, copy) = (
          bench.blank("losses", 1, logits.rows, strided: strided), bench.backend.copied(logits)
        )
        let labels = bench.backend.sampledCrossEntropy(
          logits, uniforms: clearUniforms(bench, logits), scale: 0.125, losses: losses)
        bench.output("labels", labels.map(Double.init), .exact)
        bench.output("losses", losses, .softmax, floor: size)
        bench.output("gradient", logits, .softmax, floor: 0.125 * size)
        for end in [0, 1 - 0x1p-53] {
          let row = bench.backend.copied(copy)
          let labels = bench.backend.sampledCrossEntropy(
            row, uniforms: [Double](repeating: end, count: row.rows), scale: 1, losses: losses)
          let isValid = labels.allSatisfy { $0 >= 0 && $0 < row.columns } && losses.toArray().allSatisfy(\.isFinite)
          bench.output("labels at the ends exist", [isValid ? 1 : 0], .exact)
        }
      }
    },
    ContractCase("negativeLogLikelihood") { bench in
      forLogits(bench) { logits, targets, strided, size in
        let losses = bench.blank("losses", 1, logits.rows, strided: strided)
        bench.backend.negativeLogLikelihood(logits, targets: targets, losses: losses)
        bench.output("losses", losses, .softmax, floor: size)
      }
    },
    ContractCase("softmax") { bench in
      forLogits(bench) { logits, _, strided, size in
        let probabilities = bench.blank("probabilities", logits.rows, logits.columns, strided: strided)
        bench.backend.softmax(logits, into: probabilities)
        bench.output("probabilities", probabilities, .softmax, floor: size)
      }
    },
    ContractCase("blend") { bench in
      forLogits(bench) { logits, targets, strided, size in
        var soft = SoftRows()
        let columns = logits.columns
        for row in 0..<logits.rows {
          let width = [0, 1, min(5, columns), columns][bench.random.integer(below: 4)]
          let temperature: Float = [0, 1, 2, 2.5][bench.random.integer(below: 4)]
          // Some classes in a shuffled order, each once, with what a teacher of other logits would say.
          var order = Array(0..<columns)
          for i in order.indices { order.swapAt(i, i + bench.random.integer(below: columns - i)) }
          let z = (0..<columns).map { _ in bench.random.normal() }
          let top = z.max() ?? 0
          let norm = top + Maths.log(z.reduce(0) { $0 + Maths.exp($1 - top) })
          soft.append(
            hard: Float(bench.random.integer(below: 3)) / 2, soft: width == 0 ? 0 : 0.75,
            temperature: temperature, classes: order.prefix(width).map { Int32($0) },
            values: order.prefix(width).map { class_ in
              temperature == 0
                ? Float(logits.base[row * logits.stride + class_]) + Float(z[class_]) : Float(z[class_] - norm)
            })
        }
        let losses = bench.blank("losses", 1, logits.rows, strided: strided)
        let softLosses = bench.blank("soft losses", 1, logits.rows, strided: strided)
        bench.backend.blend(
          logits, targets: targets, soft: soft, scale: 0.125, losses: losses, softLosses: softLosses)
        bench.output("losses", losses, .softmax, floor: size)
        bench.output("soft losses", softLosses, .softmax, floor: 6 * size)
        bench.output("gradient", logits, .softmax, floor: 0.5 * size)
      }
    },
    ContractCase("likeliest") { bench in
      forLogits(bench) { logits, _, _, size in
        for count in [1, 7, 5000] {
          for temperature: Float in [0, 1, 2] {
            let (classes, values) = bench.backend.likeliest(logits, count: count, temperature: temperature)
            bench.output("classes", classes.map(Double.init), .exact)
            bench.output("values", values.map(Double.init), .softmax, floor: 6 * size)
          }
        }
      }
    },
    ContractCase("sampleLabels") { bench in
      forLogits(bench) { logits, _, _, _ in
        let labels = bench.backend.sampleLabels(logits, uniforms: clearUniforms(bench, logits))
        bench.output("labels", labels.map(Double.init), .exact)
        let extremes = [0, 1 - 0x1p-53].flatMap {
          bench.backend.sampleLabels(logits, uniforms: [Double](repeating: $0, count: logits.rows))
        }
        let valid = extremes.allSatisfy { $0 >= 0 && $0 < logits.columns }
        bench.output("labels at the ends exist", [valid ? 1 : 0], .exact)
      }
    },
  ]

  /// Uniforms well inside the interval of some label, so that no rounding can move them into its neighbour's.
  private static func clearUniforms(_ bench: ContractBench, _ logits: Tensor) -> [Double] {
    let probabilities = ReferenceBackend().empty(logits.rows, logits.columns)
    ReferenceBackend().softmax(logits, into: probabilities)
    return (0..<logits.rows).map { row in
      let values = probabilities.rows(row..<row + 1).toArray().map(Double.init)
      var uniform = 0.0
      repeat {
        uniform = bench.random.uniform()
        var (distance, cumulative) = (uniform, 0.0)
        for value in values {
          cumulative += value
          distance = min(distance, abs(uniform - cumulative))
        }
        if distance > 1e-5 { return uniform }
      } while true
    }
  }

  /// `size`: the rounding of log Σ exp grows with the logits; how far it exceeds that of ordinary losses.
  private static func forLogits(
    _ bench: ContractBench,
    _ body: (_ logits: Tensor, _ targets: [Int32], _ strided: Bool, _ size: Double) -> Void
  ) {
    for (rows, vocabulary) in [(1, 1), (1, 9), (6, 2), (13, 37), (40, 1031), (3, 4500)] {
      for (strided, deviation, mean) in [(false, 1, 0), (true, 2, 0), (false, 60, 0), (true, 1, 300)] {
        for unscored in [0, 3, 1] {
          bench.context =
            "[\(rows), \(vocabulary)], logits \(mean) ± \(deviation), one in \(unscored) unscored"
            + (strided ? ", strided" : "")
          let targets = bench.tokens(rows, below: vocabulary).map { target in
            unscored > 0 && bench.random.integer(below: unscored) == 0 ? Int32(-1) : target
          }
          let logits = bench.tensor("logits", rows, vocabulary, strided: strided) {
            // Multiples of 1/64 are exact in Float even on top of 300.
            (Float(mean) * 64 + (Float(deviation) * 64 * Float($0.normal())).rounded()) / 64
          }
          body(logits, targets, strided, max(1, Double(mean + 3 * deviation) / 50))
        }
      }
    }
  }
}
