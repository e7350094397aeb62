// Low-rank adapters: in a stage only two thin factors of each weight are trained.
// The network reads the merged weight, so every layer and every method works as it does without an adapter.
import Layers
import TensorCore

/// What an adapter is made from.
public struct AdapterSettings: Sendable, Equatable {
  /// r; a weight with fewer rows or columns gets as many as it has.
  public var rank: Int
  /// α of the factor α/r, r as asked for.
  public var alpha: Double
  /// Globs of parameter names; nil: every matrix except embeddings and heads.
  public var targets: [String]?
  /// λ of the penalty on overlap with the adapters of earlier stages; 0: none.
  public var orthogonality: Double
  public init(rank: Int = 8, alpha: Double = 16, targets: [String]? = nil, orthogonality: Double = 0) {
    self.rank = rank
    self.alpha = alpha
    self.targets = targets
    self.orthogonality = orthogonality
  }
  public var scale: Float { Float(alpha / Double(rank)) }

  /// Numbers in the factors of some weights, Σ min(r, rows, columns)·(rows + columns).
  public func factorCount(of weights: [Parameter]) -> Int {
    weights.reduce(0) { $0 + rank(of: $1) * ($1.value.rows + $1.value.columns) }
  }
  func rank(of weight: Parameter) -> Int { min(rank, weight.value.rows, weight.value.columns) }
}

/// Trains W = W₀ + (α/r)·B·A through its factors: A random, B zero, W₀ the weight as the stage found it.
///
/// With dW the gradient by the merged weight, dB = (α/r)·dW·Aᵀ and dA = (α/r)·Bᵀ·dW. Quadratic pulls act on W: their
/// gradient λF(W − W*) joins dW, whichever form they ask for, because an exact step on the penalty has no closed form
/// in the factors. What is not adapted is frozen. Nothing is to be done at a stage's end: the weights are W.
/// - Shapes: W [O, I] or, in files that store weights input by output, [I, O]; A [r, I], B [O, r]
/// - Cost: forward and backward are those of full fine-tuning; 5r multiply-adds a weight and step for the factors, 2r
///   more with pulls. What is saved is the optimizer's state and its pass: W₀ and moments of the factors stand in the
///   place of two moments for every weight
/// - Source: Hu et al. 2021 (arXiv:2106.09685); A uniform in ±1/√I, as its reference implementation draws it (Kaiming
///   with a = √5, also the default of PEFT)
public final class LowRankAdapter {
  private struct Target {
    let weight: Parameter
    let base: Parameter
    let a: Parameter
    let b: Parameter
    /// A of earlier stages, one below the other. [R, I]
    let earlier: Tensor?
    /// Whether the weight is stored input by output.
    var isTurned: Bool { weight.layout == .inputByOutput }
  }
  static let suffixes = (a: ".lora_A", b: ".lora_B")
  public let settings: AdapterSettings
  /// `NAME.lora_A` and `NAME.lora_B` of every adapted weight.
  public let factors: ParameterStore
  /// W₀ of every adapted weight, under its name.
  public let base: ParameterStore
  /// Gradients of the factors.
  public let gradients: Accumulator
  /// Steps the factors; it knows no other parameters.
  public let optimizer: Optimizer
  private let targets: [Target]
  private let backend: any Backend

  /// Freezes everything but the adapted weights, which keep their values.
  ///
  /// - Parameters:
  ///   - weights: matrices of the store
  ///   - earlier: adapters of earlier stages, for `settings.orthogonality`
  public init(
    _ settings: AdapterSettings, _ weights: [Parameter], of store: ParameterStore, optimizer: OptimizerSettings,
    random: RandomStream, earlier: AdapterHistory? = nil, on backend: any Backend
  ) {
    self.settings = settings
    self.backend = backend
    base = ParameterStore(weights.map { ParameterDeclaration($0.name, $0.shape, .zeros) }, on: backend)
    let declarations = weights.flatMap { weight in
      let (rank, isTurned) = (settings.rank(of: weight), weight.layout == .inputByOutput)
      let (outputs, inputs) = isTurned ? (weight.shape[1], weight.shape[0]) : (weight.shape[0], weight.shape[1])
      return [
        ParameterDeclaration(
          weight.name + Self.suffixes.a, [rank, inputs], .uniform(bound: 1 / Double(inputs).squareRoot())),
        ParameterDeclaration(weight.name + Self.suffixes.b, [outputs, rank], .zeros),
      ]
    }
    factors = ParameterStore(declarations, on: backend)
    factors.initialize(declarations, from: random)
    gradients = Accumulator(factors, on: backend)
    self.optimizer = Optimizer(optimizer, factors, on: backend)
    targets = weights.enumerated().map { [factors, base] index, weight in
      let (a, b) = (factors.parameters[2 * index], factors.parameters[2 * index + 1])
      return Target(
        weight: weight, base: base.parameters[index], a: a, b: b,
        earlier: settings.orthogonality > 0 ? earlier?[a.name] : nil)
    }
    for target in targets { backend.copy(target.weight.value, into: target.base.value) }
    store.train(only: weights)
  }

