// What an experiment trains: a language model on text, or a small classifier on images.
// The chain sees a network, sequences and batches, and does not know which.
import Archive
import Corpus
import Experiment
import Layers
import Models
import Probes
import StrictJSON
import TensorCore
import Training

public enum Subject {
  case language(LoadedModel)
  case classifier(ImageClassifier)

  public var network: any Network {
    switch self {
    case .language(let model): model.transformer
    case .classifier(let classifier): classifier.network
    }
  }
  public var languageModel: LoadedModel? { if case .language(let model) = self { model } else { nil } }
  /// Longest sequence the network takes; an image is a sequence of one.
  public var contextLength: Int {
    switch self {
    case .language(let model): model.configuration.contextLength
    case .classifier: 1
    }
  }

  /// Whether the passes that follow keep their blocks or compute them again; a classifier keeps its few layers.
  func prepare(for training: TrainingPlan) {
    languageModel?.transformer.recomputesBlocks = training.gradientCheckpointing
  }

  /// What people ask about the model first.
  public var facts: (path: String, architecture: String, layers: Int, vocabulary: Int, context: Int) {
    switch self {
    case .language(let model):
      let c = model.configuration
      return (model.path, c.architecture, c.layers, c.vocabularySize, c.contextLength)
    case .classifier(let classifier):
      let c = classifier.network.configuration
      return ("a new classifier", "mlp", c.hiddenSizes.count, c.classes.max() ?? 0, 1)
    }
  }

  /// Lays sequences end to end; one batch for each head that is asked.
  func batches(_ exemplars: [Exemplar], on backend: any Backend) -> [Batch] {
    guard !exemplars.isEmpty else { return [] }
    switch self {
    case .language: return [Batch(exemplars)]
    case .classifier(let classifier): return classifier.batches(exemplars, on: backend)
    }
  }

  /// What the weights mean: the configuration, and the tokenizer byte for byte.
  var configurationText: String {
    switch self {
    case .language(let model):
      let family = try? ModelCatalog.architecture(named: model.configuration.architecture)
      let configuration = family?.json(model.configuration).pretty ?? model.configuration.architecture
      return configuration + String(decoding: model.tokenizer?.json ?? [], as: UTF8.self)
    case .classifier(let classifier): return classifier.network.configuration.json.pretty
    }
  }

  /// What a checkpoint says about the model besides its weights.
  func describe(in archive: inout ArchiveWriter) throws {
    switch self {
    case .language(let model): try ModelFile.add(model, weights: nil, to: &archive)
    case .classifier(let classifier):
      archive.group("model", description: "a classifier of images; parameters and configuration")
      archive.add(
        "model/config.json", text: classifier.network.configuration.json.pretty,
        description: "sizes of the layers and classes of each head")
    }
  }
}

/// A perceptron with all images of its experiment.
///
/// In an exemplar of a classifier the input is the example's place in `places` and the target its class for its head.
/// Tasks that show the same images in other orders of pixels share their rows: ten permutations need one copy.
public final class ImageClassifier {
  /// Where an example's pixels are and who is asked about them.
  private struct Place {
    /// In `table`.
    let row: Int32
    /// In `orders`; nil: pixels as they are.
    let order: Int?
    let head: Int
  }
  public let network: MLP
  let table: Tensor
  private let places: [Place]
  /// Permutations: for each pixel where it comes from.
  let orders: [[Int]]
  let base: TextSet
  let stages: [TextSet]

