// Rows that say exactly the same, within one set of training data.
// Equality is by bytes after white space at the ends is dropped; hashes only find candidates.

/// What was found about exact repetitions.
public struct DuplicateReport: Sendable {
  /// A row that repeats an earlier one.
  public struct Pair: Sendable, Equatable {
    /// Index of the first row that says this.
    public let first: Int
    /// Index of the row that says it again.
    public let again: Int
  }
  /// Indices of the rows that are left when repetitions are dropped, in order.
  public let kept: [Int]
  /// Every repetition, in order of the repeating row.
  public let repeated: [Pair]

  /// `12 of 400 rows repeat an earlier one`, with the first places; empty where nothing repeats.
  public func summary(of rows: [SourceRow], places: Int = 3) -> String {
    guard !repeated.isEmpty else { return "" }
    let named = repeated.prefix(places).compactMap { pair -> String? in
      guard rows.indices.contains(pair.first), rows.indices.contains(pair.again) else { return nil }
      let (first, again) = (rows[pair.first], rows[pair.again])
      return "\(again.file):\(again.line) repeats \(first.file):\(first.line)"
    }
    return "\(repeated.count) of \(kept.count + repeated.count) rows repeat an earlier one: "
      + named.joined(separator: ", ") + (repeated.count > places ? ", …" : "")
  }
}

public enum DuplicateFinder {
  /// Finds rows equal to an earlier one in all their fields.
  ///
  /// - Cost: linear; one hash and one index per row.
  public static func find(_ rows: [SourceRow]) -> DuplicateReport {
    var firstByHash: [UInt64: [Int]] = [:]
    firstByHash.reserveCapacity(rows.count)
    var kept: [Int] = []
    var repeated: [DuplicateReport.Pair] = []
    for (index, row) in rows.enumerated() {
      let identity = row.sample.identity
      let hash = stableHash(identity)
      let same = firstByHash[hash]?.first { rows[$0].sample.identity.utf8.elementsEqual(identity.utf8) }
      if let same {
        repeated.append(DuplicateReport.Pair(first: same, again: index))
      } else {
        firstByHash[hash, default: []].append(index)
        kept.append(index)
      }
    }
    return DuplicateReport(kept: kept, repeated: repeated)
  }
}

/// A hash of the UTF-8 bytes that is the same in every process (FNV-1a, then mixed).
func stableHash(_ text: String) -> UInt64 {
  var text = text
  return text.withUTF8 { bytes in
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return ShuffleGenerator.mix(hash)
  }
}
