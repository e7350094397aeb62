// Where trials lie: one folder each under `trials`, found again by the plan inside it.
// A trial whose plan lies there already is never run twice, whatever search asks for it.
import Experiment
import Foundation
import Ledger
import Runs

/// The folders of a search's trials.
struct TrialFolders {
  let root: String
  private var byPlan: [[UInt8]: String] = [:]
  private var names: Set<String> = []

  /// Reads the plans of the trials that are there; folders without a readable one are left alone.
  init(_ root: String) {
    self.root = root
    for name in ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).sorted() {
      names.insert(name)
      guard let plan = try? ExperimentPlan.load("\(root)/\(name)/plan.yaml", checkingFiles: false) else {
        continue
      }
      let fingerprint = plan.trialFingerprint
      if byPlan[fingerprint] == nil { byPlan[fingerprint] = name }
    }
  }

  /// The folder of a trial's plan, made where there is none yet.
  ///
  /// - Parameter label: the name wanted; nil for the next number
  /// - Returns: the plan with its `outputDirectory` set
  mutating func place(_ plan: ExperimentPlan, label: String?) throws -> ExperimentPlan {
    var plan = plan
    let fingerprint = plan.trialFingerprint
    let name = byPlan[fingerprint] ?? free(label)
    plan.outputDirectory = "\(root)/\(name)"
    if byPlan[fingerprint] == nil {
      try RunDirectory(plan.outputDirectory).create()
      try TextFile.replace(plan.outputDirectory + "/plan.yaml", with: plan.yaml())
      byPlan[fingerprint] = name
      names.insert(name)
    }
    return plan
  }

  private func free(_ label: String?) -> String {
    var number = 1
    func name() -> String {
      if let label { return number == 1 ? label : "\(label)-\(number)" }
      return String(format: "%02d", number)
    }
    while names.contains(name()) { number += 1 }
    return name()
  }
}
