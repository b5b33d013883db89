"""
What the tensors of a model are called, here and elsewhere, and how they are laid out. Python 3.8 or newer, no packages.

    here                      GPT2LMHeadModel                      modeling_ahead.py           llm.c, in this order
    wte (Vp,C)                transformer.wte (V,C)                wte                         wte (Vp,C)
    wpe (T,C)                 transformer.wpe                      wpe                         wpe
    h.N.ln1.w, .b (C)         transformer.h.N.ln_1                 h.N.ln1                     ln1w, ln1b         all layers each
    h.N.attn.qkv.w (3C,C)     transformer.h.N.attn.c_attn (C,3C)   h.N.attn.qkv                qkvw, qkvb
    h.N.attn.proj.w (C,C)     transformer.h.N.attn.c_proj          h.N.attn.proj               attprojw, attprojb
    h.N.ln2.w, .b             transformer.h.N.ln_2                 h.N.ln2                     ln2w, ln2b
    h.N.mlp.fc.w (4C,C)       transformer.h.N.mlp.c_fc (C,4C)      h.N.mlp.fc                  fcw, fcb
    h.N.mlp.proj.w (C,4C)     transformer.h.N.mlp.c_proj (4C,C)    h.N.mlp.proj                fcprojw, fcprojb
    lnf.w, .b                 transformer.ln_f                     lnf                         lnfw, lnfb
    lm_head (Vp,C)            lm_head (V,C)                        lm_head                     -
    wte.row, wte.column       -                                    wte_row, wte_column         -
    head.row.w, .b (Rp)       -                                    head_row (R)                -
    head.column.w (R Kp,C)    -                                    head_column (R K,C)         -
    cells (2,V)               -                                    cells, I64                  -
    mtp.*, spell.*            left out: only training needs them

Theirs end in .weight and .bias. A weight has a row for each output, but for the four of GPT2LMHeadModel's layers, which are the
other way round. Rows that only pad (Vp: V rounded up to 128; Rp, Kp: R rows, K columns of the table rounded up to 8) stay here.
"""
from array import array

from checkpoint import stop

SIZES = {"d12": (12, 12, 768), "d24": (24, 16, 1024), "d36": (36, 20, 1280), "d48": (48, 25, 1600)}
# Every flag of the section Model, and the value it must have for a model to be exported; None: any.
MODEL_FLAGS = {"arch": None, "model": None, "n_layer": None, "n_head": None, "n_embd": None, "vocab_size": None,
               "sequence_length": None, "tie_embedding": None, "head": None, "embedding": None, "table_size": None,
               "codebook": None, "lightrnn_decoder": "per_row", "lightrnn_rank": None}
TRAINING_ONLY = ("mtp.", "spell.")
LAYER_GPT2 = {"ln1": "ln_1", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj", "ln2": "ln_2", "mlp.fc": "mlp.c_fc",
              "mlp.proj": "mlp.c_proj"}


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


class Spec:
    """Sizes of a model: arch gpt2 or nocap, L layers, NH heads, C width, V tokens, T positions, tied, light_head,
    light_embedding, and R rows and K columns of the table of a lightrnn vocabulary (0: none)."""

    def __init__(self, arch, L, NH, C, V, T, tied, light_head=False, light_embedding=False, R=0, K=0):
        self.arch, self.L, self.NH, self.C, self.V, self.T, self.tied = arch, L, NH, C, V, T, tied
        self.light_head, self.light_embedding, self.R, self.K = light_head, light_embedding, R, K

    @property
    def light(self):
        return self.light_head or self.light_embedding

    def flags(self):
        """Its Model flags, for a checkpoint that is imported; a codebook is not among them."""
        flags = {"arch": self.arch, "n_layer": self.L, "n_head": self.NH, "n_embd": self.C, "vocab_size": self.V,
                 "sequence_length": self.T, "tie_embedding": "full" if self.tied else "none"}
        if self.light:
            flags.update(head="lightrnn" if self.light_head else "dense",
                         embedding="lightrnn" if self.light_embedding else "dense", table_size=self.K)
        return flags


class Tensor:
    """One row of the table: `ours` with `shape` here; `theirs` with `their_shape`. In groups of `period` rows the first `live`
    are real, the others padding. transposed: the other way round there."""

    def __init__(self, ours, theirs, shape, live=0, period=0, transposed=False, integer=False):
        self.ours, self.theirs, self.shape = ours, theirs, shape
        self.period, self.live = period or shape[0], live or period or shape[0]
        self.transposed, self.integer = transposed, integer
        rows = shape[0] // self.period * self.live
        self.their_shape = (shape[1], rows) if transposed else (rows,) + tuple(shape[1:])

    def leave(self, values):
        """Their values from ours."""
        row = len(values) // self.shape[0]
        if self.live < self.period:
            group, real = self.period * row, self.live * row
            values = array("f", b"".join(values[i:i + real].tobytes() for i in range(0, len(values), group)))
        if self.integer:
            return array("q", map(int, values))
        return transpose(values, *self.shape) if self.transposed else values

    def arrive(self, values):
        """Ours from theirs; padding is 0."""
        if self.transposed:
            return transpose(values, *self.their_shape)
        row = len(values) // self.their_shape[0]
        if self.live < self.period:
            pad, real = bytes(4 * (self.period - self.live) * row), self.live * row
            values = array("f", b"".join(values[i:i + real].tobytes() + pad for i in range(0, len(values), real)))
        return values


