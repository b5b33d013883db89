"""Compares the training losses of two logs step by step: compare_curves.py A/main.log B/main.log [--tolerance 2e-3].

Prints the largest difference and where it is. Exit 1 if it exceeds the tolerance, or if the logs share no steps or
differ in length.
"""
import argparse
import re
import sys


def losses(path):
    found = {}
    try:
        with open(path) as f:
            for line in f:
                match = re.match(r"s:(\d+) trn:(\S+)", line)
                if match:
                    found[int(match[1])] = float(match[2])
    except OSError as e:
        sys.exit(f"error: {path}: {e.strerror}")
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("logs", nargs=2)
    p.add_argument("--tolerance", type=float, default=2e-3, help="nats, at every step")
    p.add_argument("--steps", type=int, default=0, help="compare the first so many steps; 0: all, and both must have the same")
    f = p.parse_args()
    a, b = (losses(path) for path in f.logs)
    steps = sorted(set(a) & set(b))
    if f.steps:
        steps = [s for s in steps if s < f.steps]
    elif set(a) != set(b):
        sys.exit(f"error: {f.logs[0]} has {len(a)} steps, {f.logs[1]} has {len(b)}")
    if not steps or len(steps) < f.steps:
        sys.exit(f"error: {len(steps)} steps in common")
    differences = [abs(a[s] - b[s]) for s in steps]
    if any(d != d for d in differences):
        sys.exit("error: a loss is not a number")
    worst = max(differences)
    at = steps[differences.index(worst)]
    print(f"{len(steps)} steps | max |difference| {worst:.2e} at step {at} ({a[at]:.6f}, {b[at]:.6f}) | mean "
          f"{sum(differences) / len(steps):.2e} | last {differences[-1]:.2e} | tolerance {f.tolerance:g}")
    sys.exit(worst > f.tolerance)


if __name__ == "__main__":
    main()
