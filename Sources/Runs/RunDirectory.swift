// The folder of a run: names, the newest whole checkpoint, what is kept.
import Archive
import Foundation
import StrictJSON

/// Where in a chain a checkpoint stands.
public struct ChainPosition: Sendable, Equatable {
  /// Stages completed, measured and consolidated; the running stage's index.
  public var stage: Int
  /// Optimizer steps taken in the running stage.
  public var step: Int
  public init(stage: Int, step: Int) {
    self.stage = stage
    self.step = step
  }
}

/// Paths of one variant's files.
public struct RunDirectory: Sendable {
  public let path: String
  public init(_ path: String) { self.path = path }

  public var ledger: String { path + "/ledger.jsonl" }
  public var plan: String { path + "/plan.yaml" }
  public var results: String { path + "/results.json" }
  public var comparison: String { path + "/comparison.json" }
  public var checkpoints: String { path + "/checkpoints" }
  /// Names the newest whole checkpoint, for people; nothing depends on it.
  public var pointer: String { checkpoints + "/LATEST" }

  public func create() throws {
    do {
      try FileManager.default.createDirectory(atPath: checkpoints, withIntermediateDirectories: true)
    } catch {
      let refused: [CocoaError.Code] = [.fileWriteNoPermission, .fileWriteVolumeReadOnly]
      let code =
        (error as? CocoaError).map { refused.contains($0.code) } == true ? ExitCode.permission : ExitCode.cannotCreate
      throw RunError(
        code, "\(checkpoints): cannot be created: \(error.localizedDescription)", hint: "choose another output_dir")
    }
    guard access(path, W_OK) == 0 else { throw RunError(ExitCode.permission, "\(path): not writable") }
  }

  /// `medical-000200.h5` within a stage, `medical-end.h5` after it, `base.h5` before the first.
  public func checkpointName(stages: [String], _ position: ChainPosition) -> String {
    if position.step == 0 {
      return position.stage == 0 ? "base.h5" : stages[position.stage - 1] + "-end.h5"
    }
    let digits = String(position.step)
    return stages[position.stage] + "-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits + ".h5"
  }

  /// Checkpoints by position, newest first, from their names alone.
  public func checkpointFiles(stages: [String]) -> [(name: String, position: ChainPosition)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints)) ?? []
    return names.compactMap { name -> (String, ChainPosition)? in
      if name == "base.h5" { return (name, ChainPosition(stage: 0, step: 0)) }
      guard name.hasSuffix(".h5"), let dash = name.lastIndex(of: "-") else { return nil }
      let (owner, tail) = (String(name[..<dash]), name[name.index(after: dash)...].dropLast(3))
      if tail == "end" {
        return stages.firstIndex(of: owner).map { (name, ChainPosition(stage: $0 + 1, step: 0)) }
      }
      guard let index = stages.firstIndex(of: owner), let step = Int(tail), step > 0 else { return nil }
      return (name, ChainPosition(stage: index, step: step))
    }.sorted { ($0.1.stage, $0.1.step) > ($1.1.stage, $1.1.step) }
  }

  /// Removes old checkpoints within stages; stage ends always stay.
  ///
  /// - Parameter limit: how many within stages are kept, the newest first
  public func prune(stages: [String], keeping limit: Int) {
    for file in checkpointFiles(stages: stages).filter({ $0.position.step > 0 }).dropFirst(max(1, limit)) {
      try? FileManager.default.removeItem(atPath: checkpoints + "/" + file.name)
    }
  }

  /// Forgets everything of a run but the folder: `--fresh`.
  public func clear() throws {
    for name in [
      "ledger.jsonl", "results.json", "comparison.json", "report.html", "report.md", "plan.yaml", "checkpoints",
    ]
    where FileManager.default.fileExists(atPath: path + "/" + name) {
      do { try FileManager.default.removeItem(atPath: path + "/" + name) } catch {
        throw RunError(ExitCode.permission, "\(path)/\(name): cannot be removed: \(error.localizedDescription)")
      }
    }
  }
}
