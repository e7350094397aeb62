// OGD: steps move at right angles to the directions in which outputs on the past change.
import Layers
import TensorCore
import Training

/// u′ = u − B(BᵀB)⁻¹Bᵀu for the step u that was really taken, B the directions of all pasts.
///
/// A direction is the gradient of Σ z_t[y_t], the logits of the observed tokens at the scored places, over one of
/// `directions` equal groups of the past's sequences; directions are made orthonormal as they come, and what earlier ones
/// span already is not kept.
/// - Cost: one forward and one backward pass over `examples` sequences a past; then 20 bytes a parameter, step and
///   direction
/// - State: 4 bytes a parameter and direction, and 4 a parameter for where the step began
/// - Trap: projecting the gradient guarantees nothing once moments or clipping follow, nor if a gradient memory stands
///   later in the stack; a loss near its minimum has no gradient left to protect, which is why logits stand here
/// - Source: Farajtabar et al. 2020, arXiv:1910.07104 (its variant with the logit of the true class)
public final class OrthogonalGradientDescent: ConfigurableMethod {
  public static let card = MethodCard(
    name: "ogd", title: "Orthogonal gradient descent", paper: "Farajtabar et al. 2020 (arXiv:1910.07104)",
    equation: "u′ = u − B(BᵀB)⁻¹Bᵀu for the applied step u", cost: "20 bytes a parameter, step and direction",
    state: "4 bytes a parameter and direction, and 4 a parameter for where the step began",
    needs: "text of the past at consolidation only, or none",
    verified: "no direction is moved along, optimizer and clipping included; explicit gradients")
  public static let schema = MethodSchema(
    "ogd",
    """
    OGD: every step loses what would move the outputs on the past to first order. Last in the stack: a method after it \
    would move what it has projected.
    """,
    options: [
      OptionSchema(
        "directions", .integer(1...4096, words: []), default: .integer(10),
        "How many directions each past adds; each takes as much memory as the parameters."),
      OptionSchema(
        "examples", .integer(1...1_000_000_000, words: ["all"]), default: .integer(256),
        "How many sequences (or classifier examples) of a past the directions are taken from; all takes every one."),
    ])
  /// A new direction of which less than this share is new is not kept.
  private static let smallestShare = 1e-3

  private let count: Int
  private let examples: Int
  private let store: ParameterStore
  private let backend: any Backend
  /// Orthonormal. [1, P] each
  private var directions: [Tensor] = []
  private var previous: Tensor?
  /// Of the moving parameters' share of the directions, as long as the same ones move.
  private var gram: (moving: [Bool], factor: [[Double]])?
  private var removed = 0.0
  private var steps = 0

