// The vector family: flat passes in fixed chunks, sums added in chunk order.
import CKernels
import TensorCore

extension CPUBackend {
  /// Elements of a chunk: long enough to hide a wake-up, short enough to balance threads.
  private static let chunk = 1 << 16

  private func overElements(_ count: Int, _ body: (Range<Int>) -> Void) {
    overRows(count, height: Self.chunk, body)
  }
  /// Sums what `body` returns for every chunk, in chunk order.
  private func total(_ count: Int, height: Int = chunk, _ body: (Range<Int>) -> Double) -> Double {
    let chunks = (count + height - 1) / height
    guard chunks > 0, !workers.isIdle else { return 0 }
    let partial = [Double](unsafeUninitializedCapacity: chunks) { buffer, initialized in
      initialized = chunks
      nonisolated(unsafe) let sums = buffer
      overRows(count, height: height) { sums[$0.lowerBound / height] = body($0) }
    }
    return partial.reduce(0, +)
  }
  private func same(_ tensors: Tensor...) {
    precondition(
      tensors.allSatisfy { $0.count == tensors[0].count && $0.isContiguous },
      "vector operation on \(tensors.map { "[\($0.rows), \($0.columns)]" })")
  }
  /// Rows for strided windows, flat chunks where both are contiguous.
  private func elementwise(
    _ x: Tensor, _ y: Tensor, _ body: (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    precondition(
      x.rows == y.rows && x.columns == y.columns || (x.count == y.count && x.isContiguous && y.isContiguous),
      "[\(x.rows), \(x.columns)] against [\(y.rows), \(y.columns)]")
    if x.isContiguous && y.isContiguous {
      overElements(x.count) { body(x.base + $0.lowerBound, y.base + $0.lowerBound, $0.count) }
    } else {
      overRows(x.rows, height: height(columns: x.columns)) { rows in
        for row in rows { body(x.base + row * x.stride, y.base + row * y.stride, x.columns) }
      }
    }
  }

  public func fill(_ x: Tensor, _ value: Float) {
    overwriting(x)
    elementwise(x, x) { pointer, _, count in ck_vector_fill(pointer, value, count) }
  }
  public func copy(_ x: Tensor, into y: Tensor) {
    overwriting(y)
    elementwise(x, y) { from, to, count in to.update(from: from, count: count) }
  }
  public func add(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    overwriting(y)
    elementwise(x, y) { from, to, count in ck_vector_add(from, scale, to, count) }
  }
  public func subtract(_ b: Tensor, from a: Tensor, into y: Tensor) {
    precondition(
      b.rows == y.rows && b.columns == y.columns && a.rows == y.rows && a.columns == y.columns,
      "[\(b.rows), \(b.columns)] from [\(a.rows), \(a.columns)] into [\(y.rows), \(y.columns)]")
    overwriting(y)
    if a.isContiguous && b.isContiguous && y.isContiguous {
      overElements(y.count) { range in
        let i = range.lowerBound
        ck_vector_subtract(a.base + i, b.base + i, y.base + i, range.count)
      }
    } else {
      overRows(y.rows, height: height(columns: y.columns)) { rows in
        for row in rows {
          ck_vector_subtract(
            a.base + row * a.stride, b.base + row * b.stride, y.base + row * y.stride, y.columns)
        }
      }
    }
  }
  public func scale(_ x: Tensor, by factor: Float) {
    overwriting(x)
    elementwise(x, x) { pointer, _, count in ck_vector_scale(pointer, factor, count) }
  }
  public func scaleRows(_ x: Tensor, by factors: Tensor, into y: Tensor) {
    scaleRows(x, factors, into: y, "rows") { row in
      ck_vector_scaled(x.base + row * x.stride, factors.base[row], y.base + row * y.stride, x.columns)
    }
  }
  public func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor) {
    scaleRows(x, factors, into: y, "columns") { row in
      ck_vector_product(x.base + row * x.stride, factors.base, y.base + row * y.stride, x.columns)
    }
  }
  private func scaleRows(_ x: Tensor, _ factors: Tensor, into y: Tensor, _ what: String, _ body: (Int) -> Void) {
    precondition(
      y.rows == x.rows && y.columns == x.columns && factors.count == (what == "rows" ? x.rows : x.columns),
      "\(factors.count) factors for \(what) of [\(x.rows), \(x.columns)] into [\(y.rows), \(y.columns)]")
    overwriting(y)
    overRows(x.rows, height: height(columns: x.columns)) { $0.forEach(body) }
  }
  public func addSquares(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    overwriting(y)
    elementwise(x, y) { from, to, count in ck_vector_add_squares(from, scale, to, count) }
  }
  public func addMagnitudes(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    overwriting(y)
    elementwise(x, y) { from, to, count in ck_vector_add_magnitudes(from, scale, to, count) }
  }
  public func addPath(gradient: Tensor, values: Tensor, previous: Tensor, into path: Tensor) {
    same(gradient, values, previous, path)
    overwriting(previous, path)
    overElements(path.count) { range in
      let i = range.lowerBound
      ck_vector_add_path(gradient.base + i, values.base + i, previous.base + i, path.base + i, range.count)
    }
  }
  public func addProduct(_ a: Tensor, _ b: Tensor, scaled scale: Float, into y: Tensor) {
    same(a, b, y)
    overwriting(y)
    overElements(a.count) { range in
      let i = range.lowerBound
      ck_vector_add_product(a.base + i, b.base + i, scale, y.base + i, range.count)
    }
  }
  public func divide(_ numerator: Tensor, by denominator: Tensor, otherwise fallback: Tensor, into q: Tensor) {
    same(numerator, denominator, fallback, q)
    overwriting(q)
    overElements(q.count) { range in
      let i = range.lowerBound
      ck_vector_divide(numerator.base + i, denominator.base + i, fallback.base + i, q.base + i, range.count)
    }
  }

