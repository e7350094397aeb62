// The reference's functions between tokens and vectors: embedding, softmax, losses, label sampling.
// Every softmax subtracts the row's maximum first, so no finite logit overflows.

extension ReferenceBackend {
  public func gather(_ table: Tensor, tokens: [Int32], into y: Tensor) {
    requireShape(y, tokens.count, table.columns, "gather: y")
    forEach(y, what: "gather") { row, column in y[row, column] = table[Int(tokens[row]), column] }
  }

  public func scatterAdd(_ dy: Tensor, tokens: [Int32], into table: Tensor) {
    requireShape(dy, tokens.count, table.columns, "scatterAdd: dy")
    for token in Set(tokens) {
      for column in 0..<table.columns {
        var sum = table[Int(token), column]
        for row in 0..<dy.rows where tokens[row] == token { sum += dy[row, column] }
        table[Int(token), column] = sum
      }
    }
  }

  public func crossEntropy(_ logits: Tensor, targets: [Int32], scale: Float, losses: Tensor) {
    negativeLogLikelihood(logits, targets: targets, losses: losses)
    for row in 0..<logits.rows {
      let probabilities = probabilities(logits, row)
      for column in 0..<logits.columns {
        let hit = column == Int(targets[row]) ? 1.0 : 0.0
        logits[row, column] = targets[row] < 0 ? 0 : Double(scale) * (probabilities[column] - hit)
      }
    }
  }

  public func sampledCrossEntropy(_ logits: Tensor, uniforms: [Double], scale: Float, losses: Tensor) -> [Int32] {
    let labels = sampleLabels(logits, uniforms: uniforms)
    crossEntropy(logits, targets: labels, scale: scale, losses: losses)
    return labels
  }

  public func negativeLogLikelihood(_ logits: Tensor, targets: [Int32], losses: Tensor) {
    requireRows(logits, targets.count, "negativeLogLikelihood: targets")
    requireShape(losses, 1, logits.rows, "negativeLogLikelihood: losses")
    for row in 0..<logits.rows {
      losses[0, row] = targets[row] < 0 ? 0 : logSumExp(logits, row) - logits[row, Int(targets[row])]
    }
  }

  public func blend(
    _ logits: Tensor, targets: [Int32], soft: SoftRows, scale: Float, losses: Tensor, softLosses: Tensor
  ) {
    requireRows(logits, soft.count, "blend: soft rows")
    requireShape(softLosses, 1, logits.rows, "blend: softLosses")
    negativeLogLikelihood(logits, targets: targets, losses: losses)
    let columns = logits.columns
    for row in 0..<logits.rows {
      softLosses[0, row] = 0
      guard targets[row] >= 0 else {
        for column in 0..<columns { logits[row, column] = 0 }
        continue
      }
      let z = (0..<columns).map { logits[row, $0] }
      let p = probabilities(logits, row)
      var gradient = (0..<columns).map { Double(soft.hard[row]) * (p[$0] - ($0 == Int(targets[row]) ? 1 : 0)) }
      let (weight, temperature) = (Double(soft.soft[row]), Double(soft.temperatures[row]))
      let listed = (soft.starts[row]..<soft.starts[row + 1]).map {
        (Int(soft.classes[$0]), Double(soft.values[$0]))
      }
      if weight != 0, temperature == 0 {
        for (column, value) in listed {
          let difference = z[column] - value
          softLosses[0, row] += difference * difference / Double(columns)
          gradient[column] += weight * 2 * difference / Double(columns)
        }
      } else if weight != 0 {
        let top = z.max() ?? 0
        let exponentials = z.map { Maths.exp(($0 - top) / temperature) }
        let total = exponentials.reduce(0, +)
        let cooled = exponentials.map { $0 / total }
        var (tailP, tailQ, divergence) = (1.0, 1.0, 0.0)
        var isListed = [Bool](repeating: false, count: columns)
        for (column, value) in listed {
          isListed[column] = true
          tailP -= cooled[column]
          tailQ -= Maths.exp(value)
          if value > -86 { divergence += Maths.exp(value) * (value - Maths.log(cooled[column])) }
          gradient[column] += weight * temperature * (cooled[column] - Maths.exp(value))
        }
        if listed.count < columns, tailP > 1e-7 {
          tailQ = max(0, tailQ)
          if tailQ > 1e-7 { divergence += tailQ * Maths.log(tailQ / tailP) }
          for column in 0..<columns where !isListed[column] {
            gradient[column] += weight * temperature * cooled[column] * (1 - tailQ / tailP)
          }
        }
        softLosses[0, row] = temperature * temperature * divergence
      }
      for column in 0..<columns { logits[row, column] = Double(scale) * gradient[column] }
    }
  }

  public func likeliest(_ logits: Tensor, count: Int, temperature: Float) -> (classes: [Int32], values: [Float]) {
    var (classes, values): ([Int32], [Float]) = ([], [])
    for row in 0..<logits.rows {
      var order = Array(0..<logits.columns)
      if count < logits.columns {
        order.sort {
          logits[row, $0] != logits[row, $1] ? logits[row, $0] > logits[row, $1] : $0 < $1
        }
      }
      let z = (0..<logits.columns).map { logits[row, $0] / Double(temperature == 0 ? 1 : temperature) }
      let top = z.max() ?? 0
      let norm = temperature == 0 ? 0 : top + Maths.log(z.reduce(0) { $0 + Maths.exp($1 - top) })
      for column in order.prefix(count) {
        classes.append(Int32(column))
        values.append(Float(z[column] - norm))
      }
    }
    return (classes, values)
  }

  public func sampleLabels(_ logits: Tensor, uniforms: [Double]) -> [Int32] {
    requireRows(logits, uniforms.count, "sampleLabels: uniforms")
    return (0..<logits.rows).map { row in
      var cumulative = 0.0
      var label = 0
      for (column, probability) in probabilities(logits, row).enumerated() where probability > 0 {
        // The last possible label takes what rounding leaves of the sum below 1.
        label = column
        cumulative += probability
        if uniforms[row] < cumulative { break }
      }
      return Int32(label)
    }
  }

  public func softmax(_ logits: Tensor, into probabilities: Tensor) {
    requireShape(probabilities, logits.rows, logits.columns, "softmax: probabilities")
    for row in 0..<logits.rows {
      for (column, value) in self.probabilities(logits, row).enumerated() {
        probabilities[row, column] = value
      }
    }
  }

  public func takeColumns(_ x: Tensor, columns: [Int32], into y: Tensor) {
    requireShape(y, x.rows, columns.count, "takeColumns: y")
    for row in 0..<x.rows {
      for (j, column) in columns.enumerated() { y[row, j] = x[row, Int(column)] }
      for column in columns { x[row, Int(column)] = 0 }
    }
  }

  private func logSumExp(_ logits: Tensor, _ row: Int) -> Double {
    let values = (0..<logits.columns).map { logits[row, $0] }
    let top = values.max() ?? 0
    return top + Maths.log(values.reduce(0) { $0 + Maths.exp($1 - top) })
  }

  private func probabilities(_ logits: Tensor, _ row: Int) -> [Double] {
    let values = (0..<logits.columns).map { logits[row, $0] }
    let top = values.max() ?? 0
    let exponentials = values.map { Maths.exp($0 - top) }
    let total = exponentials.reduce(0, +)
    return exponentials.map { $0 / total }
  }
}
