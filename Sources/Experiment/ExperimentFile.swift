// The way in: an experiment file and overrides become a plan, or one error with everything that is wrong.
// The text and the warnings are kept beside the plan for those who show or rewrite them.
import Foundation

/// A plan with the text it was read from.
public struct ExperimentFile: Sendable {
  public let plan: ExperimentPlan
  /// Remarks that do not stop the run.
  public let warnings: [Issue]
  public let text: String
  /// The file as messages name it.
  let name: String
  let overrides: [String]
  let context: PathContext

  /// Reads an experiment file or a plan.yaml.
  ///
  /// - Parameters:
  ///   - path: as the user named it; messages repeat it.
  ///   - overrides: `key=value` arguments; their paths are relative to the working directory.
  ///   - checkingFiles: false to read a plan back whose inputs may be gone.
  /// - Throws: `ExperimentError` with every mistake.
  public static func read(
    _ path: String, overrides: [String] = [], checkingFiles: Bool = true,
    environment: [String: String] = ProcessInfo.processInfo.environment,
    workingDirectory: String = FileManager.default.currentDirectoryPath
  ) throws(ExperimentError) -> ExperimentFile {
    let source = try SourceText.read(path)
    let absolute = Paths.absolute(path, from: workingDirectory)
    let context = PathContext(
      directory: Paths.parent(absolute), workingDirectory: workingDirectory,
      environment: environment, checksFiles: checkingFiles)
    return try parse(source, named: path, file: absolute, overrides: overrides, context: context)
  }

  /// Reads a text as if it stood in the file `name` of the context's directory.
  ///
  /// - Throws: `ExperimentError` with every mistake.
  public static func parse(
    _ text: String, named name: String = "experiment.yaml", overrides: [String] = [], context: PathContext
  ) throws(ExperimentError) -> ExperimentFile {
    let source = try SourceText.decode(ArraySlice(text.utf8), path: name)
    return try parse(
      source, named: name, file: Paths.absolute(name, from: context.directory), overrides: overrides,
      context: context)
  }

  private static func parse(
    _ source: SourceText, named name: String, file: String, overrides: [String], context: PathContext
  ) throws(ExperimentError) -> ExperimentFile {
    let collector = Collector(path: name, lines: source.lines, arguments: overrides)
    var plan: ExperimentPlan?
    if var tree = TreeComposer(collector: collector, origin: .file).compose(source.text) {
      Overrides(collector: collector).apply(overrides, to: &tree)
      let paths = PathReader(context: context, collector: collector)
      plan = PlanReader(collector: collector, paths: paths, file: file, arguments: overrides).plan(tree)
    }
    guard let plan, !collector.hasErrors else { throw ExperimentError(issues: collector.errors) }
    return ExperimentFile(
      plan: plan, warnings: collector.warnings, text: source.text, name: name, overrides: overrides,
      context: context)
  }
}

extension ExperimentPlan {
  /// The plan of `ExperimentFile.read`.
  public static func load(_ path: String, overrides: [String] = [], checkingFiles: Bool = true)
    throws(ExperimentError) -> ExperimentPlan
  {
    try ExperimentFile.read(path, overrides: overrides, checkingFiles: checkingFiles).plan
  }
}
