// A save that fails leaves what was there, no temporary, and a clear error; one that succeeds is whole.
// Every system call of a save is made to fail in turn, in five ways.
@_spi(Testing) import Archive
import Foundation
import StrictJSON
import TestKit
import Testing

@Suite struct FaultTests {
  @Test func everyCallMayFail() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/a.h5"
      try sampleWriter(step: 1).write(to: path, metadata: ["old": true])
      let old = try bytes(of: path)
      let counting = FaultPlan(failing: 0, code: 0)
      try FaultPlan.$current.withValue(counting) { try sampleWriter(step: 2).write(to: path, metadata: [:]) }
      let new = try bytes(of: path)
      let calls = counting.calls
      #expect(calls > 30 && old != new)

      var kept = 0
      var complete = 0
      var late = 0
      let codes: [(Int32, FaultPlan.Mode)] = [
        (ENOSPC, .once), (EIO, .once), (EDQUOT, .always), (EINTR, .once), (0, .short),
      ]
      for (code, mode) in codes {
        for number in 1...calls {
          try put(old, at: path)
          let plan = FaultPlan(failing: number, code: code, mode: mode)
          let error = archiveError {
            try FaultPlan.$current.withValue(plan) {
              try sampleWriter(step: 2).write(to: path, metadata: [:])
            }
          }
          let after = try bytes(of: path)
          #expect(try names(in: folder) == ["a.h5"], "call \(number), code \(code)")
          if let error {
            #expect([.full, .io, .cannotCreate].contains(error.kind), "\(error)")
            if after == old {
              kept += 1
            } else {
              #expect(after == new && error.reason.contains("in place"), "call \(number), code \(code)")
              late += 1
            }
          } else {
            #expect(after == new, "silent success at call \(number), code \(code)")
            complete += 1
          }
        }
      }
      print(
        "faults: \(calls) calls x 5 ways: \(kept) kept the old file, \(late) late, \(complete) complete"
      )
      #expect(kept > calls * 2 && complete >= calls * 2 && late >= 1)
    }
  }

  @Test func smallFilesAreAtomicToo() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/results.json"
      try AtomicFile.write("old", to: path)
      for number in 1...8 {
        let plan = FaultPlan(failing: number, code: ENOSPC)
        let error = archiveError {
          try FaultPlan.$current.withValue(plan) { try AtomicFile.write("new", to: path) }
        }
        let text = String(decoding: try bytes(of: path), as: UTF8.self)
        #expect(text == (error == nil || error?.reason.contains("in place") == true ? "new" : "old"))
        #expect(try names(in: folder) == ["results.json"])
        if error == nil { break }
        try AtomicFile.write("old", to: path)
      }
      try AtomicFile.write([], to: path)
      #expect(try bytes(of: path).isEmpty)
    }
  }

  @Test func badDestinationsAreNamed() throws {
    try withTemporaryDirectory { folder in
      try FileManager.default.createDirectory(atPath: folder + "/d.h5", withIntermediateDirectories: false)
      try put([1], at: folder + "/file")
      let cases: [(String, ArchiveError.Kind)] = [
        (folder + "/d.h5", .cannotCreate), (folder + "/absent/a.h5", .cannotCreate),
        (folder + "/file/a.h5", .cannotCreate),
        ("/dev/null", .cannotCreate), (folder + "/", .cannotCreate), ("", .cannotCreate),
        (folder + "/a\0b", .cannotCreate),
        (folder + "/" + String(repeating: "n", count: 300), .cannotCreate),
      ]
      for (path, kind) in cases {
        #expect(archiveError { try sampleWriter().write(to: path, metadata: [:]) }?.kind == kind, "\(path)")
        #expect(archiveError { try AtomicFile.write("x", to: path) }?.kind == kind, "\(path)")
      }
      // Root may write anywhere, except where nobody may.
      let proc = archiveError { try AtomicFile.write("x", to: "/proc/a") }
      #expect(proc != nil)
      if geteuid() != 0 {
        chmod(folder, 0o500)
        #expect(archiveError { try AtomicFile.write("x", to: folder + "/y") }?.kind == .permission)
        chmod(folder, 0o700)
      }
      #expect(try names(in: folder) == ["d.h5", "file"])
    }
  }

  @Test func longNamesWithStrangeLettersWork() throws {
    try withTemporaryDirectory { folder in
      for name in [String(repeating: "ü", count: 120), "a\nb", "e\u{301}.h5", "😀.h5"] {
        try sampleWriter().write(to: folder + "/" + name, metadata: [:])
        try ArchiveReader(path: folder + "/" + name).verify()
      }
    }
  }

  @Test func onlyTemporariesOfTheDeadAreRemoved() throws {
    try withTemporaryDirectory { folder in
      let living = ".a.h5.\(getpid())-"
      let start = try #require(startOfThisProcess())
      let keep = [
        "a.h5", ".hidden", "\(living)\(start)-1.retain-tmp", ".x.retain-tmp", ".a.1-2.retain-tmp",
        ".a.x-y-z.retain-tmp",
      ]
      let drop = ["\(living)1-1.retain-tmp", ".a.b.99999999-5-3.retain-tmp"]
      for name in keep + drop { try put([1], at: folder + "/" + name) }
      #expect(try removeStaleTemporaries(in: folder).sorted() == drop.sorted())
      #expect(try names(in: folder) == keep.sorted())
      #expect(archiveError { try removeStaleTemporaries(in: folder + "/no") }?.kind == .missing)
    }
  }
  private func startOfThisProcess() -> String? {
    guard let text = try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8),
      let end = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    return fields.count > 19 ? String(fields[19]) : nil
  }

  @Test func theSecondHolderIsRefused() throws {
    try withTemporaryDirectory { folder in
      var first: DirectoryLock? = try DirectoryLock(directory: folder)
      let error = archiveError { _ = try DirectoryLock(directory: folder) }
      #expect(error?.kind == .locked && error?.kind.exitCode == 75)
      #expect(error?.reason.contains("process \(getpid())") == true)
      #expect(first != nil)
      first = nil
      _ = try DirectoryLock(directory: folder)
      #expect(archiveError { _ = try DirectoryLock(directory: folder + "/no") }?.kind == .cannotCreate)
    }
  }
}
