// Where sequences lie in a flattened batch, and which of them go on from tokens that several share.

/// Where sequences lie in a flattened batch: sequence s holds the tokens `starts[s] ..< starts[s + 1]`.
///
/// A segment may go on from earlier ones: its tokens see all of theirs, then each other causally. So texts
/// that begin alike run their beginning once.
public struct Segments: Sendable, Equatable {
  public let starts: [Int]
  /// Rows that the tokens of a segment see before their own, in order of place; empty where no segment has any.
  private let prefixes: [[Range<Int>]]

  public init(lengths: [Int]) { self.init(lengths: lengths, parents: []) }

  /// - Parameter parents: for each segment the earlier one that it goes on from, with all that this one sees;
  ///   nil for one that begins a text. Empty: all begin one.
  public init(lengths: [Int], parents: [Int?]) {
    precondition(
      parents.isEmpty || parents.count == lengths.count, "\(parents.count) parents of \(lengths.count) segments")
    var starts = [0]
    starts.reserveCapacity(lengths.count + 1)
    for length in lengths { starts.append(starts[starts.count - 1] + length) }
    var prefixes: [[Range<Int>]] = []
    if parents.contains(where: { $0 != nil }) {
      for (index, parent) in parents.enumerated() {
        guard let parent else {
          prefixes.append([])
          continue
        }
        precondition(0 <= parent && parent < index, "segment \(index) cannot go on from segment \(parent)")
        var seen = prefixes[parent]
        let rows = starts[parent]..<starts[parent + 1]
        // Neighbours join: the fewer ranges, the larger the products over them.
        if let last = seen.last, last.upperBound == rows.lowerBound {
          seen[seen.count - 1] = last.lowerBound..<rows.upperBound
        } else if !rows.isEmpty {
          seen.append(rows)
        }
        prefixes.append(seen)
      }
    }
    self.starts = starts
    self.prefixes = prefixes
  }

  public var count: Int { starts.count - 1 }
  public var tokens: Int { starts[starts.count - 1] }
  public subscript(index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

  public var lengths: [Int] { (0..<count).map { self[$0].count } }

  /// Whether any segment goes on from another; such batches have no way back.
  public var hasPrefixes: Bool { !prefixes.isEmpty }
  /// Rows that a segment sees in full before its own, in order of place.
  public func prefix(of index: Int) -> [Range<Int>] { prefixes.isEmpty ? [] : prefixes[index] }
  /// Tokens before the first of a segment: its position.
  public func position(of index: Int) -> Int { prefix(of: index).reduce(0) { $0 + $1.count } }
  /// Tokens of the longest text, what segments go on from included.
  public var longest: Int { (0..<count).map { position(of: $0) + self[$0].count }.max() ?? 0 }
}
