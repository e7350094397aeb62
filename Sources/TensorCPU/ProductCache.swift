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
}

/// The shapes that were used last; asked by the one thread that hands out work.
///
/// - Cost: about 50 KB a shape; the least recently used goes where `capacity` is exceeded
final class ProductCache {
  private var prepared: [ProductShape: PreparedProduct] = [:]
  private var uses = 0
  private static let capacity = 512

  /// The product of a shape, or nil where OpenBLAS has to compute it.
  func product(_ shape: ProductShape) -> PreparedProduct? {
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
