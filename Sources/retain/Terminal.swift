// Text out of the program: colours where they are wanted, no control characters from files.
// A closed pipe is no crash.
import Foundation
import Glibc
import StrictJSON
import Synchronization

private let failure = Atomic<Int32>(0)

enum Terminal {
  /// To be called first: a closed pipe or a missing descriptor must not end the program or land in a file.
  static func prepare() {
    signal(SIGPIPE, SIG_IGN)
    for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest free number is the missing one, since those below are open.
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY)
    }
  }

  /// Whether status lines can be redrawn on standard output.
  static let isInteractive = isatty(STDOUT_FILENO) == 1 && environment("TERM") != "dumb"
  /// `errno` of a write to standard output that failed for another reason than a reader who left.
  static var outputFailure: Int32? {
    let code = failure.load(ordering: .relaxed)
    return code == 0 ? nil : code
  }

  /// Columns of the terminal, else of `COLUMNS`, else 100.
  static var width: Int {
    var size = winsize()
    if ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { return Int(size.ws_col) }
    return environment("COLUMNS").flatMap { Int($0) }.map { min(400, max(40, $0)) } ?? 100
  }

  static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  // MARK: Writing

  /// One line or more of results.
  static func out(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }
  static func out(_ json: JSON) { write(json.pretty, to: STDOUT_FILENO) }
  /// Without a line end, for status lines.
  static func raw(_ text: String) { write(text, to: STDOUT_FILENO) }
  static func error(_ text: String) { write(text + "\n", to: STDERR_FILENO) }
  static func warning(_ text: String) {
    error(Style.yellow.paint("warning:", on: STDERR_FILENO) + " " + plain(text))
  }

  private static func write(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: done), bytes.count - done)
      }
      if count < 0 {
        if errno == EINTR { continue }
        if errno != EPIPE, descriptor == STDOUT_FILENO { failure.store(errno, ordering: .relaxed) }
        return
      }
      done += count
    }
  }

  /// Text from files as it may be shown: control characters but line ends and tabs become U+FFFD.
  static func plain(_ text: String) -> String {
    var out = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
      out.append(isControl && scalar != "\n" && scalar != "\t" ? "\u{FFFD}" : scalar)
    }
    return String(out)
  }
}

/// Colours and weights of text.
enum Style: String {
  case bold = "1"
  case dim = "2"
  case red = "1;31"
  case green = "32"
  case yellow = "33"

  /// The text in this style, or as it is where colours are not wanted.
  ///
  /// `NO_COLOR` wins over `CLICOLOR_FORCE`, which wins over what the descriptor is.
  func paint(_ text: String, on descriptor: Int32 = STDOUT_FILENO) -> String {
    Style.isWanted(on: descriptor) ? "\u{1B}[\(rawValue)m\(text)\u{1B}[0m" : text
  }

  static func isWanted(on descriptor: Int32) -> Bool {
    if let value = Terminal.environment("NO_COLOR"), !value.isEmpty { return false }
    if let value = Terminal.environment("CLICOLOR_FORCE"), !value.isEmpty, value != "0" { return true }
    return isatty(descriptor) == 1 && Terminal.environment("TERM") != "dumb"
  }
}
