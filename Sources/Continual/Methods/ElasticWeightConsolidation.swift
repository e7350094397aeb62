// Elastic weight consolidation: a quadratic pull towards what earlier data settled, weighted by Fisher information.
import Curvature
import Layers
import TensorCore
import Training

/// penalty = ½ λ Σ_k Σ_i F_k,i (θ_i − θ_k,i)², all pasts merged into one curvature and one anchor.
///
/// separate: F̄ = Σ w_k F_k, θ̄ = Σ w_k F_k θ_k / F̄, and the constant by which the sum over pasts exceeds that one
/// quadratic; online: F̃_k = γF̃_{k−1} + w_k F_k with the newest anchor.
/// w_k = 1 and strength λ for a numeric λ; w_k = N_k and strength 1/N_new for the Laplace posterior.
/// With `structure: kronecker` linear layers have curvature A ⊗ G instead: penalty ½ λ tr(G ΔW A ΔWᵀ), the newest anchor
/// and the nearest Kronecker product of all pasts (online), or every past's own factors (separate). Proximal then joins the
/// optimizer's step with a quadratic that is nowhere below the penalty and touches it where the step began:
/// θ ← θ̂ − ηλ(GΔWA + b(θ̂ − θ))/(d + ηλb), θ̂ the optimizer's step from θ, d its metric, b a bound of A ⊗ G. It cannot
/// overshoot for any λ and rests where gradient + λGΔWA = 0.
/// Factors are kept as UUᵀ + diag(d) with a rank of a fifth of their side unless `rankShare` says otherwise.
/// - Cost: 8 bytes a parameter and step, whatever the number of pasts; kronecker: 4·O·I·(O + I)·`rankShare` operations a
///   weight and step more, for each separate past
/// - Trap: F is per scored token; λ from tools that sum or batch-average F means something else
/// - Source: Kirkpatrick et al. 2017, arXiv:1612.00796; Huszár 2017, arXiv:1712.03847; online: Schwarz et al. 2018,
///   arXiv:1805.06370; Kronecker: Ritter et al. 2018, arXiv:1805.07810
public final class ElasticWeightConsolidation: ConfigurableMethod {
  public enum Strength: Sendable, Equatable {
    case fixed(Double)
    /// λ_k = N_k / N_new, counted in scored tokens.
    case posterior
  }
  public enum Variant: String, Sendable { case separate, online }

