// Safetensors: what we write we read, what transformers wrote we read, hostile headers are refused.
// Real models are used where the shared folder is present; the small files here cover the same code.
import Archive
import Foundation
import StrictJSON
import TestKit
import Testing

/// A file with this header and this many bytes of data.
private func file(_ header: String, data: Int = 0, length: UInt64? = nil) -> [UInt8] {
  let text = Array(header.utf8)
  return withUnsafeBytes(of: (length ?? UInt64(text.count)).littleEndian) { Array($0) } + text
    + [UInt8](repeating: 0, count: data)
}
private func tensor(
  _ name: String = "a", _ dtype: String = "F32", _ shape: String = "[2]", _ offsets: String = "[0,8]"
) -> String {
  #""\#(name)":{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":\#(offsets)}"#
}

@Suite struct SafetensorsTests {
  private func error(_ bytes: [UInt8]) throws -> ArchiveError? {
    try withTemporaryDirectory { folder in
      try put(bytes, at: folder + "/m.safetensors")
      return archiveError { _ = try SafetensorsFile(path: folder + "/m.safetensors") }
    }
  }

  @Test func roundTrip() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/model.safetensors"
      let a = (0..<600_001).map { Float($0) - 3.5 }
      let b: [Float] = [0.1, -0.2, 3e38]
      let c: [Float] = []
      try a.withUnsafeBufferPointer { a in
        try b.withUnsafeBufferPointer { b in
          try c.withUnsafeBufferPointer { c in
            let tensors: [SafetensorsWriter.Tensor] = [
              ("z.odd", [3], .bfloat16, b), ("wide", [600_001, 1], .bfloat16, a),
              ("a", [600_001], .float32, a),
              ("none", [0, 7], .float32, c), ("scalar", [], .float32, .init(rebasing: a[0..<1])),
            ]
            #expect(
              try SafetensorsWriter.write(tensors, metadata: ["who": "»us«"], to: path) == [
                "model.safetensors"
              ])
            let first = try bytes(of: path)
            try SafetensorsWriter.write(tensors.reversed(), metadata: ["who": "»us«"], to: path)
            #expect(try bytes(of: path) == first)
          }
        }
      }
      let file = try SafetensorsFile(path: path)
      #expect(file.metadata.map(\.0) == ["format", "who"] && file.metadata[1].1 == "»us«")
      #expect(try file.floats("a") == a)
      #expect(try file.floats("wide") == a.map { BFloat16.expand(BFloat16.round($0)) })
      #expect(try file.floats("none").isEmpty)
      #expect(try file.floats("scalar") == [-3.5])
      #expect(file.tensor("wide")?.shape == [600_001, 1] && file.tensor("wide")?.dtype == "BF16")
      for tensor in file.tensors where tensor.dtype == "F32" { #expect(tensor.offset % 4 == 0) }
      #expect(try names(in: folder) == ["model.safetensors"])
    }
  }

  @Test func shardsComeBackAsOneModel() throws {
    try withTemporaryDirectory { folder in
      let values = (0..<100).map { Float($0) }
      try values.withUnsafeBufferPointer { data in
        let tensors = (0..<7).map {
          (name: "layer.\($0)", shape: [10, 10], type: ElementType.float32, data: data)
        }
        let written = try SafetensorsWriter.write(
          tensors, to: folder + "/model.safetensors", maximumShardBytes: 900)
        #expect(written.count == 5 && written[0] == "model-00001-of-00004.safetensors")
        #expect(written[4] == "model.safetensors.index.json")
      }
      let model = try SafetensorsModel(folder: folder)
      #expect(model.names == (0..<7).map { "layer.\($0)" })
      #expect(try model.floats("layer.6") == values)
      #expect(model.shape(of: "layer.3") == [10, 10] && model.shape(of: "layer.9") == nil)
      #expect(archiveError { _ = try model.floats("layer.9") }?.kind == .incompatible)
      let index = folder + "/model.safetensors.index.json"
      for (name, map) in [
        ("outside", #"{"layer.0":"../model-00001-of-00004.safetensors"}"#),
        ("absolute", #"{"layer.0":"/etc/passwd"}"#),
        ("absent", #"{"layer.0":"other.safetensors"}"#), ("not text", #"{"layer.0":1}"#),
        ("wrong shard", #"{"layer.0":"model-00004-of-00004.safetensors"}"#),
        ("twice", #"{"layer.0":"a","layer.0":"b"}"#),
      ] {
        try put(Array(#"{"weight_map":\#(map)}"#.utf8), at: index)
        #expect(archiveError { _ = try SafetensorsModel(folder: folder) }?.kind == .damaged, "\(name)")
      }
      for text in ["", "[]", "{}", #"{"weight_map":[]}"#] {
        try put(Array(text.utf8), at: index)
        #expect(archiveError { _ = try SafetensorsModel(folder: folder) }?.kind == .damaged, "\(text)")
      }
    }
  }

  @Test func pickleIsNeverLoaded() throws {
    try withTemporaryDirectory { folder in
      #expect(archiveError { _ = try SafetensorsModel(folder: folder) }?.kind == .missing)
      try put([0x80, 2], at: folder + "/pytorch_model.bin")
      let error = archiveError { _ = try SafetensorsModel(folder: folder) }
      #expect(
        error?.kind == .unsupported && error?.kind.exitCode == 69
          && error?.reason.contains("pickle is never loaded") == true)
      #expect(archiveError { _ = try SafetensorsModel(folder: folder + "/no") }?.kind == .missing)
    }
  }

  @Test func hostileHeadersAreRefused() throws {
    #expect(try error(file("{" + tensor() + "}", data: 8)) == nil)
    #expect(try error(file("{" + tensor() + "}   ", data: 8)) == nil)
    #expect(try error(file("{}")) == nil)
    // Tensors without elements may share a place, in any order of the header.
    #expect(
      try error(
        file(
          "{" + tensor("b", "F32", "[2]", "[0,8]") + "," + tensor("z", "F32", "[0,3]", "[0,0]") + "}", data: 8
        )) == nil)
    #expect(
      try error(file("{" + tensor("b", "F32", "[2]", "[8,16]") + "," + tensor() + "}", data: 16)) == nil)
    let deep = String(repeating: "[", count: 4000)
    let cases: [(String, [UInt8])] = [
      ("S1 empty", []), ("S1 seven bytes", [UInt8](repeating: 0, count: 7)),
      ("S1 longer than the file", file("{}", length: 3)),
      ("S1 2^63", file("{}", length: 1 << 63)), ("S1 2^64-1", file("{}", length: .max)),
      ("S2 huge", file("{}", length: 100_000_001)),
      ("S3 start", file(" {}")), ("S3 end", file("{}\n")), ("S3 garbage", file("{}x")),
      ("S3 array", file("[]")),
      ("S3 UTF-8", file("{}").dropLast(1) + [0xFF]), ("S3 BOM", file("\u{FEFF}{}")),
      ("S3 depth", file("{\"a\":\(deep)}")),
      ("S3 no header", file("")),
      ("S4 twice", file("{" + tensor() + "," + tensor() + "}", data: 8)),
      ("S5 hole", file("{" + tensor("a", "F32", "[2]", "[4,12]") + "}", data: 12)),
      ("S5 overlap", file("{" + tensor() + "," + tensor("b", "F32", "[2]", "[4,12]") + "}", data: 12)),
      ("S5 same place", file("{" + tensor() + "," + tensor("b") + "}", data: 8)),
      ("S5 backwards", file("{" + tensor("a", "F32", "[2]", "[8,0]") + "}", data: 8)),
      ("S6 beyond", file("{" + tensor("a", "F32", "[4]", "[0,16]") + "}", data: 8)),
      ("S6 polyglot", file("{" + tensor() + "}", data: 9)),
      (
        "S7 overflow",
        file("{" + tensor("a", "U8", "[4194305,4194305,211106198978564]", "[0,4]") + "}", data: 4)
      ),
      ("S7 bytes overflow", file("{" + tensor("a", "F64", "[2305843009213693953]", "[0,8]") + "}", data: 8)),
      ("S8 size", file("{" + tensor("a", "F16") + "}", data: 8)),
      ("S8 dtype", file("{" + tensor("a", "F4") + "}", data: 8)),
      ("S9 zero with bytes", file("{" + tensor("a", "F32", "[0]") + "}", data: 8)),
      ("S10 negative", file("{" + tensor("a", "F32", "[2]", "[-8,0]") + "}", data: 8)),
      ("S10 fraction", file("{" + tensor("a", "F32", "[2]", "[0,8.0]") + "}", data: 8)),
      ("S10 exponent", file("{" + tensor("a", "F32", "[2]", "[0,8e0]") + "}", data: 8)),
      ("S10 text", file("{" + tensor("a", "F32", "[2]", "[0,\"8\"]") + "}", data: 8)),
      ("S10 three", file("{" + tensor("a", "F32", "[2]", "[0,4,8]") + "}", data: 8)),
      ("S10 huge", file("{" + tensor("a", "F32", "[2]", "[0,99999999999999999999]") + "}", data: 8)),
      ("S10 ranks", file("{" + tensor("a", "F32", "[1,1,1,1,1,1,1,1,2]") + "}", data: 8)),
      ("S10 negative side", file("{" + tensor("a", "F32", "[-2,-1]") + "}", data: 8)),
      ("S11 long name", file("{" + tensor(String(repeating: "n", count: 513)) + "}", data: 8)),
      ("S12 list", file("{\"__metadata__\":[]}")), ("S12 number", file("{\"__metadata__\":{\"a\":1}}")),
      ("members", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", data: 8)), ("number", file("{\"a\":1}")),
      ("extra member", file("{" + tensor().dropLast() + ",\"x\":1}}", data: 8)),
    ]
    for (name, bytes) in cases {
      let found = try error(bytes)
      #expect(
        found?.kind == .damaged || (name == "S8 dtype" && found?.kind == .unsupported),
        "\(name): \(String(describing: found))")
    }
    #expect(try error(cases[14 + 1].1)?.reason.contains("\"a\"") == true)
    let nasty = try error(file("{" + tensor("\\u0000/../\\n\\u001b[2J", "F32", "[9]") + "}", data: 8))
    #expect(nasty?.description.utf8.contains { $0 < 0x20 } == false)
  }

  @Test func namesAreBytes() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/m.safetensors"
      try put(
        file("{" + tensor("\u{E0}") + "," + tensor("a\u{300}", "F32", "[1]", "[8,12]") + "}", data: 12),
        at: path)
      let model = try SafetensorsFile(path: path)
      #expect(model.tensor("\u{E0}")?.count == 2 && model.tensor("a\u{300}")?.count == 1)
    }
  }

  @Test func mutatedFilesNeverTrap() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/m.safetensors"
      let whole = file(
        "{\"__metadata__\":{\"format\":\"pt\"}," + tensor() + "," + tensor("b", "BF16", "[2,2]", "[8,16]")
          + "}", data: 16)
      var random = Numbers(state: 9)
      for _ in 0..<3000 {
        var mutated = whole
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let position = Int.random(in: 0..<mutated.count, using: &random)
          mutated[position] =
            Bool.random(using: &random)
            ? UInt8.random(in: 0...255, using: &random) : UInt8.random(in: 0x30...0x39, using: &random)
        }
        if Int.random(in: 0..<10, using: &random) == 0 {
          mutated.removeLast(Int.random(in: 0..<mutated.count, using: &random))
        }
        try put(mutated, at: path)
        guard let model = try? SafetensorsFile(path: path) else { continue }
        for tensor in model.tensors { _ = try? model.floats(tensor.name) }
      }
    }
  }

  @Test func otherTypesAndNonFiniteValues() throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/m.safetensors"
      var bytes = file(
        "{" + tensor("d", "F64", "[2]", "[0,16]") + "," + tensor("h", "F16", "[3]", "[16,22]") + ","
          + tensor("i", "I16", "[1]", "[22,24]") + "}")
      for value in [1.5, -1e-300] {
        bytes += withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
      }
      for bits: UInt16 in [0x3C00, 0x7C00, 0x0001] { bytes += [UInt8(bits & 255), UInt8(bits >> 8)] }
      try put(bytes + [1, 0], at: path)
      let model = try SafetensorsFile(path: path)
      #expect(try model.floats("d") == [1.5, -0.0])
      let error = archiveError { _ = try model.floats("h") }
      #expect(error?.kind == .damaged && error?.reason.contains("\"h\" has 1 of 3 values") == true)
      #expect(try model.floats("h", allowNonFinite: true) == [1, .infinity, 0x1p-24])
      #expect(archiveError { _ = try model.floats("i") }?.kind == .unsupported)
      #expect(archiveError { _ = try model.floats("no") }?.kind == .incompatible)
      var three = [Float](repeating: 0, count: 3)
      let count = archiveError {
        try three.withUnsafeMutableBufferPointer { try model.floats("d", into: $0) }
      }
      #expect(count?.kind == .incompatible)
      // Cut short after it was opened.
      #expect(truncate(path, 20) == 0)
      #expect(archiveError { _ = try model.floats("h", allowNonFinite: true) }?.kind == .damaged)
    }
  }

  @Test(.enabled(if: SharedData.isPresent)) func realModelsAreRead() throws {
    for name in [
      "names-en", "names-tr", "sort-abc", "babyllama-105", "stories260k", "stories260k-bf16-sharded",
    ] {
      guard let folder = SharedData.path("models/" + name) else {
        print("models/\(name) is absent: skipped")
        continue
      }
      let model = try SafetensorsModel(folder: folder)
      var count = 0
      for name in model.names { count += try model.floats(name).count }
      print("\(name): \(model.names.count) tensors, \(count) numbers")
      #expect(count > 80_000)
    }
    // The sharded model is the whole one rounded to bfloat16.
    guard let whole = SharedData.path("models/stories260k"),
      let sharded = SharedData.path("models/stories260k-bf16-sharded")
    else { return }
    let a = try SafetensorsModel(folder: whole)
    let b = try SafetensorsModel(folder: sharded)
    #expect(Set(a.names) == Set(b.names))
    for name in a.names {
      #expect(a.shape(of: name) == b.shape(of: name))
      #expect(try a.floats(name).map { BFloat16.expand(BFloat16.round($0)) } == b.floats(name), "\(name)")
    }
  }
}
