"""Separate heads for later tokens, and the consistency loss: losses and a sketch of every gradient of a two-layer model."""
import numpy as np
import torch

import gpt2
import rand
from gold import RUNS, Case
from record_model import HEADS, LAYERS, SEED, VOCABULARY, WIDTH, token_stream

B, T = 2, 32


def losses_and_grads(params, cfg, tokens, run, c, consist):
    """Per-position losses of every head (K, B*T), KL per pair, and gradients of the whole objective, in the precision of `run`."""
    dtype, (store, weight), scale = RUNS[run]
    leaves = {name: w.detach().to(dtype).requires_grad_(True) for name, w in params.items()}
    tokens = torch.tensor(tokens).long()
    h = gpt2.hidden(leaves, cfg, tokens[: B * T].view(B, T), store, weight)
    # store(h): each head's gradient of h is rounded before it is added; the teacher's is one of its own
    logits = [gpt2.logits_of(leaves, cfg, store(h), k, store, weight) for k in range(1, cfg.K + 1)]
    teacher = gpt2.logits_of(leaves, cfg, store(h), 1, store, weight)
    losses = [gpt2.token_losses(z, tokens[k: k + B * T].view(B, T)) for k, z in enumerate(logits, 1)]
    k = consist["k"]
    pairs = gpt2.consistency_loss(logits[k - 1], teacher, k, consist["temp"], consist["teacher_grad"])
    total = sum(w * loss.mean() for w, loss in zip(c, losses)) + consist["mu"] * pairs.mean()
    (total * scale).backward()
    padded = torch.zeros(B, T, dtype=dtype)
    padded[:, : T - k + 1] = pairs.detach()
    kept = torch.stack(losses).detach().double().reshape(cfg.K, -1).numpy(), padded.double().reshape(-1).numpy()
    return (*kept, {name: (w.grad / scale).double().numpy() for name, w in leaves.items()})


def heads():
    consist = {"k": 3, "mu": 2.0, "temp": 1.5, "teacher_grad": 0}
    taught = {"k": 2, "mu": 4.0, "temp": 1.0, "teacher_grad": 1}
    for kind, arch, c, consist, why in (
            ("linear", "nocap", (1.0, 0.5, 0.25), consist, "matrices of their own; the teacher is stopped, the temperature is 1.5"),
            ("proj", "gpt2", (1.0, 0.5), taught, "the shared matrix behind a small residual block; the teacher learns as well")):
        cfg = gpt2.Config(arch=arch, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, T=T, heads=kind, K=len(c))
        name = "heads_" + kind
        tokens = token_stream(name, B * T + cfg.K)
        case = Case(name, f"{cfg.K} heads and consistency: {why}", seed=SEED, B=B, T=T, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY,
                    Vp=cfg.Vp, K=cfg.K, **{f"c{k}": w for k, w in enumerate(c, 1)}, **consist)
        params = gpt2.initial_parameters(cfg, SEED, torch.float64)
        for key, w in params.items():
            if key.startswith("mtp.") and key.endswith(".b"):  # zero in a new model, which would hide what stands before it
                noise = np.float32(0.125) * rand.normal(rand.key(SEED, key), w.numel())
                params[key] = torch.tensor(noise.reshape(w.shape), dtype=torch.float64)
        runs = {run: losses_and_grads(params, cfg, tokens, run, c, consist) for run in RUNS}
        case.ints("tokens", tokens)
        for k in range(cfg.K):
            case.output(f"losses_{k + 1}", {r: out[0][k] for r, out in runs.items()}, kept=True)
        case.output("consistency", {r: out[1] for r, out in runs.items()}, kept=True)
        for key in params:
            case.sketched("grad:" + key, {r: out[2][key] for r, out in runs.items()})
        yield case


GROUPS = [heads]
