// Which rows are held back for validation when no validation file is given (`val_set_size`).
// The text decides, not the place: added rows do not move others, and equal texts stay on one side.

public enum Holdout {
  /// Splits row indices by a hash of the rows' text: about `fraction` of them for validation, at least one row.
  ///
  /// - Parameter fraction: 0 for none; values outside [0, 1] are clamped.
  public static func split(_ rows: [SourceRow], fraction: Double) -> (train: [Int], validation: [Int]) {
    guard fraction > 0 else { return (Array(rows.indices), []) }
    return split(hashes: rows.map { stableHash($0.sample.plainText.trimmed) }, fraction: fraction)
  }

  /// Splits indices by the hash of what stands there, as `split(_:fraction:)` does by that of texts.
  public static func split(hashes: [UInt64], fraction: Double) -> (train: [Int], validation: [Int]) {
    guard fraction > 0, !hashes.isEmpty else { return (Array(hashes.indices), []) }
    // The top 53 bits of a hash as a number in [0, 1).
    func share(_ hash: UInt64) -> Double { Double(hash >> 11) * 0x1p-53 }
    var isHeld = hashes.map { share($0) < fraction }
    if !isHeld.contains(true), let smallest = hashes.min() { isHeld = hashes.map { $0 == smallest } }
    return (hashes.indices.filter { !isHeld[$0] }, hashes.indices.filter { isHeld[$0] })
  }
}
