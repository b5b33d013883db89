# Draws the losses in a run's main.log: a sparkline on the terminal and, with svg=FILE, a plot.
#
#   awk -f scripts/curve.awk [-v svg=loss.svg] [-v title=TEXT] [-v refs="label=3.2821,other=4.1"] [-v ymax=N] run/main.log ...
#
# One log: training loss (every step thin, smoothed bold) and validation points. Several: smoothed training loss and validation
# points of each in its own colour, named by directory. refs are dashed horizontal lines; their labels may hold no comma or "=".
# Long runs (1000 steps and more) lose the top of the plot to the first steps: it is cut at the loss after 4 % of them, unless
# ymax=NUMBER says where.
# Any awk will do (mawk, gawk, busybox): no extensions are used.

function fail(message) { print "error: " message > "/dev/stderr"; failed = 1; exit 1 }
function min(a, b) { return a < b ? a : b }
function max(a, b) { return a > b ? a : b }
function xml(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); gsub(/"/, "\\&quot;", s); return s }
function px(x) { return left + (x - xlow) / (xhigh - xlow) * width }
function py(y) { return top + (yhigh - y) / (yhigh - ylow) * height }
function put(s) { print s > svg }

# The name of a log in the legend: its directory.
function label_of(path,    n, part) {
    n = split(path, part, "/")
    return n > 1 ? part[n - 1] : path
}

# 1, 2 or 5 times a power of ten, so that `span` holds about `count` of them.
function nice_step(span, count,    raw, power) {
    raw = span / count
    power = exp(log(10) * floor(log(raw) / log(10)))
    raw /= power
    return power * (raw < 1.5 ? 1 : raw < 3.5 ? 2 : raw < 7.5 ? 5 : 10)
}
function floor(x,    i) { i = int(x); return i > x ? i - 1 : i }

# 1500000 as 1.5M: long step numbers would touch each other.
function short(x) {
    if (x >= 1000000) return sprintf("%g", x / 1000000) "M"
    if (x >= 10000) return sprintf("%g", x / 1000) "k"
    return sprintf("%g", x)
}

function text(x, y, anchor, size, colour, s,    style) {
    style = sprintf("font-size=\"%d\" fill=\"%s\" text-anchor=\"%s\"", size, colour, anchor)
    put(sprintf("<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>", x, y, style, xml(s)))
}
function line(x1, y1, x2, y2, style) {
    put(sprintf("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>", x1, y1, x2, y2, style))
}

# Mean of the training losses within `half` records of record i of log f; the window shrinks symmetrically at the ends, so the
# steep beginning is not dragged behind.
function smooth(f, i, half,    h) {
    h = min(half, min(i - 1, trains[f] - i))
    return (sum[f, i + h] - sum[f, i - h - 1]) / (2 * h + 1)
}

# The training loss as a path; at most one point a pixel, so a million steps stay a small file.
function train_path(f, half, style,    i, bucket, points, sx, sy, n, last) {
    points = ""
    n = sx = sy = 0
    last = -1
    for (i = 1; i <= trains[f]; i++) {
        bucket = trains[f] <= width ? i : int(px(train_step[f, i]))
        if (bucket != last && n) {
            points = points sprintf(" %.1f,%.1f", px(sx / n), py(sy / n))
            n = sx = sy = 0
        }
        last = bucket
        sx += train_step[f, i]
        sy += half ? smooth(f, i, half) : train[f, i]
        n++
    }
    if (n) points = points sprintf(" %.1f,%.1f", px(sx / n), py(sy / n))
    put("<polyline clip-path=\"url(#plot)\" fill=\"none\" stroke-linejoin=\"round\" " style " points=\"" substr(points, 2) "\"/>")
}

function val_path(f, colour,    i, points) {
    points = ""
    for (i = 1; i <= vals[f]; i++) points = points sprintf(" %.1f,%.1f", px(val_step[f, i]), py(val[f, i]))
    if (!trains[f] || vals[f] > 120) {  # dots alone, unless there is nothing else or they would be a band
        put("<polyline clip-path=\"url(#plot)\" fill=\"none\" stroke=\"" colour "\" points=\"" substr(points, 2) "\"/>")
    }
    for (i = 1; i <= vals[f] && vals[f] <= 120; i++) {
        if (val[f, i] > yhigh) continue
        put(sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\" stroke=\"white\"/>", px(val_step[f, i]), py(val[f, i]), colour))
    }
}

