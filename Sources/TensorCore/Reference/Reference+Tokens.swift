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

  public func negativeLogLikelihood(_ logits: Tensor, targets: [Int32], losses: Tensor) {
    requireRows(logits, targets.count, "negativeLogLikelihood: targets")
    requireShape(losses, 1, logits.rows, "negativeLogLikelihood: losses")
    for row in 0..<logits.rows {
      losses[0, row] = targets[row] < 0 ? 0 : logSumExp(logits, row) - logits[row, Int(targets[row])]
    }
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
