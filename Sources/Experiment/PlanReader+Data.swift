// Reads datasets, stages and probes, and checks that names are unique and homes exist.

extension PlanReader {
  private static let shapesNotYet = ["messages", "alpaca", "sharegpt"]

  /// The datasets under a key; nil where the key is absent. Keys that take one path also take a list.
  ///
  /// - Parameter model: what reads them; nil where that is not known
  func datasets(_ key: String, in section: Section, of model: BaseModel?, single: Bool = false) -> [DatasetSpec]? {
    guard section.has(key) else { return nil }
    if single, let tree = section.tree(key), tree.items == nil {
      return dataset(tree, section.label(key), of: model).map { [$0] } ?? []
    }
    let items = section.list(key, of: "datasets such as { path: data/train.jsonl }") ?? []
    return items.enumerated().compactMap { dataset($0.element, "\(section.label(key))[\($0.offset)]", of: model) }
  }

  private func dataset(_ tree: Tree, _ label: String, of model: BaseModel?) -> DatasetSpec? {
    guard !tree.isRefused else { return nil }
    if tree.entries == nil, tree.items == nil {
      checkKind(nil, of: model, label, at: tree.place)
      guard let files = paths.files(tree, label) else { return nil }
      return DatasetSpec(paths: files, shape: nil, weight: 1, documents: .blankLine, images: nil)
    }
    let section = Section(tree, name: label, collector: collector)
    let shape = shape(section)
    if shape != nil || !section.has("type") {
      checkKind(shape, of: model, label, at: section.tree("type")?.place ?? tree.place)
    }
    let weight = section.number("weight", .positive) ?? 1
    var spec = DatasetSpec(paths: [], shape: shape, weight: weight, documents: .blankLine, images: nil)
    if shape == .idxImages {
      // Read apart, so that the key is known where the files are missing.
      let limit = section.integer("limit", in: 1...Int.max)
      spec.images = images(section)
      spec.images?.limit = limit
    } else {
      spec.documents = documents(section)
      spec.paths = files(section)
    }
    section.finish()
    return spec
  }

  /// The rows' shape by its name, also as reports of data spell it: with `+` between the fields.
  private func shape(_ section: Section) -> DatasetSpec.Shape? {
    let names = DatasetSpec.Shape.allCases.map(\.rawValue)
    if let text = section.tree("type")?.scalar, ["prompt+completion", "text+label"].contains(text) {
      return DatasetSpec.Shape(rawValue: text.replacing("+", with: "_"))
    }
    return section.word("type", names, notYet: PlanReader.shapesNotYet).flatMap(DatasetSpec.Shape.init(rawValue:))
  }

  /// Reports images for a language model and text for a classifier: neither would be read.
  private func checkKind(_ shape: DatasetSpec.Shape?, of model: BaseModel?, _ label: String, at place: Place) {
    guard let model else { return }
    switch (model, shape) {
    case (.new(.mlp), .idxImages): break
    case (.new(.mlp), _):
      collector.report(
        "\(label): a classifier reads datasets of type idx_images only", at: place,
        hint: "write { type: idx_images, images: …, labels: … }")
    case (_, .idxImages):
      collector.report(
        "\(label): idx_images are for a classifier; base_model is a language model", at: place,
        hint: "use base_model: { architecture: mlp, … }, or give text")
    default: break
    }
  }

  private func documents(_ section: Section) -> DatasetSpec.Documents {
    section.word("documents", DatasetSpec.Documents.allCases.map(\.rawValue))
      .flatMap(DatasetSpec.Documents.init(rawValue:)) ?? .blankLine
  }

  /// A path, a pattern, or a list of them.
  private func files(_ section: Section) -> [String] {
    guard section.require("path"), let tree = section.tree("path") else { return [] }
    guard let items = tree.items else { return paths.files(tree, section.label("path")) ?? [] }
    if items.isEmpty { section.report("path", "expected at least one path") }
    return items.flatMap { paths.files($0, section.label("path")) ?? [] }
  }

  private func images(_ section: Section) -> ImageSource? {
    func file(_ key: String) -> String? {
      guard section.require(key), let tree = section.tree(key) else { return nil }
      return paths.existing(tree, section.label(key))
    }
    let (images, labels) = (file("images"), file("labels"))
    let classes = section.integers("classes", in: 0...65_535)
    if let classes, Set(classes).count != classes.count || section.tree("classes")?.items?.isEmpty == true {
      section.report("classes", classes.isEmpty ? "expected at least one class" : "a class is listed twice")
    }
    let seed = section.integer("permute_seed", in: 0...Int.max)
    // Images of 65 535 pixels a side are beyond any data set; the bound keeps their area far from overflowing.
    let pad = section.integer("pad", in: 0...32_767)
    let scale = section.section("normalize").flatMap { normalization($0) }
    guard let images, let labels else { return nil }
    return ImageSource(
      images: images, labels: labels, classes: classes, permuteSeed: seed, pad: pad, normalize: scale)
  }

  private func normalization(_ section: Section) -> ImageSource.Normalization? {
    let mean = section.require("mean") ? section.number("mean", .any) : nil
    let std = section.require("std") ? section.number("std", .positive) : nil
    section.finish()
    guard let mean, let std else { return nil }
    return ImageSource.Normalization(mean: mean, std: std)
  }

