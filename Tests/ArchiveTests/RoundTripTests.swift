// What goes into an archive comes out, twice the same bytes, and mistakes of the caller are named.
// Damage and faults have files of their own.
import Archive
import Foundation
import StrictJSON
import TestKit
import Testing

@Suite struct RoundTripTests {
  @Test func everyTypeComesBack() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      try sampleWriter().write(to: path, metadata: sampleMetadata)
      let reader = try ArchiveReader(path: path)
      try reader.verify()
      #expect(reader.metadata == sampleMetadata)
      #expect(reader.entries.count == 11)
      #expect(try reader.floats("model/layers.0.weight") == (0..<1500).map { Float($0) * 0.25 - 3 })
      let bias = try reader.floats("model/layers.0.bias")
      #expect(
        bias[0] == 1 && bias[1] == -2.5 && bias[3] == .infinity && abs(bias[2] - 0.1) < 0.0005 && bias[4] > 0)
      #expect(
        try reader.doubles("optimizer/m/layers.0.weight").map(\.bitPattern)
          == [Double.pi, -0.0, 1e300].map(\.bitPattern))
      #expect(try reader.ints("optimizer/step") == [7])
      #expect(reader.entry("optimizer/step")?.shape == [])
      #expect(reader.entry("optimizer/step")?.description == "Steps taken.")
      #expect(try reader.uint64s("rng/state") == [1, .max, 1 << 63])
      #expect(try reader.int32s("replay/tokens") == [1, -2, 3, 4, 5, 6])
      #expect(try reader.uint16s("replay/lengths") == [3, 65535])
      #expect(try reader.uint8s("replay/flags") == [0, 255, 7])
      #expect(try reader.floats("replay/empty").isEmpty)
      #expect(reader.entry("replay/empty")?.shape == [0, 4])
      #expect(try reader.text("plan/text") == "steps: 3\nname: »Größe« \u{1F600}\n")
      #expect(try reader.text("plan/nothing").isEmpty)
      #expect(reader.contains("rng/state") && !reader.contains("rng"))
      #expect(reader.names(under: "replay") == ["tokens", "lengths", "flags", "empty"])
      #expect(reader.names(under: "optimizer") == ["m/layers.0.weight", "step"])
      #expect(reader.names(under: "").count == 11)
      #expect(reader.groups.map(\.path) == ["model", "optimizer", "optimizer/m", "rng", "replay", "plan"])
      #expect(reader.groups[0].description == "Parameters under their Hugging Face names.")
      #expect(reader.groups[4].description == "Holds 4 datasets.")
    }
  }

  @Test func equalContentGivesEqualBytes() throws {
    try withTemporaryDirectory { folder in
      for name in ["a.h5", "b.h5"] {
        try sampleWriter().write(to: "\(folder)/\(name)", metadata: sampleMetadata)
      }
      #expect(try bytes(of: folder + "/a.h5") == bytes(of: folder + "/b.h5"))
      #expect(try names(in: folder) == ["a.h5", "b.h5"])
    }
  }

  @Test func readsIntoMemoryOfTheCaller() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      let values = (0..<700_000).map { Float($0) }
      try values.withUnsafeBytes { bytes in
        var writer = ArchiveWriter()
        writer.add("big", type: .float32, shape: [700, 1000], bytes: bytes)
        writer.add("rounded", bfloat16: values)
        try writer.write(to: path, metadata: [:])
      }
      let reader = try ArchiveReader(path: path)
      var target = [Float](repeating: 0, count: 700_000)
      try target.withUnsafeMutableBytes { try reader.read("big", into: $0) }
      #expect(target == values)
      try target.withUnsafeMutableBufferPointer { try reader.floats("rounded", into: $0) }
      #expect(target[1000] == 1000 && target[699_999] == BFloat16.expand(BFloat16.round(699_999)))
      let short = archiveError { try target.withUnsafeMutableBytes { try reader.read("rounded", into: $0) } }
      #expect(short?.kind == .incompatible)
    }
  }

  @Test func wrongQuestionsAreNamed() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      try sampleWriter().write(to: path, metadata: [:])
      let reader = try ArchiveReader(path: path)
      let absent = archiveError { _ = try reader.floats("model/nothing") }
      #expect(absent?.kind == .incompatible && absent?.description.contains("model/nothing") == true)
      let type = archiveError { _ = try reader.ints("model/layers.0.weight") }
      #expect(type?.kind == .incompatible && type?.reason.contains("F32 where I64") == true)
    }
  }

  @Test func contradictionsOfTheCallerAreRefused() throws {
    try withTemporaryDirectory { folder in
      let mistakes: [(inout ArchiveWriter) -> Void] = [
        { $0.add("a", floats: [1, 2], shape: [3]) },
        {
          $0.add("a", floats: [1])
          $0.add("a", floats: [2])
        },
        {
          $0.add("a", floats: [1])
          $0.add("a/b", floats: [2])
        },
        { $0.add("a//b", floats: [1]) }, { $0.add("/a", floats: [1]) }, { $0.add("", floats: [1]) },
        { $0.add("a/../b", floats: [1]) }, { $0.add("manifest", floats: [1]) },
        { $0.add("a\0b", floats: [1]) },
        { $0.add("a", floats: [1], shape: [-1, -1]) }, { $0.add("a", floats: [], shape: [.max, .max, 0]) },
        { $0.add("a", floats: [1], shape: [1, 1, 1, 1, 1, 1, 1, 1, 1]) },
        { $0.attribute("", "README", "x") }, { $0.attribute("g", "description", "x") },
        { $0.attribute("g", "x", [1]) },
        { $0.attribute("g", "x", .string(String(repeating: "y", count: 70_000))) },
      ]
      for (number, mistake) in mistakes.enumerated() {
        var writer = ArchiveWriter()
        mistake(&writer)
        let error = archiveError { try writer.write(to: folder + "/a.h5", metadata: [:]) }
        #expect(error?.kind == .invalid, "mistake \(number)")
      }
      // A product of zero takes no bytes however large the other side is.
      var writer = ArchiveWriter()
      writer.add("a", floats: [], shape: [1 << 40, 0])
      try writer.write(to: folder + "/a.h5", metadata: [:])
      #expect(try ArchiveReader(path: folder + "/a.h5").entry("a")?.shape == [1 << 40, 0])
    }
  }

  @Test func canonicallyEqualNamesAreTwoEntries() throws {
    try withTemporaryDirectory { folder in
      var writer = ArchiveWriter()
      writer.add("\u{E0}", floats: [1])
      writer.add("a\u{300}", floats: [2])
      try writer.write(to: folder + "/a.h5", metadata: [:])
      let reader = try ArchiveReader(path: folder + "/a.h5")
      #expect(try reader.floats("\u{E0}") == [1])
      #expect(try reader.floats("a\u{300}") == [2])
    }
  }

  @Test func manyEntriesInOneGroup() throws {
    try withTemporaryDirectory { folder in
      var writer = ArchiveWriter()
      for number in 0..<2000 {
        writer.add("g/t\(number)", floats: [Float(number)], description: "Number \(number).")
      }
      try writer.write(to: folder + "/a.h5", metadata: [:])
      let reader = try ArchiveReader(path: folder + "/a.h5")
      for number in stride(from: 0, to: 2000, by: 111) {
        #expect(try reader.floats("g/t\(number)") == [Float(number)])
      }
    }
  }

  @Test func severalWritersAtOnce() async throws {
    let folder = NSTemporaryDirectory() + "retain-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<8 {
        group.addTask {
          try sampleWriter(step: number).write(to: "\(folder)/\(number % 4).h5", metadata: sampleMetadata)
        }
      }
      try await group.waitForAll()
    }
    #expect(try names(in: folder) == ["0.h5", "1.h5", "2.h5", "3.h5"])
    for number in 0..<4 {
      let reader = try ArchiveReader(path: "\(folder)/\(number).h5")
      try reader.verify()
      #expect(try reader.ints("optimizer/step")[0] % 4 == number)
    }
  }
}