  /// Reads the images of every stage and builds a network with the heads that the experiment asks for.
  init(_ description: ClassifierDescription, _ plan: ExperimentPlan, on backend: any Backend) throws {
    var pixels: [Float] = []
    var places: [Place] = []
    var orders: [[Int]] = []
    var known: [(source: ImageSource, firstRow: Int, labels: [Int])] = []
    // Of every row of the table, as its file has it; empty where no stage holds any back.
    var hashes: [UInt64] = []
    let holdsBack = plan.stages.contains { $0.validationShare != nil }
    var features = description.inputSize
    var largestClass = 0
    var classesOfStage: [Int] = []
    /// The table's rows of a source, read where it is new apart from its permutation.
    func rows(_ source: ImageSource) throws -> (first: Int, labels: [Int]) {
      var plain = source
      plain.permuteSeed = nil
      if let old = known.first(where: { $0.source == plain }) { return (old.firstRow, old.labels) }
      var images = try IdxImages.read(
        images: source.images, labels: source.labels, classes: source.classes, first: source.limit)
      if holdsBack { hashes += images.hashes }
      images = images.padded(by: source.pad ?? 0)
      if let scale = source.normalize { images = images.normalized(mean: Float(scale.mean), std: Float(scale.std)) }
      let size = images.rows * images.columns
      guard features == nil || features == size else {
        throw RunError(ExitCode.badData, "\(source.images): images of \(size) pixels, expected \(features ?? 0)")
      }
      features = size
      let first = pixels.count / size
      pixels += images.pixels
      known.append((plain, first, images.labels))
      return (first, images.labels)
    }
    func read(_ spec: DatasetSpec, stage: Int) throws -> [Example] {
      guard let source = spec.images else {
        throw RunError(
          ExitCode.configuration, "a classifier reads datasets of type idx_images, not \(spec.paths.first ?? "text")")
      }
      let (firstRow, labels) = try rows(source)
      var order: Int?
      if let seed = source.permuteSeed {
        orders.append(IdxImages.permutation(of: features ?? 0, seed: UInt64(bitPattern: Int64(seed))))
        order = orders.count - 1
      }
      let first = places.count
      let head = description.heads == .task ? stage : 0
      places += labels.indices.map { Place(row: Int32(firstRow + $0), order: order, head: head) }
      let within = description.heads != .class
      largestClass = max(largestClass, labels.max() ?? 0)
      return labels.enumerated().map { index, label in
        let target = within ? source.classes?.firstIndex(of: label) ?? label : label
        if stage >= 0 { classesOfStage[stage] = max(classesOfStage[stage], target + 1) }
        return Example(tokens: [Int32(first + index), Int32(target)], lossStart: 1, source: index)
      }
    }
    func set(_ specs: [DatasetSpec], _ validation: [DatasetSpec], share: Double?, stage: Int) throws -> TextSet {
      var examples: [Example] = []
      var weights: [Double] = []
      for spec in specs {
        let new = try read(spec, stage: stage)
        examples += new
        weights += [Double](repeating: spec.weight, count: new.count)
      }
      var held = try validation.flatMap { try read($0, stage: stage) }
      if let share {
        // The image decides, not its place or its order of pixels: tasks that show the same images hold the same back.
        let split = Holdout.split(hashes: examples.map { hashes[Int(places[Int($0.tokens[0])].row)] }, fraction: share)
        guard !split.train.isEmpty else {
          throw RunError(
            ExitCode.badData, "stage \(plan.stages[stage].name): no image is left to train on",
            hint: "lower val_set_size")
        }
        held += split.validation.map { examples[$0] }
        weights = split.train.map { weights[$0] }
        examples = split.train.map { examples[$0] }
      }
      return TextSet(
        examples: examples, weights: weights.allSatisfy { $0 == 1 } ? nil : weights, validation: held,
        report: ExampleReport())
    }
    var stages: [TextSet] = []
    for (index, stage) in plan.stages.enumerated() {
      classesOfStage.append(0)
      stages.append(try set(stage.datasets, stage.validation, share: stage.validationShare, stage: index))
    }
    base = plan.baseData.isEmpty ? .empty : try set(plan.baseData, [], share: nil, stage: -1)
    self.stages = stages
    let classes: [Int] =
      switch description.heads {
      case .task: classesOfStage
      case .domain: [classesOfStage.max() ?? 0]
      case .class: [largestClass + 1]
      }
    network = MLP(
      MLPConfiguration(inputs: features ?? 0, hiddenSizes: description.hiddenSizes, classes: classes),
      initialization: description.initialization == .xavier ? .xavier : .uniform,
      random: RandomStream(seed: plan.seed), on: backend)
    table = backend.tensor(pixels, pixels.count / max(1, features ?? 0), features ?? 0)
    self.places = places
    self.orders = orders
  }

