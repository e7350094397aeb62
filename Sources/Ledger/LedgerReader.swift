// Reads ledger.jsonl back: all events, the matrix with its sums per document, and what a rerun repeats.
// A line without its newline never happened; anything else that is not JSON is an error with its line.

import StrictJSON

/// Reading ledgers.
public enum LedgerReader {
  /// The events of a ledger, in order.
  ///
  /// - Throws: `LedgerError` with the line that is no JSON object with an `event`.
  public static func events(_ path: String) throws(LedgerError) -> [JSON] {
    let bytes = try TextFile.read(path)
    var events: [JSON] = []
    var start = 0
    var line = 1
    while let end = bytes[start...].firstIndex(of: 0x0A) {
      if end > start {
        let event: JSON
        do throws(JSONError) { event = try JSON.parse(Array(bytes[start..<end])) } catch {
          throw LedgerError(
            .malformed, path: path, line: line, what: error.description,
            hint: "the ledger is written by machine; restore it, or resume from a checkpoint before this line"
          )
        }
        guard event["event"]?.string != nil else {
          throw LedgerError(.malformed, path: path, line: line, what: "no 'event' in this line")
        }
        events.append(event)
      }
      start = end + 1
      line += 1
    }
    return events
  }

  /// The rows `base` and stage ends among the events, with their sums per document.
  ///
  /// A later measurement of the same row and probe replaces an earlier one.
  public static func matrix(_ events: [JSON]) throws(ShapeError) -> RetentionMatrix {
    var matrix = RetentionMatrix()
    for event in events where event["event"]?.string == "measurement" {
      guard let after = event["after"]?.string else { continue }
      matrix.add(try Measurement(event), after: after)
    }
    return matrix
  }

  /// The events without what an interruption or the machine changes: no `cost`, no `resumed`, `interrupted`
  /// or `checkpoint`. Equal for an interrupted and an uninterrupted run.
  public static func repeatable(_ events: [JSON]) -> [JSON] {
    let passing = ["resumed", "interrupted", "checkpoint"]
    return events.compactMap { event in
      guard let name = event["event"]?.string, !passing.contains(name) else { return nil }
      return .object((event.members ?? []).filter { $0.key != "cost" })
    }
  }

  /// Results as far as the ledger tells, for a run that has not written results.json yet.
  ///
  /// - Returns: nil where the run never wrote `run_started` or measured nothing.
  public static func results(_ events: [JSON]) throws(ShapeError) -> RunResults? {
    guard let start = events.first(where: { $0["event"]?.string == "run_started" }) else { return nil }
    let matrix = try matrix(events)
    guard !matrix.rows.isEmpty else { return nil }
    let stages = try start.strings("stages")
    var probes: [ProbeInfo] = []
    for probe in try start.require("probes", \.array, "a list") { probes.append(try ProbeInfo(probe)) }
    let seed = try start.require("seed", \.int, "an integer")
    let summary = Summary(
      stages: stages, probes: probes, matrix: matrix, confidence: start["confidence"]?.double ?? 0.95,
      bootstrap: min(max(0, start["bootstrap"]?.int ?? 2000), 100_000), seed: seed)
    var gates: [GateResult] = []
    for event in events where event["event"]?.string == "gate" {
      let gate = try GateResult(event)
      gates.removeAll { $0.probe == gate.probe }
      gates.append(gate)
    }
    let end = events.last { $0["event"]?.string == "run_finished" }?["status"]?.string
    return RunResults(
      name: try start.require("name", \.string, "a text"),
      status: end.flatMap(RunResults.Status.init) ?? .interrupted, seed: seed, stages: stages, probes: probes,
      matrix: matrix.table, summary: summary, gates: gates,
      environment: start["cost"]?["environment"]?.members ?? [])
  }
}