  public func dot(_ x: Tensor, _ y: Tensor) -> Double {
    same(x, y)
    return total(x.count) { ck_vector_dot(x.base + $0.lowerBound, y.base + $0.lowerBound, $0.count) }
  }
  public func quadratic(_ x: Tensor, anchor: Tensor?, curvature: Tensor?) -> Double {
    same(x, anchor ?? x, curvature ?? x)
    return total(x.count) { range in
      let i = range.lowerBound
      return ck_vector_quadratic(
        x.base + i, anchor.map { $0.base + i }, curvature.map { $0.base + i }, range.count)
    }
  }

  /// Where a step also leaves the bfloat16 form of the parameters that it moves, if there is a copy to keep.
  private func renewed(_ parameters: Tensor) -> UnsafeMutablePointer<UInt16>? {
    parameters.storage.rounded.map { $0.bfloat16 + parameters.offset }
  }

  /// The pulls as the kernels see them, each starting at element `first`.
  private func withPulls<Result>(
    _ pulls: [QuadraticPull], from first: Int, _ body: (UnsafePointer<ck_pull>?, Int32) -> Result
  )
    -> Result
  {
    let plain = pulls.map { pull in
      ck_pull(
        curvature: pull.curvature.map { UnsafePointer($0.base + first) }, anchor: pull.anchor.base + first,
        strength: pull.strength, proximal: pull.form == .proximal ? 1 : 0)
    }
    return plain.withUnsafeBufferPointer { body($0.baseAddress, Int32($0.count)) }
  }

