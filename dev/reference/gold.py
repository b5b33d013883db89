"""Writes .gold files (test/gold.h draws the format) and measures how far plain PyTorch falls short in each precision."""
import os
import zlib

import numpy as np
import torch

import rand

SIGNS, SAMPLES = 8, 64
LIMIT = 256 * 1024


# ----------------------------------------------------------------------------------------------------------------------
# Precisions. A function to be recorded is called as f(x, store, weight): x(name) gives an input in the working type.

class Store(torch.autograd.Function):
    """What memory does to an activation and to its gradient: both are rounded to the storage type."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad.to(ctx.dtype).to(grad.dtype), None


class StoreWeight(torch.autograd.Function):
    """A weight is read in the storage type, its gradient is kept in fp32."""

    @staticmethod
    def forward(ctx, x, dtype):
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class StoreGradient(torch.autograd.Function):
    """The residual stream: fp32 in memory, its gradient in the storage type."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.to(ctx.dtype).to(grad.dtype), None


def same(x):
    return x


def rounding(dtype, tensor_cores=False):
    def store(x):
        return Store.apply(x, dtype)

    if tensor_cores:  # gpt2.py looks for these
        store.tensor_cores = True
        store.stream = lambda x: StoreGradient.apply(x, dtype)
    return store, (lambda x: StoreWeight.apply(x, dtype))


RUNS = {  # name: working type, (store, weight), factor on the loss that keeps fp16 gradients away from zero
    "float64": (torch.float64, (same, same), 1.0),
    "fp32": (torch.float32, (same, same), 1.0),
    "bf16": (torch.float32, rounding(torch.bfloat16), 1.0),
    "fp16": (torch.float32, rounding(torch.float16), 1024.0),
    # tensor-core attention rounds elsewhere, and the gradient of the stream is stored as well; err_ is the larger of the two
    "bf16 tensor cores": (torch.float32, rounding(torch.bfloat16, True), 1.0),
    "fp16 tensor cores": (torch.float32, rounding(torch.float16, True), 1024.0),
}
PRECISIONS = ("fp32", "bf16", "fp16")


def representable(x):
    """Nearest values that bf16 and fp16 both hold: every precision gets the same input."""
    x = torch.tensor(np.asarray(x, np.float32)).bfloat16().double().numpy()
    return np.where(np.abs(x) < 2.0**-16, 0.0, x)


def error(low, true):
    """Largest error relative to the rms, as test/gold_check.h computes it."""
    true, low = np.asarray(true, np.float64), np.asarray(low, np.float64)
    rms = np.sqrt(np.mean(true**2)) or 1.0
    return float(np.max(np.abs(low - true)) / rms)


def largest_errors(runs, measure):
    """err_ of each precision: the largest over the runs in it."""
    return {p: max(measure(runs[r], runs["float64"]) for r in runs if r.split()[0] == p) for p in PRECISIONS}


# ----------------------------------------------------------------------------------------------------------------------
# Sketches

def signs(n):
    bits = rand.at(rand.key(0, "sketch"), np.arange(n))
    return np.stack([((bits >> np.uint64(j)) & np.uint64(1)).astype(np.float64) * 2 - 1 for j in range(SIGNS)])


def sample_indices(n):
    if n <= SAMPLES:
        return np.arange(SAMPLES) % n
    picked, i = set(), 0
    while len(picked) < SAMPLES:
        picked.add(int(rand.at(rand.key(0, "sample"), i)) % n)
        i += 1
    return np.array(sorted(picked))


def sketch(x):
    x = np.asarray(x, np.float64).reshape(-1)
    return np.concatenate([[x.sum(), (x**2).sum()], signs(x.size) @ x])


def sketch_error(low, true):
    true, low = np.asarray(true, np.float64).reshape(-1), np.asarray(low, np.float64).reshape(-1)
    n, rms = true.size, np.sqrt(np.mean(true**2)) or 1.0
    scale = np.full(2 + SIGNS, rms * np.sqrt(n))
    scale[1] = rms**2 * n
    at = sample_indices(n)
    return float(max(np.max(np.abs(sketch(low) - sketch(true)) / scale), np.max(np.abs(low[at] - true[at])) / rms))


