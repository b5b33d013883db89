"""
Runs on disk, and the groups they form: what scripts/summarize, plot, report and to_* share. Python 3.8 or newer, no packages.

    results.tsv             one line per finished run: flags, seed, tokens, seconds, val loss
    RUN/flags.txt           the same flags, one a line, for a run that is not finished
    RUN/metrics.jsonl       {"step":..,"tokens":..,"time":milliseconds,"val_loss":.. or "train_loss":..,...}
    RUN/samples.jsonl       {"step":..,"tokens":..,"time":..,"text":"Once upon.."}
    train_gpt2.cu           the table of flags with their defaults

A group is the runs whose flags agree, apart from the seed and from what has no effect on the training.
"""
import csv
import json
import math
import os
import re
import shlex
import sys

# Flags that do not make two runs different ones.
IDLE = {"seed", "output_dir", "results", "resume", "log_every", "save_every", "keep_checkpoints", "sample_every", "sample_tokens",
        "prompt", "temperature", "top_k", "top_p", "tokenizer"}
# What the flags of a switch begin with, besides its own name: `use_cocont` and `cocont_..`, `mtp_enabled` and `mtp_..` show it.
ALSO = {"use_cocont": ["ngram_"]}
# Keys of metrics.jsonl that are no loss of their own; the others (ce_2: two tokens ahead) are further losses.
KNOWN = {"step", "tokens", "time", "loss", "ntp_loss", "mtp_loss", "train_loss", "lr", "grad_norm", "tokens_per_sec",
         "mtp", "peak_memory_mb", "precision", "loss_scale", "skipped"}
WEIGHTS = ("_weight", "_alpha", "_beta")
# How a file begins that may be replaced by a new one of its kind.
PICTURES = (b"\x89PNG", b"%PDF", b"<?xml", b"<svg")
csv.field_size_limit(1 << 24)


def stop(message, code=1):
    print("error: " + message, file=sys.stderr)
    sys.exit(code)


