// Trainable numbers: every parameter of a model is a named range of one flat vector.
// Continual methods speak flat vectors; layers see their range as a matrix.
import TensorCore

/// How a new parameter is filled.
public enum Initialization: Sendable, Equatable {
  case zeros
  case ones
  /// Normal with mean 0.
  case normal(deviation: Double)
  /// Uniform in ±bound.
  case uniform(bound: Double)
}

/// What a model declares before its parameters exist.
public struct ParameterDeclaration: Sendable, Equatable {
  public let name: String
  /// As in the model's file: one or two extents.
  public let shape: [Int]
  public let initialization: Initialization
  public init(_ name: String, _ shape: [Int], _ initialization: Initialization) {
    self.name = name
    self.shape = shape
    self.initialization = initialization
  }
  public var count: Int { shape.reduce(1, *) }
}

/// One named tensor of a model.
public final class Parameter {
  public let name: String
  public let shape: [Int]
  /// Its elements in the flat vector.
  public let range: Range<Int>
  /// The elements as a matrix: [shape[0], shape[1]], or one row.
  public let value: Tensor
  /// Doors through which the parameter enters the model; 2 where a head is tied to the embedding.
  public private(set) var uses = 0
  public internal(set) var isTrainable = true
  /// How a linear layer reads it.
  public internal(set) var layout = WeightLayout.outputByInput
  /// Whether it is a table of embeddings or the weight of a head.
  public internal(set) var isAtAnEnd = false
  /// Whether its rows are the embeddings of tokens.
  public internal(set) var isTokenTable = false
  /// Whether rows of it are looked up by token or position.
  public internal(set) var isTable = false

  /// The parameters that this one stands for: itself, or neighbours seen as one matrix.
  public var members: [Parameter] { joined.isEmpty ? [self] : joined }
  private let joined: [Parameter]

  init(name: String, shape: [Int], range: Range<Int>, value: Tensor, joined: [Parameter] = []) {
    self.name = name
    self.shape = shape
    self.range = range
    self.value = value
    self.joined = joined
  }
  /// Matrices that lie one behind the other in the flat vector, as one matrix of all their rows.
  ///
  /// nil where they are no such neighbours: then every one needs a product of its own.
  static func joining(_ parts: [Parameter]) -> Parameter? {
    guard let first = parts.first, let last = parts.last,
      parts.allSatisfy({ $0.shape.count == 2 && $0.shape[1] == first.shape[1] && $0.uses == 1 }),
      zip(parts, parts.dropFirst()).allSatisfy({ $0.range.upperBound == $1.range.lowerBound })
    else { return nil }
    let rows = parts.reduce(0) { $0 + $1.value.rows }
    let value = Tensor(
      storage: first.value.storage, offset: first.value.offset, rows: rows, columns: first.value.columns,
      stride: first.value.columns)
    return Parameter(
      name: parts.map(\.name).joined(separator: " + "), shape: [rows, first.shape[1]],
      range: first.range.lowerBound..<last.range.upperBound, value: value, joined: parts)
  }
  /// Called by every layer that reads the parameter.
  public func used() -> Parameter {
    uses += 1
    return self
  }
  /// Decoupled weight decay acts on matrices, not on gains and biases.
  public var decays: Bool { shape.count > 1 }
  /// The parameter's range of any vector in the store's layout, as a matrix.
  public func view(of vector: Tensor) -> Tensor { vector.slice(range).reshaped(value.rows, value.columns) }
}

/// All parameters of a model, in one flat vector.
public final class ParameterStore {
  public let values: Tensor
  public let parameters: [Parameter]
  private let byName: [String: Parameter]