  public struct Settings: Sendable, Equatable {
    public var strength: Strength
    public var variant: Variant
    /// γ of the online form.
    public var decay: Double
    public var form: QuadraticPull.Form
    public var fisher: FisherRecipe
    /// Of curvatures in memory and in checkpoints; bf16 also for products with Kronecker factors.
    public var storage: Precision
    /// Of Kronecker factors, as a share of their side; 0 keeps them whole.
    public var rankShare: Double
    public init(
      strength: Strength, variant: Variant = .online, decay: Double = 1, form: QuadraticPull.Form = .proximal,
      fisher: FisherRecipe = FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: 512),
      storage: Precision = .fp32, rankShare: Double = 0.2
    ) {
      self.storage = storage
      self.rankShare = rankShare
      self.strength = strength
      self.variant = variant
      self.decay = decay
      self.form = form
      self.fisher = fisher
    }
  }

  public static let card = MethodCard(
    name: "ewc", title: "Elastic Weight Consolidation",
    paper: """
      Kirkpatrick et al. 2017 (arXiv:1612.00796); online: Schwarz et al. 2018 (arXiv:1805.06370); Kronecker factors: \
      Ritter et al. 2018 (arXiv:1805.07810)
      """,
    equation: "½ λ Σ F (θ − θ*)²; kronecker: ½ λ Σ tr(G ΔW A ΔWᵀ)",
    cost: """
      8 bytes a parameter and step; kronecker: 0.8·O·I·(O + I) operations a weight more, 2·O·I·(O + I) with whole \
      factors; one Fisher pass a stage
      """,
    state: """
      F and anchor: 8 bytes a parameter; kronecker: 0.8(O² + I²) bytes a weight more, five times as many with whole factors \
      (in bf16 half as much again, in checkpoints half), for every separate past as many again and an anchor of 4 bytes \
      a parameter
      """,
    needs: "text of the past at consolidation only, or none",
    verified: "closed-form regressions, Kullback–Leibler test, loop over single sequences, explicit outer products")

  public let settings: Settings
  private let store: ParameterStore
  private let backend: any Backend
  /// Merged curvature and anchor. [1, P]; nil before the first past.
  private var curvature: Tensor?
  private var anchor: Tensor?
  /// ½ Σ_k Σ_i w_k F_k,i (θ_k,i − θ̄_i)²: the penalty of separate pasts at their merged anchor; 0 online.
  private var constant = 0.0
  private var pasts = 0
  private var strength: Float = 0
  /// Curvature of linear layers with where it holds on to: one online, one for every past in the separate form.
  private var factored: [(curvature: KroneckerCurvature, anchor: Tensor)] = []
  /// What the slopes of proximal factored pulls stay below, one for every past of a weight.
  private var bounds: [ObjectIdentifier: [RankOneBound]] = [:]
  /// Where the diagonal part may be above 0: outside of factored weights.
  private var reach: [Range<Int>]?
  /// Forces on factored weights, within a proximal step.
  private var forces: [(parameter: Parameter, force: Tensor)] = []
  /// Within a coupled step that is observed: gradients as they were before forces joined them.
  private var bare: [(parameter: Parameter, gradient: Tensor)] = []
  private var probes: [DivergenceProbe.Reading] = []

  public init(_ settings: Settings, _ store: ParameterStore, on backend: any Backend) {
    self.settings = settings
    self.store = store
    self.backend = backend
  }

  public func stageWillBegin(_ scope: StageScope) throws {
    switch settings.strength {
    case .fixed(let lambda): strength = Float(lambda)
    case .posterior: strength = 1 / Float(max(1, scope.tokens))
    }
  }

  public var pulls: [QuadraticPull] {
    guard let curvature, let anchor else { return [] }
    return [
      QuadraticPull(
        strength: strength, curvature: curvature, anchor: anchor, form: settings.form,
        constant: Double(strength) * constant, reach: reach)
    ]
  }
  public var boundedPulls: [(parameter: Parameter, pull: BoundedPull)] {
    forces.map { parameter, force in
      (
        parameter,
        BoundedPull(strength: strength, force: force, bounds: bounds[ObjectIdentifier(parameter)] ?? [])
      )
    }
  }

  public func adjustGradient(_ step: StepScope) -> Double {
    forces = []
    guard strength != 0 else { return 0 }
    var penalty = 0.0
    for (curvature, anchor) in factored {
      for block in curvature.blocks {
        let parameter = block.parameter
        guard parameter.isTrainable, step.accumulator.hasGradient(parameter) else { continue }
        let displacement = backend.empty(parameter.value.rows, parameter.value.columns)
        backend.subtract(parameter.view(of: anchor), from: parameter.value, into: displacement)
        let force = curvature.force(block, displacement)
        penalty +=
          Double(strength) / 2
          * backend.dot(force.slice(0..<force.count), displacement.slice(0..<force.count))
        if settings.form == .coupled {
          let gradient = parameter.view(of: step.accumulator.gradient)
          if step.isObserved, !bare.contains(where: { $0.parameter === parameter }) {
            bare.append((parameter, backend.copied(gradient)))
          }
          // The optimizer scales the gradient when it clips; a pull is never clipped.
          backend.add(force, scaled: strength / step.gradientScale, into: gradient)
        } else if let index = forces.firstIndex(where: { $0.parameter === parameter }) {
          backend.add(force, scaled: 1, into: forces[index].force)
        } else {
          forces.append((parameter, force))
        }
      }
    }
    return penalty
  }

  public func adjustParameters(_ step: StepScope) -> Double {
    for (parameter, gradient) in bare { backend.copy(gradient, into: parameter.view(of: step.accumulator.gradient)) }
    (bare, forces) = ([], [])
    return 0
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    let weight: Double = settings.strength == .posterior ? Double(scope.tokens) : 1
    let sample = scope.choice(of: settings.fisher.examples)
    let random = scope.random.forked("fisher")
    let (sequences, scored): (Int, Int)
    let predicted: (Tensor) -> Double
    let join: () -> Void
    switch settings.fisher.structure {
    case .diagonal:
      let estimate = try scope.shared("fisher: \(settings.fisher)") {
        try DiagonalFisher.estimate(
          scope.network, over: packed(sample, scope), recipe: settings.fisher, random: random, on: backend)
      }
      (sequences, scored) = (estimate.sequences, estimate.scoredTokens)
      predicted = { [backend] in backend.quadratic($0, anchor: nil, curvature: estimate.values) / 2 }
      join = { [self] in absorb(scope.isSharing ? backend.copied(estimate.values) : estimate.values, weight: weight) }
    case .kronecker:
      let (factors, diagonal, seen) = try scope.shared("fisher: \(settings.fisher)") {
        let sink = KroneckerFactors(store, on: backend)
        let seen = try FisherPass.run(
          scope.network, over: packed(sample, scope), labels: settings.fisher.labels,
          examples: settings.fisher.examples, random: random, into: sink, on: backend)
        let result = try sink.finish(seen)
        return (result.curvature, result.diagonal, seen)
      }
      (sequences, scored) = (seen.sequences, seen.scored)
      predicted = { [backend] in
        backend.quadratic($0, anchor: nil, curvature: diagonal) / 2 + factors.penalty($0)
      }
      join = { [self] in
        absorb(scope.isSharing ? backend.copied(diagonal) : diagonal, weight: weight)
        absorb(factors, weight: weight)
      }
    }
    // The self-test holds two vectors of parameters; what the pass has left in the pool would stand beside them.
    backend.pool.trim()
    scope.note(
      "fisher of \(scope.name): \(settings.fisher.description); \(sequences) sequences, "
        + "\(scored) scored tokens\(scope.isReal ? "" : ", sampled from the model")")
    let reading = scope.shared("divergence of: \(settings.fisher)") {
      DivergenceProbe.measure(
        scope, sequences: Array(sample.prefix(DivergenceProbe.sequences)), predicted: predicted,
        random: scope.random.forked("divergence"))
    }
    // After the self-test, which asks the estimate as it is: joining weighs it in place.
    join()
    guard let reading else { return }
    probes.append(reading)
    scope.note("fisher of \(scope.name): \(reading)")
  }

  /// Joins a new past's factors; the diagonal part has been absorbed before.
  public func absorb(_ factors: KroneckerCurvature, weight: Double) {
    let weighted = factors.scaled(by: Float(weight))
    switch settings.variant {
    case .separate: factored.append((kept(weighted), backend.copied(store.values)))
    case .online:
      // The diagonal part's anchor is the newest one, too.
      guard let anchor else { return }
      let merged = factored.first.map { $0.curvature.merged(with: weighted, keeping: settings.decay) } ?? weighted
      factored = [(kept(merged), anchor)]
    }
    renewBounds()
  }
  private func kept(_ curvature: KroneckerCurvature) -> KroneckerCurvature {
    curvature.kept(rankShare: settings.rankShare, storage: settings.storage)
  }

  private func renewBounds() {
    bounds = [:]
    let weights = Set(factored.flatMap(\.curvature.blocks).map { ObjectIdentifier($0.parameter) })
    reach = weights.isEmpty ? nil : store.parameters.filter { !weights.contains(ObjectIdentifier($0)) }.map(\.range)
    guard settings.form == .proximal else { return }
    for (curvature, _) in factored {
      for block in curvature.blocks {
        bounds[ObjectIdentifier(block.parameter), default: []].append(curvature.bound(block))
      }
    }
  }

  /// Joins a new past: its Fisher and, as its anchor, the parameters as they are now.
  public func absorb(_ fisher: Tensor, weight: Double) {
    pasts += 1
    backend.scale(fisher, by: Float(weight))
    defer { if settings.storage == .bf16 { curvature = curvature.map(backend.rounded) } }
    guard let curvature, let anchor else {
      curvature = fisher
      anchor = backend.copied(store.values)
      return
    }
    switch settings.variant {
    case .online:
      backend.scale(curvature, by: Float(settings.decay))
      backend.add(fisher, scaled: 1, into: curvature)
      backend.copy(store.values, into: anchor)
    case .separate:
      constant += disagreement(curvature, anchor, fisher, store.values)
      // θ̄ ← (F̄θ̄ + Fθ) / (F̄ + F); where nothing is known yet the newest anchor stands
      let weighted = backend.zeros(1, store.count)
      backend.addProduct(curvature, anchor, scaled: 1, into: weighted)
      backend.addProduct(fisher, store.values, scaled: 1, into: weighted)
      backend.add(fisher, scaled: 1, into: curvature)
      backend.divide(weighted, by: curvature, otherwise: store.values, into: anchor)
    }
  }

  /// ½ Σ F̄F/(F̄ + F)·(θ − θ̄)²: what two pasts cost together where they meet.
  ///
  /// F̄(x − θ̄)² + F(x − θ)² = (F̄ + F)(x − m)² + F̄F/(F̄ + F)·(θ − θ̄)² with m = (F̄θ̄ + Fθ)/(F̄ + F)
  private func disagreement(_ merged: Tensor, _ anchor: Tensor, _ fisher: Tensor, _ values: Tensor) -> Double {
    let sum = backend.copied(merged)
    backend.add(fisher, scaled: 1, into: sum)
    let share = backend.empty(1, store.count)
    // Where the sum is 0 so is F.
    backend.divide(fisher, by: sum, otherwise: fisher, into: share)
    backend.fill(sum, 0)
    backend.addProduct(merged, share, scaled: 1, into: sum)
    return backend.quadratic(values, anchor: anchor, curvature: sum) / 2
  }

  /// Batches of whole sequences of at most `batchTokens` tokens, or of as many sequences as the recipe's unit has.
  private func packed(_ sequences: [Exemplar], _ scope: ConsolidationScope) -> [Batch] {
    guard settings.fisher.unit == .batch else {
      return sequences.runs(ofTokens: scope.batchTokens).flatMap { scope.makeBatches(Array($0)) }
    }
    return stride(from: 0, to: sequences.count, by: settings.fisher.batch).flatMap { first in
      scope.makeBatches(Array(sequences[first..<min(sequences.count, first + settings.fisher.batch)]))
    }
  }

  public func write(to writer: any StateWriter) {
    writer.integers("pasts", [pasts], description: "consolidated pasts, the base included")
    guard let curvature, let anchor else { return }
    writer.doubles(
      "divergence", probes.flatMap { [$0.predicted, $0.measured] },
      description: "self-test of each past: predicted and measured divergence along a random direction, in nats")
    for (index, past) in factored.enumerated() {
      past.curvature.write(to: writer, under: "kronecker/\(index)")
      if settings.variant == .separate {
        store.write(
          past.anchor, to: writer, under: "kronecker/\(index)/anchor", description: "anchor θ* of these factors")
      }
    }
    writer.text("recipe", settings.fisher.description, description: "how the Fisher information was estimated")
    store.write(
      curvature, storage: settings.storage, to: writer, under: "fisher",
      description: "merged diagonal Fisher information, per scored token")
    store.write(anchor, to: writer, under: "anchor", description: "merged anchor θ* of the quadratic penalty")
    if settings.variant == .separate {
      writer.doubles(
        "constant", [constant], description: "what the sum of all pasts' penalties exceeds the merged one by, ÷ λ")
    }
  }

  public func restore(from reader: any StateReader) throws {
    pasts = try reader.integers("pasts").first ?? 0
    // Absent in the online form, and in files of before it was kept.
    constant = try reader.contains("constant") ? reader.doubles("constant").first ?? 0 : 0
    factored = []
    defer { renewBounds() }
    guard pasts > 0 else {
      (curvature, anchor) = (nil, nil)
      return
    }
    let divergences = reader.contains("divergence") ? try reader.doubles("divergence") : []
    probes = stride(from: 0, to: divergences.count - 1, by: 2).map {
      DivergenceProbe.Reading(predicted: divergences[$0], measured: divergences[$0 + 1])
    }
    let (restoredCurvature, restoredAnchor) = (backend.empty(1, store.count), backend.empty(1, store.count))
    try store.restore(restoredCurvature, from: reader, under: "fisher")
    try store.restore(restoredAnchor, from: reader, under: "anchor")
    (curvature, anchor) = (restoredCurvature, restoredAnchor)
    while reader.contains("kronecker/\(factored.count)/weights") {
      let group = "kronecker/\(factored.count)"
      let factors = try KroneckerCurvature.restore(
        from: reader, under: group, rankShare: settings.rankShare, storage: settings.storage, store, on: backend)
      guard settings.variant == .separate else {
        factored.append((factors, restoredAnchor))
        continue
      }
      let own = backend.empty(1, store.count)
      try store.restore(own, from: reader, under: group + "/anchor")
      factored.append((factors, own))
    }
  }
}