  func stages(_ top: Section, training: TrainingPlan, of model: BaseModel?) -> [StagePlan] {
    guard top.require("stages"), let items = top.list("stages", of: "stages") else { return [] }
    if items.isEmpty { top.report("stages", "expected at least one stage") }
    var result: [StagePlan] = []
    for (index, item) in items.enumerated() where !item.isRefused {
      let section = Section(item, name: "stages[\(index)]", collector: collector)
      let name = name("name", in: section)
      if let name, result.contains(where: { same($0.name, name) }) {
        section.report("name", "another stage is called \(quoted(name)) already")
      }
      if let name, same(name, "base") {
        section.report("name", "'base' names the model before the first stage", hint: "choose another name")
      }
      let data = section.require("datasets") ? datasets("datasets", in: section, of: model) ?? [] : []
      if section.tree("datasets")?.items?.isEmpty == true {
        section.report("datasets", "expected at least one dataset")
      }
      let validation = datasets("val", in: section, of: model, single: true)
      if section.tree("val")?.items?.isEmpty == true {
        section.report("val", "expected at least one dataset", hint: "remove the key for none")
      }
      let share = section.share("val_set_size", .insideUnit)
      if section.has("val"), let entry = section.entry("val_set_size") {
        collector.report(
          "\(section.name): val and val_set_size exclude one another", at: entry.keyPlace,
          hint: "keep one of them")
      }
      let own = section.section("training")
      let resolved = self.training(own, over: training)
      if resolved.earlyStoppingPatience > 0, !section.has("val"), !section.has("val_set_size") {
        let place = own?.entry("early_stopping_patience")?.value.place ?? section.place
        collector.report(
          "\(section.name): early_stopping_patience needs validation data", at: place,
          hint: "give val or val_set_size")
      }
      result.append(
        StagePlan(
          name: name ?? "", datasets: data, validation: validation ?? [], validationShare: share,
          training: resolved, methods: methods("methods", in: section)))
      section.finish()
    }
    return result
  }

  func probes(_ top: Section, stages: [StagePlan]) -> [ProbePlan] {
    guard let items = top.list("probes", of: "probes") else { return [] }
    var result: [ProbePlan] = []
    for (index, item) in items.enumerated() where !item.isRefused {
      let section = Section(item, name: "probes[\(index)]", collector: collector)
      let probe = probe(section, stages: stages)
      if !probe.name.isEmpty, result.contains(where: { same($0.name, probe.name) }) {
        section.report("name", "another probe is called \(quoted(probe.name)) already")
      }
      section.finish()
      result.append(probe)
    }
    return result
  }

  private func probe(_ section: Section, stages: [StagePlan]) -> ProbePlan {
    let name = name("name", in: section)
    let kind = section.word("type", ProbePlan.Kind.allCases.map(\.rawValue)).flatMap(
      ProbePlan.Kind.init(rawValue:))
    var probe = ProbePlan(
      name: name ?? "", paths: [], images: nil, kind: kind, metrics: nil, home: nil, fewshotCount: 0,
      fewshotPath: nil, prompt: nil, limit: section.integer("limit", in: 1...Int.max), documents: .blankLine)
    if kind == .classification, section.has("images") || !section.has("path") {
      probe.images = images(section)
    } else {
      probe.paths = files(section)
      probe.documents = documents(section)
    }
    let known = kind.map { ProbePlan.metrics(of: $0) } ?? ["bits_per_byte", "perplexity", "acc", "acc_norm"]
    probe.metrics = section.words("metrics", known)
    if section.tree("metrics")?.items?.isEmpty == true {
      section.report("metrics", "expected at least one metric", hint: "remove the key for the defaults")
    }
    if let home = section.text("home") {
      if !stages.contains(where: { same($0.name, home) }) {
        section.report(
          "home", "there is no stage \(quoted(home))",
          hint: Suggestions.hint(for: home, among: stages.map(\.name)))
      }
      probe.home = home
    }
    fewshot(section, &probe)
    return probe
  }

  private func fewshot(_ section: Section, _ probe: inout ProbePlan) {
    guard probe.kind == nil || probe.kind == .multipleChoice else {
      for key in ["prompt", "num_fewshot", "fewshot_path"] where section.has(key) {
        section.report(
          key, "applies to type: multiple_choice only", hint: "remove the key, or change the type")
      }
      return
    }
    probe.prompt = section.text("prompt")
    probe.fewshotCount = section.integer("num_fewshot", in: 0...1000) ?? 0
    let path = section.tree("fewshot_path").flatMap { paths.existing($0, section.label("fewshot_path")) }
    probe.fewshotPath = path
    if probe.fewshotCount > 0, !section.has("fewshot_path") {
      section.report(
        "num_fewshot", "needs fewshot_path", hint: "examples must come from another file than the probe")
    }
    if probe.fewshotCount == 0, section.has("fewshot_path") {
      section.report(
        "fewshot_path", "has no effect without num_fewshot", hint: "give num_fewshot, or remove the path")
    }
    if let path, probe.paths.contains(path) {
      section.report(
        "fewshot_path", "is the probe itself", hint: "examples from the probe would give its answers away")
    }
  }
}
