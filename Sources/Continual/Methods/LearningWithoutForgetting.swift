// Learning without forgetting: on new text the model keeps saying what it said before the stage.
import Layers
import TensorCore
import Training

/// loss + α·T²·KL(p_before^T ‖ p^T), averaged over the step's counted target tokens.
///
/// The teacher is the model as the stage found it; it is asked about every batch (online), or about every sequence once
/// (cached). Its likeliest classes count one by one, the others as one outcome. Where every stage has a head of its own,
/// the heads of earlier stages are asked about the new inputs, each with the weight α.
/// - Cost: a forward pass more a step; state: the teacher's 4 bytes a parameter; cached: in memory 8·top_k bytes for
///   every scored token of the stage
/// - Trap: the teacher's distribution is the first argument of the divergence, and the factor T² keeps the gradient's
///   size when T changes
/// - Source: Li & Hoiem 2016, arXiv:1606.09282; Hinton et al. 2015, arXiv:1503.02531
public final class LearningWithoutForgetting: ConfigurableMethod {
  public enum Rows: String, Sendable {
    /// The stage's own.
    case new
    /// Those that methods before this one in the stack have added.
    case rehearsed
    case all
  }
  public static let card = MethodCard(
    name: "lwf", title: "Learning without forgetting", paper: "Li & Hoiem 2016 (arXiv:1606.09282)",
    equation: "loss + α T² KL(p_before ‖ p)", cost: "a forward pass a step; cached: once a sequence",
    state: "the teacher: 4 bytes a parameter; cached: 8·top_k bytes a stage token in memory",
    needs: "nothing of the past",
    verified: "zero loss and gradient for student = teacher; top-k with k = V equals full; gradient's size across T")

  public static let schema = MethodSchema(
    "lwf", "Learning without forgetting: the divergence from the model before the stage joins the loss.",
    options: [
      OptionSchema(
        "alpha", .number(minimum: 0, open: false, words: []), default: .number(1), "The divergence's weight."),
      OptionSchema(
        "temperature", .number(minimum: 0, open: true, words: []), default: .number(2),
        "Softens both distributions; the divergence is multiplied by its square."),
      OptionSchema(
        "top_k", .integer(1...4096, words: []), default: .integer(64),
        "Classes that count one by one, the teacher's likeliest; the others count as one outcome."),
      OptionSchema(
        "on", .word(["new", "rehearsed", "all"], notYet: []), default: .word("new"),
        """
        Which rows: the stage's, those added by methods that stand before this one in the stack, or all. Rows that are \
        learned from distributions of their own (der, distilled replay) keep those.
        """),
      OptionSchema(
        "teacher", .word(["online", "cached"], notYet: []), default: .word("online"),
        """
        online: asked about every batch; cached: asked about every sequence once, and remembered for later epochs \
        (8·top_k bytes a token).
        """),
    ])

  private let alpha: Float
  private let temperature: Float
  private let topK: Int
  private let rows: Rows
  private let isCached: Bool
  private let store: ParameterStore
  private let backend: any Backend
  /// The parameters before the stage. [1, P]
  private var teacher: Tensor?
  private var known: [Key: SoftTargets] = [:]
  private struct Key: Hashable {
    let inputs: [Int32]
    /// Answers are kept for scored places alone.
    let isScored: [Bool]
    let head: Int?
  }
  /// Heads of pasts and of the running stage; a new model without a past is nobody's teacher.
  private var pastHeads: Set<Int> = []
  private var heads: Set<Int> = []

  public init(
    alpha: Double, temperature: Double = 2, topK: Int = 64, rows: Rows = .new, isCached: Bool = false,
    _ store: ParameterStore, on backend: any Backend
  ) {
    self.alpha = Float(alpha)
    self.temperature = Float(temperature)
    self.topK = topK
    self.rows = rows
    self.isCached = isCached
    self.store = store
    self.backend = backend
  }
  public convenience init(_ ingredients: MethodIngredients) {
    self.init(
      alpha: ingredients.number("alpha") ?? 0, temperature: ingredients.number("temperature") ?? 2,
      topK: ingredients.integer("top_k") ?? 64, rows: ingredients.word("on").flatMap(Rows.init) ?? .new,
      isCached: ingredients.word("teacher") == "cached", ingredients.store, on: ingredients.backend)
  }
  public static func stateBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int { 4 * chain.parameters }
  /// Remembered answers with the sequences that they belong to, every token scored.
  public static func workBytes(_ options: MethodOptions, _ chain: StateOutline) -> Int {
    options.word("teacher") == "cached" ? (8 * (options.integer("top_k") ?? 64) + 5) * chain.stageTokens : 0
  }
  /// The teacher's forward pass; with `teacher: cached` the first epoch's alone, which is counted as if it were all.
  public static func addedWork(_ options: MethodOptions, _ step: StepOutline) -> Double { 1.0 / 3 }

