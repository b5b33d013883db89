"""
For trackers.sh: is what TensorBoard or W&B was given what metrics.jsonl holds? Says "same N" or what differs.

    read_trackers.py tensorboard DIR METRICS tokens|step
    read_trackers.py wandb DIR METRICS [again]        again: a run that was resumed; the records trained twice may differ in time
"""
import glob
import json
import math
import os
import struct
import sys


def metrics(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def single(value):
    """As TensorBoard keeps a number: in float32."""
    return struct.unpack("f", struct.pack("f", value))[0]


def read_tensorboard(directory, records, x):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(directory, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    expected = {}
    for record in records:
        for key, value in record.items():
            if key != x and isinstance(value, (int, float)):  # an infinity is null
                expected.setdefault(key, []).append((record[x], single(value)))
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for key in sorted(set(expected) | set(found)):
        if sorted(found.get(key, [])) != sorted(expected.get(key, [])):
            return "%s: %d events, %d values" % (key, len(found.get(key, [])), len(expected.get(key, [])))
    places = [(e.step, e.wall_time) for e in events.Scalars("time")]
    times = [record["time"] / 1000 for record in records]
    first = min(wall for _, wall in places) - times[0]
    if any(abs(wall - first - time) > 1e-3 for wall, time in zip(sorted(w for _, w in places), sorted(times))):
        return "wall times do not follow the training clock"
    return "same %d" % sum(map(len, found.values()))


def wandb_records(path):
    """The messages of a .wandb file: blocks of 32 KiB behind a header of 7 bytes; a piece is crc, length, kind (2, 3, 4: parts)."""
    from wandb.proto import wandb_internal_pb2
    with open(path, "rb") as file:
        content = file.read()
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place:place + 7])
        if kind == 0:
            return
        whole += content[place + 7:place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def read_wandb(directory, records, again):
    files = glob.glob(os.path.join(directory, "offline-run-*", "*.wandb"))
    if len(files) != 1:
        return "%d offline runs" % len(files)
    history, config, axes = [], {}, set()
    for message in wandb_records(files[0]):
        kind = message.WhichOneof("record_type")
        if kind == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in message.history.item}
            history.append({key: value for key, value in row.items() if not key.startswith("_")})
        elif kind == "run":
            config.update({item.key: json.loads(item.value_json) for item in message.run.config.update})
        elif kind == "metric":
            axes.add((message.metric.glob_name or message.metric.name, message.metric.step_metric))
    if len(history) != len(records):
        return "%d rows, %d records" % (len(history), len(records))
    loose = {"time", "tokens_per_sec", "peak_memory_mb"} if again else set()
    for row, record in zip(history, records):
        for key in sorted(set(row) | set(record)):
            if row.get(key) != record.get(key) and (key not in loose or not math.isfinite(row.get(key, math.nan))):
                return "step %d, %s: %r, expected %r" % (record["step"], key, row.get(key), record.get(key))
    if ("*", "tokens") not in axes:
        return "not over tokens: %r" % sorted(axes)
    if config.get("num_iterations") is None or config.get("mtp_enabled") != 1:
        return "the config lacks flags"
    return "same %d" % len(history)


def main():
    what, directory, path, *rest = sys.argv[1:]
    read = {"tensorboard": lambda: read_tensorboard(directory, metrics(path), rest[0]),
            "wandb": lambda: read_wandb(directory, metrics(path), bool(rest))}[what]
    print(read())


if __name__ == "__main__":
    main()
