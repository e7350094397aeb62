// Lines over steps or stages: losses, penalties, probes.
// Bands mark stages; dotted verticals mark places where a run was resumed.

struct LineChart {
  struct Point {
    var x: Double
    var y: Double
    var error: Double?
  }
  struct Series {
    var name: String
    var points: [Point]
    /// Picks colour, dash and marker.
    var index: Int
    var hasMarkers = true
    var isFaint = false
    var isMain = false
  }
  struct Band {
    var from: Double
    var to: Double
    var name: String
  }
  var title: String
  var xName = ""
  var yName: String
  var series: [Series]
  var bands: [Band] = []
  var marks: [Double] = []
  /// Names of the positions 0, 1, … where the axis counts stages.
  var positions: [String]?
  var width = 720.0
  var height = 280.0

  func write(to page: inout Markup) {
    let all = series.flatMap(\.points)
    var heights: [Double] = []
    for point in all { heights += [point.y - (point.error ?? 0), point.y + (point.error ?? 0)] }
    let y = Scale(heights, from: height - 40, to: 28)
    let x =
      positions.map { Scale(positions: $0.count, from: 56, to: width - 12) }
      ?? Scale(all.map(\.x) + bands.flatMap { [$0.from, $0.to] }, from: 56, to: width - 12, tickCount: 8)
    Chart.picture(&page, width: width, height: height, title: title) { svg in
      for (index, band) in bands.enumerated() {
        svg.void(
          "rect",
          [
            "x": Chart.coordinate(x(band.from)), "y": Chart.coordinate(y.to),
            "width": Chart.coordinate(x(band.to) - x(band.from)), "height": Chart.coordinate(y.from - y.to),
            "class": index.isMultiple(of: 2) ? "band" : "band odd",
          ])
        Chart.text(&svg, (x(band.from) + x(band.to)) / 2, y.to + 12, band.name)
      }
      Chart.axes(&svg, x: x, y: y, xName: xName, yName: yName, xLabels: positions)
      for mark in marks { Chart.line(&svg, x(mark), y.from, x(mark), y.to, "resume") }
      for line in series { draw(line, &svg, x, y) }
    }
  }

  private func draw(_ line: Series, _ svg: inout Markup, _ x: Scale, _ y: Scale) {
    let points = line.points.filter { $0.x.isFinite && $0.y.isFinite }
    if points.count > 1 {
      svg.void(
        "polyline",
        [
          "points": points.map { "\(Chart.coordinate(x($0.x))),\(Chart.coordinate(y($0.y)))" }
            .joined(separator: " "),
          "class": line.isFaint ? "series faint" : line.isMain ? "series main" : "series",
          "style": "stroke:\(Chart.colour(line.index))",
          "stroke-dasharray": line.isFaint ? "" : Chart.dashes[line.index % Chart.dashes.count],
        ])
    }
    guard line.hasMarkers || points.count == 1 else { return }
    for point in points {
      var hint = "\(line.name): \(Format.number(point.y))"
      if let error = point.error {
        Chart.line(
          &svg, x(point.x), y(point.y - error), x(point.x), y(point.y + error), "error",
          colour: Chart.colour(line.index))
        hint += " ±\(Format.number(error))"
      }
      Chart.marker(&svg, x(point.x), y(point.y), index: line.index, size: line.isMain ? 4.5 : 3.5, hint: hint)
    }
  }

  /// At most `limit` points, each the mean of its neighbours, so that long runs stay small on the page.
  static func thinned(_ points: [Point], limit: Int = 400) -> [Point] {
    guard points.count > limit else { return points }
    return (0..<limit).map { bin in
      let part = points[(bin * points.count / limit)..<((bin + 1) * points.count / limit)]
      let count = Double(part.count)
      return Point(x: part.reduce(0) { $0 + $1.x } / count, y: part.reduce(0) { $0 + $1.y } / count)
    }
  }

  /// An exponential mean that forgets over about `span` points, started at the first.
  static func smoothed(_ points: [Point], span: Double) -> [Point] {
    guard var mean = points.first?.y else { return [] }
    let share = 2 / (span + 1)
    return points.map { point in
      if point.y.isFinite { mean += share * (point.y - mean) }
      return Point(x: point.x, y: mean)
    }
  }
}
