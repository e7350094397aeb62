// The tokens family: embedding rows, cross-entropy and sampling.
import CKernels
import TensorCore

extension CPUBackend {
  private func check(_ tokens: [Int32], rows: Int, from lowest: Int32 = 0, below bound: Int) {
    precondition(tokens.count == rows, "\(tokens.count) tokens for \(rows) rows")
    precondition(tokens.allSatisfy { $0 >= lowest && $0 < bound }, "a token id is outside of 0 ..< \(bound)")
  }

  public func gather(_ table: Tensor, tokens: [Int32], into y: Tensor) {
    check(tokens, rows: y.rows, below: table.rows)
    overwriting(y)
    tokens.withUnsafeBufferPointer { tokens in
      guard let first = tokens.baseAddress else { return }
      overRows(y.rows, height: height(columns: y.columns)) { rows in
        let r = rows.lowerBound
        ck_tokens_gather(
          table.base, table.stride, first + r, y.base + r * y.stride, y.stride, rows.count, y.columns)
      }
    }
  }

  public func scatterAdd(_ dy: Tensor, tokens: [Int32], into table: Tensor) {
    check(tokens, rows: dy.rows, below: table.rows)
    overwriting(table)
    tokens.withUnsafeBufferPointer { tokens in
      guard let first = tokens.baseAddress else { return }
      // Equal tokens meet in one row of the table: columns, not rows, are what threads may share out.
      let width = 64
      workers.run((dy.columns + width - 1) / width) { chunk in
        let c = chunk * width
        ck_tokens_scatter_add(
          dy.base + c, dy.stride, first, table.base + c, table.stride, dy.rows, min(width, dy.columns - c))
      }
    }
  }

  public func crossEntropy(_ logits: Tensor, targets: [Int32], scale: Float, losses: Tensor) {
    check(targets, rows: logits.rows, from: .min, below: logits.columns)
    targets.withUnsafeBufferPointer { targets in
      crossEntropy(logits, targets: targets.baseAddress, uniforms: nil, labels: nil, scale: scale, losses: losses)
    }
  }

  public func sampledCrossEntropy(_ logits: Tensor, uniforms: [Double], scale: Float, losses: Tensor) -> [Int32] {
    precondition(uniforms.count == logits.rows, "\(uniforms.count) draws for \(logits.rows) rows")
    return [Int32](unsafeUninitializedCapacity: logits.rows) { labels, count in
      count = logits.rows
      uniforms.withUnsafeBufferPointer { uniforms in
        crossEntropy(
          logits, targets: nil, uniforms: uniforms.baseAddress, labels: labels.baseAddress, scale: scale,
          losses: losses)
      }
    }
  }