  /// Gradients of the factors from those of the weights.
  ///
  /// - Returns: √Σg² over the factors
  @discardableResult
  public func project(_ accumulator: Accumulator) -> Double {
    exactly {
      gradients.reset()
      for target in targets where accumulator.hasGradient(target.weight) {
        project(target.weight.view(of: accumulator.gradient), target)
        for factor in [target.a, target.b] { backend.scale(factor.view(of: gradients.gradient), by: settings.scale) }
      }
      return optimizer.gradientNorm(gradients)
    }
  }

  /// Adds gradient·Aᵀ to dB and Bᵀ·gradient to dA.
  private func project(_ gradient: Tensor, _ target: Target) {
    let turned = target.isTurned
    gradients.add(gradient, transposed: turned, target.a.value, transposed: true, to: target.b)
    gradients.add(target.b.value, transposed: true, gradient, transposed: turned, to: target.a)
  }

  /// Steps the factors and merges them into the weights.
  ///
  /// - Parameter gradientScale: factor on the gradient, from clipping; never on a pull
  /// - Returns: ½ Σ λF(W − W*)² over the pulls, and λ Σ |A·Aₖᵀ| over earlier stages k, before the step
  func update(
    along accumulator: Accumulator, learningRate: Double, gradientScale: Float, pulls: [QuadraticPull]
  ) -> Double {
    // Methods may have added to the gradient since its norm was taken.
    project(accumulator)
    return exactly {
      var penalty = 0.0
      for target in targets where accumulator.hasGradient(target.weight) {
        if !pulls.isEmpty { penalty += pull(target, pulls, gradientScale: gradientScale) }
        if let earlier = target.earlier { penalty += avoid(earlier, target, gradientScale: gradientScale) }
      }
      _ = optimizer.update(along: gradients, learningRate: learningRate, gradientScale: gradientScale, pulls: [])
      for target in targets where accumulator.hasGradient(target.weight) { merge(target, into: target.weight.value) }
      return penalty
    }
  }

  /// Writes where `update` without pulls and earlier adapters would put the adapted weights; nothing is changed.
  ///
  /// - Precondition: `project` has seen the gradient
  /// - Shapes: values [1, P] in the network's layout, of which only the adapted weights are written
  func preview(along accumulator: Accumulator, learningRate: Double, gradientScale: Float, into values: Tensor) {
    exactly {
      let moved = backend.empty(1, factors.count)
      optimizer.preview(along: gradients, learningRate: learningRate, gradientScale: gradientScale, into: moved)
      factors.with(moved) {
        for target in targets where accumulator.hasGradient(target.weight) {
          merge(target, into: target.weight.view(of: values))
        }
      }
    }
  }

  /// Adds the pulls' gradient, not clipped: Σ λF(W − W*) through the factors.
  private func pull(_ target: Target, _ pulls: [QuadraticPull], gradientScale: Float) -> Double {
    let weight = target.weight.value.reshaped(1, target.weight.range.count)
    let force = backend.zeros(1, weight.count)
    var penalty = 0.0
    for pull in pulls {
      let local = pull.slice(target.weight.range)
      let strength = settings.scale * pull.strength / gradientScale
      penalty +=
        0.5 * Double(pull.strength) * backend.quadratic(weight, anchor: local.anchor, curvature: local.curvature)
      let displacement = backend.empty(1, weight.count)
      backend.subtract(local.anchor, from: weight, into: displacement)
      if let curvature = local.curvature {
        backend.addProduct(curvature, displacement, scaled: strength, into: force)
      } else {
        backend.add(displacement, scaled: strength, into: force)
      }
    }
    project(force.reshaped(target.weight.value.rows, target.weight.value.columns), target)
    return penalty
  }

  /// Adds the gradient of λ Σ |A·Pᵀ|, not clipped: λ·sign(A·Pᵀ)·P.  P [R, I]
  ///
  /// - Source: O-LoRA, Wang et al. 2023 (arXiv:2310.14152)
  private func avoid(_ earlier: Tensor, _ target: Target, gradientScale: Float) -> Double {
    let overlap = backend.empty(target.a.value.rows, earlier.rows)
    backend.multiply(
      target.a.value, transposed: false, earlier, transposed: true, into: overlap, accumulate: false)
    let strength = Float(settings.orthogonality) / gradientScale
    let elements = overlap.buffer
    var sum = 0.0
    for i in elements.indices {
      sum += Double(elements[i].magnitude)
      elements[i] = elements[i] == 0 ? 0 : elements[i] > 0 ? strength : -strength
    }
    gradients.add(overlap, transposed: false, earlier, transposed: false, to: target.a)
    return settings.orthogonality * sum
  }

