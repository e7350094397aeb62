// A tensor: a rectangular window of Float32 on a buffer.
// Two extents suffice: batches are flattened to [tokens, channels], and a head is a range of columns.

/// A matrix of Float32 with a row stride; a vector is a matrix with one row.
///
/// - Shapes: `[rows, columns]`, row-major; element (r, c) lies at `offset + r·stride + c`
public struct Tensor: Sendable {
  public let storage: Storage
  public let offset: Int
  public let rows: Int
  public let columns: Int
  public let stride: Int

  public init(storage: Storage, offset: Int, rows: Int, columns: Int, stride: Int) {
    precondition(
      rows == 0 || offset + (rows - 1) * stride + columns <= storage.count,
      "window [\(rows), \(columns)] stride \(stride) at \(offset) exceeds a buffer of \(storage.count)")
    self.storage = storage
    self.offset = offset
    self.rows = rows
    self.columns = columns
    self.stride = stride
  }

  public var count: Int { rows * columns }
  public var isContiguous: Bool { stride == columns || rows <= 1 }
  /// The first element, for backends: who writes through it drops `storage.rounded` or renews it.
  public var base: UnsafeMutablePointer<Float> { storage.base + offset }
  /// All elements of a contiguous tensor, to read and to write; a rounded copy of them is given up.
  public var buffer: UnsafeMutableBufferPointer<Float> {
    precondition(isContiguous, "a strided window has no single buffer")
    storage.rounded = nil
    return UnsafeMutableBufferPointer(start: base, count: count)
  }

  /// A window on some rows. [R, C] → [rows.count, C]
  public func rows(_ range: Range<Int>) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
    return Tensor(
      storage: storage, offset: offset + range.lowerBound * stride, rows: range.count, columns: columns,
      stride: stride)
  }
  /// A window on some columns. [R, C] → [R, columns.count]
  public func columns(_ range: Range<Int>) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
    return Tensor(
      storage: storage, offset: offset + range.lowerBound, rows: rows, columns: range.count, stride: stride)
  }
  /// The same contiguous elements under another shape.
  public func reshaped(_ rows: Int, _ columns: Int) -> Tensor {
    precondition(isContiguous && rows * columns == count, "[\(self.rows), \(self.columns)] → [\(rows), \(columns)]")
    return Tensor(storage: storage, offset: offset, rows: rows, columns: columns, stride: columns)
  }
  /// A contiguous range of the elements as a vector. [R, C] → [1, range.count]
  public func slice(_ range: Range<Int>) -> Tensor {
    precondition(isContiguous && range.lowerBound >= 0 && range.upperBound <= count, "slice \(range) of \(count)")
    return Tensor(
      storage: storage, offset: offset + range.lowerBound, rows: 1, columns: range.count, stride: range.count)
  }

  /// A copy of the elements, row by row.
  public func toArray() -> [Float] {
    if isContiguous { return Array(UnsafeBufferPointer(start: base, count: count)) }
    return (0..<rows).flatMap { Array(UnsafeBufferPointer(start: base + $0 * stride, count: columns)) }
  }
  /// Overwrites the elements of a contiguous tensor.
  public func assign(_ values: [Float]) {
    precondition(values.count == count, "\(values.count) values for \(count) elements")
    _ = buffer.update(fromContentsOf: values)
  }
}