  /// Runs an optimizer's step chunk by chunk and adds up what it returns; bounded pulls follow while a chunk is in cache.
  ///
  /// - Parameters:
  ///   - secondMoment: AdamW's, whose root is the step's metric; nil for a metric of 1
  ///   - step: of a range of elements, with where it leaves the rounded form of the parameters
  private func stepping(
    _ parameters: Tensor, _ bounded: [BoundedPull], secondMoment: Tensor?, correction: Float, epsilon: Float,
    learningRate: Float, _ step: (Range<Int>, UnsafeMutablePointer<UInt16>?) -> Double
  ) -> Double {
    let rounded = renewed(parameters)
    guard let shape = bounded.first?.force else {
      return total(parameters.count) { range in step(range, rounded.map { $0 + range.lowerBound }) }
    }
    let columns = shape.columns
    for pull in bounded {
      same(parameters, pull.force)
      precondition(
        pull.force.columns == columns
          && pull.bounds.allSatisfy { $0.rows.count == shape.rows && $0.columns.count == columns },
        "a bounded pull of another shape than [\(shape.rows), \(columns)]")
    }
    return total(shape.rows, height: height(columns: columns)) { rows in
      let range = rows.lowerBound * columns..<rows.upperBound * columns
      let (found, sums) = (empty(1, range.count), empty(1, columns))
      found.base.update(from: parameters.base + range.lowerBound, count: range.count)
      let penalty = step(range, nil)
      for pull in bounded {
        for row in rows {
          let i = row * columns
          ck_vector_fill(sums.base, 0, columns)
          for bound in pull.bounds { ck_vector_add(bound.columns.base, bound.rows.base[row], sums.base, columns) }
          ck_vector_damped_step(
            parameters.base + i, found.base + (i - range.lowerBound), pull.force.base + i, sums.base,
            secondMoment.map { UnsafePointer($0.base + i) }, correction, epsilon, learningRate * pull.strength,
            rounded.map { $0 + i }, columns)
        }
      }
      return penalty
    }
  }

  public func adamW(
    _ parameters: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, pulls: [QuadraticPull],
    bounded: [BoundedPull], step: AdamWStep
  ) -> Double {
    same(parameters, gradient, firstMoment, secondMoment)
    overwriting(firstMoment, secondMoment)
    for pull in pulls { same(parameters, pull.anchor, pull.curvature ?? pull.anchor) }
    var plain = ck_adamw_step(
      learning_rate: step.learningRate, beta1: step.beta1, beta2: step.beta2, epsilon: step.epsilon,
      weight_decay: step.weightDecay, gradient_scale: step.gradientScale, inverse_correction1: 0,
      inverse_correction2: 0)
    plain.inverse_correction1 = Float(1 / (1 - Maths.pow(Double(step.beta1), Double(step.step))))
    plain.inverse_correction2 = Float(1 / (1 - Maths.pow(Double(step.beta2), Double(step.step))))
    let scalars = plain
    return stepping(
      parameters, bounded, secondMoment: secondMoment, correction: scalars.inverse_correction2, epsilon: step.epsilon,
      learningRate: step.learningRate
    ) { range, rounded in
      let i = range.lowerBound
      return withPulls(pulls, from: i) { pulls, count in
        withUnsafePointer(to: scalars) { scalars in
          ck_vector_adamw(
            parameters.base + i, gradient.base + i, firstMoment.base + i, secondMoment.base + i, rounded, pulls, count,
            scalars, range.count)
        }
      }
    }
  }

  public func sgd(
    _ parameters: Tensor, gradient: Tensor, momentumBuffer: Tensor?, momentum: Float, learningRate: Float,
    weightDecay: Float, gradientScale: Float, pulls: [QuadraticPull], bounded: [BoundedPull]
  ) -> Double {
    same(parameters, gradient, momentumBuffer ?? gradient)
    if let momentumBuffer { overwriting(momentumBuffer) }
    return stepping(
      parameters, bounded, secondMoment: nil, correction: 1, epsilon: 0, learningRate: learningRate
    ) { range, rounded in
      let i = range.lowerBound
      return withPulls(pulls, from: i) { pulls, count in
        ck_vector_sgd(
          parameters.base + i, gradient.base + i, momentumBuffer.map { $0.base + i }, momentum, learningRate,
          weightDecay, gradientScale, rounded, pulls, count, range.count)
      }
    }
  }
}
