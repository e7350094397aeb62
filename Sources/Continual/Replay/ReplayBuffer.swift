// Old sequences under a token budget: every sequence ever offered has the same chance to be among them.
import TensorCore
import Training

/// A uniform sample of a stream of sequences, bounded in tokens.
///
/// Every sequence gets a random key when it is offered, or a key that falls with its loss where it is chosen by
/// surprise; in the order of their keys they stay until the first that does not fit, so what is kept depends on all that
/// was offered, not on when. With equal lengths this is reservoir sampling: after n offers each is kept with probability
/// capacity/n.
/// - Source: bottom-k sampling, Cohen & Kaplan 2007; reservoir: Vitter 1985
public struct ReplayBuffer: Sendable, Equatable {
  public enum Selection: String, Sendable {
    /// One budget for the whole stream.
    case reservoir
    /// The budget in equal parts for each past.
    case stageBalanced = "stage_balanced"
    /// Equal parts again, and of each past the sequences that its model found hardest.
    case surprise
  }
  public struct Item: Sendable, Equatable {
    public let key: UInt64
    /// The past it comes from: 0 for the base.
    public let past: Int
    public var exemplar: Exemplar
    public init(key: UInt64, past: Int, exemplar: Exemplar) {
      self.key = key
      self.past = past
      self.exemplar = exemplar
    }
  }
  public let budgetTokens: Int
  public let selection: Selection
  /// By past, then by key.
  public private(set) var items: [Item] = []
  /// Sequences offered so far.
  public private(set) var seen = 0
  /// The smallest key that did not fit, for each share of the budget: none from there on ever will.
  private var bounds: [Int: UInt64] = [:]

  public init(budgetTokens: Int, selection: Selection) {
    self.budgetTokens = budgetTokens
    self.selection = selection
  }

  public var tokens: Int { items.reduce(0) { $0 + $1.exemplar.inputs.count } }

  /// The share of the budget that a past's sequences are kept in.
  private func share(of past: Int) -> Int { selection == .reservoir ? 0 : past }
  /// Whether a sequence with this key may stay.
  func mayKeep(key: UInt64, past: Int) -> Bool { key < bounds[share(of: past)] ?? .max }

  /// Offers sequences of one past.
  ///
  /// - Parameter surprise: the mean loss of each sequence, for selection by surprise
  /// - Cost: O(n log n) once a stage
  public mutating func offer(
    _ exemplars: [Exemplar], past: Int, surprise: [Double]? = nil, random: RandomStream
  ) {
    var stream = random
    seen += exemplars.count
    items += exemplars.enumerated().map { index, exemplar in
      let draw = stream.next()
      // Bits of positive numbers order as the numbers do.
      let key = surprise.map { UInt64.max - max(0, $0[index]).bitPattern } ?? draw
      return Item(key: key, past: past, exemplar: exemplar)
    }.filter { mayKeep(key: $0.key, past: past) }
    let shares = Dictionary(grouping: items) { share(of: $0.past) }
    items = shares.keys.sorted().flatMap { number in
      var left = budgetTokens / shares.count
      // What is longer than all of it would shut out everything behind it.
      let ordered = (shares[number] ?? []).filter { [left] in $0.exemplar.inputs.count <= left }
        .sorted { ($0.key, $0.past) < ($1.key, $1.past) }
      let kept = ordered.prefix { item in
        left -= item.exemplar.inputs.count
        return left >= 0
      }
      if kept.count < ordered.count { bounds[number] = ordered[kept.count].key }
      return kept
    }
    items.sort { ($0.past, $0.key) < ($1.past, $1.key) }
  }

  mutating func pass() { seen += 1 }

  mutating func setSoftTargets(_ soft: [SoftTargets], at indices: [Int]) {
    for (index, targets) in zip(indices, soft) { items[index].exemplar.soft = targets }
  }

  // MARK: State

