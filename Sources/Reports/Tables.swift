// The two tables every reader asks for: probes over stages, and methods beside each other.
// Built once as texts; the renderers only differ in dress.

import Ledger

enum Tables {
  /// Relative change against the base row, positive where worse; nil where there is no base or it is zero.
  static func worsening(_ results: RunResults, _ cell: MatrixRow.Cell, higherIsBetter: Bool) -> Double? {
    guard let base = results.cell(cell.key, after: "base")?.value, base != 0, base.isFinite,
      cell.value.isFinite
    else { return nil }
    return (higherIsBetter ? base - cell.value : cell.value - base) / abs(base)
  }

  /// `probe.metric` keys in the order of the probes, then whatever else the rows hold.
  static func keys(_ results: RunResults) -> [String] {
    var keys: [String] = []
    for probe in results.probes where results.matrix.contains(where: { $0.cell(probe.key) != nil }) {
      keys.append(probe.key)
      for row in results.matrix {
        for cell in row.cells where cell.key.hasPrefix(probe.name + ".") && !keys.contains(cell.key) {
          keys.append(cell.key)
        }
      }
    }
    for row in results.matrix {
      for cell in row.cells where !keys.contains(cell.key) { keys.append(cell.key) }
    }
    return keys
  }

  /// The direction of a `probe.metric`: of the probe's first metric, else by the metric's name.
  static func higherIsBetter(_ results: RunResults, _ key: String) -> Bool {
    results.probes.first { $0.key == key }?.higherIsBetter ?? key.split(separator: ".").last?.hasPrefix("acc")
      ?? false
  }

  /// Rows base and stages, columns probe metrics; `value ±error (change against base)`.
  ///
  /// - Parameter heat: colours the cells, blue for better than base, orange for worse.
  static func retention(_ results: RunResults, firstMetricsOnly: Bool, heat: Bool = false) -> Table {
    let keys =
      firstMetricsOnly
      ? results.probes.map(\.key).filter { key in results.matrix.contains { $0.cell(key) != nil } }
      : Tables.keys(results)
    var table = Table(
      ["after"]
        + keys.map { key in
          // A probe's name may hold points; a metric's does not.
          let dot = key.lastIndex(of: ".") ?? key.endIndex
          let name = firstMetricsOnly ? String(key[..<dot]) : key[..<dot] + " " + key[dot...].dropFirst()
          return name + (higherIsBetter(results, key) ? " ↑" : " ↓")
        })
    let strongest =
      results.matrix.flatMap { row in
        row.cells.compactMap {
          worsening(results, $0, higherIsBetter: higherIsBetter(results, $0.key)).map(abs)
        }
      }.max() ?? 0
    for row in results.matrix {
      var cells = [Table.Cell(row.after)]
      for key in keys {
        guard let cell = row.cell(key) else {
          cells.append(Table.Cell(Format.nothing))
          continue
        }
        var text = Format.number(cell.value)
        if let error = cell.stderr { text += " ±\(Format.fixed(error, Format.decimals(for: cell.value)))" }
        let higher = higherIsBetter(results, key)
        let worse = worsening(results, cell, higherIsBetter: higher)
        if row.after != "base", let worse {
          text += " (\(Format.percent(higher ? -worse : worse, signed: true)))"
        }
        let home = results.probes.first { $0.key == key }?.home
        cells.append(
          Table.Cell(
            text, mark: home == row.after ? "home" : "",
            style: heat ? worse.map { colour($0, strongest: strongest) } ?? "" : ""))
      }
      table.rows.append(cells)
    }
    return table
  }

  /// A translucent background, so that text stays readable in light and dark.
  private static func colour(_ worsening: Double, strongest: Double) -> String {
    guard strongest > 0, worsening != 0 else { return "" }
    let strength = 0.08 + 0.42 * min(1, abs(worsening) / strongest).squareRoot()
    return "background:rgba(\(worsening > 0 ? "213,94,0" : "0,114,178"),\(Format.fixed(strength, 2)))"
  }

  static func interval(_ interval: Interval?) -> String {
    interval.map { " [\(Format.number($0.lower)), \(Format.number($0.upper))]" } ?? ""
  }

  /// One row a variant; the forgetting column carries its interval.
  static func comparison(_ comparison: Comparison, own: String? = nil, paired: [String: PairedRuns] = [:])
    -> Table
  {
    let confidence = comparison.variants.first?.summary.confidence ?? 0.95
    var header = [
      "variant", "forgetting ↓ [\(Format.fixed(100 * confidence, 0))%]", "plasticity ↑", "retention ↑",
      "plasticity share", "forgetting avoided", "time", "tokens",
    ]
    if !paired.isEmpty { header.append("forgetting minus this run's") }
    var table = Table(header)
    for variant in comparison.variants {
      let summary = variant.summary
      let status = variant.status == .finished ? "" : " (\(variant.status.rawValue))"
      var row = [
        variant.name + (variant.name == own ? " (this run)" : "") + status,
        Format.number(summary.forgetting) + interval(summary.forgettingCI),
        Format.number(summary.plasticity), Format.percent(summary.retention),
        Format.percent(variant.plasticityShare), Format.percent(variant.forgettingAvoided),
        Format.duration(variant.cost.wallSeconds), Format.count(variant.cost.trainTokens),
      ]
      if !paired.isEmpty {
        row.append(
          paired[variant.name]?.forgetting.map { Format.signed($0.value) + interval($0.interval) }
            ?? Format.nothing)
      }
      table.add(row)
    }
    return table
  }

  static func gates(_ results: RunResults) -> Table? {
    guard !results.gates.isEmpty else { return nil }
    var table = Table(["gate", "allowed", "seen", "after", "on breach", "verdict"])
    for gate in results.gates {
      table.add([
        gate.probe, Format.percent(gate.limit), Format.percent(gate.observed, signed: true),
        gate.after ?? Format.nothing, gate.onBreach.rawValue, gate.passed ? "passed" : "broken",
      ])
    }
    return table
  }

  /// Every term of every counted probe.
  static func terms(_ summary: Summary) -> Table? {
    guard !summary.byProbe.isEmpty else { return nil }
    var table = Table(["probe", "forgetting", "retention", "plasticity", "bwt", "fwt"])
    for probe in summary.byProbe {
      table.add([
        probe.name, Format.number(probe.terms.forgetting) + interval(probe.forgettingCI),
        Format.percent(probe.terms.retention), Format.number(probe.terms.plasticity),
        Format.signed(probe.terms.bwt), Format.signed(probe.terms.fwt),
      ])
    }
    table.add([
      "mean", Format.number(summary.forgetting) + interval(summary.forgettingCI),
      Format.percent(summary.retention), Format.number(summary.plasticity), Format.signed(summary.bwt),
      Format.signed(summary.fwt),
    ])
    return table
  }

  static func cost(_ results: RunResults) -> Table {
    var table = Table(["cost and environment", ""])
    table.add(["time", Format.duration(results.cost.wallSeconds)])
    table.add(["trained tokens", Format.count(results.cost.trainTokens)])
    table.add(["tokens per second", Format.number(results.cost.tokensPerSecond)])
    table.add(["peak memory", Format.bytes(results.cost.peakRSSBytes)])
    for member in results.environment {
      table.add([member.key, member.value.string ?? member.value.compact])
    }
    if let final = results.final {
      table.add(["checkpoint", final.checkpoint])
      table.add(["parameters, SHA-256", final.parametersSHA256])
    }
    return table
  }
}
