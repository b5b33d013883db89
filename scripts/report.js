// Values under the pointer, for the charts of scripts/report. The page is whole without it.
"use strict";
(function () {
    const charts = JSON.parse(document.getElementById("data").textContent);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    document.body.append(tip);
    let shown = null;  // the plot that has marks

    function make(kind, name, text) {
        const element = document.createElement(kind);
        element.className = name;
        if (text !== undefined) element.textContent = text;
        return element;
    }
    function visible(series) {
        const box = series.group === null ? null : document.getElementById("toggle" + series.group);
        return !box || box.checked;
    }
    function nearest(points, axis, x) {
        let low = 0, high = points.length - 1;
        while (high - low > 1) {
            const middle = (low + high) >> 1;
            if (points[middle][axis] < x) low = middle;
            else high = middle;
        }
        return x - points[low][axis] < points[high][axis] - x ? points[low] : points[high];
    }
    function clear() {
        if (shown) shown.querySelectorAll(".mark, .cursor").forEach((element) => element.remove());
        shown = null;
        tip.hidden = true;
    }
    // share: 0 at the left end of the plot, 1 at the right one
    function show(plot, share) {
        clear();
        const axis = +plot.dataset.axis, low = +plot.dataset.low, high = +plot.dataset.high;
        const bottom = +plot.dataset.bottom, top = +plot.dataset.top, frame = plot.getBoundingClientRect();
        const found = charts[+plot.dataset.chart].filter(visible).map((series) => {
            return {series, point: nearest(series.points, axis, low + share * (high - low))};
        });
        if (!found.length) return;
        const reach = (high - low) / 20, wanted = low + share * (high - low);
        const near = found.filter((one) => Math.abs(one.point[axis] - wanted) <= reach);
        if (!near.length) return;
        const gap = (one) => Math.abs(one.point[axis] - wanted);
        const first = near.reduce((best, one) => gap(one) < gap(best) ? one : best);
        shown = plot;
        const [step, tokens, seconds] = first.point;
        const rows = near.slice().sort((a, b) => b.point[3] - a.point[3]).slice(0, 16).map((one) => {
            const row = make("div", one.series.css), y = (top - one.point[3]) / (top - bottom);
            row.append(make("i", "swatch"), make("span", "label", one.series.label), make("b", "value", String(one.point[3])));
            if (y >= 0 && y <= 1) {
                const mark = make("span", "mark " + one.series.css);
                mark.style.left = 100 * (one.point[axis] - low) / (high - low) + "%";
                mark.style.top = 100 * y + "%";
                plot.append(mark);
            }
            return row;
        });
        const time = seconds < 600 ? seconds.toFixed(1) + " s" : seconds < 36000 ? (seconds / 60).toFixed(1) + " min" : (seconds / 3600).toFixed(2) + " h";
        tip.replaceChildren(make("div", "where", "step " + step + " · " + Math.round(tokens).toLocaleString("en") + " tokens · " + time), ...rows);
        const cursor = make("span", "cursor");
        const left = (first.point[axis] - low) / (high - low);
        cursor.style.left = 100 * left + "%";
        plot.append(cursor);
        tip.hidden = false;
        const width = document.documentElement.clientWidth, x = frame.left + left * frame.width;
        const place = x + 14 + tip.offsetWidth < width ? x + 14 : Math.max(4, x - 14 - tip.offsetWidth);
        tip.style.left = Math.min(place, Math.max(4, width - tip.offsetWidth - 4)) + window.scrollX + "px";
        tip.style.top = (width < 600 ? frame.bottom + 24 : frame.top + 8) + window.scrollY + "px";  // a narrow plot stays in sight
    }
    for (const plot of document.querySelectorAll(".plot")) {
        let share = 1;
        plot.addEventListener("pointermove", (event) => {
            const frame = plot.getBoundingClientRect();
            share = Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width));
            show(plot, share);
        });
        plot.addEventListener("pointerleave", clear);
        plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) show(plot, share); });
        plot.addEventListener("blur", clear);
        plot.addEventListener("keydown", (event) => {
            const move = {ArrowLeft: -0.01, ArrowRight: 0.01, PageUp: -0.1, PageDown: 0.1, Home: -1, End: 1}[event.key];
            if (event.key === "Escape") clear();
            if (move === undefined) return;
            event.preventDefault();
            share = Math.min(1, Math.max(0, share + move));
            show(plot, share);
        });
    }
    // Buttons that a page without a script would not need
    const groups = document.querySelectorAll(".toggles input[id^=toggle]");
    for (const [text, on] of groups.length > 2 ? [["all", true], ["none", false]] : []) {
        const button = make("button", "", text);
        button.type = "button";
        button.addEventListener("click", () => groups.forEach((box) => { box.checked = on; }));
        document.querySelector(".toggles").append(button);
    }
})();
