"""Markdown from a sitting: every table of compare.sh or growth.sh, and growth's charts as SVG beside it.

  tables.py compare|growth SITTING
"""
import math
import os
import statistics
import sys

import readings


class Sitting:
    def __init__(self, path):
        self.data = readings.load(path)
        self.readings = [r for r in self.data["readings"] if r["result"] is not None]

    def cases(self, part):
        return list(dict.fromkeys(r["case"] for r in self.readings if r["part"] == part))

    def sides(self, part, case):
        return list(dict.fromkeys(r["side"] for r in self.readings if r["part"] == part and r["case"] == case))

    def values(self, part, case, side, key="seconds_per_step"):
        """By repeat, so that sides can be paired."""
        return {r["repeat"]: r["result"][key] for r in readings.find(self.data, part, case, side)
                if r["result"].get(key) is not None}

    def median(self, part, case, side, key="seconds_per_step"):
        found = self.values(part, case, side, key).values()
        return statistics.median(found) if found else None

    def ratio(self, part, case, over, under, key="seconds_per_step"):
        """The median of over ÷ under within each repeat, with its range; nil where none has both."""
        a, b = self.values(part, case, over, key), self.values(part, case, under, key)
        return Spread([a[r] / b[r] for r in a if r in b and b[r]])

    def spread(self, part, case, side, key="seconds_per_step"):
        return Spread(list(self.values(part, case, side, key).values()))


class Spread:
    def __init__(self, values):
        self.values = values

    def show(self, digits=2, factor=1):
        if not self.values:
            return "–"
        low, middle, high = (f"{factor * v:.{digits}f}" for v in
                             (min(self.values), statistics.median(self.values), max(self.values)))
        return middle if low == high else f"{middle} [{low}, {high}]"


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def seconds(spread):
    digits = 4 if spread.values and statistics.median(spread.values) < 0.1 else 3
    return spread.show(digits)


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def precision(side):
    return "bf16" if "bf16" in side else "fp32"


def heading(s):
    m = s.data["machine"] or {}
    results = [r["result"] for r in s.readings]
    peaks = [r["peak_gflops"] for r in results if r.get("peak_gflops") and r.get("threads") == m.get("threads")]
    streams = [r["stream_gb_per_second"] for r in results
               if r.get("stream_gb_per_second") and r.get("threads") == m.get("threads")]
    versions = sorted({f"PyTorch {r['torch']} ({r['cpu_capability']}), transformers {r['transformers']}"
                       for r in results if r.get("torch")})
    cores = sorted({r["blas_core"] for r in results if r.get("blas_core")})
    loads = [r["load_before"] for r in s.readings]
    lines = [
        f"* {m.get('cpu')}, family {m.get('family')} model {m.get('model')}, {m.get('processors')} processors, "
        f"{', '.join(m.get('features', []))}; {m.get('memory_mb')} MB; kernel {str(m.get('kernel')).split('-')[0]}",
        f"* {m.get('date')}; Retain {m.get('retain')} at {m.get('commit')}, OpenBLAS core {', '.join(cores)}"
        + "".join("; " + v for v in versions),
        f"* threads {m.get('threads')}; fp32 FMA peak in the readings' processes "
        f"{Spread(peaks).show(0)} GFLOP/s; stream (y += x) {Spread(streams).show(1)} GB/s",
        f"* other load before a reading: {Spread(loads).show(1)} (one-minute average; the sitting's own is in it)",
        "* figures: median [least, most] of the repeats; ratios are taken within each repeat",
    ]
    lines += [f"* {note}" for note in s.data["notes"]]
    lines += [f"* failed: {r['part']}, {r['case']}, {r['side']}, {r['repeat']}: {r['failure']}"
              for r in s.data["readings"] if r["result"] is None]
    return "\n".join(lines) + "\n"


def agreement(s):
    rows = []
    for case in s.cases("agree"):
        def losses(side):
            found = readings.find(s.data, "agree", case, side)
            return found[0]["result"]["losses"] if found else None

        def trace(side):
            return s.median("agree", case, side, "trace")

        for own, other in [("retain fp32", "torch fp32"), ("retain bf16", "torch bf16"),
                           ("retain bf16", "retain fp32"), ("torch bf16", "torch fp32")]:
            a, b = losses(own), losses(other)
            if not a or not b:
                continue
            worst = max(abs(x - y) / abs(y) for x, y in zip(a, b))
            rows.append([case, f"{own} against {other}, {len(a)} losses", f"{a[0]:.4f} → {a[-1]:.4f}",
                         f"{b[0]:.4f} → {b[-1]:.4f}", f"{100 * worst:.3f} %", "yes" if worst <= 0.01 else "**NO**"])
        a, b = trace("retain fisher"), trace("torch fisher")
        if a and b:
            rows.append([case, "Σ F, retain fp32 against torch fp32 (loop)", f"{a:.2f}", f"{b:.2f}",
                         f"{100 * abs(a - b) / b:.4f} %", "yes" if abs(a - b) <= 0.01 * b else "**NO**"])
    return table(["model", "what", "first", "second", "largest difference", "within 1 %"], rows)


