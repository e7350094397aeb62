// One training sequence, ready to run: what batches are packed from and what rehearsal keeps.
import Layers
import TensorCore

/// Distributions that a teacher gave for the scored places of a sequence.
public struct SoftTargets: Sendable, Equatable {
  /// Listed classes at each scored place.
  public let width: Int
  /// width for each scored place, in order
  public let classes: [Int32]
  /// log q of the listed classes at the temperature, or logits at temperature 0.
  public let values: [Float]
  /// T of T²·KL(q ‖ p); 0 for squared errors of logits.
  public let temperature: Float
  public init(width: Int, classes: [Int32], values: [Float], temperature: Float) {
    precondition(classes.count == values.count && width > 0 && classes.count % width == 0, "soft targets of no shape")
    self.width = width
    self.classes = classes
    self.values = values
    self.temperature = temperature
  }
}

/// A sequence with its targets.
public struct Exemplar: Sendable, Equatable {
  public var inputs: [Int32]
  /// What should follow each input; below 0 where no loss is taken.
  public var targets: [Int32]
  /// Of −log p(target).
  public var weight: Float = 1
  /// Whether the sequence's targets are among those that the loss is averaged over.
  public var isCounted = true
  /// Who averages its scored places for themselves, as a term beside that mean; such a sequence is not counted.
  public var mean: ObjectIdentifier?
  public var soft: SoftTargets?
  /// Of the soft loss.
  public var softWeight: Float = 0
  /// Which head answers, where it is not the sequence's own.
  public var head: Int?

  public init(inputs: [Int32], targets: [Int32]) {
    self.inputs = inputs
    self.targets = targets
  }
  public var scored: Int { targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) } }
  /// Whether all that is taught is the targets, each with weight 1.
  var isPlain: Bool { weight == 1 && isCounted && mean == nil && (soft == nil || softWeight == 0) }
}

extension Batch {
  /// Lays sequences end to end.
  public init(_ exemplars: [Exemplar]) {
    self.init(
      tokens: exemplars.flatMap(\.inputs), targets: exemplars.flatMap(\.targets),
      lengths: exemplars.map(\.inputs.count))
    objectives = Objectives(exemplars)
  }
}

extension Objectives {
  /// What the sequences of a batch are taught; nil where all of them are plain.
  public init?(_ exemplars: [Exemplar]) {
    guard exemplars.contains(where: { !$0.isPlain }) else { return nil }
    var rows = SoftRows()
    var counted = 0
    var means: [ObjectIdentifier: [Int]] = [:]
    for exemplar in exemplars {
      if let mean = exemplar.mean {
        let places = exemplar.targets.indices.filter { exemplar.targets[$0] >= 0 }
        means[mean, default: []] += places.map { rows.count + $0 }
      } else if exemplar.isCounted {
        counted += exemplar.scored
      }
      let soft = exemplar.softWeight == 0 ? nil : exemplar.soft
      var place = 0
      for target in exemplar.targets {
        guard let soft, target >= 0 else {
          rows.append(hard: exemplar.weight, soft: 0, temperature: 0, classes: [], values: [])
          continue
        }
        let range = place * soft.width..<(place + 1) * soft.width
        rows.append(
          hard: exemplar.weight, soft: exemplar.softWeight, temperature: soft.temperature,
          classes: soft.classes[range], values: soft.values[range])
        place += 1
      }
    }
    self.init(rows: rows, counted: counted)
    self.means = means
  }
}
