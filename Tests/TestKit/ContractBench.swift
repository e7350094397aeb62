// The bench on which one contract case runs one backend: it makes inputs, guards memory, collects outputs.
// Whatever surrounds a window is NaN: who reads there spoils the result, who writes there is caught.
import TensorCore

/// Inputs from a seeded stream, outputs by name; the same case makes the same inputs on every bench.
public final class ContractBench {
  /// One named result.
  public struct Output {
    public let name: String
    public let values: [Double]
    public let tolerance: Tolerance
    /// A lower bound for the magnitude that `Tolerance.ofLargest` refers to.
    public let floor: Double
  }
  private struct Guarded {
    let name: String
    let whole: Tensor
    let window: Tensor
    let before: [UInt32]
    var mayChange = false
  }

  public let backend: any Backend
  public var random: RandomStream
  public private(set) var outputs: [Output] = []
  private var guarded: [Guarded] = []
  private var stray: [String] = []
  /// The shape at hand, a prefix in messages; a new one lets the memory of the last one go.
  public var context = "" { willSet { collectStrayWrites() } }

  public init(_ backend: any Backend, seed: UInt64) {
    self.backend = backend
    random = RandomStream(seed: seed)
    // Buffers that the backend takes from its pool for scratch must not be relied upon to hold zeros.
    for count in [64, 128, 256, 1024, 4096, 16384, 65536] { backend.fill(backend.empty(1, count), .nan) }
  }

  // MARK: Inputs

  /// A tensor of given values; a strided one is a window of a wider buffer full of NaN.
  public func tensor(
    _ name: String, _ rows: Int, _ columns: Int, strided: Bool = false, _ value: (inout RandomStream) -> Float
  ) -> Tensor {
    let whole = strided ? backend.empty(rows + 2, columns + 5) : backend.empty(rows, columns)
    whole.assign([Float](repeating: .nan, count: whole.count))
    let window = strided ? whole.rows(1..<rows + 1).columns(3..<columns + 3) : whole
    for row in 0..<rows {
      for column in 0..<columns { window.base[row * window.stride + column] = value(&random) }
    }
    guardMemory(name, whole, window)
    return window
  }
  /// Normal numbers.
  public func normal(
    _ name: String, _ rows: Int, _ columns: Int, strided: Bool = false, deviation: Float = 1, mean: Float = 0
  ) -> Tensor {
    tensor(name, rows, columns, strided: strided) { mean + deviation * Float($0.normal()) }
  }
  /// Numbers above 0.
  public func positive(_ name: String, _ rows: Int, _ columns: Int, strided: Bool = false) -> Tensor {
    tensor(name, rows, columns, strided: strided) { Float(0.05 + abs($0.normal())) }
  }
  /// A place for a result that must be overwritten: NaN all over.
  public func blank(_ name: String, _ rows: Int, _ columns: Int, strided: Bool = false) -> Tensor {
    tensor(name, rows, columns, strided: strided) { _ in .nan }
  }
  /// Watches a tensor that was made elsewhere: unless it becomes an output, it must keep its bits.
  public func guardMemory(_ name: String, _ whole: Tensor, _ window: Tensor) {
    guarded.append(
      Guarded(name: name, whole: whole, window: window, before: whole.toArray().map(\.bitPattern)))
  }
  public func tokens(_ count: Int, below bound: Int) -> [Int32] {
    (0..<count).map { _ in Int32(random.integer(below: bound)) }
  }

  // MARK: Outputs

  /// Records a result; the tensor may have changed.
  public func output(_ name: String, _ x: Tensor, _ tolerance: Tolerance, floor: Double = 0) {
    for index in guarded.indices where guarded[index].whole.storage === x.storage {
      guarded[index].mayChange = true
    }
    output(name, x.toArray().map(Double.init), tolerance, floor: floor)
  }
  public func output(_ name: String, _ values: [Double], _ tolerance: Tolerance, floor: Double = 0) {
    outputs.append(Output(name: "\(context) \(name)", values: values, tolerance: tolerance, floor: floor))
  }

  /// Tensors whose bits changed although nobody may have written there.
  public func strayWrites() -> [String] {
    collectStrayWrites()
    return stray
  }

  private func collectStrayWrites() {
    for item in guarded {
      let after = item.whole.toArray()
      let wrong = after.indices.first { index in
        after[index].bitPattern != item.before[index] && !(item.mayChange && isInside(item, index))
      }
      guard let wrong else { continue }
      stray.append(
        "\(context) \(item.name): wrote \(item.mayChange ? "outside the window" : "to an input") at row "
          + "\(wrong / item.whole.columns), column \(wrong % item.whole.columns) of its buffer")
    }
    guarded = []
  }

  private func isInside(_ item: Guarded, _ index: Int) -> Bool {
    let offset = item.window.offset - item.whole.offset
    let row = index / item.whole.columns - offset / item.whole.columns
    let column = index % item.whole.columns - offset % item.whole.columns
    return (0..<item.window.rows).contains(row) && (0..<item.window.columns).contains(column)
  }
}
