// Measurements as JSON, in full for ledgers and checkpoints and in short for screens and results.
// Doubles are written shortest-exact, so that a measurement read back gives the same bits.

import StrictJSON

extension Measurement {
  /// Everything, with the sums per document; numbers that are not finite become null.
  public var json: JSON {
    .object(
      shortMembers + [
        .init("higher_is_better", .bool(higherIsBetter)), .init("form", .string(form.rawValue)),
        .init("numerators", .array(numerators.map { JSON(finite: $0) })),
        .init("denominators", .array(denominators.map { JSON(finite: $0) })),
      ])
  }

  /// What `retain eval --json` prints: probe, metric, value, stderr, n, tokens, bytes, window.
  public var shortJSON: JSON { .object(shortMembers) }

  private var shortMembers: [JSON.Member] {
    [
      .init("probe", .string(probe)), .init("metric", .string(metric)), .init("value", JSON(finite: value)),
      .init("stderr", JSON(stderr)), .init("n", .integer(n)), .init("tokens", .integer(tokens)),
      .init("bytes", .integer(bytes)), .init("window", .integer(window)),
    ]
  }

  /// Reads what `json` wrote; null sums come back as NaN.
  public init(_ json: JSON) throws(ShapeError) {
    let probe = try json.require("probe", \.string, "a text")
    let metric = try json.require("metric", \.string, "a text")
    let higher = try json.require("higher_is_better", \.bool, "true or false")
    let name = try json.require("form", \.string, "a text")
    guard let form = Form(rawValue: name) else { throw ShapeError("form", "a known form: \(name)") }
    let numerators = try json.doubles("numerators")
    let denominators = try json.doubles("denominators")
    guard numerators.count == denominators.count else {
      throw ShapeError("denominators", "as long as 'numerators'")
    }
    self.init(
      probe: probe, metric: metric, form: form, higherIsBetter: higher, numerators: numerators,
      denominators: denominators, tokens: json["tokens"]?.int ?? 0, bytes: json["bytes"]?.int ?? 0,
      window: json["window"]?.int ?? 0)
  }
}

extension JSON {
  /// Null for nil, NaN and infinities, as they stand in a file.
  init(finite value: Double?) { self = value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null }

  func require<Value>(
    _ key: String, _ cast: (JSON) -> Value?, _ expected: String
  ) throws(ShapeError) -> Value {
    guard let value = self[key].flatMap(cast) else { throw ShapeError(key, expected) }
    return value
  }

  func doubles(_ key: String) throws(ShapeError) -> [Double] {
    let values = try require(key, \.array, "a list of numbers")
    var result: [Double] = []
    result.reserveCapacity(values.count)
    for value in values {
      guard let number = value.isNull ? .nan : value.double else {
        throw ShapeError("\(key)[\(result.count)]", "a number")
      }
      result.append(number)
    }
    return result
  }

  func strings(_ key: String) throws(ShapeError) -> [String] {
    let values = try require(key, \.array, "a list of texts")
    var result: [String] = []
    for value in values {
      guard let text = value.string else { throw ShapeError("\(key)[\(result.count)]", "a text") }
      result.append(text)
    }
    return result
  }
}