  /// Writes W ← W₀ + (α/r)·B·A into every adapted weight; a step does so for those that it moved.
  public func merge() { exactly { for target in targets { merge(target, into: target.weight.value) } } }

  private func merge(_ target: Target, into weight: Tensor) {
    let scaled = backend.copied(target.b.value)
    backend.scale(scaled, by: settings.scale)
    backend.copy(target.base.value, into: weight)
    let (left, right) = target.isTurned ? (target.a.value, scaled) : (scaled, target.a.value)
    backend.multiply(
      left, transposed: target.isTurned, right, transposed: target.isTurned, into: weight, accumulate: true)
  }

  /// The factors' own products are in fp32: they are few, and W₀ + (α/r)·B·A would lose what a small step changes.
  private func exactly<Result>(_ body: () -> Result) -> Result {
    let outer = backend.precision
    backend.precision = .fp32
    defer { backend.precision = outer }
    return body()
  }
}

extension LowRankAdapter: Archivable {
  public func write(to writer: any StateWriter) {
    base.write(base.values, to: writer, under: "base", description: "adapted weights as the stage found them")
    factors.write(factors.values, to: writer, under: "factors", description: "A and B of each adapted weight")
    writer.group("optimizer", description: "state of the factors' optimizer")
    writer.integers("optimizer/steps", optimizer.steps, description: "steps of each factor since its moments were new")
    for (name, moment, description) in moments {
      factors.write(moment, to: writer, under: name, description: description)
    }
  }
  /// Reads base, factors and the optimizer's state; the weights themselves are restored with the model.
  public func restore(from reader: any StateReader) throws {
    try base.restore(base.values, from: reader, under: "base")
    try factors.restore(factors.values, from: reader, under: "factors")
    let steps = try reader.integers("optimizer/steps")
    guard steps.count == factors.parameters.count else {
      throw AdapterError(description: "the checkpoint's adapter belongs to other weights")
    }
    optimizer.resume(steps: steps)
    for (name, moment, _) in moments { try factors.restore(moment, from: reader, under: name) }
  }
  private var moments: [(String, Tensor, String)] {
    [
      optimizer.first.map { ("optimizer/first_moment", $0, "m of AdamW, or SGD's momentum") },
      optimizer.second.map { ("optimizer/second_moment", $0, "v of AdamW") },
    ].compactMap { $0 }
  }
}

/// The A factors of earlier stages: the directions of the input that each of them reads.
///
/// - Cost: 4rI bytes a weight and stage
public final class AdapterHistory: Archivable {
  /// By the factor's name, all stages' rows one below the other. [R, I]
  private var rows: [(name: String, value: Tensor)] = []
  private let backend: any Backend
  public init(on backend: any Backend) { self.backend = backend }

  /// Remembers a stage's adapter when the stage ends.
  public func add(_ adapter: LowRankAdapter) {
    for factor in adapter.factors.parameters where factor.name.hasSuffix(LowRankAdapter.suffixes.a) {
      let index = rows.firstIndex { $0.name == factor.name }
      let known = index.map { rows[$0].value }
      let first = known?.rows ?? 0
      let value = backend.empty(first + factor.value.rows, factor.value.columns)
      if let known { backend.copy(known, into: value.rows(0..<first)) }
      backend.copy(factor.value, into: value.rows(first..<value.rows))
      if let index { rows[index].value = value } else { rows.append((factor.name, value)) }
    }
  }
  subscript(name: String) -> Tensor? { rows.first { $0.name == name }?.value }

  public func write(to writer: any StateWriter) {
    guard !rows.isEmpty else { return }
    writer.text("names", rows.map(\.name).joined(separator: "\n"), description: "factors, one a line")
    writer.integers(
      "shapes", rows.flatMap { [$0.value.rows, $0.value.columns] }, description: "rows and columns of each")
    writer.group("factors", description: "A of every stage so far, one below the other")
    for (name, value) in rows {
      writer.tensor("factors/\(name)", value, shape: [value.rows, value.columns], description: nil)
    }
  }
  public func restore(from reader: any StateReader) throws {
    rows = []
    guard reader.contains("names") else { return }
    let names = try reader.text("names").split(separator: "\n").map(String.init)
    let shapes = try reader.integers("shapes")
    guard shapes.count == 2 * names.count, shapes.allSatisfy({ 1...1 << 24 ~= $0 }) else {
      throw AdapterError(description: "the adapters of earlier stages have another form")
    }
    for (index, name) in names.enumerated() {
      let value = backend.empty(shapes[2 * index], shapes[2 * index + 1])
      try reader.tensor("factors/\(name)", into: value)
      rows.append((name, value))
    }
  }
}

/// A checkpoint's adapter that cannot be read.
public struct AdapterError: Error, Sendable, CustomStringConvertible {
  public let description: String
}
