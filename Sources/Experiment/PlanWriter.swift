// plan.yaml, and the comparison of two plans that decides whether a run may be continued.
// Both work on the outline of the plan, so what is written is exactly what is compared.

extension ExperimentPlan {
  /// The plan as an experiment file: every default filled in, paths absolute, the order fixed.
  ///
  /// Read again, it gives the equal plan. `notes` become comment lines at the top, one each.
  public func yaml(notes: [String] = []) -> String {
    let lines = (["the resolved plan of a run; every default is filled in"] + notes)
      .map { "# " + $0.map { $0.isNewline ? " " : $0 } }
    return lines.joined(separator: "\n") + "\n" + YAMLText.write(outline)
  }

  /// Keys that may change when a run is continued: they decide where and how fast, not what.
  static let resumableKeys = ["plan", "output_dir", "threads", "time_limit", "logging", "checkpoint", "tune"]

  /// The keys that differ from another plan and may not change on resume, each as `key: there became here`.
  ///
  /// Everything counts except threads, time_limit, logging, checkpoint.save_*, gradient_checkpointing,
  /// output_dir, the origin of the plan and the search of `tune`, which is no part of a run.
  public func resumeCompatibilityDifferences(_ other: ExperimentPlan) -> [String] {
    guard case .map(let mine) = outline, case .map(let theirs) = other.outline else { return [] }
    func kept(_ pairs: [(key: String, value: Outline)]) -> Outline {
      .map(pairs.filter { !ExperimentPlan.resumableKeys.contains($0.key) })
    }
    // What is kept in memory changes no number.
    func deciding(_ pairs: [(key: String, value: Outline)]) -> [(String, String)] {
      leaves(kept(pairs), path: "").filter { !$0.0.hasSuffix("training.gradient_checkpointing") }
    }
    let (here, there) = (deciding(mine), deciding(theirs))
    let hereByKey = Dictionary(here, uniquingKeysWith: { first, _ in first })
    let thereByKey = Dictionary(there, uniquingKeysWith: { first, _ in first })
    var result: [String] = []
    for (key, value) in there where hereByKey[key] != value {
      result.append("\(key): \(value) became \(hereByKey[key] ?? "absent")")
    }
    for (key, value) in here where thereByKey[key] == nil { result.append("\(key): absent became \(value)") }
    return result
  }

  /// Dotted keys with rendered values; entries of lists go by their name where they have one.
  private func leaves(_ outline: Outline, path: String) -> [(String, String)] {
    func join(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
    switch outline {
    case .scalar(let text): return [(path, text)]
    case .map(let pairs):
      return pairs.isEmpty ? [(path, "{}")] : pairs.flatMap { leaves($0.value, path: join($0.key)) }
    case .list(let items):
      if items.isEmpty { return [(path, "[]")] }
      var result: [(String, String)] = []
      var order: [String] = []
      for (index, item) in items.enumerated() {
        if case .map(let pairs) = item, let first = pairs.first {
          if first.key == "name", case .scalar(let name) = first.value {
            order.append(name)
            result += leaves(.map(Array(pairs.dropFirst())), path: join(name))
            continue
          }
          if pairs.count == 1 {
            order.append(first.key)
            result += leaves(item, path: path)
            continue
          }
        }
        result += leaves(item, path: join(String(index)))
      }
      // The order of stages, probes and methods matters too.
      return order.isEmpty ? result : [(path, order.joined(separator: ", "))] + result
    }
  }
}
