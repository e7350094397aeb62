// The Fisher information of a model on its own data, for averages that are weighted by it.
// A checkpoint's own Fisher (methods/ewc) is not this: it is of all pasts together, each at its own parameters.
import Corpus
import Curvature
import Layers
import Models
import TensorCore

public enum ModelFisher {
  /// Longest sequence that is looked at, as in training where nothing else is asked for.
  private static let sequenceLength = 512
  private static let batchTokens = 2048

  /// The diagonal Fisher per scored token, labels sampled from the model, over a random choice of sequences.
  ///
  /// - Parameters:
  ///   - rows: what the model was trained on, or more of the kind
  ///   - examples: most sequences that are looked at
  /// - Throws: `DataError` for rows without anything to score, `ModelError` for a model without tokenizer
  /// - Cost: one forward and one backward pass over the chosen sequences; 4 bytes a parameter stay
  public static func estimate(
    _ model: LoadedModel, rows: [SourceRow], examples: Int, random: RandomStream, on backend: any Backend
  ) throws -> FisherEstimate {
    guard let tokenizer = model.tokenizer else {
      throw ModelError(.missing, model.path, "there is no tokenizer.json", hint: "its Fisher is taken over text")
    }
    let builder = ExampleBuilder(
      encode: { tokenizer.encode($0) }, prefixToken: model.prefixToken, eosToken: model.eosToken,
      sequenceLength: min(sequenceLength, model.configuration.contextLength))
    let all = try builder.examples(from: rows).examples
    return try DiagonalFisher.estimate(
      model.transformer, over: batches(chosen(examples, of: all, random.forked("choice"))),
      recipe: FisherRecipe(labels: .sampled(count: 1), unit: .sequence, examples: examples),
      random: random.forked("fisher"), on: backend)
  }

  /// At most `count` of them, every choice equally likely.
  private static func chosen(_ count: Int, of examples: [Example], _ stream: RandomStream) -> [Example] {
    var random = stream
    var indices = Array(examples.indices)
    let wanted = min(count, indices.count)
    for i in 0..<wanted { indices.swapAt(i, i + random.integer(below: indices.count - i)) }
    return indices.prefix(wanted).map { examples[$0] }
  }

  /// Whole sequences, at most `batchTokens` tokens together unless one alone has more.
  private static func batches(_ examples: [Example]) -> [Batch] {
    var groups: [[Int]] = []
    var filled = 0
    for (index, example) in examples.enumerated() {
      if groups.isEmpty || filled + example.length > batchTokens {
        groups.append([])
        filled = 0
      }
      groups[groups.count - 1].append(index)
      filled += example.length
    }
    return groups.map { group in
      let row = packRow(group, from: examples)
      return Batch(tokens: row.inputs, targets: row.targets, lengths: row.segmentLengths)
    }
  }
}
