"""Records test/golden/*.gold. Run from anywhere: record.py [FOLDER]; the default folder is the project's test/golden.

Inputs are rounded so that fp32, bf16 and fp16 all hold them; outputs come from float64; the error of plain PyTorch in each
precision is stored beside them as the yardstick. Running it twice gives the same bytes (README.md says how to check).
"""
import os
import sys

import numpy as np
import torch

import gpt2
import rand
import record_filter
import record_heads
import record_light
import record_model
import record_spelling
from gold import Case, record, representable

SEED = 7


def noise(name, *shape, scale=1.0):
    """Seeded normal values that every precision can hold."""
    n = int(np.prod(shape))
    return representable(scale * rand.normal(rand.key(SEED, name), n).reshape(shape))


def leaf(x, *names):
    """The named inputs as leaves that collect gradients."""
    return [x[n].detach().requires_grad_(True) for n in names]


# ----------------------------------------------------------------------------------------------------------------------
# Norms, activations, positions

def layer_norm(x, store, weight):
    xs, w, b = leaf(x, "x", "w", "b")
    y, mean, rstd = gpt2.layer_norm(store(xs), w, b, store)
    y = store(y)
    y.backward(x["dy"])
    return {"y": y, "mean": mean, "rstd": rstd, "dx": xs.grad, "dw": x["dw_before"] + w.grad, "db": x["db_before"] + b.grad}


def rms_norm(x, store, weight):
    (xs,) = leaf(x, "x")
    y, rho = gpt2.rms_norm(store(xs))
    y.backward(x["dy"])
    # The gradient as the project computes it, from the stored y; in float64 it is autograd's.
    y = store(y).detach()
    dx = store(rho[:, None] * (x["dy"] - y * (x["dy"] * y).mean(-1, keepdim=True)))
    assert y.dtype != torch.float64 or torch.allclose(dx, xs.grad, rtol=1e-9, atol=1e-12)
    return {"y": y, "rho": rho, "dx": dx}


def norms():
    for N, C in ((24, 64), (17, 72)):
        name = f"layernorm_c{C}"
        inputs = {"x": 3 * noise(name + "x", N, C) + 1, "w": 1 + noise(name + "w", C, scale=0.3), "b": noise(name + "b", C),
                  "dy": noise(name + "dy", N, C), "dw_before": noise(name + "dw", C), "db_before": noise(name + "db", C)}
        inputs = {k: representable(v) for k, v in inputs.items()}
        case = Case(name, "forward, dx, and dw and db added to what was there; C = 72 is no multiple of 64", N=N, C=C)
        record(case, inputs, layer_norm, kept=("mean", "rstd", "dw", "db"))
        yield case
        case = Case(f"rmsnorm_c{C}", "weightless norm, eps 1e-6; dx follows from y and rho", N=N, C=C)
        record(case, {"x": inputs["x"], "dy": inputs["dy"]}, rms_norm, kept=("rho",))
        yield case
    C = 64
    flat = {"x": np.stack([np.full(C, 2.5), np.zeros(C), np.full(C, -7.0)]),
            "w": representable(1 + noise("flat w", C, scale=0.3)), "b": noise("flat b", C), "dy": noise("flat dy", 3, C),
            "dw_before": np.zeros(C), "db_before": np.zeros(C)}
    case = Case("layernorm_flat", "rows of zero variance: y = b, rstd = 1/sqrt(eps), nothing divides by zero", N=3, C=C)
    record(case, flat, layer_norm, kept=("mean", "rstd", "dw", "db"))
    yield case
    case = Case("rmsnorm_flat", "a row of zeros and rows of one value: eps keeps rho finite", N=3, C=C)
    record(case, {"x": flat["x"], "dy": flat["dy"]}, rms_norm, kept=("rho",))
    yield case
    case = Case("rmsnorm_vector", "the worked example: (1,2,3,4) -> (.365148,.730297,1.095445,1.460593)", N=1, C=4)
    record(case, {"x": np.array([[1.0, 2, 3, 4]]), "dy": np.ones((1, 4))}, rms_norm, kept=("rho",))
    yield case


def gelus():
    x = np.concatenate([noise("gelu", 203, scale=2.0), [0.0, -1, 0.5, 1, 2, 8, -8, 30, -30, -5.5, 5.5, 1e-3, -1e-3]])
    inputs = {"x": representable(x), "dy": noise("gelu dy", x.size)}
    for name, f in (("tanh", gpt2.gelu_tanh), ("erf", gpt2.gelu_erf)):
        def gelu(x, store, weight):
            (xs,) = leaf(x, "x")
            y = store(f(store(xs)))
            y.backward(x["dy"])
            return {"y": y, "dx": xs.grad}
        why = "values, tails and zero; the last 13 elements are 0 -1 .5 1 2 +-8 +-30 +-5.5 +-.001"
        case = Case("gelu_" + name, why, n=x.size)
        record(case, inputs, gelu)
        yield case


