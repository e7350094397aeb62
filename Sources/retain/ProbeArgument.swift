// NAME=PATH[:TYPE], the form in which command lines name probes.
import Corpus
import Foundation
import Probes
import Runs

/// One probe of a command line.
struct ProbeArgument {
  let name: String
  let path: String
  let kind: ProbeKind?

  /// - Throws: `RunError` (64) where a part is missing or the type is none
  init(_ text: String) throws {
    guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
      throw usage("--probe \(text): expected NAME=PATH[:TYPE]", hint: "for example general=data/test.txt")
    }
    name = String(text[..<equals])
    let allowed = name.unicodeScalars.allSatisfy {
      $0.isASCII
        && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || "._-".unicodeScalars.contains($0))
    }
    guard allowed, name.utf8.count <= 64 else {
      throw usage("--probe \(text): the name must match [A-Za-z0-9._-]{1,64}")
    }
    let rest = String(text[text.index(after: equals)...])
    guard !rest.isEmpty else { throw usage("--probe \(text): no path is named") }
    guard let colon = rest.lastIndex(of: ":"), !FileManager.default.fileExists(atPath: rest) else {
      (path, kind) = (rest, nil)
      return
    }
    let type = String(rest[rest.index(after: colon)...])
    guard let found = ProbeKind(rawValue: type), found != .classification else {
      throw usage(
        "--probe \(text): there is no type \(type)", hint: "types: text, minimal_pairs, multiple_choice")
    }
    (path, kind) = (String(rest[..<colon]), found)
  }

  var definition: ProbeDefinition { ProbeDefinition(name: name, paths: [path], kind: kind) }

  /// All probes, with names that differ.
  static func read(_ texts: [String]) throws -> [ProbeArgument] {
    let probes = try texts.map(ProbeArgument.init)
    for (index, probe) in probes.enumerated()
    where probes[..<index].contains(where: { $0.name == probe.name }) {
      throw usage("--probe: the name \(probe.name) is given twice")
    }
    return probes
  }
}
