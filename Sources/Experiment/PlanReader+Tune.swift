// Reads `tune`, tries its keys as overrides, and makes the checks that look at several parts of the plan.

extension PlanReader {
  func tune(_ top: Section, stages: [StagePlan], root: Tree) -> TunePlan? {
    guard let section = top.section("tune") else { return nil }
    var plan = TunePlan(stage: stages.first?.name ?? "", search: [])
    if let stage = section.text("stage") {
      if !stages.contains(where: { same($0.name, stage) }) {
        section.report(
          "stage", "there is no stage \(quoted(stage))",
          hint: Suggestions.hint(for: stage, among: stages.map(\.name)))
      }
      plan.stage = stage
    }
    if section.require("search", hint: "for example { methods.ewc.lambda: { log_uniform: [1e-3, 1e3] } }"),
      let tree = section.tree("search")
    {
      if let entries = tree.entries {
        if entries.isEmpty { section.report("search", "expected at least one key") }
        plan.search = entries.compactMap { dimension($0, root: root) }
      } else {
        section.mismatch("search", tree, expected: "a mapping from keys to ranges")
      }
    }
    if let word = section.word("sampler", ["halving", "grid", "random"], notYet: ["tpe"]) {
      plan.sampler = .init(rawValue: word) ?? plan.sampler
    }
    plan.trials = section.integer("trials", in: 1...10_000) ?? plan.trials
    if let text = section.text("pick") { plan.pick = pick(text, section) ?? plan.pick }
    section.finish()
    return plan
  }

  private func pick(_ text: String, _ section: Section) -> TunePlan.Pick? {
    let prefix = "best_plasticity_at_retention>="
    if text == "knee" { return .knee }
    if text.hasPrefix(prefix), let share = Scalars.share(String(text.dropFirst(prefix.count))), share > 0 {
      return .bestPlasticity(retentionAtLeast: share)
    }
    section.report("pick", "unknown value \(quoted(text))", hint: "use knee or \(prefix)0.97")
    return nil
  }

  private func dimension(_ entry: Tree.Entry, root: Tree) -> TunePlan.Dimension? {
    guard !entry.value.isRefused else { return nil }
    let section = Section(entry.value, name: "tune.search.\(entry.key)", collector: collector)
    let kinds = ["log_uniform", "uniform", "values"]
    let given = kinds.filter { section.has($0) }
    section.finish()
    guard given.count == 1, let kind = given.first else {
      collector.report(
        "\(section.name): expected one of \(kinds.joined(separator: ", "))", at: entry.value.place,
        hint: "for example { log_uniform: [1e-3, 1e3] }")
      return nil
    }
    guard let items = section.list(kind, of: "numbers") else { return nil }
    let numbers = items.compactMap { item -> Double? in
      if case .scalar(let text, true) = item.content, let value = Scalars.share(text) { return value }
      section.mismatch(kind, item, expected: "a number")
      return nil
    }
    guard numbers.count == items.count, let low = numbers.first, let high = numbers.last else {
      if items.isEmpty { section.report(kind, "expected numbers") }
      return nil
    }
    let range: TunePlan.Range
    if kind == "values" {
      range = .values(numbers)
    } else if numbers.count == 2, low < high, kind == "uniform" || low > 0 {
      range = kind == "uniform" ? .uniform(low, high) : .logUniform(low, high)
    } else {
      section.report(kind, "expected [low, high] with \(kind == "uniform" ? "" : "0 < ")low < high")
      return nil
    }
    for value in Set(numbers).sorted() where !accepts(entry, value, root: root) { return nil }
    return TunePlan.Dimension(key: entry.key, range: range)
  }

  /// Tries the key as an override: it must address something, and the value must be in its range.
  private func accepts(_ entry: Tree.Entry, _ value: Double, root: Tree) -> Bool {
    let text = Int(exactly: value).map(String.init) ?? "\(value)"
    let argument = "\(entry.key)=\(text)"
    let scratch = Collector(path: collector.path, lines: collector.lines, arguments: [argument])
    // Without `tune`, or the trial would read itself; a list of overrides of its own for the places.
    var tree = Tree(content: .map((root.entries ?? []).filter { !same($0.key, "tune") }), place: root.place)
    Overrides(collector: scratch).apply([argument], to: &tree)
    var context = paths.context
    context.checksFiles = false
    let reader = PlanReader(
      collector: scratch, paths: PathReader(context: context, collector: scratch), file: file, arguments: [])
    _ = reader.plan(tree)
    guard let issue = scratch.errors.first(where: { $0.path != collector.path }) else { return true }
    collector.report("tune.search: \(issue.message)", at: entry.keyPlace, hint: issue.hint)
    return false
  }

  /// Combinations that no single key shows to be impossible, and remarks on what is done instead.
  func crossCheck(_ plan: ExperimentPlan, _ top: Section) {
    let stacks = [plan.methods] + plan.compare.map(\.methods) + plan.stages.compactMap(\.methods)
    let used = stacks.flatMap { $0 }
    let place = top.entry("methods")?.value.place ?? top.place
    if used.contains(where: { $0.name == "ewc" && $0.string("lambda") == "posterior" }),
      plan.baseTokens == nil,
      !plan.baseModel.isNew
    {
      collector.report(
        "lambda: posterior needs base_tokens", at: posteriorPlace(top) ?? place,
        hint: "say how many tokens the base model stands for, for example base_tokens: 4_000_000")
    }
    if plan.evaluate.evalSteps == 0, plan.stages.contains(where: { $0.training.earlyStoppingPatience > 0 }) {
      top.section("evaluate")?.report(
        "eval_steps", "early_stopping_patience needs checks within the stage", hint: "give a number above 0")
    }
    if case .new(.mlp) = plan.baseModel,
      ([plan.training] + plan.stages.map(\.training)).contains(where: \.gradientCheckpointing)
    {
      collector.report(
        "gradient_checkpointing has no effect on a classifier",
        at: top.entry("training")?.value["gradient_checkpointing"]?.place ?? top.place, hint: "remove the key")
    }
    checkAdapters(plan, top)
    if case .new(.mlp) = plan.baseModel, used.contains(where: { $0.name == "self_rehearsal" }) {
      collector.report("self_rehearsal needs a model that writes text, not a classifier", at: place, hint: "remove it")
    }
    checkPrompts(used, at: place)
    guard plan.baseData.isEmpty, !plan.baseModel.isNew else { return }
    let warned = top.entry("methods")?.keyPlace ?? top.place
    if plan.methods.contains(where: { $0.name == "replay" }) {
      collector.report("replay starts empty: there is no base_data", at: warned, severity: .warning)
    }
    if plan.methods.contains(where: { $0.name == "ewc" }) {
      collector.report(
        "without base_data the Fisher of the base uses sequences sampled from the model", at: warned,
        severity: .warning)
    }
  }

  private func posteriorPlace(_ top: Section) -> Place? {
    var stacks = [top.entry("methods")?.value]
    stacks += top.entry("compare")?.value.entries?.map(\.value) ?? []
    stacks += top.entry("stages")?.value.items?.map { $0["methods"] } ?? []
    for method in stacks.compactMap({ $0?.items }).joined() {
      if let lambda = method["ewc"]?["lambda"], lambda.scalar == "posterior" { return lambda.place }
    }
    return nil
  }
}
