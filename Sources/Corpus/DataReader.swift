// Files to rows: `.txt` and `.jsonl`, plain or gzip, with the shape detected or given.
// Reads everything before it complains, so that one error shows all files' mistakes.
import Glibc

public enum DataReader {
  /// All rows of the files, in order.
  ///
  /// `.txt` files give one `.text` per document (by `documents`, white space at both ends dropped, CRLF as LF);
  /// `.jsonl` files one row per line, blank lines skipped. The shape of a `.jsonl` file is that of its first
  /// recognisable row; `shape` overrides it. A `.gz` ending is optional: the first bytes decide.
  ///
  /// - Throws: `missing` before anything is read if a file is absent; else `bad` with the first five offenders
  ///   and counts by reason, `unsupported` for chat and instruction rows, `io` when the system fails.
  /// - Cost: linear; all rows stay in memory.
  public static func read(
    paths: [String], shape: DataShape? = nil, documents: DocumentRule = .blankLine,
    limits: DataLimits = DataLimits()
  ) throws(DataError) -> [SourceRow] {
    for path in paths where access(path, R_OK) != 0 {
      throw DataError(.missing, file: path, reason: String(cString: strerror(errno)), hint: "check the path")
    }
    if let shape, !shape.isSupported { throw unsupported(shape, file: paths.first ?? "data", line: nil) }
    var rows: [SourceRow] = []
    var bad = BadRows()
    for path in paths {
      let before = (rows.count, bad.total)
      switch try form(of: path) {
      case .text:
        guard shape == nil || shape == .text else {
          throw DataError(
            .bad, file: path, reason: "a .txt file holds text, not \(shape?.rawValue ?? "")",
            hint: "remove `type`, or give the rows as .jsonl")
        }
        try readText(path, documents, limits, into: &rows, bad: &bad)
      case .jsonLines: try readJSONLines(path, shape, limits, into: &rows, bad: &bad)
      }
      if before == (rows.count, bad.total) {
        throw DataError(.bad, file: path, reason: "the file holds no rows", hint: "it is empty or blank: leave it out")
      }
    }
    if let error = bad.error(hint: "fix or remove these rows") { throw error }
    return rows
  }

  /// The files that a path or a pattern with `*`, `?` or `[…]` names, sorted by bytes.
  ///
  /// - Throws: `missing` where nothing matches.
  public static func expand(_ pattern: String) throws(DataError) -> [String] {
    if access(pattern, F_OK) == 0 { return [pattern] }
    var found = glob_t()
    defer { globfree(&found) }
    guard glob(pattern, GLOB_NOSORT, nil, &found) == 0 else {
      throw DataError(.missing, file: pattern, reason: "no such file", hint: "check the path or the pattern")
    }
    var paths: [String] = []
    for index in 0..<Int(found.gl_pathc) {
      if let path = found.gl_pathv[index] { paths.append(String(cString: path)) }
    }
    return paths.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  private enum Form { case text, jsonLines }

  private static func form(of path: String) throws(DataError) -> Form {
    var name = Substring(path.lowercased())
    if name.hasSuffix(".gz") { name = name.dropLast(3) }
    if name.hasSuffix(".txt") { return .text }
    if name.hasSuffix(".jsonl") || name.hasSuffix(".ndjson") { return .jsonLines }
    // What a file is comes before what it is called: a directory or a foreign packer is told as such.
    _ = try ByteSource(path: path, limit: 0)
    throw DataError(
      .unsupported, file: path, reason: "the name does not say what the file holds",
      hint: "use .txt or .jsonl, with .gz if packed")
  }

  private static func unsupported(_ shape: DataShape, file: String, line: Int?) -> DataError {
    DataError(
      .unsupported, file: file, line: line, reason: "\(shape.rawValue) rows are not yet supported",
      hint: "convert them to rows with `prompt` and `completion`")
  }

  // MARK: JSON lines

  private static func readJSONLines(
    _ path: String, _ given: DataShape?, _ limits: DataLimits, into rows: inout [SourceRow], bad: inout BadRows
  ) throws(DataError) {
    let parser = RowParser(limits: limits)
    var known = given
    try LineReader.forEach(in: path, limits: limits) { (line, number) throws(DataError) in
      if isBlankLine(line) { return }
      do throws(RowFault) {
        let row = try parser.object(line)
        guard let shape = known ?? RowParser.shape(of: row) else { throw RowParser.unknown(row) }
        known = shape
        if shape.isSupported {
          rows.append(SourceRow(sample: try parser.sample(row, shape: shape), file: path, line: number))
        }
      } catch {
        bad.add(file: path, line: number, fault: error)
      }
      if let shape = known, !shape.isSupported { throw unsupported(shape, file: path, line: number) }
    }
  }

  // MARK: Text

  private static func readText(
    _ path: String, _ documents: DocumentRule, _ limits: DataLimits, into rows: inout [SourceRow],
    bad: inout BadRows
  ) throws(DataError) {
    var document: [UInt8] = []
    var firstLine = 1
    var found: [SourceRow] = []
    func flush() {
      defer { document.removeAll(keepingCapacity: true) }
      guard !document.isEmpty else { return }
      if let text = String(validating: document, as: UTF8.self) {
        let trimmed = text.trimmed
        if !trimmed.isEmpty { found.append(SourceRow(sample: .text(trimmed), file: path, line: firstLine)) }
        return
      }
      for (offset, line) in document.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
      where String(validating: line, as: UTF8.self) == nil {
        let byte = validPrefix(line) + 1
        bad.add(
          file: path, line: firstLine + offset,
          fault: RowFault("not valid UTF-8 at byte \(byte) of the line", category: "not valid UTF-8"))
      }
    }
    try LineReader.forEach(in: path, limits: limits) { (line, number) throws(DataError) in
      let blank = isBlankLine(line)
      // Blank lines before a document belong to nothing; in `file` mode those inside it are kept.
      if blank, document.isEmpty || documents != .file { return flush() }
      if document.isEmpty { firstLine = number } else { document.append(0x0A) }
      document.append(contentsOf: line)
      if documents == .line { flush() }
    }
    flush()
    rows.append(contentsOf: found)
  }

  /// How many bytes at the start are whole, valid characters.
  private static func validPrefix(_ bytes: ArraySlice<UInt8>) -> Int {
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    var count = 0
    while case .scalarValue(let scalar) = decoder.decode(&iterator) { count += UTF8.width(scalar) }
    return count
  }
}
