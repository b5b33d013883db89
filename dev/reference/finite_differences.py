"""Gradients of every objective's definition in float64 against central differences, h = 1e-5, relative error at most 1e-6.

What the kernels are compared with are gradients of these definitions by automatic differentiation; this says that they are slopes.
The classifier's closed form W p - sum_k w_k is held against differences, too, since that is what the kernel writes.

    .venv/bin/python dev/reference/finite_differences.py     one line each; exit code 1 if one is off
"""
import sys

import torch

import gpt2

STEP, ALLOWED = 1e-5, 1e-6
B, T, V, K = 2, 8, 17, 4
N = B * T


def worst(loss, leaves, gradients=None):
    """Largest |slope - gradient . direction| / |gradient| over the leaves, each along three random directions and its gradient."""
    if gradients is None:
        for w in leaves.values():
            w.grad = None
        loss().backward()
        gradients = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in leaves.items()}
    found = 0.0
    for name, w in leaves.items():
        g, norm = gradients[name], gradients[name].norm().item()
        for i in range(4):
            d = g.clone() if i == 0 else torch.randn_like(w)
            if norm == 0.0 or d.norm() == 0:
                continue
            d /= d.norm()
            with torch.no_grad():
                ends = []
                for sign in (1, -1):
                    w += sign * STEP * d
                    ends.append(loss().item())
                    w -= sign * STEP * d
            found = max(found, abs((ends[0] - ends[1]) / (2 * STEP) - (g * d).sum().item()) / norm)
    return found


def soft(probabilities, ids):
    """(N, V): a table's row spread over the vocabulary; id -1 is absent."""
    q = torch.zeros(ids.shape[0], V, dtype=torch.float64)
    return q.scatter_add_(1, ids.clamp(min=0), probabilities * (ids >= 0))


def followers():
    """Ids (N, 5), their probabilities with sum 1, the share of all counts that they cover (N, 1)."""
    ids = torch.stack([torch.randperm(V)[:5] for _ in range(N)])
    ids[:, 4] = -1
    p = torch.rand(N, 5, dtype=torch.float64) * (ids >= 0)
    return ids, p / p.sum(1, keepdim=True), 0.3 + 0.5 * torch.rand(N, 1, dtype=torch.float64)


def classifiers():
    z = torch.randn(N, V, dtype=torch.float64, requires_grad=True)
    y = torch.randint(V, (N,))
    ids, p, covered = followers()
    targets, weights = torch.randint(-1, V, (N, K)), torch.rand(N, K, dtype=torch.float64)
    targets[3], targets[4] = -1, 5  # all absent; all the same
    one_hot = torch.nn.functional.one_hot(y, V).double()
    u = 1 / (1.5 - covered)
    among = ((ids == y[:, None]) & (p > 0)).any(1, keepdim=True)
    corrected = torch.where(among, (1 - (1 - covered) * u) / covered, u) * soft(p * covered, ids) + torch.where(among, 0.0, one_hot)
    lists = {"target list, K = 4": soft(weights, targets), "CoCoNT top k": 0.9 * one_hot + 0.1 * soft(p, ids),
             "CoCoNT corrected": corrected, "softer cross-entropy": 0.95 * one_hot + 0.05 * soft(p, ids)}
    for name, s in lists.items():
        def loss(s=s):
            return (s.sum(1) * z.logsumexp(1) - (s * z).sum(1)).sum()
        closed = {"z": (s.sum(1, keepdim=True) * z.softmax(1) - s).detach()}
        yield name + ": W p - s", worst(loss, {"z": z}, closed)
        yield name, worst(loss, {"z": z})


