// `retain data check`: bad rows, rows that repeat, and probe documents that stand in training rows.
import ArgumentParser
import Corpus
import Experiment
import Runs
import StrictJSON

struct DataCheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Check format, duplicates and leaks between training rows and probes.",
    discussion: "FILE is an experiment file (.yaml), or training data to be checked against each --probe.")

  @Argument(help: ArgumentHelp("Experiment file or data files.", valueName: "file"))
  var files: [String]
  @Option(
    name: .customLong("probe"),
    help: ArgumentHelp("A probe to look for in data files.", valueName: "name=path"))
  var probes: [String] = []
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let data = try DataParts(files)
    var errors = data.errors
    var documents = data.parts.filter { $0.role == .probe }.map { (name: $0.place, rows: $0.rows) }
    for probe in try ProbeArgument.read(probes) {
      do throws(DataError) {
        documents.append((probe.name, try DataReader.read(paths: DataReader.expand(probe.path))))
      } catch { errors.append(error) }
    }
    let rule = LeakRule(data.plan?.dataChecks.probeOverlap)
    var overlap = OverlapFinder(
      probes: rule.isOff ? [] : documents, ngram: rule.ngram, documentShare: rule.documentShare)
    let trained = Self.merged(data.parts.filter { [.data, .training, .base].contains($0.role) })
    for part in trained where part.role != .base { overlap.scan(part.rows) }
    let leaks = overlap.result()
    let duplicates = trained.map { DuplicateFinder.find($0.rows) }
    let broken = leaks.filter { $0.leakedShare > rule.maxDocuments }
    var failures = errors.map(\.description)
    if rule.isError {
      failures += broken.map {
        "probe \($0.probe): \($0.leaks.count) of \($0.documents) documents stand in training rows"
      }
    }
    if json {
      Say.json([
        "schema": 1, "ok": .bool(failures.isEmpty), "errors": .array(failures.map { .string($0) }),
        "data": .array(zip(trained, duplicates).map { Self.json($0, $1) }),
        "probes": .array(leaks.map { Self.json($0, rule) }),
      ])
    } else {
      for (part, report) in zip(trained, duplicates) { Terminal.out(Self.line(part, report)) }
      for leak in leaks { Terminal.out(Self.lines(leak, rule)) }
    }
    guard failures.isEmpty else {
      // Of several codes the one that says what to see to first.
      let codes = errors.map(\.kind.exitCode)
      let code = [Runs.ExitCode.unavailable, Runs.ExitCode.missingInput].first(where: codes.contains) ?? codes.first
      throw RunError(code ?? Runs.ExitCode.badData, failures.joined(separator: "\n"))
    }
    if !json { Terminal.out("ok") }
  }

  /// Parts of one place as one, since rows are dropped across the files of a stage.
  private static func merged(_ parts: [DataPart]) -> [DataPart] {
    var merged: [DataPart] = []
    for part in parts {
      if let last = merged.last, last.role == part.role, last.place == part.place {
        merged[merged.count - 1] = DataPart(
          role: part.role, place: part.place, paths: last.paths + part.paths, rows: last.rows + part.rows,
          training: part.training)
      } else {
        merged.append(part)
      }
    }
    return merged
  }

  private static func line(_ part: DataPart, _ report: DuplicateReport) -> String {
    let shapes = part.rows.shapeCounts.map { "\(Show.count($0.count)) \($0.shape)" }.joined(separator: ", ")
    let repeated = report.repeated.isEmpty ? "no row repeats another" : report.summary(of: part.rows)
    return "\(part.place): \(Show.count(part.rows.count)) rows (\(shapes)); \(repeated)"
  }
  private static func lines(_ overlap: ProbeOverlap, _ rule: LeakRule) -> String {
    guard !overlap.leaks.isEmpty else {
      return "probe \(overlap.probe): none of \(overlap.documents) documents stands in training rows"
    }
    var lines = [
      "probe \(overlap.probe): \(overlap.leaks.count) of \(overlap.documents) documents "
        + "stand in training rows"
    ]
    lines += overlap.leaks.prefix(10).map {
      "  \($0.file):\($0.line): \(Int(($0.share * 100).rounded())) % of its \(rule.ngram)-word runs, "
        + "first in \($0.trainingFile):\($0.trainingLine)"
    }
    if overlap.leaks.count > 10 { lines.append("  and \(overlap.leaks.count - 10) more") }
    return lines.joined(separator: "\n")
  }

  private static func json(_ part: DataPart, _ report: DuplicateReport) -> JSON {
    [
      "place": .string(part.place), "role": .string(part.role.rawValue),
      "paths": .array(part.paths.map { .string($0) }),
      "rows": .integer(part.rows.count),
      "shapes": .object(part.rows.shapeCounts.map { .init($0.shape, .integer($0.count)) }),
      "duplicates": .integer(report.repeated.count),
      "duplicate_rows": .array(
        report.repeated.prefix(100).map { pair in
          let (first, again) = (part.rows[pair.first], part.rows[pair.again])
          return [
            "row": .string("\(again.file):\(again.line)"), "repeats": .string("\(first.file):\(first.line)"),
          ]
        }),
    ]
  }
  private static func json(_ overlap: ProbeOverlap, _ rule: LeakRule) -> JSON {
    [
      "probe": .string(overlap.probe), "documents": .integer(overlap.documents),
      "leaked": .integer(overlap.leaks.count),
      "leaked_share": .number(overlap.leakedShare), "run_share": .number(overlap.runShare),
      "limit": .number(rule.maxDocuments), "ok": .bool(overlap.leakedShare <= rule.maxDocuments),
      "leaks": .array(
        overlap.leaks.prefix(100).map {
          [
            "document": .string("\($0.file):\($0.line)"), "share": .number($0.share),
            "training_row": .string("\($0.trainingFile):\($0.trainingLine)"),
          ]
        }),
    ]
  }
}

/// When a probe counts as leaked: the experiment's rule, else the default one.
struct LeakRule {
  var ngram = 13
  var documentShare = 0.2
  var maxDocuments = 0.02
  var isError = true
  var isOff = false

  init(_ plan: DataChecksPlan.ProbeOverlap?) {
    guard let plan else { return }
    (ngram, documentShare, maxDocuments) = (plan.ngram, plan.documentShare, plan.maxDocuments)
    (isError, isOff) = (plan.action == .error, plan.action == .off)
  }
}

extension [SourceRow] {
  /// How many rows have each shape, in the order of first appearance.
  var shapeCounts: [(shape: String, count: Int)] {
    var counts: [(shape: String, count: Int)] = []
    for row in self {
      let shape =
        switch row.sample {
        case .text: DataShape.text.rawValue
        case .pair: DataShape.pair.rawValue
        case .labelled: DataShape.labelled.rawValue
        case .minimalPair: DataShape.minimalPairs.rawValue
        case .multipleChoice, .cloze: DataShape.multipleChoice.rawValue
        }
      if let index = counts.firstIndex(where: { $0.shape == shape }) {
        counts[index].count += 1
      } else {
        counts.append((shape, 1))
      }
    }
    return counts
  }
}
