// Reads an experiment file as bytes: a regular file of at most 1 MiB of UTF-8.
// Whatever else stands under the name (a pipe, a folder, another encoding) is refused before it is parsed.
import Foundation

/// The text of an experiment file and its lines.
struct SourceText {
  static let maximumBytes = 1 << 20
  let text: String
  let lines: [String]

  /// Splits where the YAML scanner counts lines: LF, CR, CRLF, NEL, LS and PS.
  init(_ text: String) {
    self.text = text
    var lines: [String] = []
    var line = String.UnicodeScalarView()
    var afterReturn = false
    for scalar in text.unicodeScalars {
      if scalar == "\n", afterReturn {
        afterReturn = false
        continue
      }
      afterReturn = scalar == "\r"
      switch scalar {
      case "\n", "\r", "\u{85}", "\u{2028}", "\u{2029}":
        lines.append(String(line))
        line = String.UnicodeScalarView()
      default: line.append(scalar)
      }
    }
    lines.append(String(line))
    self.lines = lines
  }

  /// Reads the file, or says in one issue why it cannot be an experiment.
  static func read(_ path: String) throws(ExperimentError) -> SourceText {
    let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else {
      let reason = String(cString: strerror(errno))
      throw failure(
        path, "cannot open the experiment file: \(reason)", kind: .missingInput,
        hint: Neighbours.note(missing: path))
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw failure(path, "an experiment must be a regular file", hint: "give the path of a YAML file")
    }
    guard status.st_size <= maximumBytes else {
      throw failure(
        path, "the file has \(status.st_size) bytes; an experiment has at most \(maximumBytes)",
        hint: "keep data in data files and name them by path")
    }
    var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes { buffer -> Int in
        guard let base = buffer.baseAddress else { return 0 }
        return Foundation.read(descriptor, base + count, buffer.count - count)
      }
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else {
        throw failure(
          path, "cannot read: \(String(cString: strerror(errno)))", kind: .missingInput, hint: nil)
      }
      if got == 0 { break }
      count += got
    }
    guard count <= maximumBytes else {
      throw failure(path, "the file grew beyond \(maximumBytes) bytes while it was read", hint: nil)
    }
    return try decode(bytes[..<count], path: path)
  }

  /// Decodes UTF-8 strictly; a byte order mark at the start is dropped.
  static func decode(_ bytes: ArraySlice<UInt8>, path: String) throws(ExperimentError) -> SourceText {
    var bytes = bytes
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
    if let text = String(validating: bytes, as: UTF8.self) { return SourceText(text) }
    let utf16 = bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF])
    let offset = firstInvalidOffset(bytes)
    throw failure(
      path, "byte \(offset) is not UTF-8", kind: .badData,
      hint: utf16 ? "the file looks like UTF-16; save it as UTF-8" : "save the file as UTF-8")
  }

  /// The length of the longest valid prefix.
  private static func firstInvalidOffset(_ bytes: ArraySlice<UInt8>) -> Int {
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    var offset = 0
    while case .scalarValue(let scalar) = decoder.decode(&iterator) { offset += UTF8.width(scalar) }
    return offset
  }

  private static func failure(
    _ path: String, _ message: String, kind: Issue.Kind = .configuration, hint: String?
  ) -> ExperimentError {
    ExperimentError(issues: [
      Issue(
        severity: .error, kind: kind, path: path, line: 0, column: 0, length: 0, message: message,
        hint: hint, sourceLine: nil)
    ])
  }
}