def rope(x, store, weight):
    (xs,) = leaf(x, "qkv")
    q, k, v = store(xs).chunk(3, 2)
    y = store(torch.cat([gpt2.rotate(q), gpt2.rotate(k), v], 2))
    y.backward(x["dy"])
    return {"y": y, "dqkv": xs.grad}


def ropes():
    for name, why, B, T, NH, D in (
            ("rope", "q and k turn by -t w, halves not pairs; v is left alone; positions restart in every row", 2, 33, 2, 16),
            ("rope_far", "positions above 256 stay distinct: tables of cosines are not in low precision", 1, 300, 1, 8)):
        case = Case(name, why, B=B, T=T, NH=NH, D=D)
        shape = (B, T, 3 * NH, D)
        record(case, {"qkv": noise(name, *shape), "dy": noise(name + "dy", *shape)}, rope)
        yield case
    x = np.zeros((1, 4, 3, 4))
    x[0, :, :2] = [1, 2, 3, 4]
    case = Case("rope_vector", "the worked example: t=1 (3.064715, 2.039899, .779436, 3.979800)", B=1, T=4, NH=1, D=4)
    record(case, {"qkv": x, "dy": x}, rope)
    yield case


# ----------------------------------------------------------------------------------------------------------------------
# Embedding, matrix products, attention

def embedding(x, store, weight):
    wte, wpe = leaf(x, "wte", "wpe")
    y = wte[x["ids"]] + wpe
    y.backward(x["dy"])
    return {"y": y, "dwte": x["dwte_before"] + wte.grad, "dwpe": x["dwpe_before"] + wpe.grad}


def embeddings():
    V, Vp, C = 25, 32, 72
    for name, why, B, T in (("embedding", "repeated tokens add up, id 0 and id V-1 occur, padding rows stay as they were", 2, 12),
                            ("embedding_one_token", "all tokens are equal: one row collects every gradient", 3, 8)):
        rng = rand.Rng(SEED, name)
        ids = np.array([[rng.below(6) if rng.below(2) else rng.below(V) for _ in range(T)] for _ in range(B)], np.int32)
        ids[0, :3] = 0, V - 1, V - 1
        if name == "embedding_one_token":
            ids[:] = V - 1
        wte = noise(name + "wte", Vp, C)
        wte[V:] = 0
        inputs = {"ids": ids, "wte": wte, "wpe": noise(name + "wpe", T, C), "dy": noise(name + "dy", B, T, C),
                  "dwte_before": noise(name + "dwte", Vp, C), "dwpe_before": noise(name + "dwpe", T, C)}
        case = Case(name, why, B=B, T=T, C=C, V=V, Vp=Vp)
        record(case, inputs, embedding, kept=("dwte", "dwpe", "y"))
        yield case


def matmul(x, store, weight):
    xs, w, b = leaf(x, "x", "w", "b")
    y = store(store(xs) @ w.T + b)
    y.backward(x["dy"])
    return {"y": y, "dx": xs.grad, "dw": x["dw_before"] + w.grad, "db": x["db_before"] + b.grad}


def matmuls():
    K, M = 72, 40
    for N in (24, 33):
        name = f"matmul_n{N}"
        inputs = {"x": noise(name + "x", N, K), "w": noise(name + "w", M, K, scale=0.2), "b": noise(name + "b", M),
                  "dy": noise(name + "dy", N, M), "dw_before": noise(name + "dw", M, K, scale=4.0),
                  "db_before": noise(name + "db", M)}
        case = Case(name, "y = x w' + b; dx; dw and db are added to what was there", N=N, K=K, M=M)
        record(case, inputs, matmul, kept=("dw", "db"))
        yield case


def attention_cases():
    def run(case, B, T, NH, KV, D, qkv):
        def attention(x, store, weight):
            (xs,) = leaf(x, "qkv")
            q, k, v = xs.split([NH, KV, KV], 2)
            y, lse = gpt2.attention(q, k, v, store)
            y.backward(x["dy"])
            q, k, v, y, lse = (t.detach() for t in (q, k, v, store(y), lse))
            dqkv = store(torch.cat(gpt2.attention_gradient(q, k, v, y, lse, x["dy"], store), 2))
            assert y.dtype != torch.float64 or torch.allclose(dqkv, xs.grad, rtol=1e-9, atol=1e-10)
            return {"y": y, "lse": lse, "dqkv": dqkv}
        record(case, {"qkv": qkv, "dy": noise(case.name + "dy", B, T, NH, D)}, attention, kept=("lse",))
        return case

    for T, NH, KV, D, why in ((16, 4, 4, 16, "causal attention, even tiles"), (33, 2, 2, 24, "T and D leave remainders"),
                              (33, 4, 2, 16, "four query heads share two key heads")):
        name = f"attention_t{T}_d{D}" + ("" if NH == KV else "_gqa")
        qkv = noise(name, 2, T, NH + 2 * KV, D, scale=1.5)
        yield run(Case(name, why + "; rows are q heads | k heads | v heads", B=2, T=T, NH=NH, KV=KV, D=D), 2, T, NH, KV, D, qkv)
    qkv = noise("peaked", 1, 16, 3, 16)
    qkv[0, :, 0], qkv[0, :, 1] = representable(6 * qkv[0, :, 0]), representable(6 * qkv[0, :, 1])
    why = "scores up to a hundred: one key dominates, the exponential must not overflow"
    yield run(Case("attention_peaked", why, B=1, T=16, NH=1, KV=1, D=16), 1, 16, 1, 1, 16, qkv)