  func write(to writer: any StateWriter) {
    writer.tokens("tokens", items.flatMap(\.exemplar.inputs), description: "inputs of all sequences, end to end")
    writer.tokens(
      "targets", items.flatMap(\.exemplar.targets), description: "targets; below 0 where no loss is taken")
    writer.integers("lengths", items.map(\.exemplar.inputs.count), description: "tokens of each sequence")
    writer.integers("past", items.map(\.past), description: "stage of each sequence; 0 is the base")
    writer.integers(
      "keys", items.map { Int(bitPattern: UInt($0.key)) }, description: "random keys; the smallest stay")
    let shares = bounds.keys.sorted()
    writer.integers("bounds/shares", shares, description: "pasts with a bound; 0 where all share one budget")
    writer.integers(
      "bounds/keys", shares.map { Int(bitPattern: UInt(bounds[$0] ?? .max)) },
      description: "the smallest key of each that did not fit")
    let soft = items.map(\.exemplar.soft)
    guard soft.contains(where: { $0 != nil }) else { return }
    writer.integers(
      "soft/widths", soft.map { $0?.width ?? 0 }, description: "listed classes a scored place; 0 without soft targets")
    writer.tokens("soft/classes", soft.flatMap { $0?.classes ?? [] }, description: "the listed classes")
    writer.tokens(
      "soft/values", soft.flatMap { $0?.values.map { Int32(bitPattern: $0.bitPattern) } ?? [] },
      description: "bits of Float32: logarithmic probabilities, or logits at temperature 0")
    writer.doubles(
      "soft/temperatures", soft.map { Double($0?.temperature ?? 0) }, description: "of each sequence's soft targets")
  }

  /// Refuses ids that are not of a vocabulary: the batch that they come into would end the process.
  private static func check(_ ids: [Int32], from lowest: Int32 = 0, below vocabulary: Int?) throws {
    guard let vocabulary, let id = ids.first(where: { $0 < lowest || $0 >= vocabulary }) else { return }
    throw StateError(description: "the replay buffer holds the id \(id), which is not of \(vocabulary) tokens")
  }

  /// A buffer as it was saved.
  ///
  /// - Parameter vocabulary: of which the sequences must be; nil for any
  init(budgetTokens: Int, selection: Selection, seen: Int, vocabulary: Int?, from reader: any StateReader) throws {
    self.init(budgetTokens: budgetTokens, selection: selection)
    self.seen = seen
    let (tokens, targets) = (try reader.tokens("tokens"), try reader.tokens("targets"))
    let (lengths, pasts, keys) = (
      try reader.integers("lengths"), try reader.integers("past"), try reader.integers("keys")
    )
    guard lengths.count == pasts.count, keys.count == lengths.count,
      lengths.allSatisfy({ $0 > 0 && $0 <= tokens.count }), lengths.reduce(0, +) == tokens.count,
      targets.count == tokens.count
    else { throw StateError(description: "the replay buffer's parts disagree in length") }
    try Self.check(tokens, below: vocabulary)
    try Self.check(targets, from: .min, below: vocabulary)
    var first = 0
    items = lengths.indices.map { index in
      let range = first..<first + lengths[index]
      first = range.upperBound
      return Item(
        key: UInt64(UInt(bitPattern: keys[index])), past: pasts[index],
        exemplar: Exemplar(inputs: Array(tokens[range]), targets: Array(targets[range])))
    }
    // Absent in files of before bounds were kept.
    if reader.contains("bounds/shares") {
      let (shares, keys) = (try reader.integers("bounds/shares"), try reader.integers("bounds/keys"))
      guard shares.count == keys.count, Set(shares).count == shares.count else {
        throw StateError(description: "the replay buffer's bounds disagree in length")
      }
      bounds = Dictionary(uniqueKeysWithValues: zip(shares, keys.map { UInt64(UInt(bitPattern: $0)) }))
    }
    guard reader.contains("soft/widths") else { return }
    let (widths, temperatures) = (try reader.integers("soft/widths"), try reader.doubles("soft/temperatures"))
    let (classes, values) = (try reader.tokens("soft/classes"), try reader.tokens("soft/values"))
    guard widths.count == items.count, temperatures.count == items.count, classes.count == values.count,
      widths.allSatisfy({ $0 >= 0 && $0 <= classes.count }),
      zip(items, widths).reduce(0, { $0 + $1.0.exemplar.scored * $1.1 }) == classes.count
    else { throw StateError(description: "the replay buffer's soft targets disagree in length") }
    try Self.check(classes, below: vocabulary)
    first = 0
    for index in items.indices where widths[index] > 0 {
      let range = first..<first + items[index].exemplar.scored * widths[index]
      first = range.upperBound
      items[index].exemplar.soft = SoftTargets(
        width: widths[index], classes: Array(classes[range]),
        values: values[range].map { Float(bitPattern: UInt32(bitPattern: $0)) },
        temperature: Float(temperatures[index]))
    }
  }
}
