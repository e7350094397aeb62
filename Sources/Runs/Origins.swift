// What a run learns from, by content: importance and memories belong to one base and one text and to no other.
import Archive
import Continual
import Corpus
import Experiment
import StrictJSON
import TensorCore

/// SHA-256 of the base model, of every training and validation set and of every probe, as a checkpoint keeps them beside
/// what follows from them.
///
/// A path says where something lay, not what it was. A checkpoint whose Fisher, anchor, buffer, half of a stage or
/// measurements come from other content is refused.
/// - Cost: a second per two billion bytes, once a process
public struct Origins: Equatable, Sendable {
  /// Parameters in the order of the layout.
  let base: String
  /// Of a classifier, whose sets are told by their pixels.
  private let hasImages: Bool
  /// Configuration and tokenizer; nil in files of before they were kept, as the two below.
  let model: String?
  let baseData: String
  let stages: [String]
  let validation: [String]?
  /// What each probe asks, after tokenisation.
  let probes: [String]?

  /// To be asked for while the parameters are those of the base.
  init(_ assembly: Assembly) {
    let subject = assembly.subject
    hasImages = subject.languageModel == nil
    base = assembly.parametersHash()
    model = SHA256.hash(subject.configurationText)
    baseData = Self.hash(assembly.data.base.examples, assembly.data.base.weights, subject)
    stages = assembly.data.stages.map { Self.hash($0.examples, $0.weights, subject) }
    validation = assembly.data.stages.map { Self.hash($0.validation, nil, subject) }
    probes = assembly.probes.map { probe in
      var stream = SHA256Stream()
      probe.contents { stream.update($0) }
      return stream.finish()
    }
  }

  /// nil where a file has another form.
  init?(_ json: JSON) {
    guard let base = json["base_model"]?.string, let baseData = json["base_data"]?.string,
      let stages = json["stages"]?.array?.compactMap(\.string)
    else { return nil }
    (self.base, self.baseData, self.stages, hasImages) = (base, baseData, stages, false)
    model = json["model"]?.string
    validation = json["validation"]?.array?.compactMap(\.string)
    probes = json["probes"]?.array?.compactMap(\.string)
  }

  public var json: JSON {
    func list(_ hashes: [String]?) -> JSON { hashes.map { .array($0.map { .string($0) }) } ?? .null }
    return .object([
      .init("base_model", .string(base)), .init("model", JSON(model)), .init("base_data", .string(baseData)),
      .init("stages", list(stages)), .init("validation", list(validation)), .init("probes", list(probes)),
    ])
  }

  /// One line for each thing, to stand at the head of a plan.
  func lines(of plan: ExperimentPlan) -> [String] {
    func lines(_ kind: String, _ names: [String], _ hashes: [String]?) -> [String] {
      zip(names, hashes ?? []).map { "SHA-256 of \(kind) \($0): \($1)" }
    }
    // A new model's parameters are another seed's, too.
    let model = plan.seeds.count > 1 && plan.baseModel.isNew ? [] : ["SHA-256 of the base's parameters: \(base)"]
    return model + ["SHA-256 of base_data: \(baseData)"]
      + lines("the data of stage", plan.stages.map(\.name), stages) + lines("probe", plan.probes.map(\.name), probes)
  }

  static let place = "origins/sha256.json"
  func write(to writer: any StateWriter) {
    writer.group("origins", description: "what the run learned from")
    writer.text(Self.place, json.pretty, description: "SHA-256 of the base model, of each training set and probe")
  }

  /// Refuses an archive that learned from something else.
  ///
  /// Data of stages that had not begun may have changed. Files of before origins were kept are taken as they are.
  /// - Parameters:
  ///   - begun: how many stages had
  ///   - ignoringBase: where the base's parameters are drawn anew for each seed and this is another
  /// - Throws: `RunError` (78), `ArchiveError`
  func check(_ reader: any StateReader, path: String, begun: Int, of plan: ExperimentPlan, ignoringBase: Bool = false)
    throws
  {
    guard reader.contains(Self.place) else { return }
    try check(JSON.parse(reader.text(Self.place)), path: path, begun: begun, of: plan, ignoringBase: ignoringBase)
  }

  /// As `check(_:path:begun:of:ignoringBase:)`, against what `json` gave.
  public func check(
    _ json: JSON, path: String, begun: Int, of plan: ExperimentPlan, ignoringBase: Bool = false
  ) throws {
    guard let earlier = Origins(json) else {
      throw RunError(ExitCode.badData, "\(path): \(Self.place) has another form")
    }
    var changed: [String] = []
    if !ignoringBase, earlier.base != base { changed.append("base_model") }
    if let other = earlier.model, other != model { changed.append("base_model's configuration or tokenizer") }
    // Sets of images were told otherwise in files of before models were.
    let isComparable = !hasImages || earlier.model != nil
    if isComparable, earlier.baseData != baseData { changed.append("base_data") }
    func compare(_ names: [String], _ mine: [String]?, _ theirs: [String]?, _ what: (String) -> String) {
      guard let mine, let theirs else { return }
      for (index, name) in names.enumerated()
      where index >= mine.count || index >= theirs.count || mine[index] != theirs[index] {
        changed.append(what(name))
      }
    }
    let stageNames = isComparable ? plan.stages.prefix(begun).map(\.name) : []
    compare(stageNames, stages, earlier.stages) { "the data of stage \($0)" }
    compare(stageNames, validation, earlier.validation) { "the validation rows of stage \($0)" }
    compare(plan.probes.map(\.name), probes, earlier.probes) { "probe \($0)" }
    guard changed.isEmpty else {
      throw RunError(
        ExitCode.configuration,
        "\(path): \(changed.joined(separator: ", ")) changed since this run began (their SHA-256 differs)",
        hint: "put back what was there, start over with --fresh, or choose another output_dir")
    }
  }

  /// Tokens or pixels, what is scored, and how often each example counts; lengths keep neighbours apart.
  private static func hash(_ examples: [Example], _ weights: [Double]?, _ subject: Subject) -> String {
    var stream = SHA256Stream()
    for example in examples {
      withUnsafeBytes(of: (Int64(example.tokens.count), Int64(example.lossStart))) { stream.update($0) }
      if case .classifier(let classifier) = subject {
        classifier.contents(of: example) { stream.update($0) }
      } else {
        example.tokens.withUnsafeBytes { stream.update($0) }
      }
    }
    weights?.withUnsafeBytes { stream.update($0) }
    return stream.finish()
  }
}
