// What an experiment file or a command line says about one probe, before any file is read.
import Corpus

/// A question to ask of models: which rows, of which kind, and what to report.
public struct ProbeDefinition: Sendable {
  public var name: String
  /// Files or patterns; empty for images.
  public var paths: [String]
  /// nil: by the shape of the first row.
  public var kind: ProbeKind?
  /// Names of metrics, the primary one first; nil: all of the kind, in the catalog's order.
  public var metrics: [String]?
  /// Solved examples before every question of a multiple-choice probe: the first rows of `fewshotPath`.
  public var fewshotCount = 0
  /// Rows of the probe's own shape; never one of `paths`.
  public var fewshotPath: String?
  /// Replaces `Question: Q\nAnswer:`, and the context of context rows; `{question}` stands for the row's
  /// question or context.
  public var prompt: String?
  /// Keeps the first rows only.
  public var limit: Int?
  /// Where documents of `.txt` files end.
  public var documents: DocumentRule
  /// The images of a classification probe.
  public var images: ImageSource?

  public init(
    name: String, paths: [String] = [], kind: ProbeKind? = nil, metrics: [String]? = nil,
    documents: DocumentRule = .blankLine
  ) {
    self.name = name
    self.paths = paths
    self.kind = kind
    self.metrics = metrics
    self.documents = documents
  }

  /// Images of idx files and the head that should name their classes.
  public struct ImageSource: Sendable {
    public var images: String
    public var labels: String
    /// Keeps images of these classes; nil keeps all.
    public var classes: [Int]?
    /// Shuffles the pixels, as in permuted MNIST.
    public var permuteSeed: UInt64?
    /// Black pixels on each side.
    public var pad = 0
    /// Makes pixels (x − mean) / std; nil leaves them in [0, 1].
    public var normalization: (mean: Float, std: Float)?
    /// Index of the head that answers.
    public var head = 0
    /// Whether the head counts classes by their place in `classes` rather than by their number in the file.
    public var countsWithinClasses = false

    public init(images: String, labels: String) {
      self.images = images
      self.labels = labels
    }
  }
}

extension ProbeDefinition {
  /// The metrics to report, the primary one first.
  func chosenMetrics(of kind: ProbeKind) throws(ProbeError) -> [ProbeMetric] {
    let known = ProbeCatalog.card(of: kind).metrics
    guard let metrics, !metrics.isEmpty else { return known }
    var chosen: [ProbeMetric] = []
    for name in metrics {
      guard let metric = known.first(where: { $0.name == name }) else {
        throw ProbeError(
          .definition, probe: self.name, "a \(kind.rawValue) probe has no metric \(name)",
          hint: "it has " + known.map(\.name).joined(separator: ", "))
      }
      if !chosen.contains(metric) { chosen.append(metric) }
    }
    return chosen
  }

  func fail(_ kind: ProbeError.Kind, _ reason: String, hint: String) -> ProbeError {
    ProbeError(kind, probe: name, reason, hint: hint)
  }
}
