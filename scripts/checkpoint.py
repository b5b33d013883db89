"""
Checkpoints of ahead.c (llmc/io/checkpoint.h draws the file) and safetensors files, read and written. Python 3.8 or newer, no
packages.

    ck = Checkpoint("runs/mine/step_00005000.ckpt")     checked: sizes, header and directory; a tensor when it is read
    ck.flags["arch"], ck.state["step"], ck.shapes["wte"] -> (50304, 768), ck.read("wte") -> array("f"), row by row
    write_checkpoint(path, flags, [(name, shape, read)])    weights only; read() -> array("f")

    st = Safetensors("model.safetensors")               st.shapes, st.read(name) -> array("f") whatever it is stored as
    write_safetensors(path, [(name, shape, "F32" | "BF16" | "I64", read)])     read() -> array("f"), or array("q") for I64

One tensor at a time is in memory. Files appear whole or not at all: a temporary name beside them, fsync, rename. What is wrong
with a file is one sentence: stop(). All numbers on disk are little-endian, and so must be this machine.
"""
import argparse
import json
import math
import os
import shlex
import struct
import sys
import zlib
from array import array

ALIGN = 64
HEADER = struct.Struct("<8s6I2Q3II")  # magic, version, tensors, arrays, flags, state, crc | file bytes, payload | unused, crc
ROW = struct.Struct("<48s4iQ3Q3I5I")  # name, ndim, 3 dims, elements, 3 offsets, 3 checksums
MAGIC, VERSION = b"AHADCKP1", 1


def stop(message, code=1):
    print("error: " + message, file=sys.stderr)
    sys.exit(code)


if sys.byteorder != "little":
    stop("this machine is big-endian; checkpoints are written and read on little-endian ones only")


def count(shape):
    product = 1
    for n in shape:
        product *= n
    return product


def shape_text(shape):
    return "(%s)" % ", ".join(map(str, shape))


def parse_flags(text):
    """{name: value} of `--name value` or `--name=value` lines, quoted where needed."""
    flags, words = {}, shlex.split(text)
    while words:
        name, equals, value = words.pop(0)[2:].partition("=")
        flags[name] = value if equals or not words else words.pop(0)
    return flags


def open_binary(path, what):
    try:
        return open(path, "rb")
    except OSError as error:
        return stop("%s: cannot open: %s; expected %s" % (path, error.strerror, what))


