"""A factorised vocabulary: losses, the whole distribution and a sketch of every gradient of a two-layer model, and a curve."""
import numpy as np
import torch

import gpt2
import rand
import record_model
from gold import RUNS, Case, sketch_error
from record_model import ACCUMULATION, B, HEADS, HYPER, LAYERS, SEED, STEPS, T, VOCABULARY, WIDTH, token_stream

N, COLUMNS, FOLLOWERS, ALPHA, AHEAD = B * T, 20, 4, 0.1, 0.35


def shuffled_book():
    """13 rows of 20 cells for 259 tokens in no order; the last row has 19."""
    row, column = np.zeros(VOCABULARY, np.int32), np.zeros(VOCABULARY, np.int32)
    for i, v in enumerate(rand.Rng(SEED, "book").permutation(VOCABULARY)):
        row[v], column[v] = divmod(i, COLUMNS)
    return gpt2.Codebook(row, column, COLUMNS)


def followers():
    """ids (V, 4), -1 behind the last, and probabilities. Every fifth token was never seen, others have one to four followers."""
    rng = rand.Rng(SEED, "followers")
    ids, probs = np.full((VOCABULARY, FOLLOWERS), -1, np.int32), np.zeros((VOCABULARY, FOLLOWERS), np.float32)
    for v in range(VOCABULARY):
        n = 0 if v % 5 == 0 else 1 + rng.below(FOLLOWERS)
        ids[v, :n] = [(3 * v + 7 + 40 * j) % VOCABULARY for j in range(n)]
        probs[v, :n] = np.arange(n, 0, -1) / (n * (n + 1) / 2) if n else 0
    return ids, probs


def ngram_loss(log_rows, book, ids, probs):
    """Cross-entropy of the followers' rows, per position, and where there are any. ids (N, K)."""
    present = ids >= 0
    return -(log_rows.gather(1, book.row[ids.clamp(min=0)]) * probs * present).sum(1), present.any(1)


def words_loss(log_probs, ids, probs):
    """Cross-entropy of the followers as words, per position, and where there are any. log_probs (N, V), ids (N, K)."""
    present = ids >= 0
    return -(log_probs.gather(1, ids.clamp(min=0)) * probs * present).sum(1), present.any(1)


def losses_and_grads(params, cfg, tokens, run, table=None, exact=False):
    """Row + column cross-entropy of the tokens 1 .. K ahead (K, N), that of the followers (N), and gradients of the objective.

    exact: the followers are words, not rows."""
    dtype, (store, weight), scale = RUNS[run]
    leaves = {name: w.detach().to(dtype).requires_grad_(True) for name, w in params.items()}
    tokens, book = torch.tensor(tokens).long(), cfg.book
    h = gpt2.hidden(leaves, cfg, tokens[:N].view(B, T), store, weight).reshape(N, -1)
    # store(h): what the rows and every item give back to h is rounded before it is added
    log_rows = gpt2.light_rows(leaves, cfg, store(h), store, weight)
    rows, columns = [], []
    for k in range(1, cfg.K + 1):
        y = tokens[k: k + N]
        log_columns = gpt2.light_columns(leaves, cfg, store(h), book.row[y], store, weight)
        rows.append(-log_rows.gather(1, book.row[y][:, None]).squeeze(1))
        columns.append(-log_columns.gather(1, book.column[y][:, None]).squeeze(1))
    smooth = torch.zeros(N, dtype=dtype)
    main = rows[0]
    if table:
        followers_of = [torch.tensor(x)[tokens[:N]] for x in table]
        if exact:
            each = [gpt2.light_columns(leaves, cfg, store(h), torch.full((N,), r), store, weight) for r in range(book.rows)]
            log_probs = log_rows[:, book.row] + torch.stack(each, 1)[:, book.row, book.column]
            main = main + columns[0]
            smooth, seen = words_loss(log_probs, *followers_of)
        else:
            smooth, seen = ngram_loss(log_rows, book, *followers_of)
        smooth = torch.where(seen, smooth, main)  # nothing is known: the target as it was
        main = (1 - ALPHA) * main + ALPHA * smooth
    total = main + (0 if table and exact else columns[0]) + sum(AHEAD * (r + c) for r, c in zip(rows[1:], columns[1:]))
    (total.mean() * scale).backward()
    losses = torch.stack([r + c for r, c in zip(rows, columns)])
    grads = {name: w.grad / scale for name, w in leaves.items()}
    probs = gpt2.light_log_probs(leaves, cfg, h.detach(), store, weight).exp()
    return losses.detach(), smooth.detach(), grads, probs.detach()


