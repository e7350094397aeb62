// What a network says about sequences, kept as soft targets: the likeliest classes and their probabilities.
import Layers
import TensorCore

extension Network {
  /// The likeliest classes at every scored place of the sequences, by the parameters as they are now.
  ///
  /// - Parameters:
  ///   - count: classes listed at each place; all where the vocabulary has no more
  ///   - temperature: of the listed probabilities; 0 lists logits
  ///   - batchTokens: tokens of a pass at most
  ///   - makeBatches: as in `Composition`
  /// - Cost: one forward pass; 8·count bytes a scored place
  public func softTargets(
    for exemplars: [Exemplar], count: Int, temperature: Float, batchTokens: Int,
    makeBatches: ([Exemplar]) -> [Batch], on backend: any Backend
  ) -> [SoftTargets] {
    var targets: [SoftTargets] = []
    targets.reserveCapacity(exemplars.count)
    for part in exemplars.runs(ofTokens: batchTokens) {
      var found = [SoftTargets?](repeating: nil, count: part.count)
      for batch in makeBatches(part.map(\.bare)) {
        let head = head(batch.head)
        let width = min(count, head.linear.outputs)
        var (classes, values): ([Int32], [Float]) = ([], [])
        head.forEachBlock(forward(batch, recording: false, on: backend).hidden, batch: batch, on: backend) {
          logits, _ in
          let block = backend.likeliest(logits, count: count, temperature: temperature)
          classes += block.classes
          values += block.values
        }
        var first = 0
        for index in 0..<batch.segments.count {
          let scored = batch.segments[index].reduce(0) { $0 + (batch.targets[$1] >= 0 ? 1 : 0) }
          let range = first * width..<(first + scored) * width
          first += scored
          found[batch.source(of: index)] = SoftTargets(
            width: width, classes: Array(classes[range]), values: Array(values[range]), temperature: temperature)
        }
      }
      targets += found.map { soft in
        guard let soft else { preconditionFailure("a sequence came back without soft targets") }
        return soft
      }
    }
    return targets
  }
}

extension Exemplar {
  /// The sequence without what a method has laid on it.
  fileprivate var bare: Exemplar {
    var bare = Exemplar(inputs: inputs, targets: targets)
    bare.head = head
    return bare
  }
}

extension [Exemplar] {
  /// Neighbours with at most so many tokens together, a longer one alone; as few runs as that takes, the largest of
  /// them as small as it can be, so that the last one finds the buffers of those before it.
  public func runs(ofTokens limit: Int) -> [ArraySlice<Exemplar>] {
    let full = filled(upTo: limit)
    var (low, high) = (1, limit)
    while low < high {
      let middle = low + (high - low) / 2
      if filled(upTo: middle).count <= full.count { high = middle } else { low = middle + 1 }
    }
    return filled(upTo: high)
  }

  /// Runs that end where the next sequence would exceed the limit.
  private func filled(upTo limit: Int) -> [ArraySlice<Exemplar>] {
    var runs: [ArraySlice<Exemplar>] = []
    var (first, filled) = (0, 0)
    for (index, exemplar) in enumerated() {
      if filled > 0, filled + exemplar.inputs.count > limit {
        runs.append(self[first..<index])
        (first, filled) = (index, 0)
      }
      filled += exemplar.inputs.count
    }
    if first < count { runs.append(self[first...]) }
    return runs
  }
}
