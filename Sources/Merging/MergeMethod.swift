// What a way of merging is: a card, and a formula over flat vectors that is asked once for every strength.
import TensorCore

/// What `retain list merges` shows.
public struct MergeCard: Sendable {
  /// The word after `--method`.
  public let name: String
  public let title: String
  public let paper: String
  public let equation: String
  public let cost: String
  /// The strength where none is asked for: plain averages take the middle, task vectors the whole.
  public let defaultAlpha: Double
  /// Settings besides the strength that mean something to it.
  public let options: Set<MergeOption>

  public init(
    name: String, title: String, paper: String, equation: String, cost: String, defaultAlpha: Double,
    options: Set<MergeOption> = []
  ) {
    self.name = name
    self.title = title
    self.paper = paper
    self.equation = equation
    self.cost = cost
    self.defaultAlpha = defaultAlpha
    self.options = options
  }
}

/// Settings of merges besides the strength; raw values are the options on the command line.
public enum MergeOption: String, Sendable, CaseIterable {
  case weights, density, seed
  case fisherData = "fisher-data"
}

/// What is merged: flat vectors of one layout, and the settings of the formula.
public struct MergeIngredients {
  /// θ_base. [1, P]
  public let base: Tensor
  /// θ_i of the tuned models, in the order of the command line. Each [1, P]
  public let tuned: [Tensor]
  /// w_i, one for every tuned model.
  public let weights: [Double]
  /// Share of every task vector that is kept, in (0, 1].
  public let density: Double
  /// Where random choices come from.
  public let random: RandomStream
  /// F_base, then F_i of every tuned model; empty for merges that do without. Each [1, P]
  public let fishers: [Tensor]

  /// - Precondition: all vectors have equal counts; there are as many weights as tuned models
  public init(
    base: Tensor, tuned: [Tensor], weights: [Double]? = nil, density: Double = 0.2, seed: UInt64 = 0,
    fishers: [Tensor] = []
  ) {
    precondition(
      (tuned + fishers).allSatisfy { $0.count == base.count },
      "vectors of \((tuned + fishers).map(\.count)) elements beside a base of \(base.count)")
    precondition((weights ?? []).isEmpty || weights?.count == tuned.count, "one weight a tuned model")
    self.base = base
    self.tuned = tuned
    self.weights = weights ?? [Double](repeating: 1, count: tuned.count)
    self.density = density
    random = RandomStream(seed: seed).forked("merge")
    self.fishers = fishers
  }
}

/// One way of merging models.
public protocol MergeMethod {
  static var card: MergeCard { get }
  /// Whether the formula has a meaning for these settings: asked before anything is loaded.
  ///
  /// - Throws: `MergeError` where it has none
  static func check(weights: [Double], alphas: [Double]) throws(MergeError)
  /// Does what does not depend on the strength.
  ///
  /// - Throws: `MergeError` for settings that the formula has no meaning for
  init(_ ingredients: MergeIngredients) throws(MergeError)
  /// θ(α), into a vector of the same layout; α = 0 gives the base bit for bit.
  ///
  /// - Throws: `MergeError` for a strength that the formula has no meaning for
  func merge(alpha: Double, into result: Tensor) throws(MergeError)
}

extension MergeMethod {
  public static func check(weights: [Double], alphas: [Double]) throws(MergeError) {}
}

/// A setting that a formula has no meaning for.
public struct MergeError: Error, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// The elements of flat vectors, for formulas that go through them one by one.
///
/// Every element is computed from its own inputs in double and rounded once: results depend on neither threads nor
/// backend, and a model merged with itself stays as it is.
struct Elements {
  let base: UnsafeMutableBufferPointer<Float>
  let tuned: [UnsafeMutableBufferPointer<Float>]

  init(_ ingredients: MergeIngredients) {
    base = ingredients.base.buffer
    tuned = ingredients.tuned.map(\.buffer)
  }
  /// τ_i = θ_i − θ_base at one element.
  func task(_ model: Int, _ element: Int) -> Double { Double(tuned[model][element]) - Double(base[element]) }
}

/// x + update, rounded once; x itself, with the sign of its zero, where the update is nothing.
func moved(_ x: Float, by update: Double) -> Float { update == 0 ? x : Float(Double(x) + update) }
