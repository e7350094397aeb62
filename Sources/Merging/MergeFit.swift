// Which models may be merged: those whose numbers mean the same in the same places.
import Layers
import Models

public enum MergeFit {
  /// The first thing in which a model differs from the base so that their weights cannot be averaged; nil where nothing
  /// does.
  ///
  /// Context lengths and marks of texts may differ: no weight depends on them, and the merged model has the base's.
  /// - Cost: both vocabularies once
  public static func firstDifference(_ other: LoadedModel, from base: LoadedModel) -> String? {
    let (a, b) = (other.configuration, base.configuration)
    let facts: [(name: String, other: String, base: String)] = [
      ("architecture", a.architecture, b.architecture),
      ("vocabulary", "\(a.vocabularySize)", "\(b.vocabularySize)"),
      ("hidden size", "\(a.hiddenSize)", "\(b.hiddenSize)"),
      ("intermediate size", "\(a.intermediateSize)", "\(b.intermediateSize)"),
      ("layers", "\(a.layers)", "\(b.layers)"),
      ("heads", "\(a.heads)", "\(b.heads)"),
      ("key heads", "\(a.keyHeads)", "\(b.keyHeads)"),
      ("head dimension", "\(a.headDimension)", "\(b.headDimension)"),
      ("tied head", "\(a.tiesHead)", "\(b.tiesHead)"),
      ("rope theta", "\(a.ropeTheta)", "\(b.ropeTheta)"),
      ("epsilon of the norms", "\(a.epsilon)", "\(b.epsilon)"),
    ]
    for fact in facts where fact.other != fact.base { return "\(fact.name) \(fact.other) against \(fact.base)" }
    let (mine, theirs) = (other.transformer.parameters.layout, base.transformer.parameters.layout)
    for (one, two) in zip(mine, theirs) where one != two { return "parameter \(one) against \(two)" }
    guard mine.count == theirs.count else { return "\(mine.count) parameters against \(theirs.count)" }
    guard let own = other.tokenizer, let wanted = base.tokenizer else { return nil }
    for id in 0..<Int32(b.vocabularySize) {
      let (mine, theirs) = (own.token(id), wanted.token(id))
      // Byte for byte: texts that only look alike are different tokens.
      guard mine.map({ Array($0.utf8) }) != theirs.map({ Array($0.utf8) }) else { continue }
      func shown(_ token: String?) -> String { token.map { "\"\($0)\"" } ?? "nothing" }
      return "token \(id) is \(shown(mine)) against \(shown(theirs))"
    }
    return nil
  }

  /// - Throws: `ModelError` (invalid data) that names the first difference
  public static func require(_ other: LoadedModel, fits base: LoadedModel) throws(ModelError) {
    guard let difference = firstDifference(other, from: base) else { return }
    throw ModelError(
      .invalid, other.path, "does not merge with \(base.path): \(difference)",
      hint: "only models of one architecture, one layout and one vocabulary can be merged")
  }
}