# ----------------------------------------------------------------------------------------------------------------------
# Files

class Case:
    def __init__(self, name, why, seed=7, **params):
        self.name, self.why, self.seed = name, why, seed
        self.lines, self.payload = [], b""
        self.params = params

    def _add(self, name, kind, shape, data, tail=""):
        shape = " ".join(str(d) for d in shape) or "1"
        self.lines.append(f"tensor    {name} {kind} {shape} @{len(self.payload)} crc {zlib.crc32(data):08x}{tail}")
        self.payload += data + b"\0" * (-len(data) % 64)

    def ints(self, name, x):
        x = np.asarray(x)
        self._add(name, "i32", x.shape, x.astype("<i4").tobytes())

    def floats(self, name, x):
        x = np.asarray(x, np.float64)
        self._add(name, "f32", x.shape, x.astype("<f4").tobytes())

    def rounded(self, name, x):
        """An input of representable values, two bytes each."""
        x = np.asarray(x, np.float64)
        assert np.array_equal(x, representable(x)), f"{self.name}: {name} is not representable in bf16 and fp16"
        self._add(name, "bf16", x.shape, (x.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes())

    def _tail(self, errors, kept):
        assert all(e >= 0 for e in errors.values()), f"{self.name}: an error is not a number: {errors}"
        # rounded up, so that a last bit that differs between processors does not show
        return (" kept_fp32" if kept else "") + "".join(f" err_{p} {1.05 * e + 1e-12:.1e}" for p, e in errors.items())

    def output(self, name, runs, kept=False):
        """runs: the tensor in every run of RUNS. kept: the project holds it in fp32 in every precision."""
        errors = largest_errors(runs, error)
        x = np.asarray(runs["float64"], np.float64)
        self._add(name, "f32", x.shape, x.astype("<f4").tobytes(), self._tail(errors, kept))

    def exact(self, name, x):
        """An output that is the same in every precision."""
        self.output(name, {p: x for p in RUNS}, kept=True)

    def sketched(self, name, runs, kept=False, errors=None):
        errors = errors or largest_errors(runs, sketch_error)
        x = np.asarray(runs["float64"], np.float64)
        at = sample_indices(x.size)
        data = sketch(x).astype("<f4").tobytes() + at.astype("<i4").tobytes() + x.reshape(-1)[at].astype("<f4").tobytes()
        self._add(name, "sketch", x.shape, data, self._tail(errors, kept))

    def write(self, folder):
        version = torch.__version__.split("+")[0]
        head = ["gold 1", f"case      {self.name}", f"why       {self.why}",
                f"recorded  dev/reference/record.py seed {self.seed} torch {version} float64"]
        head += [f"param     {name} {value!r}" for name, value in self.params.items()]
        text = "\n".join(head + self.lines + ["end"]) + "\n"
        text += "\n" * (-len(text) % 64)
        data = text.encode() + self.payload
        assert len(data) <= LIMIT, f"{self.name}: {len(data)} bytes, the limit is {LIMIT}"
        with open(os.path.join(folder, self.name + ".gold"), "wb") as f:
            f.write(data)
        return len(data)


def record(case, inputs, f, kept=()):
    """Stores the inputs, runs f in every precision and stores what it returns.

    inputs: name -> array (representable floats or integers; weights that are fp32 in every precision as ("f32", array)).
    f(x, store, weight) -> name -> tensor, x being the inputs as tensors in the working type.
    """
    for name, value in inputs.items():
        if isinstance(value, tuple):
            case.floats(name, value[1])
        elif np.issubdtype(np.asarray(value).dtype, np.integer):
            case.ints(name, value)
        else:
            case.rounded(name, value)
    runs = {}
    for run, (dtype, (store, weight), _) in RUNS.items():
        x = {}
        for name, value in inputs.items():
            value = value[1] if isinstance(value, tuple) else value
            t = torch.tensor(np.asarray(value))
            x[name] = t.long() if not t.dtype.is_floating_point else t.to(dtype)
        for name, out in f(x, store, weight).items():
            runs.setdefault(name, {})[run] = out.detach().double().numpy()
    for name, out in runs.items():
        case.output(name, out, name in kept)
