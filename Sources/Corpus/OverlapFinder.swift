// Probe documents that stand in the training data: shared runs of 13 words, as language-model papers count them.
// The runs of the probes are indexed and the training rows stream past, so memory follows the probes, not the data.

/// What a probe shares with the training rows that were scanned.
public struct ProbeOverlap: Sendable {
  public struct Leak: Sendable, Equatable {
    /// Index of the document among the probe's rows.
    public let document: Int
    public let file: String
    public let line: Int
    /// Share of the document's runs that stand in training rows; 1 for a short document found as a whole.
    public let share: Double
    /// The first training row that holds one of them.
    public let trainingFile: String
    public let trainingLine: Int
  }
  public let probe: String
  public let documents: Int
  /// Documents at or above the share, in order.
  public let leaks: [Leak]
  /// Leaked documents ÷ documents.
  public var leakedShare: Double { documents == 0 ? 0 : Double(leaks.count) / Double(documents) }
  /// Share of all runs of the probe that stand in training rows.
  public let runShare: Double
}

/// Finds leaked probe documents in one pass over the training rows.
///
/// A document leaks when at least `documentShare` of its runs of `ngram` words (lower case, punctuation dropped)
/// stand in training rows; one with fewer words leaks when a whole training row has the same words.
public struct OverlapFinder: Sendable {
  private struct Document: Sendable {
    let probe: Int
    let index: Int
    let file: String
    let line: Int
    /// Where its runs stand in `runs`; empty for a short document, whose one hash is in `shortDocuments`.
    let runs: Range<Int>
  }
  private let hasher: RunHasher
  private let documentShare: Double
  private let probes: [(name: String, documents: Int)]
  private var documents: [Document] = []
  /// Slots in `table` of every run of every document.
  private var runs: [Int] = []
  private var table = RunTable()
  /// Hash of all words of a short document → its documents.
  private var shortDocuments: [UInt64: [Int]] = [:]
  private var shortFound: [Int: Place] = [:]

  fileprivate struct Place: Sendable {
    let file: String
    let line: Int
  }

  /// Indexes the probes.
  public init(
    probes: [(name: String, rows: [SourceRow])], ngram: Int = 13, documentShare: Double = 0.2
  ) {
    hasher = RunHasher(length: ngram)
    self.documentShare = documentShare
    self.probes = probes.map { ($0.name, $0.rows.count) }
    for (probe, rows) in probes.map(\.rows).enumerated() {
      for (index, row) in rows.enumerated() {
        let start = runs.count
        let (words, whole) = hasher.runs(of: row.sample.plainText) { runs.append(table.insert($0)) }
        if words > 0, words < hasher.length { shortDocuments[whole, default: []].append(documents.count) }
        documents.append(
          Document(probe: probe, index: index, file: row.file, line: row.line, runs: start..<runs.count))
      }
    }
  }

  /// Marks what the training rows hold; may be called once per file.
  ///
  /// - Cost: linear in the text; nothing is stored but the first place of each run found.
  public mutating func scan(_ rows: [SourceRow]) {
    for row in rows {
      let place = Place(file: row.file, line: row.line)
      let (words, whole) = hasher.runs(of: row.sample.plainText) { table.mark($0, place) }
      guard words > 0, words < hasher.length, let found = shortDocuments[whole] else { continue }
      for document in found where shortFound[document] == nil { shortFound[document] = place }
    }
  }

  /// What the rows scanned so far share with each probe, in the order of the probes.
  public func result() -> [ProbeOverlap] {
    var leaks: [[ProbeOverlap.Leak]] = probes.map { _ in [] }
    var found = probes.map { _ in 0 }
    var total = probes.map { _ in 0 }
    for (number, document) in documents.enumerated() {
      let hits = document.runs.compactMap { table.place(of: runs[$0]) }
      found[document.probe] += hits.count
      total[document.probe] += document.runs.count
      let share = document.runs.isEmpty ? 1 : Double(hits.count) / Double(document.runs.count)
      guard let place = document.runs.isEmpty ? shortFound[number] : hits.first, share >= documentShare else {
        continue
      }
      leaks[document.probe].append(
        ProbeOverlap.Leak(
          document: document.index, file: document.file, line: document.line, share: share,
          trainingFile: place.file, trainingLine: place.line))
    }
    return probes.indices.map {
      ProbeOverlap(
        probe: probes[$0].name, documents: probes[$0].documents, leaks: leaks[$0],
        runShare: total[$0] == 0 ? 0 : Double(found[$0]) / Double(total[$0]))
    }
  }
}

/// Run hashes and where each was first seen in training: open addressing, at most half full.
private struct RunTable: Sendable {
  /// Position in `keys` + 1, or 0 for a free slot.
  private var slots = [UInt32](repeating: 0, count: 1024)
  private var keys: [UInt64] = []
  /// Index in `places` + 1, or 0 where the run was not seen.
  private var seen: [UInt32] = []
  private var places: [OverlapFinder.Place] = []
  /// One bit per hash value of 2²⁰: most training words are told apart here, in cache.
  private var filter = [UInt64](repeating: 0, count: 1 << 14)

  private func find(_ key: UInt64) -> Int {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: key) & mask
    while slots[slot] != 0, keys[Int(slots[slot]) - 1] != key { slot = (slot + 1) & mask }
    return slot
  }

  /// The number of the key, new or old.
  mutating func insert(_ key: UInt64) -> Int {
    let slot = find(key)
    if slots[slot] != 0 { return Int(slots[slot]) - 1 }
    keys.append(key)
    seen.append(0)
    slots[slot] = UInt32(truncatingIfNeeded: keys.count)
    let bit = key >> 44
    filter[Int(bit >> 6)] |= 1 << (bit & 63)
    if keys.count * 2 > slots.count {
      slots = [UInt32](repeating: 0, count: slots.count * 2)
      for (number, key) in keys.enumerated() { slots[find(key)] = UInt32(truncatingIfNeeded: number + 1) }
    }
    return keys.count - 1
  }

  mutating func mark(_ key: UInt64, _ place: OverlapFinder.Place) {
    let bit = key >> 44
    guard filter[Int(bit >> 6)] & (1 << (bit & 63)) != 0 else { return }
    let slot = find(key)
    guard slots[slot] != 0, seen[Int(slots[slot]) - 1] == 0 else { return }
    if places.last.map({ $0.line != place.line || $0.file != place.file }) ?? true { places.append(place) }
    seen[Int(slots[slot]) - 1] = UInt32(truncatingIfNeeded: places.count)
  }

  func place(of number: Int) -> OverlapFinder.Place? {
    seen[number] == 0 ? nil : places[Int(seen[number]) - 1]
  }
}
