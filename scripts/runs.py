"""
Runs on disk, and the groups they form: what scripts/summarize and scripts/plot share. Python 3.8 or newer, no packages.

    results.tsv             one line per finished run: flags, seed, tokens, seconds, val loss
    RUN/flags.txt           the same flags, one a line, for a run that is not finished
    RUN/metrics.jsonl       {"step":..,"tokens":..,"time":milliseconds,"val_loss":.. or "train_loss":..,...}

A group is the runs whose flags agree, apart from the seed and from what has no effect on the training.
"""
import csv
import json
import os
import re
import shlex
import sys

# Flags that do not make two runs different ones.
IDLE = {"seed", "output_dir", "results", "resume", "log_every", "save_every", "keep_checkpoints", "sample_every", "sample_tokens",
        "prompt", "temperature", "top_k", "top_p", "tokenizer"}
# What the flags of a switch begin with, besides its own name: `use_cocont` and `cocont_..`, `mtp_enabled` and `mtp_..` show it.
ALSO = {"use_cocont": ["ngram_"]}
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
            self._records = []
            path = os.path.join(self.dir, "metrics.jsonl") if self.dir else ""
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    for line in file:
                        try:
                            self._records.append(json.loads(line))
                        except ValueError:
                            pass
        return self._records

    def validations(self):
        """[(tokens, seconds, val_loss)] in order. A run without metrics has the one that results.tsv knows."""
        found = [(r["tokens"], r.get("time", 0) / 1000, r["val_loss"]) for r in self.records() if r.get("val_loss") is not None]
        if not found and self.row and self.row["val_loss"] != "-":
            found = [(int(self.row["tokens"]), float(self.row["train_seconds"]), float(self.row["val_loss"]))]
        return found


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