  public func stageWillBegin(_ scope: StageScope) throws {
    known.removeAll()
    // The first stage of a model with random parameters has nothing to keep, but it is kept all the same.
    if let teacher { backend.copy(store.values, into: teacher) } else { teacher = backend.copied(store.values) }
  }

  public func compose(_ batch: inout Composition) {
    heads.formUnion(batch.makeBatches(batch.stage).map(\.head))
    guard alpha > 0, let teacher, !pastHeads.isEmpty else { return }
    store.with(teacher) {
      if rows != .rehearsed {
        if !heads.isDisjoint(with: pastHeads) { teach(&batch.stage, batch) }
        // A head that the stage does not train answers beside it, on the same inputs.
        for head in pastHeads.subtracting(heads).sorted() {
          var asked = batch.stage.map { exemplar in
            var asked = Exemplar(inputs: exemplar.inputs, targets: exemplar.targets.map { min($0, 0) })
            asked.head = head
            (asked.weight, asked.isCounted) = (0, false)
            return asked
          }
          teach(&asked, batch)
          batch.rehearsed += asked
        }
      }
      if rows != .new { teach(&batch.rehearsed, batch) }
    }
  }

  public func consolidate(_ scope: ConsolidationScope) throws {
    // From the past's own sequences: it may have been learned without this method.
    for part in scope.sequences.runs(ofTokens: scope.batchTokens) {
      pastHeads.formUnion(scope.makeBatches(Array(part)).map(\.head))
    }
    // A base without text still knows what its only head says.
    if scope.past == 0 { pastHeads.insert(0) }
    heads.removeAll()
  }

  private func teach(_ exemplars: inout [Exemplar], _ batch: Composition) {
    func ask(_ exemplars: [Exemplar]) -> [SoftTargets] {
      batch.network.softTargets(
        for: exemplars, count: topK, temperature: temperature, batchTokens: .max, makeBatches: batch.makeBatches,
        on: backend)
    }
    // Rows that bring soft targets along, from a buffer or from above, keep theirs.
    let open = exemplars.indices.filter { exemplars[$0].softWeight == 0 }
    let soft =
      isCached
      ? open.map { index in
        let exemplar = exemplars[index]
        // Each sequence alone: what is remembered must not depend on the batch in which it was first seen.
        let key = Key(
          inputs: exemplar.inputs, isScored: exemplar.targets.map { $0 >= 0 }, head: exemplar.head)
        if let soft = known[key] { return soft }
        let soft = ask([exemplar])[0]
        known[key] = soft
        return soft
      } : ask(open.map { exemplars[$0] })
    for (index, soft) in zip(open, soft) { (exemplars[index].soft, exemplars[index].softWeight) = (soft, alpha) }
  }

  public func write(to writer: any StateWriter) {
    writer.integers("has_teacher", [teacher == nil ? 0 : 1], description: "whether a stage has begun")
    writer.integers("past_heads", pastHeads.sorted(), description: "heads that have learned something before the stage")
    writer.integers("heads", heads.sorted(), description: "heads that the running stage trains")
    if let teacher {
      store.write(teacher, to: writer, under: "teacher", description: "parameters before the stage")
    }
  }
  public func restore(from reader: any StateReader) throws {
    known.removeAll()
    pastHeads = Set(try reader.integers("past_heads"))
    heads = Set(try reader.integers("heads"))
    guard try reader.integers("has_teacher").first == 1 else {
      teacher = nil
      return
    }
    let restored = backend.empty(1, store.count)
    try store.restore(restored, from: reader, under: "teacher")
    teacher = restored
  }
}
