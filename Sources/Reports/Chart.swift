// Axes, scales and marks of the charts, drawn as inline SVG by hand.
// Colours are Okabe and Ito's, which colour-blind readers can tell apart; dashes and shapes say the same again.

/// A straight map from data to pixels with round ticks.
struct Scale {
  let lower: Double
  let upper: Double
  let from: Double
  let to: Double
  let ticks: [Double]

  /// - Parameter values: finite data; a flat or empty range is widened.
  init(_ values: [Double], from: Double, to: Double, tickCount: Int = 5) {
    let finite = values.filter { $0.isFinite && abs($0) < 1e30 }
    var low = finite.min() ?? 0
    var high = finite.max() ?? 1
    if high - low < 1e-12 * max(1, abs(high)) {
      let half = max(abs(high) * 0.05, 1e-6)
      low -= half
      high += half
    }
    let step = Scale.roundStep((high - low) / Double(tickCount))
    let first = (low / step).rounded(.down)
    let last = (high / step).rounded(.up)
    lower = first * step
    upper = last * step
    self.from = from
    self.to = to
    ticks = (0...max(0, min(40, Int(last - first)))).map { (first + Double($0)) * step }
  }

  /// One tick for each of `count` positions, with half a step of room on both sides.
  init(positions count: Int, from: Double, to: Double) {
    lower = -0.25
    upper = Double(max(1, count - 1)) + 0.25
    self.from = from
    self.to = to
    ticks = (0..<count).map(Double.init)
  }

  func callAsFunction(_ value: Double) -> Double {
    let clamped = min(max(value, lower), upper)
    return from + (clamped - lower) / (upper - lower) * (to - from)
  }

  /// 1, 2 or 5 times a power of ten, at least `rough`.
  private static func roundStep(_ rough: Double) -> Double {
    var power = 1.0
    while power > rough { power /= 10 }
    while power * 10 <= rough { power *= 10 }
    return [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough } ?? rough
  }

  /// As many decimals as tell the ticks apart.
  func label(_ tick: Double) -> String {
    let step = ticks.count > 1 ? ticks[1] - ticks[0] : 1
    var decimals = 0
    var unit = 1.0
    while decimals < 6, step < unit * 0.999 {
      unit /= 10
      decimals += 1
    }
    return abs(tick) >= 10_000 ? Format.count(Int(tick)) : Format.fixed(tick, decimals)
  }
}

enum Chart {
  static let dashes = ["", "6 3", "2 3", "8 3 2 3", "12 4", "1 2", "4 6"]
  static let colours = 7

  static func coordinate(_ value: Double) -> String { Format.fixed(value.isFinite ? value : 0, 1) }
  static func colour(_ index: Int) -> String { "var(--c\(index % colours))" }

  static func line(
    _ svg: inout Markup, _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ kind: String,
    colour: String = ""
  ) {
    svg.void(
      "line",
      [
        "x1": coordinate(x1), "y1": coordinate(y1), "x2": coordinate(x2), "y2": coordinate(y2), "class": kind,
        "style": colour.isEmpty ? "" : "stroke:\(colour)",
      ])
  }

  static func text(
    _ svg: inout Markup, _ x: Double, _ y: Double, _ content: String, anchor: String = "middle"
  ) {
    svg.element(
      "text", ["x": coordinate(x), "y": coordinate(y), "text-anchor": anchor], content)
  }

  /// A shape by index, so that colour is never the only difference; `hint` is shown on hover.
  static func marker(
    _ svg: inout Markup, _ x: Double, _ y: Double, index: Int, size: Double = 4, hint: String
  ) {
    let style = "fill:\(colour(index))"
    func points(_ offsets: [(Double, Double)]) -> String {
      offsets.map { "\(coordinate(x + $0.0 * size)),\(coordinate(y + $0.1 * size))" }.joined(separator: " ")
    }
    switch index % 4 {
    case 0:
      svg.element(
        "circle", ["cx": coordinate(x), "cy": coordinate(y), "r": coordinate(size), "style": style]
      ) { $0.element("title", hint) }
    case 1:
      svg.element("polygon", ["points": points([(-1, -1), (1, -1), (1, 1), (-1, 1)]), "style": style]) {
        $0.element("title", hint)
      }
    case 2:
      svg.element("polygon", ["points": points([(0, -1.3), (1.2, 0.9), (-1.2, 0.9)]), "style": style]) {
        $0.element("title", hint)
      }
    default:
      svg.element("polygon", ["points": points([(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)]), "style": style]) {
        $0.element("title", hint)
      }
    }
  }

  /// The picture with its title for readers that do not see it.
  static func picture(
    _ page: inout Markup, width: Double, height: Double, title: String, _ body: (inout Markup) -> Void
  ) {
    page.element(
      "svg",
      [
        "viewBox": "0 0 \(coordinate(width)) \(coordinate(height))", "role": "img",
        "xmlns": "http://www.w3.org/2000/svg", "aria-label": title,
      ]
    ) { svg in
      svg.element("title", title)
      body(&svg)
    }
  }

  /// Grid, ticks and names of both axes.
  static func axes(
    _ svg: inout Markup, x: Scale, y: Scale, xName: String, yName: String, xLabels: [String]? = nil
  ) {
    for tick in y.ticks {
      line(&svg, x.from, y(tick), x.to, y(tick), "grid")
      text(&svg, x.from - 6, y(tick) + 3.5, y.label(tick), anchor: "end")
    }
    for (index, tick) in x.ticks.enumerated() {
      let label = xLabels.map { $0.indices.contains(index) ? $0[index] : "" } ?? x.label(tick)
      line(&svg, x(tick), y.from, x(tick), y.from + 4, "axis")
      text(&svg, x(tick), y.from + 16, label)
    }
    line(&svg, x.from, y.from, x.to, y.from, "axis")
    if !xName.isEmpty { text(&svg, (x.from + x.to) / 2, y.from + 32, xName) }
    text(&svg, 4, y.to - 10, yName, anchor: "start")
  }

  /// Names of series with their line, marker and colour.
  static func legend(_ page: inout Markup, _ names: [String]) {
    page.element("p", ["class": "legend"]) { page in
      for (index, name) in names.enumerated() {
        page.element("span") { page in
          page.element(
            "svg", ["viewBox": "0 0 30 12", "class": "key", "aria-hidden": "true"]
          ) { svg in
            svg.void(
              "line",
              [
                "x1": "0", "y1": "6", "x2": "30", "y2": "6", "class": "series",
                "style": "stroke:\(colour(index))", "stroke-dasharray": dashes[index % dashes.count],
              ])
            marker(&svg, 15, 6, index: index, hint: name)
          }
          page.write(" " + name)
        }
        page.write(" ")
      }
    }
  }
}
