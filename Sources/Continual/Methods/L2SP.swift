// L2-SP: the same pull for every parameter. The control that any use of Fisher information has to beat.
import Layers
import TensorCore
import Training

/// penalty = ½ λ Σ (θ − θ*)², θ* the parameters before the stage (or the base's).
///
/// - Cost: 4 bytes a parameter and step
/// - Source: Li et al. 2018, arXiv:1802.01483
public final class L2SP: ConfigurableMethod {
  public enum Anchor: String, Sendable {
    /// The parameters as the stage found them.
    case previous
    /// The parameters of the base, through all stages.
    case base
  }
  public static let card = MethodCard(
    name: "l2sp", title: "L2-SP", paper: "Li et al. 2018 (arXiv:1802.01483)", equation: "½ λ Σ (θ − θ*)²",
    cost: "4 bytes a parameter and step", state: "anchor: 4 bytes a parameter", needs: "nothing of the past",
    verified: "equals EWC with F = 1")

  public static let schema = MethodSchema(
    "l2sp",
    """
    L2-SP: the penalty ½ λ Σ (θ − θ*)², EWC with a Fisher of one everywhere; the control that any EWC \
    result must beat.
    """,
    options: [
      OptionSchema(
        "lambda", .number(minimum: 0, open: false, words: []), default: .number(0.01),
        "The strength, the same for every parameter."),
      .form,
      OptionSchema(
        "anchor", .word(["previous", "base"], notYet: []), default: .word("previous"),
        "What the parameters are held near: the model before this stage, or the base model."),
    ])

  private let strength: Double
  private let form: QuadraticPull.Form
  private let anchoring: Anchor
  private let store: ParameterStore
  private let backend: any Backend
  private var anchor: Tensor?

  public init(
    strength: Double, form: QuadraticPull.Form, anchor: Anchor, _ store: ParameterStore, on backend: any Backend
  ) {
    self.strength = strength
    self.form = form
    anchoring = anchor
    self.store = store
    self.backend = backend
  }

  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      strength: ingredients.number("lambda") ?? 0,
      form: ingredients.word("form").flatMap(QuadraticPull.Form.init) ?? .proximal,
      anchor: ingredients.word("anchor").flatMap(Anchor.init) ?? .previous, ingredients.store,
      on: ingredients.backend)
  }

  public var pulls: [QuadraticPull] {
    anchor.map { [QuadraticPull(strength: Float(strength), curvature: nil, anchor: $0, form: form)] } ?? []
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    if anchoring == .base, anchor != nil { return }
    anchor = backend.copied(store.values)
  }

  public func write(to writer: any StateWriter) {
    writer.integers("has_anchor", [anchor == nil ? 0 : 1], description: "whether a past was consolidated")
    if let anchor { store.write(anchor, to: writer, under: "anchor", description: "anchor θ* of the penalty") }
  }
  public func restore(from reader: any StateReader) throws {
    guard try reader.integers("has_anchor").first == 1 else {
      anchor = nil
      return
    }
    let restored = backend.empty(1, store.count)
    try store.restore(restored, from: reader, under: "anchor")
    anchor = restored
  }
}
