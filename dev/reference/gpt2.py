"""The two trunks, the loss, AdamW and the schedules in plain PyTorch: the definition that the golden tensors are recorded from.

Everything is a function of a dictionary of parameters whose keys are the names of the project's parameter table. Two knobs
turn the same lines into a yardstick for low precision: `store` is applied wherever the project keeps an activation in memory
in its storage type, `weight` wherever it reads a weight. In float64 both do nothing. The residual stream is kept in fp32.

    arch     norm                          positions     biases  GELU  residual                          init
    gpt2     LayerNorm w, b, eps 1e-5      learned wpe   yes     tanh  x + f(x)                          N(0, 0.02), residual
                                                                                                         outputs / sqrt(2L)
    nocap    RMSNorm no weight, eps 1e-6   RoPE          no      erf   x + attn / sqrt(2L), x + mlp      U(+-1/sqrt(fan_in))
"""
import math
from dataclasses import dataclass

import numpy as np
import torch

import rand


@dataclass
class Config:
    arch: str = "gpt2"
    L: int = 2
    NH: int = 4
    C: int = 64
    V: int = 259
    T: int = 32
    tied: bool = True
    heads: str = "shared"  # what the tokens 2..K ahead are predicted with: linear and proj have parameters of their own
    K: int = 1
    light_head: bool = False  # a head, an embedding over the rows and columns of a table of tokens
    light_embedding: bool = False
    book: object = None  # that table: Codebook

    @property
    def Vp(self):  # rows of wte: the vocabulary, padded
        return (self.V + 127) // 128 * 128

    @property
    def r(self):  # inner width of a proj head
        return (self.C // 4 + 7) // 8 * 8


class Codebook:
    """Cells of all tokens: row, column (V). Rows may be short, but have no gaps."""

    def __init__(self, row, column, columns):
        self.row, self.column, self.columns = torch.as_tensor(row).long(), torch.as_tensor(column).long(), columns
        self.rows = int(self.row.max()) + 1
        self.length = torch.bincount(self.row)

    @property
    def Rp(self):  # padded as in memory
        return (self.rows + 7) // 8 * 8

    @property
    def Kp(self):
        return (self.columns + 7) // 8 * 8


# ----------------------------------------------------------------------------------------------------------------------
# Parameters

def parameter_table(cfg):
    """Rows (name, shape, init, scale, live rows, period); the order is the project's. Live are so many rows of each period."""
    C, L, gpt2 = cfg.C, cfg.L, cfg.arch == "gpt2"
    rows = []

    def add(name, shape, init, scale=0.0, live=None, period=None):
        rows.append((name, shape, init, np.float32(scale), live or shape[0], period or shape[0]))

    def matrix(name, out, fan_in, live=None, residual=False):
        if gpt2:
            std = np.float32(0.02)  # in fp32 as the C program computes it: the weights are equal to the last bit
            add(name, (out, fan_in), "normal", std / np.sqrt(np.float32(2 * L)) if residual else std, live)
        else:
            add(name, (out, fan_in), "uniform", np.float32(1) / np.sqrt(np.float32(fan_in)), live)

    def norm(name):
        if gpt2:
            add(name + ".w", (C,), "one")
            add(name + ".b", (C,), "zero")

    def linear(name, out, fan_in, residual=False):
        matrix(name + ".w", out, fan_in, residual=residual)
        if gpt2:
            add(name + ".b", (out,), "zero")

    book = cfg.book
    if cfg.light_embedding:
        add("wte.row", (book.rows, C), "normal", 0.02)
        add("wte.column", (book.columns, C), "normal", 0.02)
    else:
        matrix("wte", cfg.Vp, C, cfg.V)
    if gpt2:
        add("wpe", (cfg.T, C), "normal", 0.02)
    for l in range(L):
        norm(f"h.{l}.ln1")
        linear(f"h.{l}.attn.qkv", 3 * C, C)
        linear(f"h.{l}.attn.proj", C, C, residual=True)
        norm(f"h.{l}.ln2")
        linear(f"h.{l}.mlp.fc", 4 * C, C)
        linear(f"h.{l}.mlp.proj", C, 4 * C, residual=True)
    norm("lnf")
    if cfg.light_head:
        add("head.row.w", (book.Rp, C), "normal", 0.02, book.rows)
        add("head.row.b", (book.Rp,), "zero")
        add("head.column.w", (book.rows * book.Kp, C), "normal", 0.02, book.columns, book.Kp)
        add("head.column.b", (book.rows * book.Kp,), "zero")
    elif not cfg.tied:
        matrix("lm_head", cfg.Vp, C, cfg.V)
    for k in range(2, cfg.K + 1):
        if cfg.heads == "linear":
            add(f"mtp.{k}.w", (cfg.Vp, C), "uniform", np.float32(1) / np.sqrt(np.float32(C)), cfg.V)
        elif cfg.heads == "proj":
            matrix(f"mtp.{k}.a", cfg.r, C)
            add(f"mtp.{k}.b", (C, cfg.r), "zero")
    return rows


def initial_parameters(cfg, seed, dtype=torch.float32):
    """Seeded weights, the same as the C program's. Padding rows are zero."""
    params = {}
    for name, shape, init, scale, live, period in parameter_table(cfg):
        w = np.zeros(shape, np.float32)
        count = (live if period == shape[0] else shape[0]) * int(np.prod(shape[1:]))
        if init == "normal":
            w.reshape(-1)[:count] = scale * rand.normal(rand.key(seed, name), count)
        elif init == "uniform":
            w.reshape(-1)[:count] = scale * rand.uniform(rand.key(seed, name), count)
        elif init == "one":
            w[:] = 1
        w[np.arange(shape[0]) % period >= live] = 0
        params[name] = torch.tensor(w, dtype=dtype)
    return params


def decays(cfg, name, tensor):
    """gpt2 decays matrices only, nocap everything it has."""
    return cfg.arch == "nocap" or tensor.dim() >= 2


# ----------------------------------------------------------------------------------------------------------------------
# Operations

def layer_norm(x, w, b, store=lambda x: x, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    rstd = ((x - mean).square().mean(-1, keepdim=True) + eps).rsqrt()
    return store((x - mean) * rstd) * w + b, mean.squeeze(-1), rstd.squeeze(-1)


def rms_norm(x, eps=1e-6):
    rho = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return x * rho, rho.squeeze(-1)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def rotate(x):
    """RoPE on x (B, T, NH, D): halves, by -t * 10000^(-2i/D)."""
    T, D = x.shape[1], x.shape[3]
    omega = 10000.0 ** (-2.0 * torch.arange(D // 2, dtype=torch.float64) / D)
    angle = torch.arange(T, dtype=torch.float64)[:, None] * omega
    cos, sin = angle.cos().to(x.dtype)[:, None, :], angle.sin().to(x.dtype)[:, None, :]
    a, b = x[..., : D // 2], x[..., D // 2:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], -1)


def attention(q, k, v, store=lambda x: x):
    """Causal. q (B, T, NH, D); k, v (B, T, KV, D), KV dividing NH. Returns (B, T, NH, D) and the lse (B, NH, T)."""
    if getattr(store, "tensor_cores", False):
        return TensorCoreAttention.apply(q, k, v, store)
    B, T, NH, D = q.shape
    k, v = (x.repeat_interleave(NH // x.shape[2], 2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(D)
    scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
    lse = scores.logsumexp(-1)
    probs = store((scores - lse[..., None]).exp())
    return torch.einsum("bhts,bshd->bthd", probs, v), lse


def attention_gradient(q, k, v, y, lse, dy, store):
    """Of q, k and v as flash attention computes it: from lse and the stored output, whose rounding is part of the yardstick."""
    T, D, KV = q.shape[1], q.shape[3], k.shape[2]
    group = q.shape[2] // KV
    k_all, v_all = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k_all) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    probs = (scores - lse[..., None]).masked_fill(future, -torch.inf).exp()
    delta = (dy * y).sum(-1).transpose(1, 2)[..., None]
    dscores = store(probs * (torch.einsum("bthd,bshd->bhts", dy, v_all) - delta)) / D**0.5
    dq = torch.einsum("bhts,bshd->bthd", dscores, k_all)
    dk = torch.einsum("bhts,bthd->bshd", dscores, q).unflatten(2, (KV, group)).sum(3)
    dv = torch.einsum("bhts,bthd->bshd", store(probs), dy).unflatten(2, (KV, group)).sum(3)
    return dq, dk, dv


class TensorCoreAttention(torch.autograd.Function):
    """attention() with the roundings of tensor cores: exponentials are rounded and summed unrounded, the division comes last, and
    the gradient starts from lse and the stored output."""

    @staticmethod
    def forward(ctx, q, k, v, store):
        D, group = q.shape[3], q.shape[2] // k.shape[2]
        k_all, v_all = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
        scores = torch.einsum("bthd,bshd->bhts", q, k_all) / math.sqrt(D)
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        y = store(torch.einsum("bhts,bshd->bthd", store(weights), v_all) / weights.sum(-1).transpose(1, 2)[..., None])
        lse = scores.logsumexp(-1)
        ctx.save_for_backward(q, k, v, y, lse)
        ctx.store = store
        return y, lse

    @staticmethod
    def backward(ctx, dy, _):
        q, k, v, y, lse = ctx.saved_tensors
        return *attention_gradient(q, k, v, y, lse, dy, ctx.store), None


def target_list_loss(logits, ids, weights):
    """logits (N, V), ids (N, K) with -1 absent, weights (N, K) -> W * lse - sum_k w_k z[y_k], per row, and the lse."""
    present = weights * (ids >= 0)
    lse = logits.logsumexp(-1)
    picked = logits.gather(1, ids.clamp(min=0))
    return present.sum(1) * lse - (present * picked).sum(1), lse


# ----------------------------------------------------------------------------------------------------------------------
# Model

def hidden(p, cfg, ids, store=lambda x: x, weight=lambda x: x, attend=attention):
    """ids (B, T) -> hidden rows (B, T, C) after the last norm: what every head starts from."""
    B, T = ids.shape
    C, NH, gpt2 = cfg.C, cfg.NH, cfg.arch == "gpt2"
    stream = getattr(store, "stream", lambda x: x)  # fp32 forward; its gradient is kept in the storage type

    def norm(x, name):
        if gpt2:
            return store(layer_norm(x, weight(p[name + ".w"]), weight(p[name + ".b"]), store)[0])
        return store(rms_norm(x)[0])

    def linear(x, name):
        y = x @ weight(p[name + ".w"]).T
        return store(y + weight(p[name + ".b"]) if gpt2 else y)

    if cfg.light_embedding:
        x = weight(p["wte.row"])[cfg.book.row[ids]] + weight(p["wte.column"])[cfg.book.column[ids]]
    else:
        x = weight(p["wte"])[ids]
    x = stream(x + weight(p["wpe"])[:T] if gpt2 else x)
    for l in range(cfg.L):
        qkv = linear(norm(x, f"h.{l}.ln1"), f"h.{l}.attn.qkv")
        q, k, v = qkv.view(B, T, 3, NH, C // NH).unbind(2)
        if not gpt2:
            q, k = store(rotate(q)), store(rotate(k))
        mixed = store(attend(q, k, v, store)[0].reshape(B, T, C))
        branch = linear(mixed, f"h.{l}.attn.proj")
        x = stream(x + (branch if gpt2 else branch / math.sqrt(2 * cfg.L)))
        hidden = linear(norm(x, f"h.{l}.ln2"), f"h.{l}.mlp.fc")
        x = stream(x + linear(store((gelu_tanh if gpt2 else gelu_erf)(hidden)), f"h.{l}.mlp.proj"))
    return norm(x, "lnf")


def logits_of(p, cfg, h, k=1, store=lambda x: x, weight=lambda x: x):
    """h (B, T, C) -> logits (B, T, V) for the token k ahead; padding columns are left out, so padding rows get no gradient."""
    head = "wte" if cfg.tied else "lm_head"
    if k > 1 and cfg.heads == "linear":
        head = f"mtp.{k}.w"
    if k > 1 and cfg.heads == "proj":
        stream = getattr(store, "stream", lambda x: x)
        inner = store(torch.nn.functional.silu(store(h @ weight(p[f"mtp.{k}.a"]).T)))
        h = store(rms_norm(stream(h + inner @ weight(p[f"mtp.{k}.b"]).T))[0])
    return store(h @ weight(p[head])[: cfg.V].T)


def forward(p, cfg, ids, store=lambda x: x, weight=lambda x: x, attend=attention):
    """ids (B, T) -> next-token logits (B, T, V)."""
    return logits_of(p, cfg, hidden(p, cfg, ids, store, weight, attend), 1, store, weight)


def light_rows(p, cfg, h, store=lambda x: x, weight=lambda x: x):
    """h (N, C) -> log-probabilities of the rows of the table (N, R)."""
    R = cfg.book.rows
    return store(h @ weight(p["head.row.w"])[:R].T + weight(p["head.row.b"])[:R]).log_softmax(-1)


def light_columns(p, cfg, h, rows, store=lambda x: x, weight=lambda x: x):
    """h (N, C), a row for each (N) -> log-probabilities of its columns (N, columns); -inf where the row has no token."""
    book = cfg.book
    w = weight(p["head.column.w"]).view(book.rows, book.Kp, cfg.C)[rows, : book.columns]
    b = weight(p["head.column.b"]).view(book.rows, book.Kp)[rows, : book.columns]
    z = store(torch.einsum("nc,nkc->nk", h, w) + b)
    return z.masked_fill(torch.arange(book.columns) >= book.length[rows][:, None], -math.inf).log_softmax(-1)


def light_log_probs(p, cfg, h, store=lambda x: x, weight=lambda x: x):
    """h (N, C) -> log P of every token (N, V): that of its row, and in the row that of its column."""
    book, N = cfg.book, h.shape[0]
    columns = torch.stack([light_columns(p, cfg, h, torch.full((N,), r), store, weight) for r in range(book.rows)], 1)
    return light_rows(p, cfg, h, store, weight)[:, book.row] + columns[:, book.row, book.column]


def consistency_loss(z_k, z_1, k, temp=1.0, teacher_grad=False):
    """KL(teacher, student): the head for k ahead at t against the next-token head at t + k - 1 of the same row (B, T, V) each.

    Per pair (B, T - k + 1)."""
    student = (z_k[:, : z_k.shape[1] - k + 1] / temp).log_softmax(-1)
    teacher = (z_1[:, k - 1:] / temp).log_softmax(-1)
    teacher = teacher if teacher_grad else teacher.detach()
    return (teacher.exp() * (teacher - student)).sum(-1)


def fused_attention(q, k, v, store=None):
    """attention() by PyTorch's own fused call: for training, where speed counts."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2), None


def token_losses(logits, targets):
    """Next-token cross-entropy in nats, per position (B, T)."""
    return logits.logsumexp(-1) - logits.gather(-1, targets[..., None]).squeeze(-1)


# ----------------------------------------------------------------------------------------------------------------------
# Optimizer and schedules

def global_norm(grads):
    return math.sqrt(sum(float(g.double().square().sum()) for g in grads))


def adamw_step(w, g, m, v, t, lr, decay, beta1=0.9, beta2=0.95, eps=1e-8):
    """In place; t counts from 1. Decay comes first, decoupled."""
    w.mul_(1 - lr * decay)
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    w.sub_(lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps))


def optimizer_step(cfg, params, grads, moments, t, lr, decay, grad_clip=0.0):
    """One update of everything; moments starts as {}. Returns the gradient norm before clipping."""
    norm = global_norm(grads.values())
    factor = grad_clip / norm if grad_clip > 0 and norm > grad_clip else 1.0
    with torch.no_grad():
        for name, w in params.items():
            m, v = moments.setdefault(name, (torch.zeros_like(w), torch.zeros_like(w)))
            adamw_step(w, grads[name] * factor, m, v, t, lr, decay if decays(cfg, name, w) else 0.0)
    return norm


def learning_rate(schedule, it, iterations, peak, warmup=0, warmdown=0, final_frac=0.0):
    """Rate of step `it`, counted from 0. Warmup comes first in every schedule and wins where ranges overlap."""
    if it < warmup:
        return peak * (it + 1) / warmup
    if schedule == "constant":
        return peak
    if schedule == "trapezoid":
        left = 1.0 if it < iterations - warmdown else (iterations - it) / warmdown
        return peak * (final_frac + (1 - final_frac) * left)
    progress = (it - warmup) / (iterations - warmup)
    if schedule == "linear":
        return peak * (1 - (1 - final_frac) * progress)
    if schedule == "cosine":
        return peak * (final_frac + (1 - final_frac) * 0.5 * (1 + math.cos(math.pi * progress)))
    raise ValueError(f"unknown schedule {schedule}: use trapezoid, cosine, linear or constant")