def side_by_side(s, part):
    """Every side with Retain's speed over it, in the same precision and Retain's best over its."""
    rows = []
    for case in s.cases(part):
        for side in s.sides(part, case):
            if side.startswith("retain products"):
                continue
            own = f"retain {precision(side)}"
            faster = "" if side.startswith("retain") else s.ratio(part, case, side, own).show()
            share = s.median(part, case, side, "mfu")
            rows.append([case, side, seconds(s.spread(part, case, side)),
                         number(s.median(part, case, side, "tokens_per_second")),
                         number(share, 2), number(s.median(part, case, side, "peak_rss_mb")), faster])
    text = table(["case", "side", "seconds a step", "tokens/s", "share of FMA peak (fp32)", "peak MB",
                  "Retain of that precision is faster by"], rows)
    for case in s.cases(part):
        text += best(s, part, case)
    return text


def best(s, part, case):
    lines = []
    peers = [side for side in s.sides(part, case) if side.startswith("torch") and s.median(part, case, side)]

    def fastest(some):
        return min(some, key=lambda side: s.median(part, case, side), default=None)

    for own, among, words in [
            ("retain fp32", [p for p in peers if precision(p) == "fp32"], "of PyTorch's fp32"),
            ("retain bf16", peers, "of PyTorch's, any mode")]:
        peer = fastest(among)
        if peer and s.values(part, case, own):
            lines.append(f"{case}: {own} ÷ the fastest {words} ({peer}): "
                         f"**{s.ratio(part, case, peer, own).show()}**, "
                         f"memory {s.ratio(part, case, own, peer, 'peak_rss_mb').show()}.")
    return "\n" + "  \n".join(lines) + "\n" if lines else ""


def ewc(s, part):
    rows = []
    for case in s.cases(part):
        for side in s.sides(part, case):
            rows.append([case, side, seconds(s.spread(part, case, side, "plain_seconds_per_step")),
                         seconds(s.spread(part, case, side)), s.spread(part, case, side, "ratio_to_plain").show(4),
                         number(s.median(part, case, side, "peak_rss_mb"))])
    return table(["case", "side", "plain step, s", "EWC step, s", "EWC ÷ plain", "peak MB"], rows)


def methods(s, part):
    rows = [[case, seconds(s.spread(part, case, "retain fp32", "plain_seconds_per_step")),
             seconds(s.spread(part, case, "retain fp32")), s.spread(part, case, "retain fp32", "ratio_to_plain").show(3),
             number(s.median(part, case, "retain fp32", "peak_rss_mb"))] for case in s.cases(part)]
    return table(["method", "plain step, s", "its step, s", "÷ plain", "peak MB"], rows)


def fisher(s):
    rows = []
    for case in s.cases("fisher"):
        for side in s.sides("fisher", case):
            own = f"retain {precision(side)}"
            ours = side.startswith("retain")
            rows.append([
                case, side, seconds(s.spread("fisher", case, side)),
                number(s.median("fisher", case, side, "tokens_per_second")),
                s.spread("fisher", case, side, "ratio_to_training").show(3) if ours else "",
                "" if ours else s.ratio("fisher", case, side, own).show(),
                number(s.median("fisher", case, side, "peak_rss_mb"))])
    return table(["case", "side", "seconds", "tokens/s", "÷ own training's tokens/s",
                  "Retain of that precision is faster by", "peak MB"], rows)


def head(s):
    text, lines = side_by_side(s, "head"), []
    for case in s.cases("head"):
        ratios = []
        products = {r["repeat"]: r["result"] for r in readings.find(s.data, "head", case, "retain products fp32")}
        for repeat, took in s.values("head", case, "retain fp32").items():
            product = next((p for p in products.get(repeat, {}).get("products", []) if p["product"] == "head"), None)
            if product:
                work = 2e-9 * product["m"] * product["k"] * product["n"]
                ratios.append(took / sum(work / rate for rate in product["gflops"]))
        if ratios:
            lines.append(f"{case}: retain fp32 takes {Spread(ratios).show()} × its own three products.")
    return text + ("\n" + "  \n".join(lines) + "\n" if lines else "")