# ----------------------------------------------------------------------------------------------------------------------
# Classifier

def classifier_case(name, why, logits, ids, weights):
    """logits (N, V): columns V..Vp-1 are added and filled with large values that must not count."""
    N, V = logits.shape
    Vp = (V + 7) // 8 * 8
    padded = np.full((N, Vp), 30.0)
    padded[:, :V] = representable(logits)
    case = Case(name, why, N=N, V=V, Vp=Vp, K=ids.shape[1])

    def classifier(x, store, weight):
        (z,) = leaf(x, "logits")
        losses, lse = gpt2.target_list_loss(store(z)[:, :V], x["ids"], x["weights"])
        losses.sum().backward()
        entries = (lse[:, None] - x["logits"].gather(1, x["ids"].clamp(min=0))) * (x["ids"] >= 0)
        return {"losses": losses, "lse": lse, "entries": entries, "dlogits": z.grad}

    inputs = {"logits": padded, "ids": ids.astype(np.int32), "weights": ("f32", weights)}
    record(case, inputs, classifier, kept=("losses", "lse", "entries"))
    return case


def target_lists(name, N, V, K):
    """Ids with duplicates and absent entries, weights with zeros; row 0 is all absent, row 1 coincides, row 2 is complete."""
    rng = rand.Rng(SEED, name)
    ids = np.array([[-1 if rng.below(5) == 0 else rng.below(V) for _ in range(K)] for _ in range(N)])
    weights = np.array([[0.0 if rng.below(8) == 0 else rng.uniform() for _ in range(K)] for _ in range(N)], np.float32)
    weights[:, 0] = np.where(ids[:, 0] >= 0, 1, weights[:, 0])
    ids[0], ids[1], ids[2] = -1, V - 1, [k % V for k in range(K)]
    return ids, weights


def classifiers():
    N = 24
    for V, K in ((1, 1), (7, 2), (8, 3), (9, 8), (17, 2), (225, 3), (259, 1), (259, 8)):
        name = f"classifier_v{V}_k{K}"
        ids, weights = target_lists(name, N, V, K)
        why = f"V = {V}, padded columns hold 30 and get no gradient; coinciding targets add, id -1 is absent"
        yield classifier_case(name, why, noise(name, N, V, scale=3.0), ids, weights)
    V = 17
    ids, weights = target_lists("hard", 6, V, 2)
    z = np.full((6, V), -9984.0)
    z[0], z[1, 3], z[2, 3], z[3, 16], z[4, 0] = 9984.0, 9984.0, 9984.0, 9984.0, 9984.0
    ids[:, 0], ids[:, 1] = [1, 3, 5, 16, 1, 2], -1
    yield classifier_case("classifier_huge", "logits of +-1e4 neither overflow nor lose the loss", z, ids, np.ones((6, 2)))
    z = np.stack([np.full(V, value) for value in (0.0, 3.0, -90.0, 88.0, -9984.0, 9984.0)])
    yield classifier_case("classifier_equal", "all logits equal: the loss is ln V whatever their size", z, ids, np.ones((6, 2)))
    z = noise("dominating", 6, V)
    z[0, 3] = z[1, 3] = z[2, 0] = z[3, 16] = 40.0
    z[4], z[5] = representable(z[4] - 90.0), representable(z[5] + 80.0)
    ids[:, 0] = [3, 2, 0, 3, 5, 5]
    why = "one logit dominates by 40, as target (loss near 0) and not (probability near 1e-18); rows near -90 and +80"
    yield classifier_case("classifier_dominating", why, z, ids, np.ones((6, 2)))
    why = "the worked examples: losses 1.294256 and .594256; the second has coinciding targets"
    yield classifier_case("classifier_vector", why, np.array([[1.0, 2, 0, -1]] * 2), np.array([[1, 0, 3], [1, 1, -1]]),
                          np.array([[1, 0.175, 0.175], [1, 0.35, 0.35]], np.float32))


