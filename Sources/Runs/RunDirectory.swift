// The folder of a run: names, the newest whole checkpoint, what is kept.
import Archive
import Foundation
import Ledger
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

  /// Whether a chain here has come as far as a checkpoint or its end.
  func hasBegun(stages: [String]) throws -> Bool {
    if try !checkpointFiles(stages: stages).isEmpty { return true }
    guard let status = try? RunResults.read(results).status else { return false }
    return status != .interrupted
  }

  /// Bytes of all checkpoints here.
  var checkpointBytes: Int {
    ((try? checkpointNames()) ?? []).reduce(0) { sum, name in
      let attributes = try? FileManager.default.attributesOfItem(atPath: checkpoints + "/" + name)
      return sum + (attributes?[.size] as? Int ?? 0)
    }
  }

  /// Names in the folder of checkpoints; none where there is no such folder.
  ///
  /// - Throws: `RunError` (74, 77) where it cannot be read, which must not look like a run that has not begun
  private func checkpointNames() throws -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: checkpoints) } catch {
      guard FileManager.default.fileExists(atPath: checkpoints) else { return [] }
      let isRefused = (error as? CocoaError)?.code == .fileReadNoPermission
      throw RunError(
        isRefused ? ExitCode.permission : ExitCode.inputOutput,
        "\(checkpoints): cannot be read: \(error.localizedDescription)")
    }
  }

  /// Whether damaged checkpoints were set aside here.
  func holdsDamaged() throws -> Bool { try checkpointNames().contains { $0.contains(".h5" + Self.damagedMark) } }
  /// What follows the name of a damaged checkpoint, before the time.
  static let damagedMark = ".corrupt-"

  /// Checkpoints by position, newest first, from their names alone.
  public func checkpointFiles(stages: [String]) throws -> [(name: String, position: ChainPosition)] {
    try checkpointNames().compactMap { name -> (String, ChainPosition)? in
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
    let files = (try? checkpointFiles(stages: stages)) ?? []
    for file in files.filter({ $0.position.step > 0 }).dropFirst(max(1, limit)) {
      try? FileManager.default.removeItem(atPath: checkpoints + "/" + file.name)
    }
  }

  /// Forgets everything of a run but the folder: `--fresh`.
  ///
  /// The plan goes last: as long as anything else is there, it says of which run.
  public func clear() throws {
    for name in [
      "ledger.jsonl", "results.json", "comparison.json", "report.html", "report.md", "checkpoints", "plan.yaml",
    ]
    where FileManager.default.fileExists(atPath: path + "/" + name) {
      do { try FileManager.default.removeItem(atPath: path + "/" + name) } catch {
        throw RunError(ExitCode.permission, "\(path)/\(name): cannot be removed: \(error.localizedDescription)")
      }
    }
  }
}