def packed(s):
    rows, whole = [], None
    for case in s.cases("packed"):
        squares = s.median("packed", case, "retain fp32", "sum_of_squared_lengths")
        whole = whole or (case, squares)
        for side in s.sides("packed", case):
            dense = s.median("packed", whole[0], side)
            took = s.median("packed", case, side)
            share = squares / whole[1] if squares and whole[1] else None
            rows.append([case, side, seconds(s.spread("packed", case, side)), number(share, 3),
                         number(took / dense, 3) if dense else "–",
                         number(took / dense / share, 2) if dense and share else "–",
                         "" if side == "retain fp32" else s.ratio("packed", case, side, "retain fp32").show()])
    return table(["row of 2048 tokens", "side", "seconds", "ΣT² ÷ dense", "time ÷ dense", "time ÷ the law",
                  "Retain is faster by"], rows)


def optimizer(s):
    rows = []
    for case in s.cases("optimizer"):
        for side in s.sides("optimizer", case):
            def faster(key):
                return "" if side == "retain fp32" else s.ratio("optimizer", case, side, "retain fp32", key).show()
            rows.append([case, side, seconds(s.spread("optimizer", case, side)),
                         number(s.median("optimizer", case, side, "gb_per_second"), 1),
                         number(s.median("optimizer", case, side, "share_of_stream"), 2),
                         seconds(s.spread("optimizer", case, side, "ewc_seconds_per_step")),
                         number(s.median("optimizer", case, side, "ewc_share_of_stream"), 2),
                         faster("seconds_per_step"), faster("ewc_seconds_per_step")])
    return table(["parameters", "side", "AdamW, s", "GB/s at 28 B", "÷ stream", "with a past, s", "÷ stream",
                  "Retain is faster by", "with a past by"], rows)


COMPARE = [
    ("agree", "Agreement: the same weights and ids", lambda s, _: agreement(s)),
    ("train15", "Training, 15 million parameters", side_by_side),
    ("train124", "Training, GPT-2 of 124 million parameters", side_by_side),
    ("ewc15", "EWC step ÷ plain step, 15 million parameters, 1024 tokens a step", ewc),
    ("ewc124", "EWC step ÷ plain step, GPT-2, 1024 tokens a step", ewc),
    ("fisher", "Exact per-sequence Fisher, 15 million parameters", lambda s, _: fisher(s)),
    ("methods", "What other methods add to a step, 15 million parameters, 1024 tokens a step", methods),
    ("head", "Head: logits, loss, both gradients", lambda s, _: head(s)),
    ("attention", "Causal attention of 12 layers, forward and backward, 2048 tokens", side_by_side),
    ("packed", "Packed attention: documents of unlike lengths in one row", lambda s, _: packed(s)),
    ("optimizer", "AdamW over 124 million parameters", lambda s, _: optimizer(s)),
    ("memory", "Peak memory of an EWC step", side_by_side),
]


def compare(s):
    print("# Retain beside PyTorch\n\n" + heading(s))
    for part, title, make in COMPARE:
        if s.cases(part):
            print(f"## {title}\n\n" + make(s, part))


# What growth's parts show: key of the x axis, the value of a reading, scales, and the law beside the points.
GROWTH = {
    "length": ("Time a token against the length of sequences (42 million parameters)", "tokens a sequence",
               "µs a token", lambda r: 1e6 / r["tokens_per_second"], True, False),
    "size": ("Time a token against the size of the model", "million parameters", "µs a token",
             lambda r: 1e6 / r["tokens_per_second"], True, True),
    "probes": ("Time of an evaluation against the number of probes", "probes", "seconds",
               lambda r: r["seconds_per_step"], False, False),
    "pasts": ("EWC step ÷ plain step against the pasts held on to", "pasts", "ratio",
              lambda r: r["ratio_to_plain"], False, False),
    "threads": ("Speed against threads", "threads", "steps a second", lambda r: 1 / r["seconds_per_step"],
                False, False),
}


