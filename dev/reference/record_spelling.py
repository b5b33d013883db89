"""Golden cases of the spelling loss: a letter stream of the whole batch with pointers into it, and a head that predicts M letters."""
import numpy as np
import torch

import rand
from gold import Case, record, representable

SEED = 7
VOCABULARY = [b" Cat", b"s", b"a", "é".encode(), b" the", b"Hello World", b"\n", b"Z", b"zZ", b"\x00", b"0123456789", b"<|endoftext|>"]
CLASSES, PADDED = 130, 136


def noise(name, *shape, scale=1.0):
    return representable(scale * rand.normal(rand.key(SEED, name), int(np.prod(shape))).reshape(shape))


def spell(token, fold):
    if token == len(VOCABULARY) - 1:
        return [129]
    folded = VOCABULARY[token].lower() if fold == "lower" else VOCABULARY[token].upper() if fold == "upper" else VOCABULARY[token]
    return [min(byte, 128) for byte in folded]


def letters_ahead(tokens, N, M, fold, mode):
    """(N, M): letters[ptr[n + 1] + j], -1 where mode `token` has none."""
    letters, ptr = [], []
    for token in tokens:
        ptr.append(len(letters))
        letters += spell(token, fold)
    ptr.append(len(letters))
    ends = [ptr[n + 2] if mode == "token" else len(letters) for n in range(N)]
    return np.array([[letters[ptr[n + 1] + j] if ptr[n + 1] + j < ends[n] else -1 for j in range(M)] for n in range(N)], np.int32)


def spelling_case(name, why, M, fold, mode):
    B, T, C, strength = 2, 12, 16, 16.0
    N, V = B * T, len(VOCABULARY)
    rng = rand.Rng(SEED, name)
    tokens = np.array([rng.below(V) for _ in range(N + M)], np.int32)
    tokens[1:3], tokens[T - 1:T + 2], tokens[-M:] = (0, 1), (V - 1, 2, V - 1), (1, 2, 6, 7, 9, 1, 2, 6)[:M]
    ids = letters_ahead(tokens, N, M, fold, mode)
    case = Case(name, why, B=B, T=T, C=C, V=V, M=M, weight=strength, fold=("true", "lower", "upper").index(fold),
                token=int(mode == "token"))
    start = np.cumsum([0] + [len(token) for token in VOCABULARY])
    w = noise(name + "w", M, PADDED, C, scale=0.5)
    w[:, CLASSES:] = 0
    inputs = {"tokens": tokens, "bytes": np.frombuffer(b"".join(VOCABULARY), np.uint8).astype(np.int32), "start": start,
              "h": noise(name + "h", N, C), "w": w.reshape(M * PADDED, C), "b": noise(name + "b", M * PADDED),
              "dh_before": noise(name + "dh", N, C)}

    def spelling(x, store, weight):
        h, w, b = (x[n].detach().requires_grad_(True) for n in ("h", "w", "b"))
        z = store(store(h) @ weight(w).T + weight(b)).view(N, M, PADDED)[:, :, :CLASSES]
        want = torch.tensor(ids).long()
        there = (want >= 0).to(z.dtype)
        each = (z.logsumexp(-1) - z.gather(2, want.clamp(min=0)[:, :, None]).squeeze(2)) * there
        loss = each.sum() / there.sum()
        (strength * loss).backward()
        return {"loss": loss.detach().reshape(1), "dh": store(x["dh_before"] + h.grad), "dw": w.grad, "db": b.grad}

    record(case, inputs, spelling, kept=("loss", "dw", "db"))
    case.ints("letters", ids)
    return case


def spellings():
    why = "letters run across tokens, rows and texts; bytes from 128 on are one class; the padding columns get no gradient"
    yield spelling_case("spelling_stream", why, 5, "true", "stream")
    why = "only letters of the next token count, so the mean is over fewer than N M; 8 letters, upper case"
    yield spelling_case("spelling_token", why, 8, "upper", "token")


GROUPS = [spellings]
