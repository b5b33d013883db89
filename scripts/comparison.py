"""
Settings of a sweep compared: what scripts/summarize prints and scripts/report shows. Python 3.8 or newer, no packages.

    read(paths, only)   -> Sweep: the runs of one or more results.tsv, which of them count, and why the others do not
    tables(..)          -> two Tables: val loss at equal tokens and at equal time, each row a setting with its p-value
    notes(..), left_out(sweep)      sentences that a reader must know before he believes the tables
"""
import bisect
import fnmatch
import math
import os

import runs as store
import student_t

COLUMNS = ["setting", "n", "val loss", "std", "difference", "95 % interval", "p", "Holm", "test"]


def at(points, x):
    """Value of a run at x from its sorted [(x, value)], on a line between neighbours. None outside."""
    i = bisect.bisect_left(points, (x, -math.inf))
    if i < len(points) and points[i][0] == x:
        return points[i][1]
    if i == 0 or i == len(points):
        return None
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def p_text(p):
    return "" if p is None else "< 0.0001" if p < 0.0001 else "%.4f" % p


class Sweep:
    """tables: paths of results.tsv; found: their runs; chosen: those that --only names; finished: those of them with a finite val
    loss; repeated: lines that a later line of the same run replaces; names, diverged: runs beside the tables without a line."""

    def __init__(self, tables, found, only, repeated):
        self.tables, self.found, self.repeated = tables, found, repeated
        self.chosen = [run for run in found if fnmatch.fnmatch(run.name, only)]
        self.finished = [run for run in self.chosen
                         if run.validations() and all(math.isfinite(loss) for _, _, loss in run.validations()[-1:])]
        self.names, self.diverged = unfinished(tables, {run.name for run in found}, only)

    def heading(self, baseline):
        dates = sorted({run.row["date"][:10] for run in self.finished})
        about = sorted({"%s, %s" % (run.row["device"], run.row["precision"]) for run in self.finished})
        return "%s: %d runs, %s; %s. Difference to `%s` in nats, below 0 is better." % (
            ", ".join(self.tables), len(self.finished), " to ".join(dates[:1] + dates[1:][-1:]), "; ".join(about), baseline.label)


def unfinished(tables, known, pattern):
    """Names of runs beside the tables that have no line in them, and of those among them that diverged."""
    names, diverged = [], []
    for path in tables:
        folder = os.path.dirname(path) or "."
        for name in sorted(os.listdir(folder)):
            record, metrics = os.path.join(folder, name, "sweep.txt"), os.path.join(folder, name, "metrics.jsonl")
            if name in known or not fnmatch.fnmatch(name, pattern) or not (os.path.isfile(metrics) or os.path.isfile(record)):
                continue
            bad = False
            if os.path.isfile(record):
                with open(record, encoding="utf-8", errors="replace") as file:
                    bad = file.read().splitlines()[-1:] == ["exit 3"]
            (diverged if bad else names).append(name)
    return names, diverged


def read(paths, only="*"):
    """The sweep that directories with a results.tsv, or such files, hold; ends the program when one is missing or empty."""
    tables, found, repeated = [], [], 0
    for path in paths:
        file = os.path.join(path, "results.tsv") if os.path.isdir(path) else path
        if not os.path.isfile(file):
            store.stop("%s: no such file; a finished run writes results.tsv into its --output_dir's parent" % file)
        runs, again = store.read_table(file)
        tables.append(file)
        found += runs
        repeated += again
    sweep = Sweep(tables, found, only, repeated)
    if not sweep.chosen:
        store.stop("%s: no finished run%s" % (", ".join(tables), " matches --only %s" % only if found else " in it"))
    return sweep


def pick_baseline(groups, name=""):
    """The group that the others are compared with: the one named, else `baseline`, else with all switches off, else the first."""
    labels = [group.label for group in groups]
    if name:
        hits = [g for g in groups if name in (g.label, g.flags_text())]
        if not hits:
            store.stop("--baseline %s: no such setting; there are: %s" % (name, ", ".join(labels)), 2)
        return hits[0]
    if "baseline" in labels:
        return groups[labels.index("baseline")]
    plain = [g for g in groups if not any(value != "0" for name, value in g.flags.items() if store.switch_of(name))]
    return plain[0] if len(plain) == 1 else groups[0]


class Table:
    """title: a sentence; columns; rows: the cells of each group, as text ([] when there is no table: remark says why)."""

    def __init__(self, title, last_column="", rows=(), remark=""):
        self.title, self.columns, self.rows, self.remark = title, COLUMNS + [last_column], list(rows), remark