  public init(directions: Int, examples: Int, _ store: ParameterStore, on backend: any Backend) {
    count = directions
    self.examples = examples
    self.store = store
    self.backend = backend
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      directions: ingredients.integer("directions") ?? 1, examples: ingredients.integer("examples") ?? .max,
      ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    4 * chain.parameters * chain.pasts * (options.integer("directions") ?? 0)
  }
  /// The parameters before the step.
  public static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 4 * chain.parameters }
  /// 20 bytes a parameter and direction, at the time of about seven operations each, beside six a parameter and token.
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double {
    Double(20 * 7 * max(1, step.pasts) * (options.integer("directions") ?? 0)) / Double(6 * step.tokens)
  }
  public static let constrainsSteps = true
  public static func reasonAgainstAdapters(_ options: MethodOptions) -> String? { "moves the weights themselves" }

  /// ∂z[y]/∂z: one at the observed token.
  private struct LogitSeed: HeadSeed {
    mutating func seed(
      _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
    ) {
      backend.fill(losses, 0)
      backend.fill(logits, 0)
      let values = logits.buffer
      for (row, target) in targets.enumerated() where target >= 0 {
        values[row * logits.stride + Int(target)] = 1
      }
    }
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    let sequences = scope.choice(of: examples)
    let groups = min(count, sequences.count)
    let before = directions.count
    let sink = Accumulator(store, on: backend)
    for group in 0..<groups {
      sink.reset()
      let part = Array(sequences[group * sequences.count / groups..<(group + 1) * sequences.count / groups])
      for batch in part.runs(ofTokens: scope.batchTokens).flatMap({ scope.makeBatches(Array($0)) }) {
        _ = scope.network.backward(batch, seed: LogitSeed(), sink: sink, on: backend)
      }
      let direction = backend.zeros(1, store.count)
      for parameter in store.parameters where sink.hasGradient(parameter) {
        backend.copy(sink.gradient.slice(parameter.range), into: direction.slice(parameter.range))
      }
      keep(direction)
    }
    gram = nil
    scope.note(
      "directions of \(scope.name): \(directions.count - before) of \(groups) are new, \(directions.count) in all")
  }

  /// Modified Gram–Schmidt, twice: once leaves what rounding makes of nearly dependent directions.
  private func keep(_ direction: Tensor) {
    let length = backend.dot(direction, direction).squareRoot()
    guard length > 0, length.isFinite else { return }
    for _ in 0..<2 {
      for known in directions { backend.add(known, scaled: -Float(backend.dot(known, direction)), into: direction) }
    }
    let rest = backend.dot(direction, direction).squareRoot()
    guard rest > Self.smallestShare * length else { return }
    backend.scale(direction, by: Float(1 / rest))
    directions.append(direction)
  }

  public func stageWillBegin(_ scope: StageScope) throws { (removed, steps) = (0, 0) }

  public func adjustGradient(_ step: StepScope) -> Double {
    guard !directions.isEmpty else { return 0 }
    if let previous { backend.copy(store.values, into: previous) } else { previous = backend.copied(store.values) }
    return 0
  }

  public func adjustParameters(_ step: StepScope) -> Double {
    guard !directions.isEmpty, let previous else { return 0 }
    // Parameters that stand still must go on doing so.
    let moving = step.moving
    func dot(_ a: Tensor, _ b: Tensor) -> Double {
      moving.reduce(0) { $0 + backend.dot(a.slice($1.range), b.slice($1.range)) }
    }
    let update = backend.empty(1, store.count)
    backend.subtract(previous, from: store.values, into: update)
    let factor = factor(moving, dot)
    let weights = Self.solve(factor, directions.map { dot($0, update) })
    for (direction, weight) in zip(directions, weights) where weight != 0 {
      for parameter in moving {
        backend.add(
          direction.slice(parameter.range), scaled: -Float(weight), into: store.values.slice(parameter.range))
      }
    }
    let whole = dot(update, update)
    steps += 1
    if whole > 0 {
      backend.subtract(previous, from: store.values, into: update)
      removed += 1 - min(1, dot(update, update) / whole)
    }
    return 0
  }

  /// The triangular root of BᵀB over the moving parameters; a direction that they have no part in gets a root of 0.
  private func factor(_ moving: [Parameter], _ dot: (Tensor, Tensor) -> Double) -> [[Double]] {
    let present = Set(moving.map { ObjectIdentifier($0) })
    let key = store.parameters.map { present.contains(ObjectIdentifier($0)) }
    if let gram, gram.moving == key { return gram.factor }
    var root = directions.map { _ in [Double](repeating: 0, count: directions.count) }
    for i in directions.indices {
      for j in 0...i {
        let rest = (0..<j).reduce(dot(directions[i], directions[j])) { $0 - root[i][$1] * root[j][$1] }
        if i == j {
          root[i][i] = rest > 1e-9 ? rest.squareRoot() : 0
        } else {
          root[i][j] = root[j][j] > 0 ? rest / root[j][j] : 0
        }
      }
    }
    gram = (key, root)
    return root
  }

  /// (LLᵀ)⁻¹b.
  private static func solve(_ root: [[Double]], _ b: [Double]) -> [Double] {
    var x = b
    for i in x.indices {
      let rest = (0..<i).reduce(x[i]) { $0 - root[i][$1] * x[$1] }
      x[i] = root[i][i] > 0 ? rest / root[i][i] : 0
    }
    for i in x.indices.reversed() {
      let rest = (i + 1..<x.count).reduce(x[i]) { $0 - root[$1][i] * x[$1] }
      x[i] = root[i][i] > 0 ? rest / root[i][i] : 0
    }
    return x
  }

  /// How much of the steps' squared length lay along the directions, in the mean.
  public var facts: [(name: String, value: Double)] {
    [("removed_share", steps > 0 ? removed / Double(steps) : 0), ("directions", Double(directions.count))]
  }
  public func write(to writer: any StateWriter) {
    writer.integers("counters", [directions.count, steps], description: "directions; steps of the running stage")
    writer.doubles("removed", [removed], description: "Σ over steps of the share that was taken away")
    for (index, direction) in directions.enumerated() {
      store.write(direction, to: writer, under: "directions/\(index)", description: "one of the orthonormal directions")
    }
  }
  public func restore(from reader: any StateReader) throws {
    let counters = try reader.integers("counters")
    guard counters.count == 2, counters[0] >= 0 else {
      throw StateError(description: "the counters of the directions have another form")
    }
    steps = counters[1]
    removed = try reader.doubles("removed").first ?? 0
    gram = nil
    directions = try (0..<counters[0]).map { index in
      let direction = backend.empty(1, store.count)
      try store.restore(direction, from: reader, under: "directions/\(index)")
      return direction
    }
  }
}
