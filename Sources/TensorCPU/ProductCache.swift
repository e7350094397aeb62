// Prepared products of oneDNN, by shape: preparing one takes up to a millisecond, so a shape that returns is kept.
import COneDNN

/// One product of a fixed shape, ready to run on any thread.
final class PreparedProduct: @unchecked Sendable {
  private let handle: OpaquePointer
  fileprivate var lastUse = 0

  /// nil where oneDNN is absent or has no fast implementation.
  fileprivate init?(_ shape: ProductShape) {
    var plain = codnn_shape(
      m: shape.m, n: shape.n, k: shape.k, stride_a: shape.strideA, stride_b: shape.strideB,
      stride_c: shape.strideC, transpose_a: shape.transposeA ? 1 : 0, transpose_b: shape.transposeB ? 1 : 0,
      accumulate: shape.accumulate ? 1 : 0, element: Int32(shape.isBF16 ? CODNN_BF16 : CODNN_F32))
    guard let handle = codnn_product_create(&plain) else { return nil }
    self.handle = handle
  }
  deinit { codnn_product_destroy(handle) }

  /// On the calling thread.
  func run(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ c: UnsafeMutablePointer<Float>) {
    codnn_product_run(handle, a, b, c)
  }
}

/// What decides how a product is computed: C [m, n] ← op(A) [m, k] · op(B) [k, n].
struct ProductShape: Hashable {
  var m: Int
  var n: Int
  var k: Int
  var strideA: Int
  var strideB: Int
  var strideC: Int
  var transposeA: Bool
  var transposeB: Bool
  var accumulate: Bool
  var isBF16: Bool

  /// Below this many multiply-adds a call of oneDNN costs more than it saves.
  static let smallest = 1 << 18
  var isSmall: Bool { m * n * k < Self.smallest }

  /// A chunk of this product along one of its extents.
  func chunk(_ axis: ProductCut.Axis, _ size: Int) -> ProductShape {
    var part = self
    switch axis {
    case .rows: part.m = size
    case .columns: part.n = size
    case .terms: part.k = size
    }
    return part
  }

  /// Where the product is cut for threads; by its extents alone, so that results do not depend on their number.
  ///
  /// Along the longer side of C into an even number of chunks, since two threads are common; at least 96 wide, because
  /// every chunk packs the other operand again. Where the sum is far longer than C is wide that packing would cost an
  /// eighth, as in the gradient of a head's input: there the sum itself is cut.
  var cut: ProductCut {
    if isSmall { return ProductCut(axis: .rows, extent: m, count: 1) }
    let longer = max(m, n)
    if k >= 8 * longer && k >= 1 << 13 { return ProductCut(axis: .terms, extent: k, count: 8) }
    var count = min(8, max(1, longer / 96))
    if count > 1 && !count.isMultiple(of: 2) { count -= 1 }
    return ProductCut(axis: m >= n ? .rows : .columns, extent: longer, count: count)
  }
}

/// Chunks of equal size along one extent of a product; the last one takes what is left.
struct ProductCut {
  enum Axis { case rows, columns, terms }
  let axis: Axis
  let size: Int
  let count: Int
  /// Size of the last chunk.
  let rest: Int

  init(axis: Axis, extent: Int, count: Int) {
    self.axis = axis
    size = count == 1 ? extent : ((extent + count - 1) / count + 15) / 16 * 16
    self.count = (extent + size - 1) / size
    rest = extent - (self.count - 1) * size
  }
}

/// The shapes that were used last; asked by the one thread that hands out work.
///
/// - Cost: about 50 KB a shape; the least recently used goes where `capacity` is exceeded
final class ProductCache {
  private var prepared: [ProductShape: PreparedProduct] = [:]
  private var uses = 0
  private let isIdle: Bool
  private static let capacity = 512

  /// - Parameter isIdle: no product will be run, so none is prepared
  init(isIdle: Bool = false) { self.isIdle = isIdle }

  /// The product of a shape, or nil where OpenBLAS has to compute it.
  func product(_ shape: ProductShape) -> PreparedProduct? {
    if isIdle { return nil }
    uses += 1
    if let known = prepared[shape] {
      known.lastUse = uses
      return known
    }
    guard let fresh = PreparedProduct(shape) else { return nil }
    fresh.lastUse = uses
    prepared[shape] = fresh
    if prepared.count > Self.capacity {
      // Half goes at once, so that looking for the oldest stays rare.
      let limit = prepared.values.map(\.lastUse).sorted()[prepared.count / 2]
      prepared = prepared.filter { $0.value.lastUse > limit }
    }
    return fresh
  }
}
