// Losses and penalties of all stages on one axis of steps, from the ledger.
// Steps count from 1 in every stage; here each stage begins where the one before ended.

import StrictJSON

struct LossCurves {
  struct Stage {
    var name: String
    var offset: Double
    var steps = 0.0
    var loss: [LineChart.Point] = []
    var penalty: [LineChart.Point] = []
    var validation: [LineChart.Point] = []
  }
  private(set) var stages: [Stage] = []
  private(set) var resumed: [Double] = []

  init(_ events: [JSON]) {
    for event in events {
      guard let name = event["stage"]?.string, let kind = event["event"]?.string,
        ["stage_started", "step", "validation", "resumed", "stage_ended"].contains(kind)
      else { continue }
      if stages.last?.name != name {
        stages.append(Stage(name: name, offset: stages.last.map { $0.offset + $0.steps } ?? 0))
      }
      let last = stages.count - 1
      guard let step = event["step"]?.double else { continue }
      stages[last].steps = max(stages[last].steps, step)
      let x = stages[last].offset + step
      switch kind {
      case "step":
        if let loss = event["loss"]?.double { stages[last].loss.append(LineChart.Point(x: x, y: loss)) }
        if let value = event["penalty"]?.double {
          stages[last].penalty.append(LineChart.Point(x: x, y: value))
        }
      case "validation":
        if let loss = event["loss"]?.double { stages[last].validation.append(LineChart.Point(x: x, y: loss)) }
      case "resumed": resumed.append(x)
      default: break
      }
    }
  }

  var loss: [LineChart.Point] { stages.flatMap(\.loss) }
  var penalty: [LineChart.Point] { stages.flatMap(\.penalty) }
  var bands: [LineChart.Band] {
    stages.map { LineChart.Band(from: $0.offset, to: $0.offset + $0.steps, name: $0.name) }
  }

  /// Mean penalty ÷ mean loss; nil without either.
  var penaltyShare: Double? {
    guard !penalty.isEmpty, !loss.isEmpty else { return nil }
    let mean = { (points: [LineChart.Point]) in points.reduce(0) { $0 + $1.y } / Double(points.count) }
    let denominator = mean(loss)
    return denominator > 0 ? mean(penalty) / denominator : nil
  }
}