# ----------------------------------------------------------------------------------------------------------------------
# Optimizer, norm, schedules, random numbers

def adamw_case(name, why, w, grads, lr, decay, clip):
    def adamw(x, store, weight):
        theta = x["w"].clone()
        m, v, out, norms = torch.zeros_like(theta), torch.zeros_like(theta), [], []
        for t in range(len(lr)):
            g = x["grads"][t]
            norm = float(g.square().sum().sqrt())
            factor = clip / norm if clip and norm > clip else 1.0
            gpt2.adamw_step(theta, g * factor, m, v, t + 1, lr[t], decay)
            out.append(theta.clone())
            norms.append(norm)
        return {"w_after": torch.stack(out), "m_after": m, "v_after": v, "norms": torch.tensor(norms, dtype=theta.dtype)}
    case = Case(name, why, n=w.size, steps=len(lr), weight_decay=decay, grad_clip=clip, beta1=0.9, beta2=0.95, eps=1e-8)
    record(case, {"w": w, "grads": grads, "lr": ("f32", np.array(lr))}, adamw, kept=("w_after", "m_after", "v_after", "norms"))
    return case


def optimizers():
    n = 77
    w, grads = noise("adamw", n), noise("adamw g", 3, n, scale=0.5)
    grads[:, 5] = 0  # nothing but decay
    grads[1, 6:9] = 0
    lr = [0.0018, 0.0009, 0.00045]
    yield adamw_case("adamw", "three steps, decay before the update, one element without gradient", w, grads, lr, 0.1, 0.0)
    grads[0] = representable(grads[0] * 0.1)
    yield adamw_case("adamw_clip", "the first norm is below 1 and not clipped, the others are", w, grads, lr, 0.1, 1.0)
    yield adamw_case("adamw_vector", "the worked example: 1 -> .998020000036 -> .9973572914", np.array([1.0]),
                     np.array([[0.5], [-0.25]]), [0.0018, 0.0018], 0.1, 0.0)
    a, b = noise("norm a", 1000), noise("norm b", 33, scale=100.0)
    a[7] = 0

    def norm(x, store, weight):
        return {"norm": (x["a"].square().sum() + x["b"].square().sum()).sqrt().reshape(1)}
    case = Case("global_norm", "one norm over two tensors of odd sizes and unlike scale")
    record(case, {"a": a, "b": b}, norm, kept=("norm",))
    yield case


def schedules():
    iterations, peak = 4768, 0.0018
    case = Case("schedule", "rates at warmup, plateau and decay; the trapezoid's are the benchmark's", iterations=iterations,
                learning_rate=peak, warmup=256, warmdown=1024, final_frac=0.1)
    its = np.array([0, 1, 127, 254, 255, 256, 257, 2000, 3743, 3744, 3745, 4256, 4766, 4767], np.int32)
    case.ints("it", its)
    for kind, frac in (("trapezoid", 0.0), ("cosine", 0.1), ("linear", 0.1), ("constant", 0.0)):
        rates = [gpt2.learning_rate(kind, int(i), iterations, peak, 256, 1024, frac) for i in its]
        case.exact(kind, np.array(rates))
    rates = [gpt2.learning_rate("trapezoid", int(i), 10, 1.0, 6, 8) for i in range(10)]
    case.exact("overlap", np.array(rates))
    yield case


def random_numbers():
    case = Case("rand", "initial weights are part of the specification: any change of the streams must show", seed=42)
    keys = np.array([rand.key(42, name) for name in ("wte", "h.0.attn.qkv.w", "")], np.uint64)
    case.ints("keys", keys.view("<u4").astype(np.int64).astype("<u4").view("<i4").reshape(3, 2))
    case.ints("at", rand.at(keys[0], [0, 1, 2, 1000000, 2**33]).view("<i4").reshape(5, 2))
    case.exact("uniform", rand.uniform(keys[0], 100))
    case.exact("normal", rand.normal(keys[1], 99))
    rng = rand.Rng(42, "sampling")
    case.exact("draws", np.array([rng.uniform() for _ in range(20)]))
    case.ints("below", np.array([rng.below(n) for n in (1, 2, 3, 10, 1000, 50257, 2**31 - 1)]))
    case.ints("permutation", np.array(rng.permutation(37)))
    yield case


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "test", "golden")
    os.makedirs(folder, exist_ok=True)
    torch.set_num_threads(1)
    total = files = 0
    groups = [norms, gelus, ropes, embeddings, matmuls, attention_cases, classifiers, optimizers, schedules, random_numbers]
    parts = record_heads.GROUPS + record_spelling.GROUPS + record_filter.GROUPS + record_light.GROUPS
    for group in groups + record_model.GROUPS + parts:
        for case in group():
            total += case.write(folder)
            files += 1
    print(f"{files} files, {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