def config(arch, embedding, K):
    return gpt2.Config(arch=arch, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, T=T, tied=False, K=K, light_head=True,
                       light_embedding=embedding, book=shuffled_book())


def with_biases(params):
    """Biases are zero in a new head, which would hide what is done with them; those of cells that do not exist must not count."""
    for key, w in params.items():
        if key.startswith("head.") and key.endswith(".b"):
            params[key] = torch.tensor(np.float32(0.5) * rand.normal(rand.key(SEED, key), w.numel()), dtype=torch.float64)
    return params


def book_of(case, cfg):
    case.ints("row", cfg.book.row.numpy())
    case.ints("column", cfg.book.column.numpy())


def models():
    for name, arch, embedding, K, exact, why in (
            ("light_both", "nocap", True, 2, False, "both ends, two tokens ahead on shared row logits, n-grams over the rows"),
            ("light_words", "nocap", True, 2, True, "both ends, two tokens ahead, n-grams as words"),
            ("light_head", "gpt2", False, 1, False, "the head alone, behind a dense embedding and LayerNorm")):
        cfg = config(arch, embedding, K)
        tokens = token_stream(name, N + K)
        positions = np.array([0, T - 1, 2 * T - 1], np.int32)
        case = Case(name, f"rows and columns: {why}; every gradient as a sketch", seed=SEED, B=B, T=T, L=LAYERS, NH=HEADS, C=WIDTH,
                    V=VOCABULARY, K=K, columns=COLUMNS, alpha=ALPHA if K > 1 else 0.0, ahead=AHEAD)
        params = with_biases(gpt2.initial_parameters(cfg, SEED, torch.float64))
        table = followers() if K > 1 else None
        runs = {run: losses_and_grads(params, cfg, tokens, run, table, exact) for run in RUNS}
        case.ints("tokens", tokens)
        case.ints("positions", positions)
        book_of(case, cfg)
        if table:
            case.ints("follower_ids", table[0])
            case.floats("follower_probs", table[1])
            case.output("ngram", {r: out[1].double().numpy() for r, out in runs.items()}, kept=True)
        for k in range(K):
            case.output(f"losses_{k + 1}", {r: out[0][k].double().numpy() for r, out in runs.items()}, kept=True)
        case.output("probs", {r: out[3][positions].double().numpy() for r, out in runs.items()}, kept=True)
        for key in params:
            case.sketched("init:" + key, {r: params[key].numpy() for r in runs}, kept=True)
            case.sketched("grad:" + key, {r: out[2][key].double().numpy() for r, out in runs.items()})
        yield case


def curve():
    """As record_model.curves, which says what the yardstick of the final weights is."""
    cfg = config("nocap", True, 1)
    stream = token_stream("curve_light", STEPS * ACCUMULATION * N + 1)
    case = Case("curve_light", "20 steps of AdamW with both ends factorised: rows that few tokens hit decay, and move when hit",
                seed=SEED, B=B, T=T, L=LAYERS, NH=HEADS, C=WIDTH, V=VOCABULARY, columns=COLUMNS, steps=STEPS,
                accumulation=ACCUMULATION, grad_clip=0.0, **HYPER)
    params = gpt2.initial_parameters(cfg, SEED, torch.float64)

    def step(params, cfg, tokens, run):
        losses, _, grads, _ = losses_and_grads(params, cfg, tokens, run)
        return None, losses[0], grads

    runs = {run: record_model.train(cfg, params, stream, run, 0.0, loss_and_grads=step) for run in RUNS}
    case.ints("tokens", stream)
    book_of(case, cfg)
    case.output("losses", {r: out[0] for r, out in runs.items()}, kept=True)
    case.output("norms", {r: out[1] for r, out in runs.items()}, kept=True)
    case.exact("rates", runs["float64"][2])
    ends = [("fp32", record_model.train(cfg, params, stream, "fp32", 0.0, nudge=2e-6, loss_and_grads=step))]
    ends += [(run.split()[0], out) for run, out in runs.items() if run != "float64"]
    shared = {"fp32": 0.0, "bf16": 0.0, "fp16": 0.0}
    for precision, out in ends:
        for key in params:
            shared[precision] = max(shared[precision], sketch_error(out[3][key], runs["float64"][3][key]))
    for key in params:
        case.sketched("final:" + key, {r: out[3][key] for r, out in runs.items()}, kept=True, errors=shared)
    yield case


GROUPS = [models, curve]