def arguments(doc, *names):
    """The command line: positional arguments (name, what help calls it), and --force; more may be added."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    for name, metavar in names:
        parser.add_argument(name, metavar=metavar)
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    return parser


class Whole:
    """A file that appears under its name when the block ends without an exception; `force` allows it to replace one."""

    def __init__(self, path, force=False):
        self.path, self.temp = path, path + ".tmp"
        if os.path.lexists(path) and not force:
            stop("%s is already there; name another file, or add --force" % path)

    def __enter__(self):
        try:
            self.file = open(self.temp, "wb")
        except OSError as error:
            stop("%s: cannot write: %s" % (self.temp, error.strerror))
        return self.file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.temp, self.path)
        except OSError as problem:
            kind, error = OSError, problem
        if kind:
            if os.path.exists(self.temp):
                os.unlink(self.temp)
            if issubclass(kind, OSError):
                stop("%s: cannot write: %s" % (self.path, error.strerror))


def write_text(path, text, force=False):
    with Whole(path, force) as file:
        file.write(text.encode("utf-8"))


# ----------------------------------------------------------------------------------------------------------------------
# Our checkpoints

class Checkpoint:
    def __init__(self, path):
        self.path, self.file = path, open_binary(path, "a checkpoint")
        size = os.fstat(self.file.fileno()).st_size
        head = self.file.read(HEADER.size)
        if len(head) < HEADER.size:
            stop("%s: truncated: %d bytes, a checkpoint has at least %d" % (path, size, HEADER.size))
        magic, version, tensors, self.arrays, flags, state, meta_crc, whole, payload = HEADER.unpack(head)[:9]
        if magic != MAGIC:
            stop('%s: not a checkpoint of ahead.c: expected it to start with "%s", found %r' % (path, MAGIC.decode(), magic))
        if zlib.crc32(head[:60]) != HEADER.unpack(head)[-1]:
            stop("%s: damaged: the checksum of its header is wrong; use another one" % path)
        if version != VERSION:
            stop("%s: checkpoint format %d, this reads format %d; use the scripts beside the program that wrote it"
                 % (path, version, VERSION))
        if size != whole or payload > size or payload < HEADER.size + tensors * ROW.size:
            stop("%s: truncated: expected %d bytes, found %d; use another one" % (path, whole, size))
        meta = self.file.read(payload - HEADER.size)
        if zlib.crc32(meta) != meta_crc:
            stop("%s: damaged: the checksum of its directory is wrong; use another one" % path)
        self.flags = parse_flags(meta[:flags].decode())
        self.state = dict(line.split("=", 1) for line in meta[flags:flags + state].decode().splitlines())
        self.rows, self.shapes = {}, {}
        for i in range(tensors):
            fields = ROW.unpack_from(meta, len(meta) - (tensors - i) * ROW.size)
            name, shape = fields[0].split(b"\0")[0].decode(), fields[2:2 + fields[1]]
            self.rows[name], self.shapes[name] = (fields[6], fields[9], fields[5]), shape
            if not 1 <= fields[1] <= 3 or count(shape) != fields[5] or fields[6] + 4 * fields[5] > size:
                stop("%s: damaged: row %d of its directory is impossible; use another" % (path, i))

    def read(self, name):
        """The weights (fp32 masters) of tensor `name`."""
        offset, crc, elements = self.rows[name]
        padded = (4 * elements + ALIGN - 1) // ALIGN * ALIGN
        self.file.seek(offset)
        data = self.file.read(padded)
        if zlib.crc32(data) != crc:
            stop("%s: damaged: the checksum of tensor %s is wrong; use another one" % (self.path, name))
        return array("f", data[:4 * elements])


def write_checkpoint(path, flags, tensors, force=False):
    """A checkpoint of weights, for --init_from. flags: {name: value} of the model; tensors: (name, shape, read) in any order."""
    state = {"step": 0, "tokens_seen": 0, "loader_shard": 0, "loader_position": 0, "loader_epoch": 0, "loader_batches": 0,
             "adam_steps": 0, "loss_scale": 1, "loss_scale_good": 0, "sampler_state": 0, "best_val": "inf", "train_seconds": 0}
    flags_text = "".join("--%s %s\n" % (name, shlex.quote(str(value))) for name, value in flags.items()).encode()
    state_text = "".join("%s=%s\n" % item for item in state.items()).encode()
    text = flags_text + state_text
    text += bytes(-(HEADER.size + len(text)) % ALIGN)
    offset = HEADER.size + len(text) + ROW.size * len(tensors)
    payload, rows = offset, b""
    with Whole(path, force) as file:
        file.seek(payload)
        for name, shape, read in tensors:
            values = read()
            if len(values) != count(shape):
                stop("%s: %d values, expected %s" % (name, len(values), shape_text(shape)))
            data = values.tobytes()
            data += bytes(-len(data) % ALIGN)
            file.write(data)
            dims = tuple(shape) + (1,) * (3 - len(shape))
            rows += ROW.pack(name.encode(), len(shape), *dims, len(values), offset, 0, 0, zlib.crc32(data), 0, 0, *[0] * 5)
            offset += len(data)
        meta = text + rows
        head = HEADER.pack(MAGIC, VERSION, len(tensors), 1, len(flags_text), len(state_text), zlib.crc32(meta), offset, payload,
                           0, 0, 0, 0)[:60]
        file.seek(0)
        file.write(head + struct.pack("<I", zlib.crc32(head)) + meta)


# ----------------------------------------------------------------------------------------------------------------------
# safetensors: the length of a JSON directory (8 bytes), the directory, the tensors

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}


def to_bf16(values):
    """Bytes of fp32 values rounded to bf16, to even: all at once, as one long number. They must be finite."""
    if not math.isfinite(sum(values)):
        stop("a tensor has values that are not finite; use an earlier checkpoint")
    ones = int.from_bytes(b"\1\0\0\0" * len(values), "little")
    bits = int.from_bytes(values.tobytes(), "little")
    rounded = bits + 0x7FFF * ones + ((bits >> 16) & ones)
    both = array("H", rounded.to_bytes(4 * len(values), "little"))
    return both[1::2].tobytes()


def from_bf16(data):
    """array("f") of bf16 bytes."""
    both = array("H", bytes(2 * len(data)))
    both[1::2] = array("H", data)
    return array("f", both.tobytes())


class Safetensors:
    def __init__(self, path):
        self.path, self.file = path, open_binary(path, "a safetensors file")
        size = os.fstat(self.file.fileno()).st_size
        start = self.file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        try:
            if not 2 <= length <= min(size - 8, 1 << 28):
                raise ValueError
            directory = json.loads(self.file.read(length))
            directory.pop("__metadata__", None)
            self.rows = {name: (row["dtype"], row["shape"], row["data_offsets"]) for name, row in directory.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            stop("%s: not a safetensors file: expected the length of a JSON directory and the directory, found %r"
                 % (path, start))
        self.start = 8 + length
        self.shapes = {}
        for name, (dtype, shape, (begin, end)) in self.rows.items():
            if dtype in SIZES and (end - begin != SIZES[dtype] * count(shape) or self.start + end > size or begin < 0):
                stop("%s: truncated: %s %s is %s bytes %d to %d of %d; fetch it again"
                     % (path, name, shape_text(shape), dtype, begin, end, size - self.start))
            self.shapes[name] = tuple(shape)

    def read(self, name):
        dtype, _, (begin, end) = self.rows[name]
        if dtype not in SIZES:
            stop("%s: %s is stored as %s; F32, F16, BF16 and I64 are read: save it as one of them" % (self.path, name, dtype))
        self.file.seek(self.start + begin)
        data = self.file.read(end - begin)
        if dtype == "F32":
            return array("f", data)
        if dtype == "BF16":
            return from_bf16(data)
        return array("f", struct.unpack("<%d%s" % ((end - begin) // SIZES[dtype], "e" if dtype == "F16" else "q"), data))


def write_safetensors(path, tensors, force=False):
    directory, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, dtype, _ in tensors:
        size = SIZES[dtype] * count(shape)
        directory[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(directory).encode()
    text += b" " * (-len(text) % 8)
    with Whole(path, force) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, dtype, read in tensors:
            values = read()
            data = to_bf16(values) if dtype == "BF16" else values.tobytes()
            if len(data) != SIZES[dtype] * count(shape):
                stop("%s: %d values, expected %s" % (name, len(values), shape_text(shape)))
            file.write(data)
