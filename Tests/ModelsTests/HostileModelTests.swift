// Models whose files claim what cannot be: refused by name, before anything is built or allocated.
import Archive
import Foundation
import Layers
import Models
import StrictJSON
import TensorCPU
import TestKit
import Testing

@Suite struct HostileModelTests {
  private let backend = CPUBackend(threads: 1)
  private let llama = "llama-tied-gqa"

  /// A fixture's config.json with other values under some keys.
  private func configuration(_ fixture: String, _ changes: [(String, JSON)]) throws -> JSON {
    let data = try #require(FileManager.default.contents(atPath: Fixtures.path("models/\(fixture)/config.json")))
    let members = try #require(try JSON.parse(Array(data)).members)
    let kept = members.filter { member in !changes.contains { $0.0 == member.key } }
    return .object(kept + changes.map { JSON.Member($0.0, $0.1) })
  }
  /// Loads a folder with that configuration and the fixture's weights.
  private func load(_ fixture: String, _ changes: [(String, JSON)]) throws {
    try withTemporaryDirectory { folder in
      let json = try configuration(fixture, changes)
      try json.compact.write(toFile: folder + "/config.json", atomically: true, encoding: .utf8)
      try FileManager.default.copyItem(
        atPath: Fixtures.path("models/\(fixture)/model.safetensors"), toPath: folder + "/model.safetensors")
      _ = try LoadedModel.load(folder, on: backend)
    }
  }
  /// Loads a Retain file with that configuration and no weights.
  private func loadArchive(_ fixture: String, _ changes: [(String, JSON)]) throws {
    try withTemporaryDirectory { folder in
      let path = folder + "/model.h5"
      let json = try configuration(fixture, changes)
      var archive = ArchiveWriter()
      archive.add("model/config.json", text: json.compact)
      try archive.write(to: path, metadata: ["kind": "model", "schema": 1])
      _ = try LoadedModel.load(path, on: backend)
    }
  }

  @Test func sizesBeyondTheLimitsAreNamed() throws {
    let sizes: [String: [(String, Int)]] = [
      llama: [
        ("num_hidden_layers", 513), ("hidden_size", 65_540), ("intermediate_size", 1_048_577),
        ("num_attention_heads", 1025), ("num_key_value_heads", 1025), ("head_dim", 65_538),
        ("max_position_embeddings", 1_048_577), ("vocab_size", 16_777_217),
      ],
      "gpt2-tied": [
        ("n_layer", 513), ("n_embd", 65_540), ("n_inner", 1_048_577), ("n_head", 1025), ("n_positions", 1_048_577),
        ("vocab_size", 16_777_217),
      ],
    ]
    for (fixture, keys) in sizes {
      for (key, size) in keys {
        let inFolder = #expect(throws: ModelError.self) { try load(fixture, [(key, .integer(size))]) }
        let inFile = #expect(throws: ModelError.self) { try loadArchive(fixture, [(key, .integer(size))]) }
        for error in [inFolder, inFile] {
          #expect(error?.kind == .invalid)
          #expect(error?.reason.hasPrefix("\(key) is \(size); expected an integer in 1...") == true)
        }
      }
    }
    // The largest number of layers is one: what is wrong then are the weights.
    let largest = #expect(throws: ModelError.self) { try load(llama, [("num_hidden_layers", 512)]) }
    #expect(largest?.reason.contains("is missing") == true)
  }

  /// Rotary tables have no tensor in the file that would contradict their size.
  @Test func rotaryTablesAreBounded() throws {
    let changes: [(String, JSON)] = [("max_position_embeddings", 1_048_576), ("head_dim", 512)]
    let error = #expect(throws: ModelError.self) { try load(llama, changes) }
    #expect(error?.kind == .invalid && error?.reason.contains("rotary tables") == true)
  }

  /// A petabyte by its configuration, and not one weight in the file.
  @Test func shapesAreComparedBeforeAnythingIsBuilt() throws {
    let changes: [(String, JSON)] = [
      ("num_hidden_layers", 512), ("hidden_size", 65_536), ("intermediate_size", 1_048_576),
    ]
    let error = #expect(throws: ModelError.self) { try loadArchive(llama, changes) }
    #expect(error?.kind == .invalid && error?.reason.contains("found nothing") == true)
  }

  /// A file with holes has every byte that its configuration asks for, and none of them on the disk.
  @Test func moreThanTheMachineHasIsRefused() throws {
    let changes: [(String, JSON)] = [
      ("num_hidden_layers", 1), ("hidden_size", 65_536), ("vocab_size", 16_777_216),
    ]
    try withTemporaryDirectory { folder in
      let json = try configuration(llama, changes)
      var (members, end): ([JSON.Member], Int) = ([], 0)
      for declaration in Llama.declarations(try Llama.configuration(json, path: "config.json")) {
        let start = end
        end += 2 * declaration.count
        members.append(
          JSON.Member(
            declaration.name,
            [
              "dtype": "BF16", "shape": .array(declaration.shape.map { .integer($0) }),
              "data_offsets": [.integer(start), .integer(end)],
            ]))
      }
      let header = Array(JSON.object(members).compact.utf8)
      let front = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header
      let path = folder + "/model.safetensors"
      try Data(front).write(to: URL(fileURLWithPath: path))
      // Two terabytes are more than some file systems let a file be.
      guard truncate(path, front.count + end) == 0 else { return }
      try json.compact.write(toFile: folder + "/config.json", atomically: true, encoding: .utf8)
      let error = #expect(throws: ArchiveError.self) { _ = try LoadedModel.load(folder, on: backend) }
      #expect(error?.kind == .memory)
    }
  }

  /// As in safetensors: what is no number is damage.
  @Test func weightsThatAreNotFiniteAreRefused() throws {
    let model = try LoadedModel.load(Fixtures.path("models/\(llama)"), on: backend)
    let parameter = try #require(model.transformer.parameters["model.norm.weight"])
    let whole = parameter.value.buffer[3]
    try withTemporaryDirectory { folder in
      let path = folder + "/model.h5"
      for type in [ElementType.float32, .bfloat16] {
        for value in [Float.nan, -Float.infinity] {
          parameter.value.buffer[3] = value
          try ModelFile.save(model, to: path, type: type)
          let error = #expect(throws: ArchiveError.self) { _ = try LoadedModel.load(path, on: backend) }
          #expect(error?.kind == .damaged)
          #expect(error?.reason == "model/parameters/model.norm.weight has 1 of 16 values that are not finite")
        }
        parameter.value.buffer[3] = whole
        try ModelFile.save(model, to: path, type: type)
        _ = try LoadedModel.load(path, on: backend)
      }
    }
  }

  @Test func classifiersAreBounded() {
    func sizes(_ inputs: Int) -> JSON {
      ["model_type": "mlp", "inputs": .integer(inputs), "hidden_sizes": [4], "classes": [2]]
    }
    #expect(MLPConfiguration(sizes(1 << 24)) != nil && MLPConfiguration(sizes(1 << 24 + 1)) == nil)
    #expect(MLPConfiguration(sizes(.max)) == nil && MLPConfiguration(sizes(0)) == nil)
  }
}
