"""Golden cases of the token filter: which positions are kept, and the gradient of the mean loss of those alone."""
import math

import numpy as np
import torch

import gpt2
import rand
from gold import Case, record
from record_spelling import SEED, noise


def kept_positions(losses, T, rule, keep, threshold):
    """losses (N), numpy -> (N) of 0 and 1."""
    N = losses.size
    if rule == "topk":
        order = sorted(range(N), key=lambda n: (-losses[n], n))
        kept = np.zeros(N, np.int32)
        kept[order[:math.ceil(keep * N)]] = 1
        return kept
    rows = losses.reshape(-1, T)
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    return ((rows - low) / (high - low + 1e-8) > threshold).astype(np.int32).reshape(N)


def filter_case(name, why, rule, norm, keep=1.0, threshold=0.0):
    B, T, C, V, Vp, K, strength = 3, 8, 16, 29, 128, 2, 8.0
    N = B * T
    rng = rand.Rng(SEED, name)
    tokens = np.array([rng.below(V) for _ in range(N + K)], np.int32)
    ids = np.stack([tokens[k + 1:N + k + 1] for k in range(K)], 1)
    w = noise(name + "w", Vp, C, scale=0.5)
    w[V:] = 0
    inputs = {"tokens": tokens, "h": noise(name + "h", N, C), "w": w, "weights": ("f32", np.array([1.0, 0.375], np.float32))}

    def losses_of(h, w, x, store, weight):
        z = store(store(h) @ weight(w).T)[:, :V]
        targets = torch.tensor(ids).long()
        each = z.logsumexp(-1)[:, None] - z.gather(1, targets)
        return each, gpt2.target_list_loss(z, targets, x["weights"].to(z.dtype).expand(N, K))[0]

    exact = {key: torch.tensor(value).double() for key, value in inputs.items() if key in "hw"}
    exact["weights"] = torch.tensor([1.0, 0.375]).double()
    first = losses_of(exact["h"], exact["w"], exact, lambda t: t, lambda t: t)[0][:, 0].numpy()
    kept = kept_positions(first, T, rule, keep, threshold)
    for error in (-0.02, 0.02):  # nothing that low precision could decide otherwise
        nudged = first + error * np.where(kept == 1, -1, 1)
        assert np.array_equal(kept, kept_positions(nudged, T, rule, keep, threshold)), f"{name}: {kept.sum()} kept by a hair"

    def filtered(x, store, weight):
        h, w = (x[n].detach().requires_grad_(True) for n in ("h", "w"))
        each, losses = losses_of(h, w, x, store, weight)
        mask = torch.tensor(kept).to(losses.dtype)
        (strength * (losses * mask).sum() / (kept.sum() if norm == "kept" else N)).backward()
        return {"losses": each.detach().T.contiguous(), "dh": h.grad, "dw": w.grad}

    case = Case(name, why, B=B, T=T, C=C, V=V, Vp=Vp, K=K, strength=strength, keep=keep, threshold=threshold,
                minmax=int(rule == "minmax"), all=int(norm == "all"))
    record(case, inputs, filtered, kept=("losses", "dw"))
    case.ints("kept", kept)
    return case


def filters():
    yield filter_case("filter_topk", "15 of 24 positions, one of 16 rows is padding; two targets, the first decides", "topk", "kept",
                      keep=0.6)
    yield filter_case("filter_topk_all", "5 of 24 positions, and the mean is over all of them", "topk", "all", keep=0.2)
    yield filter_case("filter_minmax", "high within its own sequence; the mean is over the kept", "minmax", "kept", threshold=0.3)


GROUPS = [filters]