  /// Pixels in the order in which the task sees them, head and class: what an example is, wherever its row lies.
  func contents(of example: Example, _ take: (UnsafeRawBufferPointer) -> Void) {
    let place = places[Int(example.tokens[0])]
    let pixels = UnsafeRawBufferPointer(table.buffer)
    let width = table.columns * MemoryLayout<Float>.stride
    take(UnsafeRawBufferPointer(rebasing: pixels[Int(place.row) * width..<(Int(place.row) + 1) * width]))
    // A permutation is told by where it moves the first pixels; hashing all of it for every image would double the work.
    if let order = place.order { orders[order].prefix(8).withUnsafeBytes(take) }
    withUnsafeBytes(of: (Int64(place.head), Int64(example.tokens[1])), take)
  }

  func batches(_ exemplars: [Exemplar], on backend: any Backend) -> [Batch] {
    var byHead: [Int: [Int]] = [:]
    for (index, exemplar) in exemplars.enumerated() {
      byHead[exemplar.head ?? places[Int(exemplar.inputs[0])].head, default: []].append(index)
    }
    return byHead.keys.sorted().compactMap { head in
      guard let sources = byHead[head] else { return nil }
      let pixels = features(sources.map { places[Int(exemplars[$0].inputs[0])] }, on: backend)
      var batch = Batch(features: pixels, labels: sources.map { exemplars[$0].targets[0] }, head: head)
      batch.sources = sources
      batch.objectives = Objectives(sources.map { exemplars[$0] })
      return batch
    }
  }

  /// One row of pixels for each place, in its task's order.
  private func features(_ places: [Place], on backend: any Backend) -> Tensor {
    let width = table.columns
    let features = backend.empty(places.count, width)
    guard places.contains(where: { $0.order != nil }) else {
      backend.gather(table, tokens: places.map(\.row), into: features)
      return features
    }
    let (from, to) = (table.buffer, features.buffer)
    for (index, place) in places.enumerated() {
      let (source, target) = (Int(place.row) * width, index * width)
      if let order = place.order {
        let pixels = orders[order]
        for pixel in 0..<width { to[target + pixel] = from[source + pixels[pixel]] }
      } else {
        for pixel in 0..<width { to[target + pixel] = from[source + pixel] }
      }
    }
    return features
  }

  /// The probe of a plan with its images, which must be as large as those the network is trained on.
  func probe(_ plan: ProbePlan, _ experiment: ExperimentPlan, _ heads: ClassifierDescription.Heads) throws
    -> PreparedProbe
  {
    let probe = try PreparedProbe(images: Self.definition(plan, experiment, heads))
    let inputs = network.configuration.inputs
    guard let size = probe.features, size == inputs else {
      throw RunError(
        ExitCode.badData, "probe \(plan.name): images of \(probe.features ?? 0) pixels, the stages have \(inputs)",
        hint: "give the probe the stage's pad")
    }
    return probe
  }

  /// What a probe of the plan asks: the head of its home stage.
  private static func definition(_ probe: ProbePlan, _ plan: ExperimentPlan, _ heads: ClassifierDescription.Heads)
    throws
    -> ProbeDefinition
  {
    guard let source = probe.images else {
      throw RunError(
        ExitCode.configuration, "probe \(probe.name): a classifier is asked about images, give images and labels")
    }
    var definition = Assembly.definition(probe)
    var images = ProbeDefinition.ImageSource(images: source.images, labels: source.labels)
    images.classes = source.classes
    images.permuteSeed = source.permuteSeed.map { UInt64(bitPattern: Int64($0)) }
    images.pad = source.pad ?? 0
    images.normalization = source.normalize.map { (Float($0.mean), Float($0.std)) }
    images.countsWithinClasses = heads != .class
    if heads == .task {
      guard let home = probe.home.flatMap({ home in plan.stages.firstIndex { $0.name == home } }) else {
        throw RunError(
          ExitCode.configuration, "probe \(probe.name): with heads: task a probe needs a home, whose head answers")
      }
      images.head = home
    }
    definition.kind = .classification
    definition.images = images
    return definition
  }
}