def growth(s, folder):
    print("# How cost grows\n\n" + heading(s))
    for part, (title, x_name, y_name, value, log_x, log_y) in GROWTH.items():
        if not s.cases(part):
            continue
        series = {}
        for reading in s.readings:
            if reading["part"] == part:
                points = series.setdefault(reading["side"], {})
                points.setdefault(float(reading["case"]), []).append(value(reading["result"]))
        sides = list(series)
        rows = []
        for x in sorted({x for points in series.values() for x in points}):
            row = [f"{x:g}"]
            for side in sides:
                spread, start = Spread(series[side].get(x, [])), series[side][min(series[side])]
                row += [spread.show(4 if part == "pasts" else 3),
                        number(statistics.median(spread.values) / statistics.median(start), 3)
                        if spread.values else "–"]
            rows.append(row)
        header = [x_name] + [h for side in sides for h in (f"{side}, {y_name}", "÷ first")]
        print(f"## {title}\n\n" + table(header, rows) + exponents(series, log_y) + f"\n![{title}](growth-{part}.svg)\n")
        if part == "threads":
            y_name, series = "speed ÷ one thread", speedups(series)
        with open(os.path.join(folder, f"growth-{part}.svg"), "w") as file:
            file.write(chart(title, x_name, y_name, series, log_x, log_y))


def speedups(series):
    """Every side by its own speed at the first point, so that unlike tasks share an axis."""
    return {side: {x: [v / statistics.median(points[min(points)]) for v in values] for x, values in points.items()}
            for side, points in series.items()}


def exponents(series, wanted):
    """Least-squares slopes in logarithms: 1 is linear."""
    if not wanted:
        return ""
    lines = []
    for side, points in series.items():
        xs = [math.log(x) for x in points]
        ys = [math.log(statistics.median(v)) for v in points.values()]
        if len(xs) > 1:
            slope = statistics.linear_regression(xs, ys).slope
            lines.append(f"{side}: grows as the power {slope:.2f}.")
    return "\n" + "  \n".join(lines) + "\n" if lines else ""


def chart(title, x_name, y_name, series, log_x, log_y):
    """Medians as lines, ranges as bars; both axes from round numbers."""
    width, height, left, top, right, bottom = 640, 380, 70, 40, 20, 50
    colours = ["#1f5fa8", "#c4511b", "#3a7d34", "#7a3b8f"]
    xs = sorted({x for points in series.values() for x in points})
    ys = [v for points in series.values() for vs in points.values() for v in vs]

    def axis(values, log, from_zero):
        if log:
            low, high = math.log(min(values)), math.log(max(values))
        else:
            low, high = (0 if from_zero else min(values)), max(values)
        pad = 0.04 * (high - low) or 1
        low, high = (low if from_zero and not log else low - pad), high + pad
        return lambda v: ((math.log(v) if log else v) - low) / (high - low)

    ratio = y_name == "ratio"
    place_x = axis(xs, log_x, False)
    place_y = axis(ys + [1] if ratio else ys, log_y, not ratio)

    def x(v):
        return left + place_x(v) * (width - left - right)

    def y(v):
        return height - bottom - place_y(v) * (height - top - bottom)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           f'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="22" font-size="14">{title}</text>',
           f'<path d="M{left} {top}V{height - bottom}H{width - right}" fill="none" stroke="#444"/>',
           f'<text x="{(left + width - right) / 2}" y="{height - 12}" text-anchor="middle">{x_name}</text>',
           f'<text x="16" y="{(top + height - bottom) / 2}" text-anchor="middle" '
           f'transform="rotate(-90 16 {(top + height - bottom) / 2})">{y_name}</text>']
    for v in xs:
        out.append(f'<text x="{x(v):.1f}" y="{height - bottom + 16}" text-anchor="middle">{v:g}</text>')
    for v in ticks(min(ys), max(ys), log_y, not ratio):
        out.append(f'<path d="M{left} {y(v):.1f}H{width - right}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for index, (side, points) in enumerate(series.items()):
        colour = colours[index % len(colours)]
        middle = [(v, statistics.median(points[v])) for v in sorted(points)]
        path = "L".join(f"{x(v):.1f} {y(m):.1f}" for v, m in middle)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for v, m in middle:
            out.append(f'<path d="M{x(v):.1f} {y(min(points[v])):.1f}V{y(max(points[v])):.1f}" stroke="{colour}"/>'
                       f'<circle cx="{x(v):.1f}" cy="{y(m):.1f}" r="3" fill="{colour}"/>')
        out.append(f'<text x="{left + 12}" y="{top + 14 + 16 * index}" fill="{colour}">{side}</text>')
    return "\n".join(out + ["</svg>\n"])


def ticks(low, high, log, from_zero):
    if log:
        places = [m * 10.0 ** e for e in range(-6, 9) for m in (1, 2, 5)]
        return [v for v in places if low <= v <= high]
    low = 0 if from_zero else low
    step = 10.0 ** math.floor(math.log10((high - low) / 4 or 1))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, int(high / step + 1e-9) + 1)]


def main():
    kind, path = sys.argv[1:]
    s = Sitting(path)
    if kind == "compare":
        compare(s)
    else:
        growth(s, os.path.dirname(path))


main()
