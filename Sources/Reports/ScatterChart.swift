// Points with names and error bars: plasticity against stability, trials against each other.
// Right and up are better on both axes.

struct ScatterChart {
  struct Point {
    var name: String
    var x: Double
    var y: Double
    var xInterval: (Double, Double)?
    var yInterval: (Double, Double)?
    var index: Int
    var isChosen = false
    /// Beside the point, or below it where another label stands there.
    var isLabelBelow = false
  }
  var title: String
  var xName: String
  var yName: String
  var points: [Point]
  /// Draws the staircase of points that no other beats on both axes.
  var hasFront = true
  var width = 720.0
  var height = 380.0

  func write(to page: inout Markup) {
    let points = points.filter { $0.x.isFinite && $0.y.isFinite }
    let x = Scale(
      points.flatMap { [$0.x, $0.xInterval?.0 ?? $0.x, $0.xInterval?.1 ?? $0.x] }, from: 64, to: width - 90,
      tickCount: 7)
    let y = Scale(
      points.flatMap { [$0.y, $0.yInterval?.0 ?? $0.y, $0.yInterval?.1 ?? $0.y] }, from: height - 44, to: 28)
    Chart.picture(&page, width: width, height: height, title: title) { svg in
      Chart.axes(&svg, x: x, y: y, xName: xName, yName: yName)
      let front = ScatterChart.front(points)
      if hasFront, front.count > 1 {
        svg.void(
          "polyline",
          [
            "class": "front",
            "points": front.map { "\(Chart.coordinate(x($0.x))),\(Chart.coordinate(y($0.y)))" }
              .joined(separator: " "),
          ])
      }
      for point in points {
        if let (low, high) = point.xInterval {
          Chart.line(
            &svg, x(low), y(point.y), x(high), y(point.y), "error", colour: Chart.colour(point.index))
        }
        if let (low, high) = point.yInterval {
          Chart.line(
            &svg, x(point.x), y(low), x(point.x), y(high), "error", colour: Chart.colour(point.index))
        }
        if point.isChosen {
          svg.void(
            "circle",
            [
              "cx": Chart.coordinate(x(point.x)), "cy": Chart.coordinate(y(point.y)), "r": "10",
              "class": "chosen",
            ])
        }
        Chart.marker(
          &svg, x(point.x), y(point.y), index: point.index, size: 5,
          hint: "\(point.name): \(xName) \(Format.number(point.x)), \(yName) \(Format.number(point.y))")
        let drop = point.isLabelBelow ? 16.0 : -7.0
        Chart.text(&svg, x(point.x) + 11, y(point.y) + drop, point.name, anchor: "start")
      }
    }
  }

  /// Points that no other point beats or equals on both axes, from left to right.
  static func front(_ points: [Point]) -> [Point] {
    var best = -Double.infinity
    var front: [Point] = []
    for point in points.sorted(by: { ($0.x, $0.y) > ($1.x, $1.y) }) where point.y > best {
      best = point.y
      front.append(point)
    }
    return front.reversed()
  }
}
