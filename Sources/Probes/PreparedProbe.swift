// A probe whose files are read and tokenised: prepared once, asked after every stage.
import Corpus
import Layers
import Ledger
import Models
import TensorCore

/// A question ready to be asked of any model with the same tokenizer.
public struct PreparedProbe: Sendable {
  public let name: String
  public let kind: ProbeKind
  /// What `measure` reports, in this order; the first is the primary one.
  public let metrics: [ProbeMetric]
  /// What the reader of results should know: tokens that cannot be scored, prompts that were cut.
  public let notes: [String]
  /// Longest window in tokens; 0 for images.
  public let contextLength: Int
  private let content: Content

  private enum Content: Sendable {
    case text(TextProbe)
    case choice(ChoiceProbe)
    case images(ImageProbe)
  }

  /// Documents, items or images.
  public var items: Int {
    switch content {
    case .text(let probe): probe.documents.count
    case .choice(let probe): probe.items.count
    case .images(let probe): probe.count
    }
  }
  /// Pixels of an image; nil for language probes.
  public var features: Int? {
    if case .images(let probe) = content { probe.features } else { nil }
  }

  /// Everything a measurement depends on besides the model, piece by piece: what a hash of the probe covers.
  public func contents(_ take: (UnsafeRawBufferPointer) -> Void) {
    switch content {
    case .text(let probe):
      for (document, bytes) in zip(probe.documents, probe.bytes) {
        document.contents(take)
        withUnsafeBytes(of: Int64(bytes), take)
      }
    case .choice(let probe):
      for item in probe.items {
        for (candidate, characters) in zip(item.candidates, item.characters) {
          candidate.contents(take)
          withUnsafeBytes(of: Int64(characters), take)
        }
        withUnsafeBytes(of: (Int64(item.bytes), Int64(item.answer)), take)
      }
    case .images(let probe): probe.contents(take)
    }
  }

  /// Reads and tokenises the rows of a language probe.
  ///
  /// - Throws: `DataError` for files and rows, `ProbeError` for what the definition or the model lacks.
  /// - Cost: reading and encoding all rows; 4 bytes a token stay in memory.
  public init(_ definition: ProbeDefinition, model: LoadedModel) throws {
    try self.init(
      definition, tokenizer: model.tokenizer, prefixToken: model.prefixToken,
      contextLength: model.configuration.contextLength)
  }

  /// As `init(_:model:)`, with the parts of a model that matter.
  public init(_ definition: ProbeDefinition, tokenizer: Tokenizer?, prefixToken: Int32?, contextLength: Int)
    throws
  {
    guard definition.kind != .classification, definition.images == nil else {
      throw definition.fail(
        .model, "images cannot be asked of a language model",
        hint: "use `base_model: { architecture: mlp, … }`")
    }
    guard let tokenizer else {
      throw definition.fail(
        .model, "the model has no tokenizer", hint: "put tokenizer.json into the model's folder")
    }
    var (rows, kind) = try definition.read()
    let metrics = try definition.chosenMetrics(of: kind)
    let template = try definition.template(for: kind, rows: rows)
    let shots = try definition.shots(for: kind, template: template)
    if let limit = definition.limit { rows = Array(rows.prefix(max(0, limit))) }
    var notes: [String] = []
    if kind == .text {
      let probe = TextProbe(rows, tokenizer: tokenizer, prefixToken: prefixToken)
      if probe.unscoredFirstTokens > 0 {
        notes.append("the model has no token to start from: the first token of each document is not scored")
      }
      content = .text(probe)
    } else {
      let probe = ChoiceProbe(
        rows, template: template, shots: shots, tokenizer: tokenizer, prefixToken: prefixToken)
      if prefixToken == nil, kind == .minimalPairs {
        notes.append("the model has no token to start from: the first token of each sentence is not scored")
      }
      let (cut, empty) = (probe.cut(window: contextLength), probe.withoutTokens)
      if cut > 0 {
        notes.append(
          "\(cut) of \(probe.items.count) items have prompts cut from the left to \(contextLength) tokens")
      }
      if empty > 0 { notes.append("\(empty) candidates have no tokens to score and cannot be chosen") }
      content = .choice(probe)
    }
    name = definition.name
    self.kind = kind
    self.metrics = metrics
    self.notes = notes
    self.contextLength = contextLength
  }

  /// Reads the images of a classification probe.
  ///
  /// - Throws: `DataError` for the files, `ProbeError` for the definition.
  public init(images definition: ProbeDefinition) throws {
    guard let source = definition.images else {
      throw definition.fail(
        .definition, "a classification probe needs images", hint: "give `images` and `labels`")
    }
    content = .images(try ImageProbe(source, limit: definition.limit))
    metrics = try definition.chosenMetrics(of: .classification)
    name = definition.name
    kind = .classification
    notes = []
    contextLength = 0
  }

  /// Asks a model.
  ///
  /// - Parameters:
  ///   - network: with the tokenizer the probe was prepared for; for images a classifier of
  ///     `features` inputs.
  ///   - window: most tokens fed at a time; nil for the model's context.
  ///   - items: asks the first ones only, for watching while training.
  ///   - batchTokens: tokens of a forward pass; results do not depend on it beyond rounding.
  /// - Throws: `ProbeError` for a window that the model cannot see.
  /// - Cost: one forward pass over all tokens; prompts, and solved examples before them, once for the candidates
  ///   and items of a batch.
  public func measure(
    _ network: any Network, window: Int? = nil, items: Int? = nil, batchTokens: Int = 4096,
    on backend: any Backend
  ) throws(ProbeError) -> [Measurement] {
    let items = max(0, items ?? self.items)
    let length = window ?? contextLength
    guard kind == .classification || (1...max(1, contextLength)).contains(length) else {
      throw ProbeError(
        .definition, probe: name, "a window of \(length) tokens",
        hint: "the model sees 1 to \(contextLength)")
    }
    switch content {
    case .text(let probe):
      return probe.measure(
        name, metrics, network: network, window: length, items: items, batchTokens: batchTokens, on: backend)
    case .choice(let probe):
      return probe.measure(
        name, metrics, network: network, window: length, items: items, batchTokens: batchTokens, on: backend)
    case .images(let probe): return probe.measure(name, metrics, network: network, items: items, on: backend)
    }
  }
}