  /// - Precondition: names are unique
  public init(_ declarations: [ParameterDeclaration], on backend: any Backend) {
    let total = declarations.reduce(0) { $0 + $1.count }
    let values = backend.zeros(1, total)
    var first = 0
    self.values = values
    parameters = declarations.map { declaration in
      let range = first..<first + declaration.count
      first = range.upperBound
      let isMatrix = declaration.shape.count == 2
      let value = values.slice(range).reshaped(
        isMatrix ? declaration.shape[0] : 1, isMatrix ? declaration.shape[1] : declaration.count)
      return Parameter(name: declaration.name, shape: declaration.shape, range: range, value: value)
    }
    byName = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0) })
  }

  public var count: Int { values.count }
  /// How many tokens the network knows; nil where it reads none.
  public var vocabulary: Int? { parameters.first { $0.isTokenTable }?.shape.first }
  public subscript(name: String) -> Parameter? { byName[name] }

  /// Runs something with other parameters in place of these; nothing is copied.
  ///
  /// - Parameter other: a vector of this layout in a buffer of its own
  public func with<Result>(_ other: Tensor, _ body: () throws -> Result) rethrows -> Result {
    values.storage.exchange(with: other.storage)
    defer { values.storage.exchange(with: other.storage) }
    return try body()
  }

  /// Fills new parameters; each draws from a stream of its own name, so a layout change moves no other number.
  public func initialize(_ declarations: [ParameterDeclaration], from stream: RandomStream) {
    for (parameter, declaration) in zip(parameters, declarations) {
      var random = stream.forked(declaration.name)
      let buffer = parameter.value.buffer
      switch declaration.initialization {
      case .zeros: buffer.update(repeating: 0)
      case .ones: buffer.update(repeating: 1)
      case .normal(let deviation):
        for i in buffer.indices { buffer[i] = Float(random.normal() * deviation) }
      case .uniform(let bound):
        for i in buffer.indices { buffer[i] = Float((2 * random.uniform() - 1) * bound) }
      }
    }
  }

  /// Makes exactly the parameters whose name matches none of the patterns trainable.
  ///
  /// - Returns: the patterns that matched nothing
  public func freeze(_ patterns: [String]) -> [String] {
    var unused = Set(patterns)
    for parameter in parameters {
      let matching = patterns.filter { matches(parameter.name, pattern: $0) }
      parameter.isTrainable = matching.isEmpty
      unused.subtract(matching)
    }
    return patterns.filter(unused.contains)
  }
  /// Makes exactly these parameters trainable.
  public func train(only chosen: [Parameter]) {
    let chosen = Set(chosen.map(ObjectIdentifier.init))
    for parameter in parameters { parameter.isTrainable = chosen.contains(ObjectIdentifier(parameter)) }
  }
  /// Matrices whose name matches one of the patterns; without patterns all but embeddings and heads.
  ///
  /// - Parameter frozen: patterns of what is left out
  /// - Returns: also the patterns that match no matrix, left out or not
  public func matrices(_ patterns: [String]?, except frozen: [String]) -> (chosen: [Parameter], unmatched: [String]) {
    var unused = Set(patterns ?? [])
    let chosen = parameters.filter { parameter in
      guard parameter.shape.count == 2 else { return false }
      let matching = patterns?.filter { matches(parameter.name, pattern: $0) }
      unused.subtract(matching ?? [])
      return !(matching?.isEmpty ?? parameter.isAtAnEnd) && !frozen.contains { matches(parameter.name, pattern: $0) }
    }
    return (chosen, (patterns ?? []).filter(unused.contains))
  }
  public var trainableCount: Int { parameters.reduce(0) { $0 + ($1.isTrainable ? $1.range.count : 0) } }

  /// Names and shapes in order: two vectors belong together only if their layouts are equal.
  public var layout: [String] { parameters.map { "\($0.name)\($0.shape)" } }
}

/// Shell-style match: `*` stands for any run of characters, `?` for one.
func matches(_ name: String, pattern: String) -> Bool {
  let (text, glob) = (Array(name.utf8), Array(pattern.utf8))
  var (i, j, star, mark) = (0, 0, -1, 0)
  while i < text.count {
    if j < glob.count, glob[j] == UInt8(ascii: "?") || glob[j] == text[i] {
      i += 1
      j += 1
    } else if j < glob.count, glob[j] == UInt8(ascii: "*") {
      (star, mark) = (j, i)
      j += 1
    } else if star >= 0 {
      mark += 1
      (i, j) = (mark, star + 1)
    } else {
      return false
    }
  }
  while j < glob.count, glob[j] == UInt8(ascii: "*") { j += 1 }
  return j == glob.count
}