# The top of the plot: the highest value, or lower when it is cut.
function cut(top_value,    f, i, highest) {
    if (ymax != "") return ymax + 0
    highest = -1e300
    for (f = 1; f <= files; f++) {
        if (trains[f] < 1000) return top_value
        i = int(0.04 * trains[f])
        highest = max(highest, smooth(f, i, int(i / 4)))
    }
    return min(top_value, highest)
}

function ranges(    f, i, r) {
    ylow = 1e300
    yhigh = -1e300
    xlow = 1e300
    xhigh = -1e300
    for (f = 1; f <= files; f++) {
        for (i = 1; i <= trains[f]; i++) {
            ylow = min(ylow, train[f, i]); yhigh = max(yhigh, train[f, i])
            xlow = min(xlow, train_step[f, i]); xhigh = max(xhigh, train_step[f, i])
        }
        for (i = 1; i <= vals[f]; i++) {
            ylow = min(ylow, val[f, i]); yhigh = max(yhigh, val[f, i])
            xlow = min(xlow, val_step[f, i]); xhigh = max(xhigh, val_step[f, i])
        }
    }
    yhigh = cut(yhigh)
    for (r = 1; r <= references; r++) {
        ylow = min(ylow, reference[r]); yhigh = max(yhigh, reference[r])
    }
    if (xhigh == xlow) xhigh = xlow + 1
    if (yhigh - ylow < 1e-6) { yhigh += 0.5; ylow -= 0.5 }
    r = 0.04 * (yhigh - ylow)
    yhigh += r
    ylow -= r
}

function axes(    step, at, y, digits) {
    step = nice_step(yhigh - ylow, 6)
    digits = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3
    for (at = floor(ylow / step) + 1; at * step < yhigh; at++) {
        y = py(at * step)
        line(left, y, left + width, y, "stroke=\"#e8e8e8\"")
        text(left - 9, y + 4.5, "end", 13, ink, sprintf("%." digits "f", at * step))
    }
    step = max(1, nice_step(xhigh - xlow, 7))
    for (at = -floor(-xlow / step); at * step <= xhigh + 1e-6 * step; at++) {
        line(px(at * step), top + height, px(at * step), top + height + 5, "stroke=\"#999\"")
        text(px(at * step), top + height + 21, "middle", 13, ink, short(at * step))
    }
    line(left, top + height, left + width, top + height, "stroke=\"#999\"")
    text(left + width / 2, top + height + 44, "middle", 14, ink, "step")
    put(sprintf("<text transform=\"translate(20 %.1f) rotate(-90)\" font-size=\"14\" fill=\"%s\" text-anchor=\"middle\">%s</text>",
        top + height / 2, ink, "loss (nats per token)"))
}

function legend_entry(row, colour, mark, s,    x, y) {
    x = left + width - 250
    y = top + 14 + 21 * row
    if (mark != "dot") line(x, y, x + 24, y, "stroke=\"" colour "\" stroke-width=\"" (mark == "thin" ? 1 : 2.5) "\"")
    if (mark != "line" && mark != "thin") {
        put(sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\" stroke=\"white\"/>", x + 12, y, colour))
    }
    text(x + 33, y + 4.5, "start", 13, ink, s)
}

function last_loss(f) { return vals[f] ? sprintf("%.4f", val[f, vals[f]]) : sprintf("%.4f", smooth(f, trains[f], 0)) }

