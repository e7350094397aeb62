// The matrix of a chain: what every probe said before training and after each stage.
// Two forms: with the sums per document (this run, for intervals), and value ± error (results.json).

import StrictJSON

/// One row of the matrix as results.json holds it.
public struct MatrixRow: Sendable, Equatable {
  /// A probe metric after one stage.
  public struct Cell: Sendable, Equatable {
    /// `probe.metric`
    public var key: String
    /// NaN where results.json says null.
    public var value: Double
    public var stderr: Double?
    public var n: Int

    public init(key: String, value: Double, stderr: Double?, n: Int) {
      self.key = key
      self.value = value
      self.stderr = stderr
      self.n = n
    }
  }
  /// `base` or the name of the stage just ended.
  public var after: String
  public var cells: [Cell]

  public init(after: String, cells: [Cell]) {
    self.after = after
    self.cells = cells
  }

  /// The cell of `probe.metric`, if it was measured here.
  public func cell(_ key: String) -> Cell? { cells.first { $0.key.utf8.elementsEqual(key.utf8) } }

  public var json: JSON {
    .object([
      .init("after", .string(after)),
      .init(
        "values",
        .object(
          cells.map { cell in
            .init(
              cell.key,
              .object([
                .init("value", JSON(finite: cell.value)), .init("stderr", JSON(cell.stderr)),
                .init("n", .integer(cell.n)),
              ]))
          })),
    ])
  }

  public init(_ json: JSON) throws(ShapeError) {
    after = try json.require("after", \.string, "a text")
    cells = []
    for member in try json.require("values", \.members, "an object") {
      guard let value = member.value["value"], value.isNull || value.double != nil else {
        throw ShapeError("values.\(member.key).value", "a number")
      }
      cells.append(
        Cell(
          key: member.key, value: value.double ?? .nan, stderr: member.value["stderr"]?.double,
          n: member.value["n"]?.int ?? 0))
    }
  }
}

/// Measurements before training and after each stage, with their sums per document.
public struct RetentionMatrix: Sendable, Equatable {
  public struct Row: Sendable, Equatable {
    /// `base` or the name of the stage just ended.
    public var after: String
    public var measurements: [Measurement]
    public init(after: String, measurements: [Measurement]) {
      self.after = after
      self.measurements = measurements
    }
  }
  public var rows: [Row]

  public init(rows: [Row] = []) { self.rows = rows }

  /// Adds a measurement to the row of that name, replacing an older one of the same probe and metric.
  public mutating func add(_ measurement: Measurement, after name: String) {
    let row: Int
    if let found = rows.firstIndex(where: { $0.after.utf8.elementsEqual(name.utf8) }) {
      row = found
    } else {
      row = rows.count
      rows.append(Row(after: name, measurements: []))
    }
    if let old = rows[row].measurements.firstIndex(where: { $0.key.utf8.elementsEqual(measurement.key.utf8) }) {
      rows[row].measurements[old] = measurement
    } else {
      rows[row].measurements.append(measurement)
    }
  }

  /// The measurement of `probe.metric` in the row of that name.
  public func measurement(_ key: String, after name: String) -> Measurement? {
    rows.first { $0.after.utf8.elementsEqual(name.utf8) }?
      .measurements.first { $0.key.utf8.elementsEqual(key.utf8) }
  }

  /// Value, error and count only: the `matrix` of results.json.
  public var table: [MatrixRow] {
    rows.map { row in
      MatrixRow(
        after: row.after,
        cells: row.measurements.map {
          .init(key: $0.key, value: $0.value, stderr: $0.stderr, n: $0.n)
        })
    }
  }

  /// Everything, for checkpoints; `init(_:)` reads it back bit for bit.
  public var json: JSON {
    .array(
      rows.map { row in
        .object([
          .init("after", .string(row.after)),
          .init("measurements", .array(row.measurements.map(\.json))),
        ])
      })
  }

  public init(_ json: JSON) throws(ShapeError) {
    rows = []
    guard let array = json.array else { throw ShapeError("matrix", "a list") }
    for entry in array {
      var row = Row(after: try entry.require("after", \.string, "a text"), measurements: [])
      for measurement in try entry.require("measurements", \.array, "a list") {
        row.measurements.append(try Measurement(measurement))
      }
      rows.append(row)
    }
  }
}
