// How things with state hand it to a checkpoint and take it back, without knowing what a checkpoint is.

/// Receives named state. Names are paths below the owner's own group.
public protocol StateWriter: AnyObject {
  func group(_ path: String, description: String)
  /// The tensor must keep its elements until the checkpoint is written.
  func tensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?)
  /// A tensor whose elements are bfloat16 numbers already.
  func roundedTensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?)
  func integers(_ path: String, _ values: [Int], description: String?)
  func tokens(_ path: String, _ values: [Int32], description: String?)
  func doubles(_ path: String, _ values: [Double], description: String?)
  func text(_ path: String, _ value: String, description: String?)
}

/// Gives named state back; every call throws where the name is absent or has another size.
public protocol StateReader: AnyObject {
  func contains(_ path: String) -> Bool
  func tensor(_ path: String, into tensor: Tensor) throws
  func integers(_ path: String) throws -> [Int]
  func tokens(_ path: String) throws -> [Int32]
  func doubles(_ path: String) throws -> [Double]
  func text(_ path: String) throws -> String
}

/// A thing whose whole state a checkpoint can carry.
public protocol Archivable: AnyObject {
  func write(to writer: any StateWriter)
  func restore(from reader: any StateReader) throws
}

/// A writer or reader for the group `prefix` of another one.
public final class ScopedStateWriter: StateWriter {
  private let base: any StateWriter
  private let prefix: String
  public init(_ base: any StateWriter, _ prefix: String) {
    self.base = base
    self.prefix = prefix
  }
  private func full(_ path: String) -> String { path.isEmpty ? prefix : "\(prefix)/\(path)" }
  public func group(_ path: String, description: String) { base.group(full(path), description: description) }
  public func tensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    base.tensor(full(path), tensor, shape: shape, description: description)
  }
  public func roundedTensor(_ path: String, _ tensor: Tensor, shape: [Int], description: String?) {
    base.roundedTensor(full(path), tensor, shape: shape, description: description)
  }
  public func integers(_ path: String, _ values: [Int], description: String?) {
    base.integers(full(path), values, description: description)
  }
  public func tokens(_ path: String, _ values: [Int32], description: String?) {
    base.tokens(full(path), values, description: description)
  }
  public func doubles(_ path: String, _ values: [Double], description: String?) {
    base.doubles(full(path), values, description: description)
  }
  public func text(_ path: String, _ value: String, description: String?) {
    base.text(full(path), value, description: description)
  }
}

public final class ScopedStateReader: StateReader {
  private let base: any StateReader
  private let prefix: String
  public init(_ base: any StateReader, _ prefix: String) {
    self.base = base
    self.prefix = prefix
  }
  private func full(_ path: String) -> String { "\(prefix)/\(path)" }
  public func contains(_ path: String) -> Bool { base.contains(full(path)) }
  public func tensor(_ path: String, into tensor: Tensor) throws { try base.tensor(full(path), into: tensor) }
  public func integers(_ path: String) throws -> [Int] { try base.integers(full(path)) }
  public func tokens(_ path: String) throws -> [Int32] { try base.tokens(full(path)) }
  public func doubles(_ path: String) throws -> [Double] { try base.doubles(full(path)) }
  public func text(_ path: String) throws -> String { try base.text(full(path)) }
}