def transpose(values, rows, columns):
    """(rows, columns) -> (columns, rows)"""
    out = array("f")
    for c in range(columns):
        out.extend(values[c::columns])
    return out


def tensors(spec, gpt2):
    """The table for a model: names of GPT2LMHeadModel, or else of modeling_ahead.py."""
    C, V, R, K, Vp = spec.C, spec.V, spec.R, spec.K, round_up(spec.V, 128)
    Rp, Kp, biases, table = round_up(R, 8), round_up(K, 8), spec.arch == "gpt2", []

    def add(ours, theirs, shape, **more):
        table.append(Tensor(ours, theirs, shape, **more))

    def module(ours, theirs, shape, transposed=False):
        add(ours + ".w", theirs + ".weight", shape, transposed=transposed)
        if biases:
            add(ours + ".b", theirs + ".bias", shape[:1])

    top = "transformer." if gpt2 else ""
    if spec.light:
        add("cells", "cells", (2, V), integer=True)
    if spec.light_embedding:
        add("wte.row", "wte_row.weight", (R, C))
        add("wte.column", "wte_column.weight", (K, C))
    else:
        add("wte", top + "wte.weight", (Vp, C), live=V)
    if biases:
        add("wpe", top + "wpe.weight", (spec.T, C))
    for l in range(spec.L):
        for name, shape in (("ln1", (C,)), ("attn.qkv", (3 * C, C)), ("attn.proj", (C, C)), ("ln2", (C,)), ("mlp.fc", (4 * C, C)),
                            ("mlp.proj", (C, 4 * C))):
            if len(shape) == 2 or biases:  # nocap's norms have no weights
                module("h.%d.%s" % (l, name), "%sh.%d.%s" % (top, l, LAYER_GPT2[name] if gpt2 else name), shape,
                       transposed=gpt2 and len(shape) == 2)
    if biases:
        module("lnf", "transformer.ln_f" if gpt2 else "lnf", (C,))
    if spec.light_head:
        add("head.row.w", "head_row.weight", (Rp, C), live=R)
        add("head.row.b", "head_row.bias", (Rp,), live=R)
        add("head.column.w", "head_column.weight", (R * Kp, C), live=K, period=Kp)
        add("head.column.b", "head_column.bias", (R * Kp,), live=K, period=Kp)
    elif not spec.tied:
        add("lm_head", "lm_head.weight", (Vp, C), live=V)
    return table


def spec_of(checkpoint):
    """The model of a checkpoint, from its flags and tensors. A model that is not known here ends the program."""
    flags, shapes, path = checkpoint.flags, checkpoint.shapes, checkpoint.path
    for name in ("arch", "n_head", "vocab_size", "sequence_length"):
        if name not in flags:
            stop("%s: damaged: its flags have no --%s; use another one" % (path, name))
    for name, value in MODEL_FLAGS.items():
        if value is not None and flags.get(name, value) != value:
            stop("%s: a model with --%s %s cannot be exported, only with %s; ./train_gpt2cu can use it"
                 % (path, name, flags[name], value))
    light_head, light_embedding = "head.row.w" in shapes, "wte.row" in shapes
    wte = shapes.get("wte.row") or shapes.get("wte")
    if not wte:
        stop("%s: it has no tensor wte; use a checkpoint of ./train_gpt2cu" % path)
    layers = {name.split(".")[1] for name in shapes if name.startswith("h.")}
    R = K = 0
    if "cells" in shapes:
        cells = checkpoint.read("cells")
        V = len(cells) // 2
        R, K = int(max(cells[:V])) + 1, int(max(cells[V:])) + 1
        if light_embedding:
            K = shapes["wte.column"][0]
        elif light_head:  # a column that no row uses leaves no trace but in the padding
            K = max(K, shapes.get("head.column.w", (0,))[0] // R - 7)
    spec = Spec(flags["arch"], len(layers), int(flags["n_head"]) or SIZES[flags["model"]][1], wte[1], int(flags["vocab_size"]),
                int(flags["sequence_length"]), not light_head and "lm_head" not in shapes, light_head, light_embedding, R, K)
    table = tensors(spec, False)
    for t in table:
        if shapes.get(t.ours) != tuple(t.shape):
            found = "is " + str(shapes[t.ours]) if t.ours in shapes else "is not there"
            stop("%s: not a model that is known here: its %s %s, expected %s" % (path, t.ours, found, tuple(t.shape)))
    known = {t.ours for t in table}
    for name in shapes:
        if name not in known and not name.startswith(TRAINING_ONLY):
            stop("%s: its tensor %s is not known here, so the model cannot be exported; use the scripts beside the program that "
                 "wrote it" % (path, name))
    return spec
