// What the archive tests share: a small archive with one entry of every kind, and short ways to files.
// Faults and damage need many files quickly, so everything here is a few kilobytes.
import Archive
import Foundation
import StrictJSON

func sampleWriter(step: Int = 7) -> ArchiveWriter {
  var writer = ArchiveWriter()
  writer.group("model", description: "Parameters under their Hugging Face names.")
  writer.group("optimizer/m", description: "First moments.")
  writer.attribute("", "run", "clinic-court")
  writer.attribute("model", "layers", 2)
  writer.attribute("model", "dropout", 0.1)
  writer.attribute("model", "tied", true)
  writer.attribute("model", "note", "")
  let values = (0..<1500).map { Float($0) * 0.25 - 3 }
  writer.add("model/layers.0.weight", floats: values, shape: [30, 50], description: "In by out.")
  writer.add(
    "model/layers.0.bias", bfloat16: [1, -2.5, 0.1, .infinity, Float(bitPattern: 0x30000)], shape: [5])
  writer.add("optimizer/m/layers.0.weight", doubles: [.pi, -0.0, 1e300])
  writer.add("optimizer/step", ints: [step], shape: [], description: "Steps taken.")
  writer.add("rng/state", uint64s: [1, .max, 1 << 63])
  writer.add("replay/tokens", int32s: [1, -2, 3, 4, 5, 6], shape: [2, 3])
  writer.add("replay/lengths", uint16s: [3, 65535])
  writer.add("replay/flags", uint8s: [0, 255, 7])
  writer.add("replay/empty", floats: [], shape: [0, 4])
  writer.add("plan/text", text: "steps: 3\nname: »Größe« \u{1F600}\n")
  writer.add("plan/nothing", text: "")
  return writer
}
let sampleMetadata: JSON = [
  "step": 7, "stage": "medical", "loss": 0.5, "list": [1, 2.5, nil, true], "deep": ["a": ["b": []]],
]

func bytes(of path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
func put(_ bytes: [UInt8], at path: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }
func names(in folder: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
}

/// The error of a call that must fail with one.
func archiveError(_ body: () throws -> Void) -> ArchiveError? {
  do { try body() } catch { return error as? ArchiveError }
  return nil
}

/// A generator that gives every test the same numbers each time.
struct Numbers: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
