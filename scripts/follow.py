"""
Records of runs handed on as they are written, for scripts/to_tensorboard and scripts/to_wandb. Python 3.8 or newer, no packages.

A trainer only appends to metrics.jsonl, with two exceptions, which Tail notices by comparing lines:

    resumed     the file is replaced by one with the steps below the checkpoint's: some lines are gone, those before them stand
    afresh      the file was set aside as metrics.jsonl.1 and a new one begins: nothing stands

A sink is an object with add(records), back(kept, gone), afresh(), flush() and close(); back gets the records that stand and those
that are gone, afresh says that none stands.
"""
import argparse
import os
import signal
import sys
import time

import runs as store


class Tail:
    """path: a metrics.jsonl. lines: those handed out so far and still in it."""

    def __init__(self, path):
        self.path, self.lines, self.offset, self.inode = path, [], 0, None

    def look(self):
        """(kept, new): how many of `lines` still stand, and the whole lines that follow them, which are in `lines` now; None
        while there is no such file."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return None
        with file:
            info, last = os.fstat(file.fileno()), self.lines[-1] if self.lines else b""
            grown = info.st_ino == self.inode and info.st_size >= self.offset
            if grown:
                file.seek(self.offset - len(last))
                grown = file.read(len(last)) == last
            if not grown:
                file.seek(0)
            lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # not written to its end yet
        kept = len(self.lines) if grown else 0
        while not grown and kept < min(len(lines), len(self.lines)) and lines[kept] == self.lines[kept]:
            kept += 1
        new = lines if grown else lines[kept:]
        self.lines[kept:] = new
        self.offset, self.inode = sum(map(len, lines)) + (self.offset if grown else 0), info.st_ino
        return kept, new


def records(lines):
    parsed = (store.parse_record(line.decode("utf-8", "replace")) for line in lines)
    return [record for record in parsed if record]


class Follower:
    """A run, the tail of its log and the sink that gets it."""

    def __init__(self, run, sink):
        self.run, self.sink, self.tail = run, sink, Tail(os.path.join(run.dir, "metrics.jsonl"))
        self.step, self.said, self.spoke = None, None, 0.0

    def pass_on(self):
        """Hands what is new to the sink; True when there was something."""
        before = list(self.tail.lines)
        found = self.tail.look()
        if found is None:
            return False
        kept, new = found
        if before and kept == 0:
            print("%s: begins afresh" % self.run.dir, flush=True)
            self.sink.afresh()
        elif kept < len(before):
            gone = records(before[kept:])
            if gone:
                print("%s: resumed at step %d" % (self.run.dir, gone[0]["step"]), flush=True)
            self.sink.back(records(before[:kept]), gone)
        if new:
            added = records(new)
            self.sink.add(added)
            self.sink.flush()
            self.step = added[-1]["step"] if added else self.step
        return bool(new) or kept < len(before)

    def speak(self):
        """Says now and then how far the run is."""
        if self.step != self.said and time.monotonic() - self.spoke > 5:
            print("%s: step %d" % (self.run.dir, self.step), flush=True)
            self.said, self.spoke = self.step, time.monotonic()

    def finished(self):
        """Has the run written its line of results.tsv?"""
        fresh, last = store.read_directory(self.run.dir), records(self.tail.lines[-1:])
        return bool(fresh and last and store.find_row(fresh, last[0]["tokens"]))


def parser(doc):
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", nargs="+", metavar="RUN", help="a run's --output_dir, or a directory that holds several")
    made.add_argument("--follow", action="store_true", help="go on with what the runs write, until they are finished; of a "
                      "directory of runs: also with new ones, until Ctrl-C")
    return made


def runs_of(path):
    """The runs in a directory now; [] when there is none yet."""
    if not os.path.isdir(path):
        return []
    one = store.read_directory(path)
    inside = [store.read_directory(os.path.join(path, name)) for name in sorted(os.listdir(path))] if not one else [one]
    return [run for run in inside if run]


def follow(paths, open_sink, interval=1.0):
    """Hands the runs' records to sinks, and goes on until all are finished. open_sink(run) -> sink."""
    followers, done = {}, set()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            busy = False
            for path in paths:
                for run in runs_of(path):
                    if run.dir not in followers:
                        print("%s: following" % run.dir, flush=True)
                        followers[run.dir] = Follower(run, open_sink(run))
            for name, follower in followers.items():
                moved = follower.pass_on()
                follower.speak()
                busy = busy or moved
                if moved:
                    done.discard(name)
                elif name not in done and follower.finished() and not follower.pass_on():
                    done.add(name)
            if all(path in done for path in paths):
                break
            if not busy:
                time.sleep(interval)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    for follower in followers.values():
        follower.sink.close()


def hand_over(arguments, open_sink):
    """What both programs do: each run's records once, or --follow."""
    if arguments.follow:
        follow(arguments.paths, open_sink)
        return
    for run in store.find(arguments.paths):
        follower = Follower(run, open_sink(run))
        follower.pass_on()
        follower.sink.close()
