// Checks of meaning, after the checksums: what no run would have written, looked for by `retain verify` and before a resume.
import Archive

/// Numbers of a checkpoint that make no sense although every checksum holds.
public struct SenseCheck {
  private let archive: ArchiveReader
  public private(set) var faults: [String] = []
  /// How many numbers were looked at.
  public private(set) var numbers = 0

  public init(_ archive: ArchiveReader) { self.archive = archive }

  /// Looks at every number.
  ///
  /// - Parameter vocabulary: rows of the embedding; nil for classifiers
  /// - Cost: reading the file once
  public mutating func run(vocabulary: Int?) throws {
    for entry in archive.entries where [.float32, .bfloat16, .float64].contains(entry.type) { try values(entry) }
    try tokens(below: vocabulary)
  }

  /// Finite, and not negative where the quantity is a mean of squares.
  private mutating func values(_ entry: EntryInfo) throws {
    let parts = entry.path.split(separator: "/")
    let isSquare =
      entry.path.hasPrefix("optimizer/second_moment/")
      || (parts.count > 3 && parts[0] == "methods" && parts[2] == "fisher")
    numbers += entry.count
    // The best validation loss is infinite until there is one; rises are figures for people.
    if entry.path == "progress/losses" || entry.path.hasSuffix("/rises") { return }
    var (infinite, negative) = (0, 0)
    if entry.type == .float64 {
      for value in try archive.doubles(entry.path) where !value.isFinite { infinite += 1 }
    } else {
      for value in try archive.floats(entry.path) {
        if !value.isFinite { infinite += 1 } else if value < 0 { negative += 1 }
      }
    }
    if infinite > 0 { faults.append("\(entry.path): \(infinite) of \(entry.count) values are not finite") }
    if isSquare, negative > 0 {
      faults.append(
        "\(entry.path): \(negative) of \(entry.count) values are negative where squares should stand")
    }
  }

  /// Replayed tokens are rows of the embedding; targets too, or below 0.
  private mutating func tokens(below vocabulary: Int?) throws {
    guard let vocabulary else { return }
    for entry in archive.entries where entry.type == .int32 && entry.path.hasPrefix("methods/") {
      let ids = try archive.int32s(entry.path)
      numbers += ids.count
      // Bits of Float32, whose infinities may be logarithms of nothing.
      if entry.path.hasSuffix("soft/values") {
        let bad = ids.count { Float(bitPattern: UInt32(bitPattern: $0)).isNaN }
        if bad > 0 { faults.append("\(entry.path): \(bad) of \(ids.count) values are not numbers") }
        continue
      }
      let mayBeNegative = entry.path.hasSuffix("/targets")
      let bad = ids.reduce(0) { $0 + (Int($1) >= vocabulary || ($1 < 0 && !mayBeNegative) ? 1 : 0) }
      if bad > 0 {
        faults.append("\(entry.path): \(bad) of \(ids.count) token ids are not below \(vocabulary)")
      }
    }
  }
}