class Run:
    """name, dir (None when it is gone), flags {name: value}, seed; row: its line of results.tsv or None."""

    def __init__(self, name, directory, flags, row=None):
        self.name, self.dir, self.flags, self.row = name, directory, flags, row
        self.seed = (row or {}).get("seed") or flags.get("seed", "")
        self.group = None
        self._records = None

    def records(self):
        """metrics.jsonl as a list of dictionaries, [] without one; a line cut off by a crash is left out."""
        if self._records is None:
            self._records = self.read("metrics.jsonl")
        return self._records

    def read(self, name):
        """A file of one JSON record a line as a list of dictionaries, [] without one."""
        path = os.path.join(self.dir, name) if self.dir else ""
        if not os.path.isfile(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            return [record for record in map(parse_record, file) if record]

    def series(self, key):
        """[(step, tokens, seconds of training, value)] of a key, where it is written and finite."""
        return [(r["step"], r["tokens"], r["time"] / 1000, r[key]) for r in self.records() if number(r.get(key))]

    def further(self):
        """Names of the losses besides the next token's: "ce_2", which a validation calls "val_ce_2"."""
        keys = {re.sub("^val_", "", key) for record in self.records() for key in record}
        return sorted(key for key in keys - KNOWN if not key.endswith(WEIGHTS))

    def samples(self):
        """[(step, text)] of samples.jsonl, in order."""
        found = self.read("samples.jsonl")
        return [(record["step"], record["text"]) for record in found if isinstance(record.get("text"), str)]

    def validations(self):
        """[(tokens, seconds, val_loss)] in order. A run without metrics has the one that results.tsv knows."""
        found = [(tokens, seconds, loss) for _, tokens, seconds, loss in self.series("val_loss")]
        if not found and self.row and self.row["val_loss"] != "-":
            found = [(int(self.row["tokens"]), float(self.row["train_seconds"]), float(self.row["val_loss"]))]
        return found


def number(value):
    """Is it a finite number? true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def parse_record(line):
    """A line of metrics.jsonl or samples.jsonl as a dictionary; None when it is cut off or no record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and all(number(record.get(key)) for key in ("step", "tokens", "time")) else None


def parse_flags(text):
    """The flags of flags.txt or results.tsv: `--name value` or `--name=value`, quoted where needed, every flag with its value."""
    flags, words = {}, shlex.split(text)
    while words:
        word = words.pop(0)
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--") or (not equals and not words):
            raise ValueError(word)
        flags[name] = value if equals else words.pop(0)
    return flags


def find_directory(table, output_dir):
    """A run's directory: beside its table (both may have been moved since), or where it was written."""
    beside = os.path.join(os.path.dirname(table) or ".", os.path.basename(output_dir.rstrip("/")))
    for path in (beside, output_dir, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", output_dir)):
        if os.path.isdir(path):
            return path
    return None


def read_table(table):
    """(runs, repeated): the finished runs of a results.tsv in order; a run with several lines counts once, with its last."""
    runs, repeated = {}, 0
    with open(table, encoding="utf-8", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
            try:
                flags = parse_flags(row["flags"])
                int(row["tokens"]), float(row["train_seconds"]), row["val_loss"], row["output_dir"]
            except (KeyError, TypeError, ValueError, AttributeError):
                stop("%s:%d: not a line of results.tsv: expected the columns seed, tokens, train_seconds, val_loss, output_dir "
                     "and flags" % (table, number))
            repeated += row["output_dir"] in runs
            runs.pop(row["output_dir"], None)
            name = os.path.basename(row["output_dir"].rstrip("/"))
            runs[row["output_dir"]] = Run(name, find_directory(table, row["output_dir"]), flags, row)
    return list(runs.values()), repeated


def read_directory(directory):
    """A run's own directory, finished or not; None when it holds no run."""
    flags, metrics = os.path.join(directory, "flags.txt"), os.path.join(directory, "metrics.jsonl")
    if not os.path.isfile(metrics):
        return None
    text = ""
    if os.path.isfile(flags):
        with open(flags, encoding="utf-8", errors="replace") as file:
            text = file.read()
    try:
        return Run(os.path.basename(os.path.abspath(directory)), directory, parse_flags(text))
    except ValueError as error:
        return stop("%s: not a file of flags: %s" % (flags, error))


def find_row(run, last=None):
    """The line of results.tsv that the run in run.dir wrote when it was finished; None: not finished, or another run's line.
    last: tokens of its last record, for a run whose records have not been read."""
    table = run.flags.get("results") or os.path.join(os.path.dirname(os.path.abspath(run.dir)), "results.tsv")
    if not os.path.isfile(table):
        return None
    last = max([r["tokens"] for r in run.records()], default=-1) if last is None else last
    rows = [other.row for other in read_table(table)[0]
            if other.name == run.name and int(other.row["tokens"]) == last and same_training(other.flags, run.flags)]
    return rows[-1] if rows else None


def same_training(a, b):
    """Do two sets of flags agree, but for where the run is and how it was started?"""
    return all(a.get(name) == b.get(name) for name in a.keys() | b.keys() if name == "seed" or name not in IDLE)


def find(paths):
    """The runs that directories hold, each a run's or one with several, unfinished ones too; ends the program without any."""
    found = []
    for path in paths:
        if not os.path.isdir(path):
            stop("%s: no such directory; name a run's --output_dir, or the directory that holds several" % path)
        one = read_directory(path)
        inside = [read_directory(os.path.join(path, name)) for name in sorted(os.listdir(path))] if not one else [one]
        here = [run for run in inside if run and run.records()]
        if not here:
            stop("%s: holds no run: expected metrics.jsonl with at least one line, in it or in a directory below" % path)
        found += here
    return found


def flag_defaults(source=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train_gpt2.cu")):
    """{flag: default} of the table in train_gpt2.cu, {} without it."""
    if not os.path.isfile(source):
        return {}
    with open(source, encoding="utf-8", errors="replace") as file:
        rows = re.findall(r'^ +(?:INT|LONG|FLOAT|SWITCH|STRING|CHOICE)\((\w+), *("[^"]*"|[^,"]+),', file.read(), re.M)
    return {name: value.strip().strip('"') for name, value in rows}


def same_value(a, b):
    """Do two texts of a flag mean the same, as 0.0001 and 1e-4 do? None is no text."""
    try:
        return a == b or float(a) == float(b)
    except (TypeError, ValueError):
        return False


def smoothed(y, half):
    """Means over 2 half + 1 values; the window shrinks at both ends, so that the steep beginning is not dragged behind."""
    sums = [0.0]
    for value in y:
        sums.append(sums[-1] + value)
    out = []
    for i in range(len(y)):
        h = min(half, i, len(y) - 1 - i)
        out.append((sums[i + h + 1] - sums[i - h]) / (2 * h + 1))
    return out


def top_of(curves):
    """Where an axis of losses [[y]] may end: the first steps would take most of its height, so at the highest smoothed loss after
    4 % of the steps; None when no curve is long enough to tell."""
    tops = [max(smoothed(y, len(y) // 100)[len(y) // 25:]) for y in curves if len(y) >= 50]
    return max(tops) if tops else None


def may_write(path, begins):
    """Ends the program when `path` holds something that is no earlier output: one that begins with one of `begins`."""
    if os.path.isdir(path):
        stop("%s: is a directory; name a file" % path)
    if os.path.exists(path) and os.path.getsize(path):
        with open(path, "rb") as file:
            if not file.read(max(map(len, begins))).startswith(tuple(begins)):
                stop("%s: exists and was not written by this program; name another file, or remove it" % path)


def write(path, content):
    """Bytes to a file, whole or not at all."""
    part = path + ".part"
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except OSError as error:
        stop("%s: cannot be written: %s" % (path, error.strerror))


def switch_of(name):
    """The beginning of the flags that mean nothing while the switch `name` is off; "" when it is no switch of others."""
    return name[:-len("enabled")] if name.endswith("_enabled") else name[len("use_"):] + "_" if name.startswith("use_") else ""


def meaning(run, ignored):
    """The flags that shape the run."""
    off = []
    for name, value in run.flags.items():
        if value == "0" and switch_of(name):
            off += [switch_of(name)] + ALSO.get(name, [])
    return {name: value for name, value in run.flags.items()
            if name not in ignored and (switch_of(name) or not name.startswith(tuple(off)))}


class Group:
    """label; runs, one or more; flags: the part of them in which the groups differ."""

    def __init__(self, flags):
        self.flags, self.runs, self.label = flags, [], ""

    def flags_text(self):
        """As they would be written on a command line; without those that are empty."""
        return " ".join("--%s %s" % (name, shlex.quote(value)) for name, value in self.flags.items() if value)


def group_runs(runs, ignored=()):
    """Groups in the order of their first run; the label is what their directories' names share, or the flags."""
    sets = [meaning(run, IDLE | set(ignored)) for run in runs]
    names = []
    for flags in sets:
        names += [name for name in flags if name not in names]
    differ = [name for name in names if len({flags.get(name) for flags in sets}) > 1]
    groups = {}
    for run, flags in zip(runs, sets):
        part = {name: flags[name] for name in differ if name in flags}
        run.group = groups.setdefault(tuple(part.items()), Group(part))
        run.group.runs.append(run)
    groups = list(groups.values())
    for group in groups:
        stems = {re.sub(r"[_-]?s(eed)?[_-]?%s$" % re.escape(run.seed), "", run.name) for run in group.runs}
        group.label = stems.pop() if len(stems) == 1 else ""
    for group in groups:
        if not group.label or sum(group.label == other.label for other in groups) > 1:
            for g in groups:
                g.label = g.flags_text() or "all runs"
            break
    return groups
