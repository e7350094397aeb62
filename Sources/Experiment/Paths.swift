// Resolves the paths of an experiment: environment variables, relative paths, globs, missing files.
// Only inputs are looked at, and only by name and kind; nothing is opened.
import Foundation

/// What paths are resolved against.
public struct PathContext: Sendable {
  /// Absolute; relative paths of the file start here.
  public var directory: String
  /// Absolute; relative paths of command-line overrides start here.
  public var workingDirectory: String
  public var environment: [String: String]
  /// False where a plan is only read back and its inputs may be gone.
  public var checksFiles: Bool

  public init(
    directory: String, workingDirectory: String = FileManager.default.currentDirectoryPath,
    environment: [String: String] = ProcessInfo.processInfo.environment, checksFiles: Bool = true
  ) {
    self.directory = directory
    self.workingDirectory = workingDirectory
    self.environment = environment
    self.checksFiles = checksFiles
  }
}

enum PathKind { case file, folder, other, missing }

enum Paths {
  static func kind(_ path: String) -> PathKind {
    var status = stat()
    guard stat(path, &status) == 0 else { return .missing }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    default: return .other
    }
  }

  static func absolute(_ path: String, from directory: String) -> String {
    let joined = path.hasPrefix("/") ? path : directory + "/" + path
    let parts = joined.split(separator: "/").filter { $0 != "." }
    let raw = "/" + parts.joined(separator: "/")
    guard parts.contains("..") else { return raw }
    var stack: [Substring] = []
    for part in parts {
      if part == ".." { _ = stack.popLast() } else { stack.append(part) }
    }
    let short = "/" + stack.joined(separator: "/")
    // Behind a symbolic link `..` means another folder; then the long form is the right one.
    let (rawParent, shortParent) = (realParent(raw), realParent(short))
    return rawParent == nil || rawParent == shortParent ? short : raw
  }

  static func parent(_ path: String) -> String { (path as NSString).deletingLastPathComponent }

  private static func realParent(_ path: String) -> String? {
    guard let pointer = realpath(parent(path), nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }

  static func hasPattern(_ path: String) -> Bool { path.contains { "*?[".contains($0) } }

  /// Regular files that match the pattern, sorted by bytes; the directory before it is taken literally.
  static func expand(_ pattern: String, in directory: String) -> [String] {
    var escaped = ""
    for character in pattern.hasPrefix("/") ? "" : directory + "/" {
      if "*?[]\\".contains(character) { escaped.append("\\") }
      escaped.append(character)
    }
    var found = glob_t()
    defer { globfree(&found) }
    guard glob(escaped + pattern, 0, nil, &found) == 0 else { return [] }
    return (0..<Int(found.gl_pathc)).compactMap { index in
      found.gl_pathv[index].flatMap { String(validatingCString: $0) }
    }
    .filter { kind($0) == .file }
    .map { absolute($0, from: "/") }
    .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}

/// What lies near a path that does not exist.
enum Neighbours {
  /// A note such as `data/ contains medical.jsonl`, or which folder is missing; nil where nothing helps.
  static func note(missing path: String, shown: String? = nil) -> String? {
    let parent = Paths.parent(path)
    let name = (path as NSString).lastPathComponent
    let folder = (shown.map { Paths.parent($0) } ?? parent)
    let label = folder.isEmpty ? "the folder" : folder.hasSuffix("/") ? folder : folder + "/"
    guard Paths.kind(parent.isEmpty ? "." : parent) == .folder else {
      return folder.isEmpty ? nil : "there is no folder \(quoted(folder))"
    }
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: parent.isEmpty ? "." : parent)
    else { return nil }
    let candidates = names.sorted().prefix(2000)
    if let near = Suggestions.nearest(to: name, among: Array(candidates)) {
      return "\(label) contains \(near)"
    }
    let stem = name.prefix { $0 != "." }
    let alike = candidates.filter { !stem.isEmpty && $0.hasPrefix(stem) }.prefix(3)
    return alike.isEmpty ? nil : "\(label) contains \(alike.joined(separator: ", "))"
  }
}
