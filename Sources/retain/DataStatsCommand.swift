// `retain data stats`: how much data there is, and how long its rows are.
import ArgumentParser
import Corpus
import Runs
import StrictJSON

struct DataStatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats", abstract: "Count rows, documents, bytes and tokens.")

  @Argument(help: ArgumentHelp("Data files or an experiment file.", valueName: "file"))
  var files: [String]
  @Option(help: "Model or tokenizer to count tokens with; default: the experiment's base model.")
  var model: String?
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let data = try DataParts(files)
    try data.requireReadable()
    let coder = try TextCoder.chosen(model: model, plan: data.plan)
    let statistics = data.parts.map { LengthStatistics($0, coder) }
    guard json else {
      Terminal.out(statistics.map(\.text).joined(separator: "\n\n"))
      return
    }
    Say.json(["schema": 1, "data": .array(statistics.map(\.json))])
  }
}

/// Counts of one part; lengths are in tokens with a tokenizer and in bytes without.
struct LengthStatistics {
  let part: DataPart
  let bytes: Int
  /// nil without a tokenizer.
  let tokens: Int?
  /// One a row, ascending.
  let lengths: [Int]
  let contextLength: Int?

  init(_ part: DataPart, _ coder: TextCoder?) {
    self.part = part
    let sizes = part.rows.map(\.sample.plainText.utf8.count)
    bytes = sizes.reduce(0, +)
    let counts = coder.map { coder in part.rows.map { coder.tokenizer.encode($0.sample.plainText).count } }
    tokens = counts?.reduce(0, +)
    lengths = (counts ?? sizes).sorted()
    contextLength = coder?.contextLength
  }

  /// Rows by length, in ranges that double.
  var histogram: [(range: Range<Int>, rows: Int)] {
    var bins: [(range: Range<Int>, rows: Int)] = []
    var (low, high, index) = (0, 1, 0)
    while index < lengths.count {
      let first = index
      while index < lengths.count, lengths[index] < high { index += 1 }
      if index > first || !bins.isEmpty { bins.append((low..<high, index - first)) }
      (low, high) = (high, high * 2)
    }
    return bins
  }
  private var longerThanContext: Int? { contextLength.map { limit in lengths.filter { $0 > limit }.count } }
  private func quantile(_ share: Double) -> Int {
    lengths.isEmpty ? 0 : lengths[min(lengths.count - 1, Int(Double(lengths.count) * share))]
  }
  private var unit: String { tokens == nil ? "bytes" : "tokens" }

  var text: String {
    let shapes = part.rows.shapeCounts.map { "\(Show.count($0.count)) \($0.shape)" }.joined(separator: ", ")
    var lines = [
      "\(part.role == .probe ? "probe " : "")\(part.place)",
      "  rows       \(Show.count(part.rows.count)) (\(shapes))",
    ]
    lines.append("  bytes      \(Show.count(bytes))")
    if let tokens {
      lines.append(
        "  tokens     \(Show.count(tokens)), "
          + "\(Show.fixed(Double(bytes) / Double(max(1, tokens)), 2)) bytes each"
      )
    }
    lines.append(
      "  \(unit) a row: median \(Show.count(quantile(0.5))), 90 % ≤ \(Show.count(quantile(0.9))), longest "
        + Show.count(lengths.last ?? 0))
    if let longerThanContext, let contextLength, longerThanContext > 0 {
      lines.append("  \(Show.count(longerThanContext)) rows are longer than the context of \(contextLength)")
    }
    let bins = histogram
    let largest = max(1, bins.map(\.rows).max() ?? 1)
    var table = AlignedTable(["    \(unit)", "rows", ""], numeric: [1])
    for bin in bins {
      let bar = String(repeating: "█", count: bin.rows == 0 ? 0 : max(1, bin.rows * 40 / largest))
      table.add("    \(bin.range.lowerBound)–\(bin.range.upperBound - 1)", Show.count(bin.rows), bar)
    }
    return (lines + [table.text]).joined(separator: "\n")
  }

  var json: JSON {
    [
      "place": .string(part.place), "role": .string(part.role.rawValue),
      "paths": .array(part.paths.map { .string($0) }),
      "rows": .integer(part.rows.count), "documents": .integer(part.rows.count), "bytes": .integer(bytes),
      "tokens": JSON(tokens),
      "shapes": .object(part.rows.shapeCounts.map { .init($0.shape, .integer($0.count)) }),
      "length_unit": .string(unit),
      "lengths": [
        "shortest": JSON(lengths.first), "median": .integer(quantile(0.5)), "p90": .integer(quantile(0.9)),
        "longest": JSON(lengths.last),
      ],
      "longer_than_context": JSON(longerThanContext),
      "histogram": .array(
        histogram.map {
          [
            "from": .integer($0.range.lowerBound), "to": .integer($0.range.upperBound - 1),
            "rows": .integer($0.rows),
          ]
        }),
    ]
  }
}
