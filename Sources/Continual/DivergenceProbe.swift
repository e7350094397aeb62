// A self-test of a curvature: does it predict what moving the parameters does to the model's distribution?
import Layers
import TensorCore
import Training

/// Mean KL(p_θ ‖ p_{θ±δ}) a scored token against the predicted ½ δᵀFδ, for a random direction δ.
///
/// Directions are isotropic, so off-diagonal terms of F cancel in the mean and every structure is judged alike. Within
/// the quadratic regime a right estimate gives a ratio near 1, up to what one direction and a few sequences scatter.
public enum DivergenceProbe {
  public struct Reading: Sendable, Equatable, CustomStringConvertible {
    public let predicted: Double
    public let measured: Double
    public init(predicted: Double, measured: Double) {
      self.predicted = predicted
      self.measured = measured
    }
    public var description: String {
      "self-test along a random direction: divergence predicted \(short(predicted)), measured \(short(measured)) nats"
    }
    private func short(_ value: Double) -> String { "\(Float((value * 1e6).rounded() / 1e6))" }
  }
  /// Sequences that are looked at.
  public static let sequences = 8
  /// Predicted nats: large against rounding, small against the quadratic regime.
  static let target = 0.005
  /// Probabilities that are held at once: of all classes, or those that a list leaves out would take their share of the
  /// divergence along. Of a longer sequence some places are looked at.
  static let heldProbabilities = 1 << 21

  /// Bytes of a sequence's probabilities and classes, in the exemplar, in its batch and in between.
  public static func workBytes(length: Int, classes: Int) -> Int { 40 * min(heldProbabilities, length * classes) }

  /// nil where nothing can be predicted: no sequence, or a curvature of 0.
  ///
  /// - Cost: four forward passes over the sequences, one by one
  static func measure(
    _ scope: ConsolidationScope, sequences: [Exemplar], predicted: (Tensor) -> Double, random: RandomStream
  ) -> Reading? {
    let (network, backend) = (scope.network, scope.backend)
    let store = network.parameters
    guard !sequences.isEmpty else { return nil }
    let direction = backend.zeros(1, store.count)
    var random = random
    for parameter in store.parameters where parameter.isTrainable {
      let part = direction.slice(parameter.range).buffer
      for index in part.indices { part[index] = Float(random.normal()) }
    }
    let unscaled = predicted(direction)
    guard unscaled > 0, unscaled.isFinite else { return nil }
    backend.scale(direction, by: Float((target / unscaled).squareRoot()))
    var (sum, scored) = (0.0, 0)
    for sign: Float in [1, -1] {
      let moved = backend.copied(store.values)
      backend.add(direction, scaled: sign, into: moved)
      for sequence in sequences {
        let classes = scope.makeBatches([sequence]).map { network.head($0.head).linear.outputs }.max() ?? 1
        var asked = sequence.thinned(to: max(1, heldProbabilities / classes))
        asked.soft =
          network.softTargets(
            for: [asked], count: classes, temperature: 1, batchTokens: scope.batchTokens,
            makeBatches: scope.makeBatches, on: backend)[0]
        (asked.weight, asked.softWeight) = (0, 1)
        store.with(moved) {
          for batch in scope.makeBatches([asked]) {
            guard let objectives = batch.objectives else { continue }
            let seed = ObjectiveSeed(objectives, scale: 1)
            let hidden = network.forward(batch, recording: false, on: backend).hidden
            network.head(batch.head).forEachBlock(hidden, batch: batch, on: backend) { logits, places in
              let losses = backend.empty(1, places.count)
              seed.seed(
                logits, targets: places.map { batch.targets[Int($0)] }, rows: places, losses: losses, on: backend)
            }
            sum += seed.sums.soft
            scored += batch.scored
          }
        }
      }
    }
    return Reading(predicted: target, measured: sum / Double(max(1, scored)))
  }
}

extension Exemplar {
  /// The sequence with at most so many scored places, evenly spread.
  fileprivate func thinned(to count: Int) -> Exemplar {
    let places = targets.indices.filter { targets[$0] >= 0 }
    guard places.count > count else { return self }
    var thinned = self
    for place in places { thinned.targets[place] = -1 }
    for index in 0..<count {
      let place = places[index * places.count / count]
      thinned.targets[place] = targets[place]
    }
    return thinned
  }
}
