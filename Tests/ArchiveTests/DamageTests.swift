// Whatever happens to the bytes of an archive, the reader says so and does not crash.
// Random flips, every short truncation, lost and stale pages; then hostile files with right sums.
import Archive
import Foundation
import StrictJSON
import TestKit
import Testing

@Suite struct DamageTests {
  /// Nil where nobody noticed.
  private func detection(_ bytes: [UInt8], at path: String) throws -> ArchiveError? {
    try put(bytes, at: path)
    return archiveError { try ArchiveReader(path: path).verify() }
  }

  @Test func noFlipTruncationOrLostPagePasses() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      let other = folder + "/b.h5"
      try sampleWriter(step: 8).write(to: other, metadata: sampleMetadata)
      try sampleWriter().write(to: path, metadata: sampleMetadata)
      let whole = try bytes(of: path)
      let stale = try bytes(of: other)
      #expect(try detection(whole, at: path) == nil)
      #expect(whole.count == stale.count)
      var random = Numbers(state: 1)
      var undetected: [String] = []
      var tried = 0
      func check(_ damaged: [UInt8], _ what: String) throws {
        guard damaged != whole else { return }
        tried += 1
        guard let error = try detection(damaged, at: path) else { return undetected.append(what) }
        if error.kind != .damaged && error.kind != .incompatible { undetected.append("\(what): \(error)") }
      }
      for _ in 0..<4000 {
        var damaged = whole
        let bit = Int.random(in: 0..<whole.count * 8, using: &random)
        damaged[bit / 8] ^= 1 << UInt8(bit % 8)
        try check(damaged, "bit \(bit)")
      }
      for length in Array(0..<64) + (0..<400).map({ _ in Int.random(in: 0..<whole.count, using: &random) }) {
        try check(Array(whole.prefix(length)), "length \(length)")
      }
      try check(whole + [0], "one byte more")
      for size in [64, 512, 4096] {
        for start in stride(from: 0, to: whole.count, by: size) {
          let range = start..<min(start + size, whole.count)
          var damaged = whole
          damaged.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
          try check(damaged, "zeros at \(range)")
          damaged.replaceSubrange(range, with: [UInt8](repeating: 255, count: range.count))
          try check(damaged, "ones at \(range)")
          damaged.replaceSubrange(range, with: stale[range])
          // A page of another save is damage unless all that differs lies in this one page.
          if damaged != stale { try check(damaged, "stale page at \(range)") }
          let partner = Int.random(in: 0...(whole.count - range.count), using: &random)
          damaged.replaceSubrange(range, with: whole[partner..<(partner + range.count)])
          try check(damaged, "page \(partner) at \(range)")
        }
      }
      print("damage sweep: \(tried) damaged files of \(whole.count) bytes, \(undetected.count) undetected")
      #expect(undetected.isEmpty, "\(undetected.prefix(5))")
      #expect(tried > 5000)
    }
  }

  @Test func damageIsLocated() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      try sampleWriter().write(to: path, metadata: [:])
      let entry = try #require(try ArchiveReader(path: path).entry("model/layers.0.weight"))
      var damaged = try bytes(of: path)
      damaged[entry.offset + 100] ^= 4
      try put(damaged, at: path)
      let reader = try ArchiveReader(path: path)
      let error = archiveError { _ = try reader.floats("model/layers.0.weight") }
      #expect(error?.kind == .damaged && error?.kind.exitCode == 65)
      #expect(error?.reason.contains("\"model/layers.0.weight\" at byte \(entry.offset)") == true)
      #expect(try reader.ints("optimizer/step") == [7])
    }
  }

  @Test func otherFilesAreRefused() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/x"
      #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .missing)
      #expect(archiveError { _ = try ArchiveReader(path: folder) }?.kind == .damaged)
      #expect(archiveError { _ = try ArchiveReader(path: "/dev/null") }?.kind == .damaged)
      #expect(archiveError { _ = try ArchiveReader(path: folder + "/a\0b") }?.kind == .missing)
      try put([], at: path)
      #expect(archiveError { _ = try ArchiveReader(path: path) }?.reason == "is empty")
      try put(Array("steps: 3\n".utf8), at: path)
      #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .damaged)
      try put(
        [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A] + [UInt8](repeating: 0, count: 9000), at: path)
      #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .incompatible)
    }
  }

  /// Builds a file whose sums are right, so that only the meaning of the manifest can be wrong.
  private func forge(_ manifest: String, length: Int? = nil, version: String = "1.0", lines: String? = nil)
    -> [UInt8]
  {
    let text = Array(manifest.utf8)
    let size = 8192 + text.count
    var front = "Retain archive \(version)\n"
    front +=
      lines ?? "length \(length ?? size)\nmanifest 8192 \(text.count)\nsha256 \(SHA256.hash(manifest))\n"
    var header = Array(front.utf8)
    header += [UInt8](repeating: 0, count: 4092 - header.count)
    let crc = header.withUnsafeBytes { CRC32C.hash($0) }
    for shift in stride(from: 0, to: 32, by: 8) {
      header.append(UInt8(truncatingIfNeeded: crc >> UInt32(shift)))
    }
    return header + [UInt8](repeating: 0, count: 4096) + text
  }
  private func manifest(_ entries: String) -> String {
    #"{"format":"retain-archive","schema":"1.0","metadata":{},"groups":{},"#
      + #""rest_crc32c":"00000000","entries":["#
      + entries + "]}"
  }
  private func entry(
    _ path: String = "a", shape: String = "[4]", type: String = "F32", offset: String = "4096",
    bytes: String = "16"
  )
    -> String
  {
    #"{"path":"\#(path)","type":"\#(type)","shape":\#(shape),"offset":\#(offset),"#
      + #""bytes":\#(bytes),"crc32c":"00000000"}"#
  }

  @Test func hostileManifestsAreRefused() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      try put(forge(manifest(entry())), at: path)
      let good = try ArchiveReader(path: path)
      #expect(archiveError { _ = try good.floats("a") }?.kind == .damaged)
      let huge = "9223372036854775807"
      let hostile = [
        entry(shape: "[4611686018427387904,4]"), entry(shape: "[\(huge),\(huge),0,1]"), entry(shape: "[-4]"),
        entry(shape: "[4.0]"), entry(shape: "[1e0,4]"), entry(shape: "[1,1,1,1,1,1,1,1,4]"),
        entry(shape: "4"),
        entry(offset: huge), entry(offset: "-1"), entry(offset: "0"), entry(offset: "4090"),
        entry(offset: "8190"),
        entry(shape: "[\(huge)]", type: "U8", bytes: huge), entry(shape: "[\(huge)]", bytes: "-4"),
        entry(bytes: "15"), entry(type: "F31"), entry(type: "TEXT", bytes: "4") + "," + entry("b"),
        entry(shape: "[2,8]", type: "TEXT"), entry() + "," + entry("b"), entry() + "," + entry(), entry(""),
        "1", "null", "{}", #"{"path":"a"}"#,
      ]
      for text in hostile {
        try put(forge(manifest(text)), at: path)
        #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .damaged, "\(text)")
      }
      let broken = [
        "", "{", "[]", "{}", "null", String(repeating: "[", count: 5000),
        manifest("").replacingOccurrences(of: "00000000", with: "0000000G"),
      ]
      for text in broken {
        try put(forge(text), at: path)
        #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .damaged, "\(text.prefix(40))")
      }
      for lines in [
        "", "length x\n", "length \(huge)\nmanifest 0 0\nsha256 0\n",
        "length 8192\nmanifest \(huge) \(huge)\nsha256 0\n",
        "length 8192\nmanifest -1 5\nsha256 0\n", "length -1\nmanifest 4096 1\nsha256 0\n",
      ] {
        try put(forge("", lines: lines), at: path)
        #expect(archiveError { _ = try ArchiveReader(path: path) }?.kind == .damaged, "\(lines)")
      }
      try put(forge(manifest(entry()), version: "2.0"), at: path)
      let newer = archiveError { _ = try ArchiveReader(path: path) }
      #expect(newer?.kind == .incompatible && newer?.hint.contains("newer") == true)
      for version in ["", "1", "x.y", "99999999999999999999.0", "-1.0"] {
        try put(forge(manifest(entry()), version: version), at: path)
        #expect(archiveError { _ = try ArchiveReader(path: path) } != nil, "\(version)")
      }
      // A later minor version may add members; they are ignored.
      try put(
        forge(
          manifest("").replacingOccurrences(of: "\"groups\"", with: "\"ext\":{},\"groups\""), version: "1.7"),
        at: path)
      #expect(try ArchiveReader(path: path).entries.isEmpty)
      // An entry without bytes may claim any place, and nothing is read there.
      try put(forge(manifest(entry(shape: "[0,\(huge)]", offset: huge, bytes: "0"))), at: path)
      #expect(try ArchiveReader(path: path).floats("a").isEmpty)
      #expect(throws: ArchiveError.self) { try ArchiveReader(path: path).verify() }
    }
  }

  @Test func mutatedManifestsWithRightSumsNeverTrap() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      let text = Array(
        manifest(
          entry() + "," + entry("b", shape: "[2,2]", offset: "4112") + ","
            + entry("c", shape: "[5]", type: "TEXT", offset: "4200", bytes: "5")
        ).utf8)
      var random = Numbers(state: 5)
      let alphabet = Array("0123456789-.,:[]{}\"eE \\u".utf8)
      var accepted = 0
      for _ in 0..<3000 {
        var mutated = text
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let position = Int.random(in: 0..<mutated.count, using: &random)
          switch Int.random(in: 0..<3, using: &random) {
          case 0: mutated[position] = alphabet.randomElement(using: &random) ?? 0
          case 1: mutated.insert(alphabet.randomElement(using: &random) ?? 0, at: position)
          default: mutated.remove(at: position)
          }
        }
        guard let string = String(validating: mutated, as: UTF8.self) else { continue }
        try put(forge(string), at: path)
        do {
          let reader = try ArchiveReader(path: path)
          accepted += 1
          for entry in reader.entries { _ = try? reader.floats(entry.path) }
          try? reader.verify()
        } catch is ArchiveError {}
      }
      #expect(accepted < 3000)
    }
  }
}
