// The reference's vector functions and optimizer steps, element by element.
// A pull of strength or curvature 0 must change no bit, so the proximal step is written as a correction.

extension ReferenceBackend {
  public func fill(_ x: Tensor, _ value: Float) {
    for index in x.buffer.indices { x.buffer[index] = value }
  }

  public func copy(_ x: Tensor, into y: Tensor) {
    forEach(x, y, what: "copy") { row, column in y[row, column] = x[row, column] }
  }

  public func add(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    forEach(x, y, what: "add") { row, column in y[row, column] += Double(scale) * x[row, column] }
  }

  public func subtract(_ b: Tensor, from a: Tensor, into y: Tensor) {
    requireShape(b, y.rows, y.columns, "subtract: b")
    forEach(a, y, what: "subtract") { row, column in y[row, column] = a[row, column] - b[row, column] }
  }

  public func scale(_ x: Tensor, by factor: Float) {
    for index in x.buffer.indices { x.buffer[index] *= factor }
  }

  public func scaleRows(_ x: Tensor, by factors: Tensor, into y: Tensor) {
    requireShape(factors, 1, x.rows, "scaleRows: factors")
    forEach(x, y, what: "scaleRows") { row, column in y[row, column] = factors[0, row] * x[row, column] }
  }

  public func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor) {
    requireShape(factors, 1, x.columns, "scaleColumns: factors")
    forEach(x, y, what: "scaleColumns") { row, column in y[row, column] = factors[0, column] * x[row, column] }
  }

  public func addSquares(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    addProduct(x, x, scaled: scale, into: y)
  }

  public func addMagnitudes(_ x: Tensor, scaled scale: Float, into y: Tensor) {
    requireCount(y, x, what: "addMagnitudes")
    for index in y.buffer.indices {
      y.buffer[index] = Float(Double(y.buffer[index]) + Double(scale) * Double(abs(x.buffer[index])))
    }
  }

  public func addPath(gradient: Tensor, values: Tensor, previous: Tensor, into path: Tensor) {
    requireCount(path, gradient, values, previous, what: "addPath")
    for index in path.buffer.indices {
      let moved = Double(values.buffer[index]) - Double(previous.buffer[index])
      path.buffer[index] = Float(Double(path.buffer[index]) - Double(gradient.buffer[index]) * moved)
      previous.buffer[index] = values.buffer[index]
    }
  }

  public func addProduct(_ a: Tensor, _ b: Tensor, scaled scale: Float, into y: Tensor) {
    requireCount(y, a, b, what: "addProduct")
    for index in y.buffer.indices {
      let product = Double(scale) * Double(a.buffer[index]) * Double(b.buffer[index])
      y.buffer[index] = Float(Double(y.buffer[index]) + product)
    }
  }

  public func divide(
    _ numerator: Tensor, by denominator: Tensor, otherwise fallback: Tensor, into q: Tensor
  ) {
    requireCount(q, numerator, denominator, fallback, what: "divide")
    for index in q.buffer.indices {
      let divisor = denominator.buffer[index]
      q.buffer[index] = divisor > 0 ? numerator.buffer[index] / divisor : fallback.buffer[index]
    }
  }

  public func dot(_ x: Tensor, _ y: Tensor) -> Double {
    requireCount(x, y, what: "dot")
    var sum = 0.0
    for index in x.buffer.indices { sum += Double(x.buffer[index]) * Double(y.buffer[index]) }
    return sum
  }

  public func quadratic(_ x: Tensor, anchor: Tensor?, curvature: Tensor?) -> Double {
    requireCount(x, anchor ?? x, curvature ?? x, what: "quadratic")
    var sum = 0.0
    for index in x.buffer.indices {
      let distance = Double(x.buffer[index]) - Double(anchor?.buffer[index] ?? 0)
      sum += Double(curvature?.buffer[index] ?? 1) * distance * distance
    }
    return sum
  }

  public func adamW(
    _ parameters: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, pulls: [QuadraticPull],
    bounded: [BoundedPull], step: AdamWStep
  ) -> Double {
    requireCount(parameters, gradient, firstMoment, secondMoment, what: "adamW")
    require(bounded, parameters)
    let penalty = penalty(parameters, pulls)
    let (rate, beta1, beta2) = (Double(step.learningRate), Double(step.beta1), Double(step.beta2))
    let correction1 = 1 - Maths.pow(beta1, Double(step.step))
    let correction2 = 1 - Maths.pow(beta2, Double(step.step))
    for index in parameters.buffer.indices {
      let found = Double(parameters.buffer[index])
      var theta = found
      var g = Double(step.gradientScale) * Double(gradient.buffer[index])
      g += coupledGradient(pulls, theta, index)
      let m = beta1 * Double(firstMoment.buffer[index]) + (1 - beta1) * g
      let v = beta2 * Double(secondMoment.buffer[index]) + (1 - beta2) * g * g
      let metric = (v / correction2).squareRoot() + Double(step.epsilon)
      theta = theta * (1 - rate * Double(step.weightDecay)) - rate * m / correction1 / metric
      firstMoment.buffer[index] = Float(m)
      secondMoment.buffer[index] = Float(v)
      theta = proximal(pulls, theta, index, rate: rate, metric: metric)
      parameters.buffer[index] = Float(damped(bounded, theta, index, from: found, rate: rate, metric: metric))
    }
    return penalty
  }

  public func sgd(
    _ parameters: Tensor, gradient: Tensor, momentumBuffer: Tensor?, momentum: Float, learningRate: Float,
    weightDecay: Float, gradientScale: Float, pulls: [QuadraticPull], bounded: [BoundedPull]
  ) -> Double {
    requireCount(parameters, gradient, momentumBuffer ?? gradient, what: "sgd")
    require(bounded, parameters)
    let penalty = penalty(parameters, pulls)
    let rate = Double(learningRate)
    for index in parameters.buffer.indices {
      let found = Double(parameters.buffer[index])
      var theta = found
      var b = Double(gradientScale) * Double(gradient.buffer[index])
      b += coupledGradient(pulls, theta, index)
      if let momentumBuffer {
        b += Double(momentum) * Double(momentumBuffer.buffer[index])
        momentumBuffer.buffer[index] = Float(b)
      }
      theta = theta * (1 - rate * Double(weightDecay)) - rate * b
      theta = proximal(pulls, theta, index, rate: rate, metric: 1)
      parameters.buffer[index] = Float(damped(bounded, theta, index, from: found, rate: rate, metric: 1))
    }
    return penalty
  }

  // MARK: Pulls

  /// ½ Σ λF(θ − θ*)² over pulls of both forms.
  private func penalty(_ parameters: Tensor, _ pulls: [QuadraticPull]) -> Double {
    pulls.reduce(0) {
      $0 + 0.5 * Double($1.strength) * quadratic(parameters, anchor: $1.anchor, curvature: $1.curvature)
    }
  }

  private func weight(_ pull: QuadraticPull, _ index: Int) -> Double {
    Double(pull.strength) * Double(pull.curvature?.buffer[index] ?? 1)
  }

  private func coupledGradient(_ pulls: [QuadraticPull], _ theta: Double, _ index: Int) -> Double {
    var sum = 0.0
    for pull in pulls where pull.form == .coupled {
      sum += weight(pull, index) * (theta - Double(pull.anchor.buffer[index]))
    }
    return sum
  }

  /// (dθ + ηΣλFθ*) / (d + ηΣλF) as θ + ηΣλF(θ* − θ) / (d + ηΣλF): the same number, and θ itself where F is 0.
  private func proximal(
    _ pulls: [QuadraticPull], _ theta: Double, _ index: Int, rate: Double, metric: Double
  ) -> Double {
    var force = 0.0
    var stiffness = 0.0
    for pull in pulls where pull.form == .proximal {
      let weight = rate * weight(pull, index)
      force += weight * (Double(pull.anchor.buffer[index]) - theta)
      stiffness += weight
    }
    return stiffness == 0 ? theta : theta + force / (metric + stiffness)
  }

  private func damped(
    _ pulls: [BoundedPull], _ theta: Double, _ index: Int, from found: Double, rate: Double, metric: Double
  ) -> Double {
    pulls.reduce(theta) { theta, pull in
      let (row, column) = index.quotientAndRemainder(dividingBy: pull.force.columns)
      let bound = pull.bounds.reduce(0.0) { $0 + $1.rows[0, row] * $1.columns[0, column] }
      let pressure = rate * Double(pull.strength)
      let slope = Double(pull.force.buffer[index]) + bound * (theta - found)
      return theta - pressure * slope / (metric + pressure * bound)
    }
  }

  private func require(_ pulls: [BoundedPull], _ parameters: Tensor) {
    for pull in pulls {
      requireCount(parameters, pull.force, what: "bounded pull: force")
      for bound in pull.bounds {
        requireShape(bound.rows, 1, pull.force.rows, "bounded pull: u")
        requireShape(bound.columns, 1, pull.force.columns, "bounded pull: v")
      }
    }
  }

  private func requireCount(_ x: Tensor, _ others: Tensor..., what: String) {
    for other in others {
      precondition(other.count == x.count, "\(what): \(other.count) elements against \(x.count)")
    }
  }
}