  /// Of the targets, or of labels drawn at `uniforms`.
  private func crossEntropy(
    _ logits: Tensor, targets: UnsafePointer<Int32>?, uniforms: UnsafePointer<Double>?,
    labels: UnsafeMutablePointer<Int32>?, scale: Float, losses: Tensor
  ) {
    overwriting(logits, losses)
    // The gradient goes into two products next: its bfloat16 copy is written while the row is at hand.
    let isWhole = logits.offset == 0 && logits.count == logits.storage.count && logits.isContiguous
    let rounded = usesBF16 && isWhole ? logits.storage.roundedStorage() : nil
    overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
      let r = rows.lowerBound
      ck_tokens_cross_entropy(
        logits.base + r * logits.stride, logits.stride, targets.map { $0 + r }, uniforms.map { $0 + r },
        labels.map { $0 + r }, scale, losses.base + r, rounded.map { $0.bfloat16 + r * logits.stride }, rows.count,
        logits.columns)
    }
    logits.storage.rounded = rounded
  }

  public func negativeLogLikelihood(_ logits: Tensor, targets: [Int32], losses: Tensor) {
    check(targets, rows: logits.rows, from: .min, below: logits.columns)
    overwriting(losses)
    targets.withUnsafeBufferPointer { targets in
      guard let first = targets.baseAddress else { return }
      overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
        let r = rows.lowerBound
        ck_tokens_negative_log_likelihood(
          logits.base + r * logits.stride, logits.stride, first + r, losses.base + r, rows.count, logits.columns)
      }
    }
  }

  public func blend(
    _ logits: Tensor, targets: [Int32], soft: SoftRows, scale: Float, losses: Tensor, softLosses: Tensor
  ) {
    check(targets, rows: logits.rows, from: .min, below: logits.columns)
    precondition(soft.count == logits.rows, "\(soft.count) soft rows for \(logits.rows) rows")
    precondition(
      soft.classes.allSatisfy { $0 >= 0 && $0 < logits.columns }, "a class is outside of 0 ..< \(logits.columns)")
    overwriting(logits, losses, softLosses)
    soft.classes.withUnsafeBufferPointer { classes in
      soft.values.withUnsafeBufferPointer { values in
        overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
          for r in rows {
            let row = logits.base + r * logits.stride
            guard targets[r] >= 0 else {
              ck_vector_fill(row, 0, logits.columns)
              losses.base[r] = 0
              softLosses.base[r] = 0
              continue
            }
            let first = soft.starts[r]
            ck_tokens_blend(
              row, targets[r], soft.hard[r], soft.soft[r], soft.temperatures[r],
              classes.baseAddress.map { $0 + first }, values.baseAddress.map { $0 + first },
              soft.starts[r + 1] - first, scale, losses.base + r, softLosses.base + r, logits.columns)
          }
        }
      }
    }
  }

  public func likeliest(_ logits: Tensor, count: Int, temperature: Float) -> (classes: [Int32], values: [Float]) {
    let width = min(count, logits.columns)
    let total = logits.rows * width
    guard total > 0 else { return ([], []) }
    var classes: [Int32] = []
    let values = [Float](unsafeUninitializedCapacity: total) { values, valueCount in
      valueCount = total
      classes = [Int32](unsafeUninitializedCapacity: total) { classes, classCount in
        classCount = total
        guard let names = classes.baseAddress, let kept = values.baseAddress else { return }
        overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
          let r = rows.lowerBound
          ck_tokens_likeliest(
            logits.base + r * logits.stride, logits.stride, width, temperature == 0 ? 0 : 1 / temperature,
            names + r * width, kept + r * width, rows.count, logits.columns)
        }
      }
    }
    return (classes, values)
  }

  public func sampleLabels(_ logits: Tensor, uniforms: [Double]) -> [Int32] {
    precondition(uniforms.count == logits.rows, "\(uniforms.count) draws for \(logits.rows) rows")
    guard logits.rows > 0 else { return [] }
    return [Int32](unsafeUninitializedCapacity: logits.rows) { labels, count in
      count = logits.rows
      guard let to = labels.baseAddress else { return }
      uniforms.withUnsafeBufferPointer { uniforms in
        guard let from = uniforms.baseAddress else { return }
        overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
          let r = rows.lowerBound
          ck_tokens_sample(
            logits.base + r * logits.stride, logits.stride, from + r, to + r, rows.count, logits.columns)
        }
      }
    }
  }

  public func softmax(_ logits: Tensor, into probabilities: Tensor) {
    overwriting(probabilities)
    overRows(logits.rows, height: height(columns: logits.columns, elements: 1 << 18)) { rows in
      let r = rows.lowerBound
      ck_tokens_softmax(
        logits.base + r * logits.stride, logits.stride, probabilities.base + r * probabilities.stride,
        probabilities.stride, rows.count, logits.columns)
    }
  }

  public func takeColumns(_ x: Tensor, columns: [Int32], into y: Tensor) {
    precondition(columns.allSatisfy { $0 >= 0 && $0 < x.columns }, "a column is outside of 0 ..< \(x.columns)")
    overwriting(y)
    // A bfloat16 copy stays true: the columns become 0 there too.
    let rounded = x.storage.rounded.map { $0.bfloat16 + x.offset }
    overRows(x.rows, height: height(columns: columns.count)) { rows in
      for row in rows {
        let (from, to) = (x.base + row * x.stride, y.base + row * y.stride)
        for (j, column) in columns.enumerated() {
          to[j] = from[Int(column)]
          from[Int(column)] = 0
          rounded?[row * x.stride + Int(column)] = 0
        }
      }
    }
  }
}
