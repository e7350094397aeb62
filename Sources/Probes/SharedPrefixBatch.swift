// Sequences laid into one batch so that what neighbours begin with alike runs once: the candidates of an item
// share its prompt, items share the solved examples before their questions.
import Layers
import TensorCore

/// Sequences collected for one forward pass, each with the rows that it shares with the one before.
struct SharedPrefixBatch {
  private struct Piece {
    /// Inputs, and the target of the last one.
    var tokens: ArraySlice<Int32>
    /// Inputs before the one whose target is scored first.
    var unscored: Int
    /// First inputs that are the previous piece's, targets included.
    var shared: Int
    var inputs: Int { tokens.count - 1 }
    func target(of input: Int) -> Int32 { tokens[tokens.startIndex + input + 1] }
  }
  /// The prefix token alone is no beginning worth a segment of its own.
  private static let leastShared = 2

  private var pieces: [Piece] = []
  /// Rows of the batch so far.
  private(set) var rows = 0
  var isEmpty: Bool { pieces.isEmpty }

  /// Rows that a sequence would add.
  func cost(_ tokens: ArraySlice<Int32>) -> Int { tokens.count - 1 - shared(tokens) }

  /// - Parameters:
  ///   - tokens: inputs and the target of the last one
  ///   - unscored: inputs whose target is not asked for, at the start
  mutating func append(_ tokens: ArraySlice<Int32>, unscored: Int) {
    pieces.append(Piece(tokens: tokens, unscored: unscored, shared: shared(tokens)))
    rows += tokens.count - 1 - pieces[pieces.count - 1].shared
  }

  /// An input is shared where its target is: the last common token begins what each sequence has for itself.
  private func shared(_ tokens: ArraySlice<Int32>) -> Int {
    guard let last = pieces.last else { return 0 }
    let common = zip(last.tokens, tokens).prefix { $0 == $1 }.count - 1
    return common < Self.leastShared ? 0 : common
  }

  /// −log p in nats of every scored target of every sequence, in order.
  func losses(of network: any Network, on backend: any Backend) -> [[Float]] {
    var layout = Layout(places: [[Range<Int>]](repeating: [], count: pieces.count))
    lay(pieces.indices, from: 0, after: nil, into: &layout)
    let found = network.negativeLogLikelihoods(
      Batch(
        tokens: layout.tokens, targets: layout.targets,
        segments: Segments(lengths: layout.lengths, parents: layout.parents)), on: backend)
    return layout.places.map { places in places.flatMap { found[$0] } }
  }

  private struct Layout {
    var tokens: [Int32] = []
    var targets: [Int32] = []
    var lengths: [Int] = []
    var parents: [Int?] = []
    /// Scored targets so far.
    var scored = 0
    /// For each piece, where its losses stand among those of the scored targets.
    var places: [[Range<Int>]]
  }

  /// Lays pieces that have their first `depth` inputs in common, in `parent` and what it goes on from: what more
  /// they have in common as one segment, then the groups into which they part.
  private func lay(_ group: Range<Int>, from depth: Int, after parent: Int?, into layout: inout Layout) {
    guard let first = group.first else { return }
    let common = group.dropFirst().map { pieces[$0].shared }.min() ?? pieces[first].inputs
    var parent = parent
    if common > depth {
      let tokens = pieces[first].tokens
      layout.tokens += tokens[tokens.startIndex + depth..<tokens.startIndex + common]
      let asked = min(common, max(depth, group.map { pieces[$0].unscored }.min() ?? depth))
      layout.targets += [Int32](repeating: -1, count: asked - depth)
      layout.targets += (asked..<common).map { pieces[first].target(of: $0) }
      for index in group {
        let own = max(asked, pieces[index].unscored)
        if own < common {
          layout.places[index].append(layout.scored + own - asked..<layout.scored + common - asked)
        }
      }
      layout.scored += common - asked
      layout.lengths.append(common - depth)
      layout.parents.append(parent)
      parent = layout.lengths.count - 1
    }
    guard group.count > 1 else { return }
    var begin = first
    for next in group.dropFirst() where pieces[next].shared == common {
      lay(begin..<next, from: common, after: parent, into: &layout)
      begin = next
    }
    lay(begin..<group.upperBound, from: common, after: parent, into: &layout)
  }
}
