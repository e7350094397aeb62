// What an adapter cannot be combined with, found at the key that has to change.

extension PlanReader {
  func checkAdapters(_ plan: ExperimentPlan, _ top: Section) {
    let items = (top.tree("stages")?.items ?? []).filter { !$0.isRefused }
    guard items.count == plan.stages.count else { return }
    let shared = top.entry("training")?.value
    var before = TrainingPlan.Adapter.none
    for (stage, item) in zip(plan.stages, items) {
      let isAdapted = stage.training.adapter == .lora
      if stage.training.keepsOptimizerState, isAdapted || before == .lora {
        collector.report(
          "optimizer_state: keep has no effect beside adapter: lora, whose every stage begins with new moments",
          at: (item["training"]?["optimizer_state"] ?? shared?["optimizer_state"])?.place ?? item.place,
          hint: "write optimizer_state: reset in stages with an adapter and after them")
      }
      before = stage.training.adapter
      guard isAdapted else { continue }
      refuse(stage.methods ?? plan.methods, in: stage.methods == nil ? top.entry("methods")?.value : item["methods"])
      for variant in plan.compare {
        refuse(variant.methods, in: top.entry("compare")?.value[variant.name])
      }
    }
  }

  /// Reports the methods of a stack that cannot act through factors.
  private func refuse(_ stack: [MethodPlan], in tree: Tree?) {
    for method in stack {
      guard let reason = method.type?.reasonAgainstAdapters(method.methodOptions),
        let item = tree?.items?.first(where: { $0.scalar == method.name || $0[method.name] != nil })
      else { continue }
      let structure = item["ewc"]?["fisher"]?["structure"]
      let entry = item.entries?.first { same($0.key, method.name) }
      collector.report(
        "\(method.name) \(reason) and cannot be combined with adapter: lora",
        at: structure?.place ?? entry?.keyPlace ?? item.place,
        hint: method.name == "ewc" ? "use form: coupled" : "use another method, or adapter: none")
    }
  }
}
