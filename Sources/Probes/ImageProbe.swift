// Accuracy of a classifier on images, for checks against published continual-learning tables.
import Corpus
import Layers
import Ledger
import TensorCore

/// Images as feature rows and the class that the head should name.
struct ImageProbe: Sendable {
  let features: Int
  let head: Int
  private let pixels: [Float]
  private let answers: [Int]
  private static let batchRows = 1024

  init(_ source: ProbeDefinition.ImageSource, limit: Int?) throws(DataError) {
    var read = try IdxImages.read(
      images: source.images, labels: source.labels, classes: source.classes, first: limit)
    read = read.padded(by: source.pad)
    if let scale = source.normalization { read = read.normalized(mean: scale.mean, std: scale.std) }
    if let seed = source.permuteSeed { read = read.permuted(seed: seed) }
    features = read.rows * read.columns
    head = source.head
    pixels = read.pixels
    answers = read.labels.map { label in
      source.countsWithinClasses ? source.classes?.firstIndex(of: label) ?? label : label
    }
  }
  var count: Int { answers.count }
  /// Pixels as the network sees them, classes, and the head that is asked.
  func contents(_ take: (UnsafeRawBufferPointer) -> Void) {
    pixels.withUnsafeBytes(take)
    answers.withUnsafeBytes(take)
    withUnsafeBytes(of: Int64(head), take)
  }

  func measure(
    _ name: String, _ metrics: [ProbeMetric], network: any Network, items: Int, on backend: any Backend
  ) -> [Measurement] {
    let count = min(items, answers.count)
    var right: [Double] = []
    for first in stride(from: 0, to: count, by: Self.batchRows) {
      let rows = first..<min(count, first + Self.batchRows)
      let input = backend.tensor(
        Array(pixels[rows.lowerBound * features..<rows.upperBound * features]), rows.count, features)
      let batch = Batch(features: input, labels: [Int32](repeating: -1, count: rows.count), head: head)
      let (hidden, _) = network.forward(batch, recording: false, on: backend)
      let logits = network.head(head).linear.forward(hidden, on: backend)
      let (values, classes) = (logits.toArray(), logits.columns)
      for row in 0..<rows.count {
        let scores = values[row * classes..<(row + 1) * classes]
        let answer = answers[rows.lowerBound + row]
        guard answer < classes else {
          right.append(0)
          continue
        }
        let own = scores[scores.startIndex + answer]
        let beaten = scores.indices.allSatisfy { $0 == scores.startIndex + answer || scores[$0] < own }
        right.append(beaten ? 1 : 0)
      }
    }
    return metrics.map {
      Measurement(
        probe: name, metric: $0.name, higherIsBetter: $0.higherIsBetter, numerators: right,
        denominators: [Double](repeating: 1, count: right.count))
    }
  }
}