function plot(    f, r, half, shade, colour) {
    left = 70; top = 50; width = 760; height = 380; ink = "#333"
    split("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9", palette, " ")  # told apart by all common kinds of colour vision
    ranges()
    put("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 490\" width=\"860\" height=\"490\"" \
        " font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif\">")
    put("<rect width=\"860\" height=\"490\" fill=\"white\"/>")
    put(sprintf("<clipPath id=\"plot\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></clipPath>", left, top, width, height))
    text(left, 30, "start", 17, "#111", title)
    axes()
    for (r = 1; r <= references; r++) {
        line(left, py(reference[r]), left + width, py(reference[r]), "stroke=\"#666\" stroke-dasharray=\"7 5\"")
        text(r % 2 ? left + width : left + width / 2, py(reference[r]) - 6, r % 2 ? "end" : "middle", 13, "#555",
            reference_name[r] " " reference[r])
    }
    for (f = 1; f <= files; f++) {
        colour = palette[(f - 1) % 6 + 1]
        half = int(trains[f] / 80)
        if (files == 1) train_path(f, 0, "stroke=\"" colour "\" stroke-opacity=\"0.3\" stroke-width=\"1\"")
        if (trains[f]) train_path(f, half, "stroke=\"" colour "\" stroke-width=\"2\"")
        if (vals[f]) val_path(f, files == 1 ? palette[2] : colour)
        if (files > 1) legend_entry(f - 1, colour, vals[f] ? "both" : "line", label_of(name[f]) "  " last_loss(f))
    }
    if (files == 1) {
        if (trains[1]) legend_entry(0, palette[1], "line", "training, smoothed")
        if (vals[1]) legend_entry(1, palette[2], "dot", "validation, last " last_loss(1))
    }
    put("</svg>")
    close(svg)
}

# One character per group of values. Eight levels of the square root of the height above the lowest group: a loss falls so fast
# at first that a linear scale shows a spike and a floor.
function sparkline(values, f, n,    columns, i, c, from, to, total, mean, low, high, s, bar) {
    split("▁ ▂ ▃ ▄ ▅ ▆ ▇ █", bar, " ")
    columns = min(60, n)
    low = 1e300
    high = -1e300
    for (c = 1; c <= columns; c++) {
        from = int((c - 1) * n / columns) + 1
        to = int(c * n / columns)
        total = 0
        for (i = from; i <= to; i++) total += values[f, i]
        mean[c] = total / (to - from + 1)
        low = min(low, mean[c])
        high = max(high, mean[c])
    }
    s = ""
    for (c = 1; c <= columns; c++) s = s bar[high > low ? min(8, int(8 * sqrt((mean[c] - low) / (high - low))) + 1) : 1]
    return s
}

BEGIN {
    if (ARGC < 2) fail("no log named: awk -f scripts/curve.awk [-v svg=loss.svg] run/main.log")
    references = split(refs, pair, ",")
    for (r = 1; r <= references; r++) {
        if (split(pair[r], part, "=") != 2 || part[2] + 0 <= 0) fail("refs: \"" pair[r] "\" is not label=number")
        reference_name[r] = part[1]
        reference[r] = part[2] + 0
    }
}

FNR == 1 { name[++files] = FILENAME }
/^s:[0-9]+ (trn|val):[0-9.]+( |$)/ {
    step = substr($1, 3) + 0
    loss = substr($2, 5) + 0
    if ($2 ~ /^trn/) {
        i = ++trains[files]
        train_step[files, i] = step
        train[files, i] = loss
        sum[files, i] = sum[files, i - 1] + loss
    } else {
        i = ++vals[files]
        val_step[files, i] = step
        val[files, i] = loss
    }
}

END {
    if (failed) exit 1
    for (f = 1; f <= files; f++) if (trains[f] + vals[f] > 0) any = 1
    if (!any) fail((files ? name[1] : ARGV[1]) ": holds no loss: expected lines like \"s:12 trn:3.456\"")
    for (f = 1; f <= files; f++) {
        prefix = files > 1 ? label_of(name[f]) " " : ""
        if (trains[f]) printf "%strain %.4f %s %.4f\n", prefix, train[f, 1], sparkline(train, f, trains[f]), train[f, trains[f]]
        if (vals[f] > 2) printf "%sval   %.4f %s %.4f\n", prefix, val[f, 1], sparkline(val, f, vals[f]), val[f, vals[f]]
    }
    if (svg == "") exit 0
    if (title == "") title = files == 1 ? "Loss of " label_of(name[1]) : "Loss of " files " runs"
    plot()
}
