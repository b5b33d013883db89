"""
Charts as HTML with inline SVG, for scripts/report. Python 3.8 or newer, no packages.

    point       (step, tokens, seconds of training, value), as runs.Run.series gives them
    Series      what one colour shows: a bold line, the curves thin behind it, dots
    chart()     a <figure> with two plots, over tokens and over time; the page shows one of them
    data()      the values for report.js, which shows those under the pointer

    <figure class="chart" data-chart="0">
        <div class="plot by-tokens" data-axis="1" data-low="0" data-high="..">       data-axis: place in a point
            <svg viewBox="0 0 1000 1000" preserveAspectRatio="none">                 stretched to the width; strokes are not
            <span class="x" style="left:12.5%">50k</span> ..                         text beside it, so that it keeps its size

A dot is a line of no length with a round end, which stays round when the picture is stretched.
"""
import html
import json
import math

import runs as store

COLOURS = 8  # --c0 .. --c7 of report.css; more series get dashes
COLUMNS = 300  # a line has at most so many points, what is behind it twice that
TIMES = [("seconds", 1), ("minutes", 60), ("hours", 3600)]


def escape(text):
    """Text for HTML, between tags and in quoted attributes."""
    return html.escape(str(text), quote=True)


class Series:
    """label; colour, a number; group: of the toggle that hides it, or None; line, dots: points; behind: a list of lists of them;
    dash: 0 solid, 1 .. 3 dashed. css: its classes: c colour, d dash, g group, p points alone."""

    def __init__(self, label, colour, line=(), behind=(), dots=(), group=None, dash=0):
        self.label, self.group = label, group
        self.line, self.behind, self.dots = list(line), [list(curve) for curve in behind], list(dots)
        self.css = "c%d d%d" % (colour % COLOURS, (dash + colour // COLOURS) % 4) + ("" if group is None else " g%d" % group)
        self.css += "" if self.line else " p"

    def values(self):
        return [p[3] for p in self.line + self.dots]


def smooth(points, half):
    """The same places with smoothed values."""
    return [p[:3] + (v,) for p, v in zip(points, store.smoothed([p[3] for p in points], half))]


def thin(points, most=COLUMNS):
    """At most `most` of the points, evenly, with the first and the last."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def envelope(points, most=COLUMNS):
    """The lowest and the highest point of each of `most` pieces: a noisy curve keeps its look and its extremes."""
    if len(points) <= 2 * most:
        return points
    out = []
    for i in range(most):
        piece = points[i * len(points) // most:(i + 1) * len(points) // most]
        ends = {min(piece, key=lambda p: p[3]), max(piece, key=lambda p: p[3])}
        out += sorted(ends)
    return out


def mean_curve(curves):
    """The mean of several runs' points where all of them have the step; places are means, too."""
    curves = [curve for curve in curves if curve]
    if len(curves) < 2:
        return curves[0] if curves else []
    by_step = [{p[0]: p for p in curve} for curve in curves]
    steps = sorted(set(by_step[0]).intersection(*by_step[1:]))
    return [(step,) + tuple(sum(run[step][i] for run in by_step) / len(by_step) for i in (1, 2, 3)) for step in steps]


def nice_step(span, count):
    """1, 2 or 5 times a power of ten, so that `span` holds about `count` of them."""
    power = 10.0 ** math.floor(math.log10(span / count))
    raw = span / count / power
    return power * (1 if raw < 1.5 else 2 if raw < 3.5 else 5 if raw < 7.5 else 10)


def ticks(low, high, count):
    step = nice_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    return [(i * step, step) for i in range(first, first + 20) if i * step <= high + 1e-9 * step]


def short(value, step=0.0):
    """A number in few letters: 1.5M, 20k, 0.003; `step` says how many decimals matter."""
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and (size > 1e3 or value % size == 0)):
            return "%.6g%s" % (value / size, name)
    if value == 0 or step == 0:
        return "%.4g" % value
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return "%.*f" % (decimals, value) if decimals < 6 else "%.3g" % value


def time_unit(seconds):
    """(name, seconds) of the unit in which a length of time is a handy number."""
    return [unit for unit in TIMES if seconds >= 3 * unit[1] or unit[1] == 1][-1]


def path(points, axis, box, css, dots=False):
    """An SVG path; axis: which number of a point is its x; box: (low x, high x, low y, high y)."""
    xl, xh, yl, yh = box
    places = ["%.1f %.1f" % (1000 * (p[axis] - xl) / (xh - xl), 1000 * (yh - p[3]) / (yh - yl)) for p in points]
    if not places:
        return ""
    return '<path class="%s" d="%s"/>' % (css, "".join("M%sh0" % p for p in places) if dots else "M" + "L".join(places))


def dots(series, axis, box):
    """Dots with their values as titles, which browsers show without a script."""
    out = []
    for p in series.dots:
        title = "%s: %.6f at step %d, %s tokens, %.1f s" % (series.label, p[3], p[0], "{:,.0f}".format(p[1]), p[2])
        out.append(path([p], axis, box, "dot", True).replace("/>", "><title>%s</title></path>" % escape(title)))
    return "".join(out)


def plot(index, series, axis, low, high, label):
    """One plot: axis 1 over tokens, 2 over time. low, high: of y."""
    places = [p[axis] for s in series for curve in [s.line, s.dots] + s.behind for p in curve]
    begin, end = min(places), max(places)
    end = end if end > begin else begin + 1
    begin, end = begin - 0.015 * (end - begin), end + 0.015 * (end - begin)
    box = (begin, end, low, high)
    unit, size = ("tokens", 1) if axis == 1 else time_unit(end)
    marks, grid = [], []
    for value, step in ticks(low, high, 5):
        y = 100 * (high - value) / (high - low)
        grid.append("M0 %.1fH1000" % (10 * y))
        marks.append('<span class="y" style="top:%.2f%%">%s</span>' % (y, short(value, step)))
    for value, step in ticks(begin / size, end / size, 5):
        x = 100 * (value * size - begin) / (end - begin)
        grid.append("M%.1f 0V1000" % (10 * x))
        marks.append('<span class="x" style="left:%.2f%%">%s</span>' % (x, short(value, step)))
    lines = ['<g class="%s">%s%s</g>' % (s.css, "".join(path(envelope(c), axis, box, "behind") for c in s.behind), "")
             for s in series]
    lines += ['<g class="%s">%s%s</g>' % (s.css, path(thin(s.line), axis, box, "line"), dots(s, axis, box)) for s in series]
    return ('<div class="plot by-%s" data-chart="%d" data-axis="%d" data-low="%r" data-high="%r" data-bottom="%r" data-top="%r" '
            'tabindex="0" role="img" aria-label="%s"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
            '<path class="grid" d="%s"/>%s</svg>%s<span class="unit">%s</span></div>') % (
                "tokens" if axis == 1 else "time", index, axis, begin, end, low, high, escape(label), "".join(grid),
                "".join(lines), "".join(marks), unit + ("" if axis == 1 else " of training"))


def bounds(series, zero, top):
    """(low, high) of the y axis, with some air. top: where it ends at most, or None."""
    values = [v for s in series for v in s.values()] + [p[3] for s in series for curve in s.behind for p in curve]
    low, high = min(values), max(values)
    high = min(high, top) if top is not None and top > low else high
    low = min(low, 0) if zero else low
    air = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if zero else low - air), high + air


