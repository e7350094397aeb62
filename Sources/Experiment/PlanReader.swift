// Reads the whole plan from the tree: the top of the file here, each part in a file of its own beside it.
// Reading never stops at a mistake; what is wrong keeps its default and the remark decides the outcome.

struct PlanReader {
  let collector: Collector
  let paths: PathReader
  let file: String
  let arguments: [String]

  static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      } && text != "." && text != ".."
  }

  /// The name under a key; a name becomes part of file names, so it has few characters.
  func name(_ key: String, in section: Section) -> String? {
    guard section.require(key), let text = section.text(key) else { return nil }
    guard PlanReader.isName(text) else {
      section.report(key, "\(quoted(text)) is no name", hint: "use 1 to 64 of A-Z a-z 0-9 . _ -")
      return nil
    }
    return text
  }

  /// The plan, or nil after reports.
  func plan(_ root: Tree) -> ExperimentPlan? {
    guard let entries = root.entries else {
      if !root.isRefused {
        collector.report(
          "an experiment is a mapping of keys, found \(root.isNull ? "an empty file" : root.kindName)",
          at: root.place, hint: "'retain init FILE' writes one to start from")
      }
      return nil
    }
    let top = Section(entries, name: "", place: root.place, collector: collector)
    if let schema = top.integer("schema", in: 0...Int.max), schema != 1 {
      top.report("schema", "schema \(schema) is unknown", hint: "this version reads schema: 1")
    }
    let provenance = provenance(top)
    let name = name("name", in: top)
    let outputDirectory = top.tree("output_dir").flatMap { paths.absolute($0, "output_dir") }
    let baseModel = baseModel(top)
    let baseData = datasets("base_data", in: top, of: baseModel) ?? []
    let baseTokens = top.integer("base_tokens", in: 1...Int.max)
    let threads = top.integer("threads", in: 1...1024)
    let timeLimit = top.duration("time_limit")
    let seeds = seeds(top)
    // Results hold seeds as signed numbers.
    let seed = top.integer("seed", in: 0...Int.max).map { UInt64($0) } ?? seeds.first ?? 17
    let training = training(top.section("training"), over: TrainingPlan())
    let methods = methods("methods", in: top) ?? []
    let compare = compare(top, main: methods)
    let stages = stages(top, training: training, of: baseModel)
    let probes = probes(top, stages: stages)
    let plan = ExperimentPlan(
      name: name ?? "", file: provenance?.file ?? file,
      directory: provenance.map { Paths.parent($0.file) } ?? paths.context.directory,
      overrides: (provenance?.overrides ?? []) + arguments,
      outputDirectory: outputDirectory
        ?? Paths.absolute("runs/" + (name ?? ""), from: paths.context.directory),
      baseModel: baseModel ?? .folder(""), baseData: baseData, baseTokens: baseTokens, threads: threads,
      timeLimitSeconds: timeLimit, seed: seed, seeds: seeds.count > 1 ? seeds : [seed], training: training,
      methods: methods, compare: compare,
      stages: stages, probes: probes, evaluate: evaluate(top), dataChecks: dataChecks(top),
      checkpoint: checkpoint(top), logging: logging(top), tune: tune(top, stages: stages, root: root))
    notYet(top)
    crossCheck(plan, top)
    top.finish()
    return collector.hasErrors ? nil : plan
  }

  private func seeds(_ top: Section) -> [UInt64] {
    guard let entry = top.entry("seeds") else { return [] }
    if let other = top.entry("seed") {
      collector.report("seed and seeds exclude one another", at: other.keyPlace, hint: "keep one of them")
    }
    let seeds = (top.integers("seeds", in: 0...Int.max) ?? []).map { UInt64($0) }
    if top.tree("seeds")?.items?.isEmpty == true {
      collector.report("seeds: expected at least one seed", at: entry.keyPlace)
    } else if Set(seeds).count != seeds.count {
      collector.report("seeds: a seed is listed twice", at: entry.keyPlace)
    }
    return seeds
  }

  /// Where a plan.yaml came from, so that the plan read back equals the plan written.
  private func provenance(_ top: Section) -> (file: String, overrides: [String])? {
    guard let section = top.section("plan") else { return nil }
    let file = section.require("file") ? section.text("file") : nil
    let overrides = section.texts("overrides") ?? []
    section.finish()
    return file.map { ($0, overrides) }
  }

  /// Keys that are planned and not there yet: refused rather than ignored.
  private func notYet(_ top: Section) {
    for key in ["gates", "samples"] {
      guard let first = top.list(key, of: "entries")?.first else { continue }
      collector.report("\(key): not yet supported", at: first.place, hint: "remove the entries of \(key)")
    }
  }

  private func evaluate(_ top: Section) -> EvaluatePlan {
    var plan = EvaluatePlan()
    guard let section = top.section("evaluate") else { return plan }
    if let words = section.words("at", ["base", "stage_end"]) {
      plan.at = words.compactMap(EvaluatePlan.Moment.init(rawValue:))
    }
    plan.evalSteps = section.integer("eval_steps", in: 0...Int.max) ?? plan.evalSteps
    plan.watchItems = section.integer("watch_items", in: 1...1_000_000) ?? plan.watchItems
    plan.confidence = section.share("confidence", .insideUnit) ?? plan.confidence
    plan.bootstrap = section.integer("bootstrap", in: 1...1_000_000) ?? plan.bootstrap
    plan.window = section.integer("window", in: 2...1_048_576)
    section.finish()
    return plan
  }

  private func dataChecks(_ top: Section) -> DataChecksPlan {
    var plan = DataChecksPlan()
    guard let section = top.section("data_checks") else { return plan }
    if let word = section.word("exact_duplicates", ["drop", "warn", "off"]) {
      plan.exactDuplicates = .init(rawValue: word) ?? plan.exactDuplicates
    }
    _ = section.word("near_duplicates", ["off"], notYet: ["warn", "drop"])
    if let overlap = section.section("probe_overlap") {
      plan.probeOverlap.ngram = overlap.integer("ngram", in: 1...1000) ?? plan.probeOverlap.ngram
      plan.probeOverlap.documentShare =
        overlap.share("document_share", .positiveUnit) ?? plan.probeOverlap.documentShare
      plan.probeOverlap.maxDocuments = overlap.share("max_documents", .unit) ?? plan.probeOverlap.maxDocuments
      if let word = overlap.word("action", ["error", "warn", "off"]) {
        plan.probeOverlap.action = .init(rawValue: word) ?? plan.probeOverlap.action
      }
      overlap.finish()
    }
    section.finish()
    return plan
  }

  private func checkpoint(_ top: Section) -> CheckpointPlan {
    var plan = CheckpointPlan()
    guard let section = top.section("checkpoint") else { return plan }
    plan.saveSteps = section.integer("save_steps", in: 0...Int.max) ?? plan.saveSteps
    plan.saveTotalLimit = section.integer("save_total_limit", in: 1...1_000_000) ?? plan.saveTotalLimit
    section.finish()
    return plan
  }

  private func logging(_ top: Section) -> LoggingPlan {
    var plan = LoggingPlan()
    guard let section = top.section("logging") else { return plan }
    plan.loggingSteps = section.integer("logging_steps", in: 1...Int.max) ?? plan.loggingSteps
    if let words = section.words("report_to", ["jsonl"], notYet: ["tensorboard"]), words.isEmpty,
      section.tree("report_to")?.items?.isEmpty == true
    {
      section.report("report_to", "the ledger is always written", hint: "write [jsonl], or remove the key")
    }
    section.finish()
    return plan
  }
}
