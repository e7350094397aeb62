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

  /// Where the product is cut for threads; by its extents alone, so that results do not depend on their number.
  ///
  /// Every chunk packs its part of both operands, an element at the price of `packing` multiply-adds. The cut is the one
  /// that takes two threads the least time, with some regard to sixteen. Where the sum is far longer than C is wide, as
  /// in the gradient of a head's input, packing would cost an eighth: there the sum itself is cut.
  var cut: ProductCut {
    let whole = ProductCut(rows: Pieces(of: m), columns: Pieces(of: n), terms: Pieces(of: k))
    if isSmall { return whole }
    if k >= 8 * max(m, n) && k >= 1 << 13 {
      let halves = m >= 2 * Self.narrowest ? 2 : 1
      return ProductCut(rows: Pieces(of: m, count: halves), columns: whole.columns, terms: Pieces(of: k, count: 8))
    }
    // One token's product is all packing.
    let most = min(Self.mostChunks, max(1, (m * n + Int(Self.packing) * (m + n)) * k / Self.leastWork))
    var best = whole
    var least = Double.infinity
    for r in 1...most where r == 1 || m / r >= Self.narrowest {
      for c in 1...most / r where c == 1 || n / c >= Self.narrowest {
        let cut = ProductCut(rows: Pieces(of: m, count: r), columns: Pieces(of: n, count: c), terms: whole.terms)
        let (height, width) = (Double(cut.rows.size), Double(cut.columns.size))
        let work = height * width + Self.packing * (height + width)
        func time(threads: Int) -> Double { work * Double((cut.count + threads - 1) / threads * threads) }
        let cost = time(threads: 2) + 0.3 * time(threads: 16)
        if cost < least { (best, least) = (cut, cost) }
      }
    }
    return best
  }
  private static let packing = 17.0
  private static let mostChunks = 32
  /// Multiply-adds of a chunk: some ten microseconds.
  private static let leastWork = 1 << 20
  /// Rows or columns of a chunk, unless there are no more.
  private static let narrowest = 96
}

/// One extent of a product in pieces of equal size; the last one takes what is left.
struct Pieces {
  let size: Int
  let count: Int
  /// Size of the last piece.
  let rest: Int

  init(of extent: Int, count: Int = 1) {
    size = count == 1 ? extent : ((extent + count - 1) / count + 15) / 16 * 16
    self.count = (extent + size - 1) / size
    rest = extent - (self.count - 1) * size
  }
  func begin(_ index: Int) -> Int { index * size }
  func size(_ index: Int) -> Int { index == count - 1 ? rest : size }
}

/// The chunks of a product, one for each piece of its rows, columns and terms.
struct ProductCut {
  let rows: Pieces
  let columns: Pieces
  let terms: Pieces
  var count: Int { rows.count * columns.count * terms.count }
}

/// A product in chunks, each prepared unless OpenBLAS has to compute it.
struct ProductChunks: Sendable {
  let cut: ProductCut
  private let whole: ProductShape
  /// By kind: the last of its row, column or sum may be smaller, and the first sum over terms lies elsewhere.
  private var ready: [PreparedProduct?]

  init(_ whole: ProductShape, from products: ProductCache) {
    self.whole = whole
    cut = whole.cut
    ready = [PreparedProduct?](repeating: nil, count: whole.isSmall ? 0 : 12)
    guard !whole.isSmall else { return }
    forEachKind { row, column, term in
      if ready[kind(row, column, term)] == nil {
        ready[kind(row, column, term)] = products.product(shape(row, column, term))
      }
    }
  }

  private func forEachKind(_ body: (_ row: Int, _ column: Int, _ term: Int) -> Void) {
    for row in stride(from: 0, to: cut.rows.count, by: max(1, cut.rows.count - 1)) {
      for column in stride(from: 0, to: cut.columns.count, by: max(1, cut.columns.count - 1)) {
        for term in 0..<cut.terms.count { body(row, column, term) }
      }
    }
  }
  private func kind(_ row: Int, _ column: Int, _ term: Int) -> Int {
    let place = (row == cut.rows.count - 1 ? 1 : 0) + (column == cut.columns.count - 1 ? 2 : 0)
    return place + (term == 0 ? 0 : term == cut.terms.count - 1 ? 4 : 8)
  }

  func shape(_ row: Int, _ column: Int, _ term: Int) -> ProductShape {
    var part = whole
    (part.m, part.n, part.k) = (cut.rows.size(row), cut.columns.size(column), cut.terms.size(term))
    if term > 0 { (part.strideC, part.accumulate) = (whole.n, false) }
    return part
  }
  func prepared(_ row: Int, _ column: Int, _ term: Int) -> PreparedProduct? {
    ready.isEmpty ? nil : ready[kind(row, column, term)]
  }
  /// Whether no chunk is left to OpenBLAS.
  var isPrepared: Bool {
    guard !ready.isEmpty else { return false }
    var isPrepared = true
    forEachKind { row, column, term in isPrepared = isPrepared && ready[kind(row, column, term)] != nil }
    return isPrepared
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