def chart(index, title, about, series, zero=False, top=None, legend=False):
    """A figure, "" when there is nothing to show. zero: y begins at 0; legend: names beside colours, where the page has none."""
    series = [s for s in series if s.line or s.dots]
    if not series:
        return ""
    low, high = bounds(series, zero, top)
    highest = max(p[3] for s in series for curve in [s.line, s.dots] + s.behind for p in curve)
    if highest > high:
        about += "%sthe axis ends at %s, the highest value is %s" % ("; " if about else "", short(high), short(highest))
    names = ['<span class="%s"><i class="swatch"></i>%s</span> ' % (s.css, escape(s.label)) for s in series if legend]
    plots = [plot(index, series, axis, low, high, title) for axis in (1, 2)]
    return ('<figure class="chart"><figcaption><b>%s</b> <small>%s</small><span class="names">%s</span></figcaption>%s</figure>\n'
            % (escape(title), escape(about), "".join(names), "".join(plots)))


def data(series):
    """What report.js shows of a chart: {label, css, group, points} of each line and of dots that have no line."""
    out = []
    for s in series:
        for points, label in ((thin(s.line), s.label), (s.dots if not s.line else [], s.label)):
            if points:
                out.append({"label": label, "css": s.css, "group": s.group,
                            "points": [[p[0], p[1], round(p[2], 2), float("%.7g" % p[3])] for p in points]})
    return out


def sparkline(points, css="c0"):
    """A small curve without axes; "" for fewer than two points."""
    if len(points) < 2:
        return ""
    values = [p[3] for p in points]
    top = max(values[len(values) // 10 + 1:])  # without the first steps, which would flatten the rest
    box = (points[0][1], max(points[-1][1], points[0][1] + 1), min(values), max(top, min(values) + 1e-9))
    return ('<svg class="spark %s" viewBox="-20 -60 1040 1120" preserveAspectRatio="none" aria-hidden="true">%s%s</svg>'
            % (css, path(thin(points, 100), 1, box, "line"), path(points[-1:], 1, box, "dot", True)))


def script_json(value):
    """JSON that may stand inside <script>: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, "\\u%04x" % ord(letter))
    return text