def rows(groups, baseline, values, extra):
    """Cells of one table. values {run: val loss}; extra(group): the text of the last column."""
    sides, results = [], []
    for group in groups:
        side = {}
        for run in group.runs:
            side.setdefault(run.seed, []).append(values[run])
        sides.append(side)
    for group, side in zip(groups, sides):
        results.append(None if group is baseline else student_t.compare(side, sides[groups.index(baseline)]))
    corrected = iter(student_t.holm([r[2] for r in results if r]))
    for group, side, result in zip(groups, sides, results):
        losses = [v for values_of_seed in side.values() for v in values_of_seed]
        spread = "%.6f" % math.sqrt(student_t.variance(losses)) if len(losses) > 1 else ""
        cells = [group.label, str(len(losses)), "%.6f" % student_t.mean(losses), spread]
        if not result:
            cells += ["baseline"] + [""] * 4
        else:
            difference, half, p, test = result
            interval = "" if half is None else "%+.6f .. %+.6f" % (difference - half, difference + half)
            cells += ["%+.6f" % difference, interval, p_text(p), p_text(next(corrected)), test]
        yield cells + [extra(group)]


def equal_tokens(groups, baseline):
    runs = [run for group in groups for run in group.runs]
    curves = {run: sorted((tokens, loss) for tokens, _, loss in run.validations()) for run in runs}
    tokens = min(curve[-1][0] for curve in curves.values())
    values = {run: at(curve, tokens) for run, curve in curves.items()}
    title = "At equal tokens, {:,} of training:".format(tokens)
    lost = [run.name for run in runs if values[run] is None]
    if lost:
        return Table(title, remark="No table: no metrics.jsonl, so no loss at that point, for %s." % ", ".join(lost))

    def seconds(group):
        return "%.1f" % student_t.mean([at(sorted((t, s) for t, s, _ in run.validations()), tokens) for run in group.runs])

    between = sum(tokens not in [x for x, _ in curve] for curve in curves.values())
    remark = ("%d of the runs did not validate at that point: their loss is on a line between two validations." % between
              if between else "")
    return Table(title, "seconds", rows(groups, baseline, values, seconds), remark)


def equal_time(groups, baseline):
    runs = [run for group in groups for run in group.runs]
    blind = [run.name for run in runs if not run.records()]
    if blind:
        return Table("At equal time: no table, because metrics.jsonl is missing of %s." % ", ".join(blind))
    curves = {run: sorted((seconds, loss) for _, seconds, loss in run.validations()) for run in runs}
    seconds = min(curve[-1][0] for curve in curves.values())
    values = {run: at(curve, seconds) for run, curve in curves.items()}
    lost = [run.name for run in runs if values[run] is None]
    if lost:
        return Table("At equal time: no table, because the first validation of %s comes after %.1f s." % (
            ", ".join(lost), seconds))

    def tokens(group):
        return "{:,.0f}".format(student_t.mean([at(sorted((s, t) for t, s, _ in run.validations()), seconds)
                                                for run in group.runs]))

    return Table("At equal time, %.1f s of training:" % seconds, "tokens", rows(groups, baseline, values, tokens))


def tables(groups, baseline):
    """Both tables of groups whose runs are all finished."""
    return [equal_tokens(groups, baseline), equal_time(groups, baseline)]


def notes(groups, finished):
    """What a reader must know before he believes the tables."""
    sizes = [len(group.runs) for group in groups]
    if len(groups) > 1 and min(sizes) < 3:
        yield "Some settings have fewer than three seeds: too few for a conclusion."
    for group in groups:
        seeds = [run.seed for run in group.runs]
        if len(set(seeds)) < len(seeds):
            yield "%s has the same seed more than once: those runs are no independent samples." % group.label
    for column, remark in (("commit", ""), ("device", ": their times do not compare"), ("precision", "")):
        found = sorted({run.row.get(column) or "-" for run in finished})
        if len(found) > 1:
            yield "The runs differ in %s (%s)%s." % (column, "; ".join(found), remark)
    schedule = ("num_iterations", "warmup_iters", "warmdown_iters", "lr_schedule")
    if any(name in group.flags for group in groups for name in schedule):
        yield "The settings have different schedules: where one is before its end, its loss is higher than it will be."
    missing = sorted({name for run in finished for name in finished[0].flags.keys() ^ run.flags.keys()})
    if missing:
        yield "Some runs are of another version: they do not have --%s." % ", --".join(missing)


def left_out(sweep):
    """Which runs are not in the tables, and why."""
    if sweep.names:
        yield "Not finished, so not in the tables: %s; the same sweep command again goes on with %s." % (
            ", ".join(sweep.names), "it" if len(sweep.names) == 1 else "them")
    if sweep.diverged:
        yield "Diverged, so not in the tables: %s." % ", ".join(sweep.diverged)
    blind = [run.name for run in sweep.chosen if run not in sweep.finished]
    if blind:
        yield "Without a finite validation loss, so not in the tables: %s (--val_loss_every N validates)." % ", ".join(blind)
    if sweep.repeated:
        yield "Finished again: the last line of a run counts, %d older %s." % (
            sweep.repeated, "one does not" if sweep.repeated == 1 else "ones do not")
