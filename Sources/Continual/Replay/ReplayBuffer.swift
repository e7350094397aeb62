// Old sequences under a token budget: every sequence ever offered has the same chance to be among them.
import TensorCore
import Training

/// A uniform sample of a stream of sequences, bounded in tokens.
///
/// Every sequence gets a random key when it is offered; those with the smallest keys stay. With equal lengths this is
/// reservoir sampling: after n offers each is kept with probability capacity/n, whatever the order.
/// - Source: bottom-k sampling, Cohen & Kaplan 2007; reservoir: Vitter 1985
public struct ReplayBuffer: Sendable, Equatable {
  public enum Selection: String, Sendable {
    /// One budget for the whole stream.
    case reservoir
    /// The budget in equal parts for each past.
    case stageBalanced = "stage_balanced"
  }
  public struct Item: Sendable, Equatable {
    public let key: UInt64
    /// The past it comes from: 0 for the base.
    public let past: Int
    public let exemplar: Exemplar
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

  public init(budgetTokens: Int, selection: Selection) {
    self.budgetTokens = budgetTokens
    self.selection = selection
  }
  /// A buffer as it was saved.
  public init(budgetTokens: Int, selection: Selection, items: [Item], seen: Int) {
    self.init(budgetTokens: budgetTokens, selection: selection)
    self.items = items
    self.seen = seen
  }

  public var tokens: Int { items.reduce(0) { $0 + $1.exemplar.inputs.count } }

  /// Offers all sequences of one past.
  ///
  /// - Cost: O(n log n) once a stage
  public mutating func offer(_ exemplars: [Exemplar], past: Int, random: RandomStream) {
    var stream = random
    seen += exemplars.count
    items += exemplars.map { Item(key: stream.next(), past: past, exemplar: $0) }
    switch selection {
    case .reservoir: items = Self.smallest(items, budget: budgetTokens)
    case .stageBalanced:
      let groups = Dictionary(grouping: items, by: \.past)
      items = groups.keys.sorted().flatMap { past in
        Self.smallest(groups[past] ?? [], budget: budgetTokens / groups.count)
      }
    }
    items.sort { ($0.past, $0.key) < ($1.past, $1.key) }
  }

  /// The items with the smallest keys whose lengths fit the budget together.
  private static func smallest(_ items: [Item], budget: Int) -> [Item] {
    var left = budget
    return items.sorted { ($0.key, $0.past) < ($1.key, $1.past) }.prefix { item in
      left -= item.exemplar.inputs.count
      return left >= 0
    }
  }
}
