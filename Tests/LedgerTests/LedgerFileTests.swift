// The ledger on disk: appended, cut at a checkpoint, torn by a crash, read back.

import Ledger
import StrictJSON
import TestKit
import Testing

@Suite struct LedgerFileTests {
  static func record(_ step: Int, seconds: Double) -> LedgerEvent {
    .step(
      StepRecord(
        stage: "medical", step: step, loss: 3 / Double(step), penalty: 0.1, learningRate: 1e-4,
        gradientNorm: 1,
        tokens: step * 64, seconds: seconds, tokensPerSecond: 64 / seconds))
  }
  static func start() -> LedgerEvent {
    .runStarted(
      name: "t", seed: 1, stages: ["medical"],
      probes: [ProbeInfo(name: "g", metric: "bits_per_byte", higherIsBetter: false)], confidence: 0.95,
      bootstrap: 50, environment: [.init("threads", 2)])
  }

  @Test func linesAreWholeAndStartWithTheEvent() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let writer = try LedgerWriter(path: path, truncatingTo: nil)
      try writer.append(LedgerFileTests.start())
      try writer.append(LedgerFileTests.record(1, seconds: 0.5))
      try writer.append(.warning("a \"quoted\"\nline"))
      let bytes = try TextFile.read(path)
      #expect(bytes.count == writer.offset && bytes.last == 0x0A)
      let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
      #expect(lines.count == 3 && lines.allSatisfy { $0.hasPrefix("{\"event\":\"") })
      let events = try LedgerReader.events(path)
      #expect(events[1]["loss"]?.double == 3 && events[1]["cost"]?["seconds"]?.double == 0.5)
      #expect(events[1]["cost"]?["time"]?.string?.count == 20)
      #expect(events[2]["text"]?.string == "a \"quoted\"\nline")
    }
  }

  @Test func aResumedRunRepeatsTheSameEvents() throws {
    try withTemporaryDirectory { folder in
      let whole = try LedgerWriter(path: folder + "/whole.jsonl", truncatingTo: 0)
      for step in 1...4 { try whole.append(LedgerFileTests.record(step, seconds: 0.25)) }
      let path = folder + "/cut.jsonl"
      var offset = 0
      do {
        let first = try LedgerWriter(path: path, truncatingTo: 0)
        for step in 1...2 { try first.append(LedgerFileTests.record(step, seconds: 0.7)) }
        offset = first.offset
        try first.append(.checkpoint(path: "c.h5", stage: "medical", step: 2, bytes: 9, seconds: 1))
        try first.append(LedgerFileTests.record(3, seconds: 0.7))
        try first.synchronize()
      }
      let second = try LedgerWriter(path: path, truncatingTo: offset)
      #expect(second.offset == offset && second.shortfall == 0)
      try second.append(.resumed(checkpoint: "c.h5", stage: "medical", step: 2))
      for step in 3...4 { try second.append(LedgerFileTests.record(step, seconds: 0.6)) }
      let events = try LedgerReader.events(path)
      #expect(events.count == 5)
      #expect(
        LedgerReader.repeatable(events)
          == LedgerReader.repeatable(try LedgerReader.events(folder + "/whole.jsonl")))
    }
  }

  @Test func tornAndForeignLines() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let good = "{\"event\":\"a\"}\n"
      try TextFile.replace(path, with: good + "{\"event\":\"b\",\"x\":[1,2")
      #expect(try LedgerReader.events(path).count == 1)
      let writer = try LedgerWriter(path: path, truncatingTo: nil)
      #expect(writer.offset == good.utf8.count)
      try writer.append(.warning("next"))
      #expect(try LedgerReader.events(path).count == 2)
      // A checkpoint that remembers more than the disk kept, and one that points into a line.
      let beyond = try LedgerWriter(path: path, truncatingTo: 10_000)
      #expect(beyond.shortfall == 10_000 - beyond.offset && beyond.offset > good.utf8.count)
      let inside = try LedgerWriter(path: path, truncatingTo: good.utf8.count + 3)
      #expect(inside.offset == good.utf8.count && inside.shortfall == 3)
      try TextFile.replace(path, with: good + "nonsense\n" + good)
      let nonsense = #expect(throws: LedgerError.self) { try LedgerReader.events(path) }
      #expect(nonsense?.line == 2 && nonsense?.kind == .malformed)
      try TextFile.replace(path, with: good + "{\"x\":1}\n")
      #expect(throws: LedgerError.self) { try LedgerReader.events(path) }
      let absent = #expect(throws: LedgerError.self) { try LedgerReader.events(folder + "/absent.jsonl") }
      #expect(absent?.kind == .missing)
      #expect(throws: LedgerError.self) { try TextFile.read(folder) }
    }
  }

  @Test func aLongTornLineIsFoundAcrossBlocks() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let good = "{\"event\":\"a\"}\n"
      try TextFile.replace(path, with: good + String(repeating: "x", count: 20_000))
      #expect(try LedgerWriter(path: path, truncatingTo: nil).offset == good.utf8.count)
      #expect(try TextFile.read(path).count == good.utf8.count)
    }
  }

  @Test func aFullDiskTakesBackTheLine() throws {
    guard TextFile.exists("/dev/full") else { return }
    // The device refuses ftruncate or write; either way it is an error with a place, never a crash.
    let full = #expect(throws: LedgerError.self) {
      let writer = try LedgerWriter(path: "/dev/full", truncatingTo: 0)
      try writer.append(.warning("lost"))
    }
    #expect(full?.path == "/dev/full")
  }

  @Test func theLedgerAloneGivesResults() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/ledger.jsonl"
      let writer = try LedgerWriter(path: path, truncatingTo: 0)
      #expect(try LedgerReader.results([]) == nil)
      try writer.append(LedgerFileTests.start())
      let before = measurement("g", "bits_per_byte", 1, spread: 0.2)
      let after = measurement("g", "bits_per_byte", 1.5, spread: 0.3)
      try writer.append(.measurement(before, after: "base"))
      try writer.append(.measurement(after, stage: "medical", step: 1))
      try writer.append(.measurement(after, after: "medical"))
      let events = try LedgerReader.events(path)
      let matrix = try LedgerReader.matrix(events)
      #expect(matrix.rows.map(\.after) == ["base", "medical"])
      #expect(matrix.measurement("g.bits_per_byte", after: "medical") == after)
      let results = try #require(try LedgerReader.results(events))
      #expect(results.status == .interrupted && close(results.summary.forgetting, 0.5))
      #expect(results.summary.forgettingCI != nil && results.environment.count == 1)
      #expect(try RetentionMatrix(JSON.parse(matrix.json.compact)) == matrix)
    }
  }
}
