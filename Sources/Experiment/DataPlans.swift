// What data a stage, the base or a probe reads, with every path resolved.
// A dataset of text names files; a dataset of images names one pair of idx files.

/// One entry of `datasets`, `base_data` or `val`.
public struct DatasetSpec: Sendable, Equatable {
  public enum Shape: String, Sendable, CaseIterable {
    case text
    case promptCompletion = "prompt_completion"
    case textLabel = "text_label"
    case idxImages = "idx_images"
  }
  /// Where a document of a plain text file ends.
  public enum Documents: String, Sendable, CaseIterable {
    case blankLine = "blank_line"
    case line, file
  }
  /// Absolute and sorted within a pattern; empty for images.
  public var paths: [String]
  /// Nil: detected from the rows.
  public var shape: Shape?
  /// How often the rows count, relative to the other datasets of the stage.
  public var weight: Double
  public var documents: Documents
  /// Present exactly for `idx_images`.
  public var images: ImageSource?
}

/// A pair of idx files and the part of them that is used.
public struct ImageSource: Sendable, Equatable {
  public var images: String
  public var labels: String
  /// Nil: every class.
  public var classes: [Int]?
  /// The seed of a fixed permutation of pixels; nil: pixels as they are.
  public var permuteSeed: Int?
  /// Black pixels on each side, before the permutation; nil: none.
  public var pad: Int?
  /// Nil: brightness in [0, 1].
  public var normalize: Normalization?
  /// How many images are used, after the filter of classes; nil: all. A probe has its own limit instead.
  public var limit: Int?

  /// Pixels become (x − mean) / std, those of the padding included.
  public struct Normalization: Sendable, Equatable {
    public var mean: Double
    public var std: Double
  }
}

/// A question asked of the model between stages.
public struct ProbePlan: Sendable, Equatable {
  public enum Kind: String, Sendable, CaseIterable {
    case text
    case minimalPairs = "minimal_pairs"
    case multipleChoice = "multiple_choice"
    case classification = "class"
  }
  public var name: String
  /// Absolute; empty for images.
  public var paths: [String]
  /// Present for probes of idx images.
  public var images: ImageSource?
  /// Nil: detected from the rows.
  public var kind: Kind?
  /// Nil: the defaults of the kind. The first counts in the summary.
  public var metrics: [String]?
  /// The stage whose domain the probe measures; nil: what the base knows.
  public var home: String?
  public var fewshotCount: Int
  public var fewshotPath: String?
  /// Replaces the default prompt of multiple choice.
  public var prompt: String?
  /// How many items are used; nil: all.
  public var limit: Int?
  public var documents: DatasetSpec.Documents

  /// The metrics each kind can be measured by, the first ones being the defaults.
  public static func metrics(of kind: Kind) -> [String] {
    switch kind {
    case .text: ["bits_per_byte", "perplexity"]
    case .minimalPairs, .classification: ["acc"]
    case .multipleChoice: ["acc", "acc_norm"]
    }
  }
}