def models():
    tokens = torch.randint(V, (N + K,))
    for arch in ("gpt2", "nocap"):
        for tied in (True, False):
            for kind in ("shared", "linear", "proj"):
                cfg = gpt2.Config(arch=arch, L=2, NH=2, C=16, V=V, T=T, tied=tied, heads=kind, K=3)
                leaves = {name: (w + 0.05 * torch.randn_like(w)).requires_grad_(True)
                          for name, w in gpt2.initial_parameters(cfg, 5, torch.float64).items()}

                def parts(leaves=leaves, cfg=cfg, tokens=tokens):
                    h = gpt2.hidden(leaves, cfg, tokens[:N].view(B, T))
                    z = [gpt2.logits_of(leaves, cfg, h, k) for k in range(1, cfg.K + 1)]
                    return z, [gpt2.token_losses(z[k - 1], tokens[k:k + N].view(B, T)) for k in range(1, cfg.K + 1)]

                def ahead():
                    return sum(c * loss.mean() for c, loss in zip((1.0, 0.5, 0.25), parts()[1]))
                yield f"{arch}, {'tied' if tied else 'untied'}, {kind}: three tokens ahead", worst(ahead, leaves)
                if kind == "shared":
                    kept = (torch.arange(N) % 3 > 0).double().view(B, T)
                    yield f"{arch}: filtered to a fixed set", worst(lambda: (parts()[1][0] * kept).sum() / kept.sum(), leaves)
                    continue
                stopped = parts()[0][0].detach()
                for taught in (True, False):  # a stopped teacher is a constant: the one of the start
                    def agree(taught=taught):
                        z = parts()[0]
                        return gpt2.consistency_loss(z[2], z[0] if taught else stopped, 3, 1.5, taught).mean()
                    yield f"{arch}, {kind}: consistency, teacher {'learns' if taught else 'stopped'}", worst(agree, leaves)


def spelling():
    letters, classes = 5, 130
    h = torch.randn(N, 16, dtype=torch.float64, requires_grad=True)
    w = torch.randn(letters * classes, 16, dtype=torch.float64, requires_grad=True)
    b = torch.randn(letters * classes, dtype=torch.float64, requires_grad=True)
    want = torch.randint(-1, classes, (N, letters))

    def loss():
        z = (h @ w.T + b).view(N, letters, classes)
        each = (z.logsumexp(-1) - z.gather(2, want.clamp(min=0)[:, :, None]).squeeze(2)) * (want >= 0)
        return each.sum() / (want >= 0).sum()
    yield "spelling", worst(loss, {"h": h, "w": w, "b": b})


def light():
    order, columns = torch.randperm(V), 4
    row, column = torch.zeros(V, dtype=torch.long), torch.zeros(V, dtype=torch.long)
    row[order], column[order] = torch.arange(V) // columns, torch.arange(V) % columns  # five rows, the last of one token
    book = gpt2.Codebook(row, column, columns)
    ids, p, _ = followers()
    tokens = torch.randint(V, (N + K,))
    for arch, embedding in (("nocap", True), ("gpt2", False)):
        cfg = gpt2.Config(arch=arch, L=2, NH=2, C=16, V=V, T=T, tied=False, light_head=True, light_embedding=embedding, book=book)
        leaves = {name: (w + 0.05 * torch.randn_like(w)).requires_grad_(True)
                  for name, w in gpt2.initial_parameters(cfg, 5, torch.float64).items()}

        def loss(leaves=leaves, cfg=cfg):
            h = gpt2.hidden(leaves, cfg, tokens[:N].view(B, T)).reshape(N, -1)
            rows, total = gpt2.light_rows(leaves, cfg, h), 0.0
            for k, weight in ((1, 1.0), (2, 0.35)):
                y = tokens[k:k + N]
                own = rows.gather(1, row[y][:, None]).squeeze(1)
                if k == 1:
                    own = 0.9 * own + 0.1 * (rows.gather(1, row[ids.clamp(min=0)]) * p * (ids >= 0)).sum(1)
                in_row = gpt2.light_columns(leaves, cfg, h, row[y]).gather(1, column[y][:, None]).squeeze(1)
                total = total - weight * (own + in_row).mean()
            return total
        yield f"{arch}: rows and columns, {'both ends' if embedding else 'the head'}, two tokens, n-grams", worst(loss, leaves)
        h = gpt2.hidden(leaves, cfg, tokens[:N].view(B, T)).reshape(N, -1)
        sums = gpt2.light_log_probs(leaves, cfg, h).exp().sum(1).detach()
        yield f"{arch}: sum of the probabilities", float((sums - 1).abs().max())


def main():
    torch.manual_seed(1)
    wrong = 0
    for group in (classifiers, models, spelling, light):
        for name, error in group():
            wrong += not error <= ALLOWED
            print(f"{name:60} {error:.1e}{'' if error <= ALLOWED else '   MORE THAN ' + str(ALLOWED)}")
    print(f"{wrong} off")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
