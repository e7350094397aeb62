// Finds the optional folder of real models, tokenizers and corpora beside a checkout.
// Tests that use it are skipped where it is absent; small fixtures of our own cover the same code.
import Foundation

public enum SharedData {
  /// `RETAIN_SHARED`, or `shared` beside the checkout's root; nil where neither exists.
  public static let root: URL? = {
    let manager = FileManager.default
    if let path = ProcessInfo.processInfo.environment["RETAIN_SHARED"], manager.fileExists(atPath: path) {
      return URL(fileURLWithPath: path)
    }
    let checkout = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let beside = checkout.deletingLastPathComponent().appendingPathComponent("shared")
    return manager.fileExists(atPath: beside.path) ? beside : nil
  }()
  public static var isPresent: Bool { root != nil }
  /// The path of an item below the shared folder, or nil where the folder or the item is absent.
  public static func path(_ relative: String) -> String? {
    guard let path = root?.appendingPathComponent(relative).path,
      FileManager.default.fileExists(atPath: path)
    else { return nil }
    return path
  }
}

public enum Fixtures {
  /// The folder `Tests/Fixtures` of this checkout.
  public static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures")
  public static func path(_ relative: String) -> String { root.appendingPathComponent(relative).path }
}

/// A directory that exists for the duration of a closure.
public func withTemporaryDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
  let url = FileManager.default.temporaryDirectory.appendingPathComponent("retain-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: url) }
  return try body(url.path)
}
