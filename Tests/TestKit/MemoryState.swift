// State in a dictionary: what a checkpoint does, without a disk.
import TensorCore

public final class MemoryState: StateWriter, StateReader {
  public struct Missing: Error { public let path: String }
  private var floats: [String: [Float]] = [:]
  private var integerLists: [String: [Int]] = [:]
  private var tokenLists: [String: [Int32]] = [:]
  private var doubleLists: [String: [Double]] = [:]
  private var texts: [String: String] = [:]
  public init() {}

  public func group(_ path: String, description: String) {}
  public func tensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    floats[path] = tensor.toArray()
  }
  public func roundedTensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    self.tensor(path, tensor, shape: shape, description: description)
  }
  public func integers(_ path: String, _ values: [Int], description: String?) { integerLists[path] = values }
  public func tokens(_ path: String, _ values: [Int32], description: String?) { tokenLists[path] = values }
  public func doubles(_ path: String, _ values: [Double], description: String?) { doubleLists[path] = values }
  public func text(_ path: String, _ value: String, description: String?) { texts[path] = value }

  public var tensorPaths: [String] { floats.keys.sorted() }
  public func floats(_ path: String) throws -> [Float] { try find(floats, path) }

  private func find<Value>(_ values: [String: Value], _ path: String) throws -> Value {
    guard let value = values[path] else { throw Missing(path: path) }
    return value
  }
  public func contains(_ path: String) -> Bool {
    floats[path] != nil || integerLists[path] != nil || tokenLists[path] != nil || doubleLists[path] != nil
      || texts[path] != nil
  }
  public func tensor(_ path: String, into tensor: Tensor) throws { tensor.assign(try find(floats, path)) }
  public func integers(_ path: String) throws -> [Int] { try find(integerLists, path) }
  public func tokens(_ path: String) throws -> [Int32] { try find(tokenLists, path) }
  public func doubles(_ path: String) throws -> [Double] { try find(doubleLists, path) }
  public func text(_ path: String) throws -> String { try find(texts, path) }
}
