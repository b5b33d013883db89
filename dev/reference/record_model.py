"""Whole-model cases: loss, some logits and a sketch of every gradient of a two-layer model, and a training curve of 20 steps.

Weights come from the seed (they are not stored), tokens are stored. The model is evaluated in float64 on fp32 weights.
"""
import numpy as np
import torch

import gpt2
import rand
from gold import RUNS, Case, sketch_error

SEED = 42  # of the weights
B, T, LAYERS, HEADS, WIDTH, VOCABULARY = 2, 32, 2, 4, 64, 259


def token_stream(name, n):
    """Ids that can be learnt: mostly a fixed function of the last id, one time in four any id."""
    rng = rand.Rng(SEED, name)
    ids = [VOCABULARY - 1]
    while len(ids) < n:
        ids.append(rng.below(VOCABULARY) if rng.below(4) == 0 else (3 * ids[-1] + 7) % VOCABULARY)
    return np.array(ids, np.int32)


def config(arch, tied):
    return gpt2.Config(arch=arch, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, T=T, tied=tied)


def loss_and_grads(params, cfg, tokens, run):
    """Mean loss and its gradients as computed in the precision of `run`; tokens has B*T + 1 ids."""
    dtype, (store, weight), scale = RUNS[run]
    leaves = {name: w.detach().to(dtype).requires_grad_(True) for name, w in params.items()}
    tokens = torch.tensor(tokens).long()
    logits = gpt2.forward(leaves, cfg, tokens[:-1].view(B, T), store, weight)
    losses = gpt2.token_losses(logits, tokens[1:].view(B, T))
    (losses.mean() * scale).backward()
    return logits.detach(), losses.detach(), {name: w.grad / scale for name, w in leaves.items()}


def models():
    for arch in ("gpt2", "nocap"):
        for tied in (True, False):
            cfg = config(arch, tied)
            name = f"model_{arch}" + ("" if tied else "_untied")
            tokens = token_stream(name, B * T + 1)
            positions = np.array([0, 1, T - 1, T, 2 * T - 1], np.int32)
            why = "the whole model, forward and backward, from seeded weights: every gradient as a sketch"
            case = Case(name, why, seed=SEED, B=B, T=T, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, Vp=cfg.Vp, tied=int(tied))
            params = gpt2.initial_parameters(cfg, SEED, torch.float64)
            runs = {run: loss_and_grads(params, cfg, tokens, run) for run in RUNS}
            case.ints("tokens", tokens)
            case.ints("positions", positions)
            case.output("logits", {r: out[0].reshape(B * T, -1)[positions].double().numpy() for r, out in runs.items()})
            losses = {r: out[1].double().numpy().reshape(-1) for r, out in runs.items()}
            case.output("losses", losses, kept=True)
            # A mean may hit the true value by luck: what it is allowed is the rms of the errors of the single positions.
            typical = {r: np.sqrt(np.mean((x - losses["float64"]) ** 2)) for r, x in losses.items()}
            case.output("loss", {r: np.array([losses["float64"].mean() + typical[r]]) for r in runs}, kept=True)
            for key in params:
                case.sketched("init:" + key, {r: params[key].numpy() for r in runs}, kept=True)
                case.sketched("grad:" + key, {r: out[2][key].double().numpy() for r, out in runs.items()})
            yield case


STEPS, ACCUMULATION = 20, 2
HYPER = {"learning_rate": 0.004, "warmup": 4, "warmdown": 8, "weight_decay": 0.1}


def train(cfg, params, stream, run, clip, nudge=0.0, loss_and_grads=loss_and_grads):
    """Losses, gradient norms and rates of every step, and the final fp32 weights, in the precision of `run`.

    nudge: seeded noise on every gradient element, in rms of its tensor.
    """
    dtype = RUNS[run][0]
    params = {name: w.to(dtype, copy=True) for name, w in params.items()}
    moments, losses, norms, rates = {}, [], [], []
    for step in range(STEPS):
        total = {name: torch.zeros_like(w) for name, w in params.items()}
        loss = 0.0
        for micro in range(ACCUMULATION):
            at = (step * ACCUMULATION + micro) * B * T
            _, out, grads = loss_and_grads(params, cfg, stream[at: at + B * T + 1], run)
            loss += float(out.mean()) / ACCUMULATION
            for name, g in grads.items():
                total[name] += g / ACCUMULATION
        for name, g in total.items():
            if nudge:
                noise = rand.uniform(rand.key(step, name), g.numel()).reshape(g.shape)
                g += nudge * g.square().mean().sqrt() * torch.tensor(noise) * (g != 0)
        lr = gpt2.learning_rate("trapezoid", step, STEPS, HYPER["learning_rate"], HYPER["warmup"], HYPER["warmdown"])
        norms.append(gpt2.optimizer_step(cfg, params, total, moments, step + 1, lr, HYPER["weight_decay"], clip))
        losses.append(loss)
        rates.append(lr)
    return np.array(losses), np.array(norms), np.array(rates), {k: w.double().numpy() for k, w in params.items()}


def curves():
    for arch, clip in (("gpt2", 1.0), ("nocap", 0.0)):
        cfg = config(arch, True)
        stream = token_stream("curve_" + arch, STEPS * ACCUMULATION * B * T + 1)
        why = "20 steps of AdamW with accumulation and a trapezoid: an error anywhere bends the curve"
        case = Case("curve_" + arch, why, seed=SEED, B=B, T=T, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, Vp=cfg.Vp, steps=STEPS,
                    accumulation=ACCUMULATION, grad_clip=clip, **HYPER)
        params = gpt2.initial_parameters(cfg, SEED, torch.float64)
        runs = {run: train(cfg, params, stream, run, clip) for run in RUNS}
        case.ints("tokens", stream)
        case.output("losses", {r: out[0] for r, out in runs.items()}, kept=True)
        case.output("norms", {r: out[1] for r, out in runs.items()}, kept=True)
        case.exact("rates", runs["float64"][2])
        # The gradient of the keys' bias is zero but for rounding, and AdamW blows rounding up to full steps: that tensor says
        # nothing. To a lesser degree single weights with small gradients do the same in every tensor. So the yardstick of the
        # final weights is what gradients do that are off by no more than a gradient's own tolerance (2e-6 of its rms in fp32),
        # and all tensors share the largest error of any.
        finals = [key for key in params if not key.endswith("attn.qkv.b")]
        nudged = train(cfg, params, stream, "fp32", clip, nudge=2e-6)
        ends = [("fp32", nudged)] + [(run.split()[0], out) for run, out in runs.items() if run != "float64"]
        shared = {"fp32": 0.0, "bf16": 0.0, "fp16": 0.0}
        for precision, out in ends:
            for key in finals:
                shared[precision] = max(shared[precision], sketch_error(out[3][key], runs["float64"][3][key]))
        for key in finals:
            case.sketched("final:" + key, {r: out[3][key] for r, out in runs.items()}, kept=True, errors=shared)
        yield case


GROUPS = [models, curves]
