// One probe metric of one model: per-document sums from which value, error and resamples follow.
// Kept per document because paired intervals need the same documents before and after a stage.

import Glibc

/// A probe metric as a ratio of sums over documents, Σ numerator ÷ Σ denominator, or its exponential.
///
/// `bits_per_byte`: bits over UTF-8 bytes; `perplexity`: exp of nats over tokens; `acc`: 1 or 0 over 1.
public struct Measurement: Sendable, Equatable {
  public enum Form: String, Sendable {
    /// ΣN ÷ ΣD
    case ratio
    /// exp(ΣN ÷ ΣD)
    case exponentialOfRatio = "exponential_of_ratio"
  }
  public let probe: String
  public let metric: String
  public let form: Form
  public let higherIsBetter: Bool
  /// One per document or item, in file order.
  public let numerators: [Double]
  public let denominators: [Double]
  /// Tokens scored, UTF-8 bytes covered, and the window in tokens.
  public let tokens: Int
  public let bytes: Int
  public let window: Int

  /// - Precondition: as many numerators as denominators.
  public init(
    probe: String, metric: String, form: Form = .ratio, higherIsBetter: Bool,
    numerators: [Double], denominators: [Double], tokens: Int = 0, bytes: Int = 0, window: Int = 0
  ) {
    precondition(
      numerators.count == denominators.count,
      "\(probe).\(metric): \(numerators.count) numerators, \(denominators.count) denominators")
    self.probe = probe
    self.metric = metric
    self.form = form
    self.higherIsBetter = higherIsBetter
    self.numerators = numerators
    self.denominators = denominators
    self.tokens = tokens
    self.bytes = bytes
    self.window = window
  }

  /// `probe.metric`, the key in the matrix of results.json.
  public var key: String { "\(probe).\(metric)" }
  /// Documents or items.
  public var n: Int { numerators.count }

  /// The metric over all documents; NaN without any.
  public var value: Double {
    finish(numerators.reduce(0, +), denominators.reduce(0, +))
  }

  /// Standard error over documents; nil for fewer than two or where the value is not finite.
  ///
  /// Linearised residuals of the ratio V = ΣN ÷ ΣD: √(n/(n−1) · Σ(N_d − V·D_d)²) ÷ ΣD, times exp(V) for the
  /// exponential form (delta method). With D = 1 this is the sample standard deviation over √n.
  public var stderr: Double? {
    let total = denominators.reduce(0, +)
    let ratio = numerators.reduce(0, +) / total
    guard n > 1, total > 0, value.isFinite else { return nil }
    var squares = 0.0
    for (numerator, denominator) in zip(numerators, denominators) {
      let residual = numerator - ratio * denominator
      squares += residual * residual
    }
    let error = (Double(n) / Double(n - 1) * squares).squareRoot() / total
    return form == .ratio ? error : error * value
  }

  /// The metric over the documents at `indices`, with repetitions as they come.
  ///
  /// - Precondition: every index is below `n`.
  public func resampled(_ indices: [Int]) -> Double {
    var numerator = 0.0
    var denominator = 0.0
    for index in indices {
      numerator += numerators[index]
      denominator += denominators[index]
    }
    return finish(numerator, denominator)
  }

  /// True when both speak of the same documents, so that differences may be paired.
  public func isPaired(with other: Measurement) -> Bool {
    probe.utf8.elementsEqual(other.probe.utf8) && metric.utf8.elementsEqual(other.metric.utf8)
      && form == other.form && n > 0 && denominators == other.denominators
  }

  private func finish(_ numerator: Double, _ denominator: Double) -> Double {
    let ratio = numerator / denominator
    return form == .ratio ? ratio : exp(ratio)
  }
}
