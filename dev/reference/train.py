"""Trains the reference model in fp32: same seed, weights, shards, data order, flags and log lines as the C program.

    dev/reference/train.py --arch gpt2 --n_layer 2 --n_head 4 --n_embd 64 --input_bin 'data/*.bin' --output_dir out/torch ..
    dev/reference/compare_curves.py out/torch/main.log out/ours/main.log

Parity means the same loss at every step, not a similar curve. Flags that are missing here do not change the loss.
"""
import argparse
import glob
import math
import os
import time

import numpy as np
import torch

import gpt2

LOOK_AHEAD = 8  # tokens that the end of a shard keeps for targets, however few are used


class Loader:
    """Sequential batches: the next B*T tokens of the shards in name order, then the first shard again."""

    def __init__(self, pattern, size):
        self.paths = sorted(glob.glob(pattern))
        if not self.paths:
            raise SystemExit(f"error: --input_bin {pattern}: no file matches")
        self.size, self.shard, self.base = size, 0, 0
        self.tokens = self.read(0)

    def read(self, shard):
        path = self.paths[shard]
        header = np.fromfile(path, "<i4", 256)
        if len(header) < 256 or header[0] != 20240520 or header[1] != 1:
            raise SystemExit(f"error: {path} is not a token shard (magic 20240520, version 1)")
        tokens = np.fromfile(path, "<u2", offset=1024)
        if len(tokens) != header[2]:
            raise SystemExit(f"error: {path} says {header[2]} tokens and holds {len(tokens)}")
        if len(tokens) < self.size + 1:
            raise SystemExit(f"error: {path} holds {len(tokens)} tokens, one batch needs {self.size + 1}")
        return tokens

    def next(self):
        batch = self.tokens[self.base: self.base + self.size + 1].astype(np.int64)
        self.base += self.size
        if self.base + self.size + LOOK_AHEAD > len(self.tokens):
            self.shard, self.base = (self.shard + 1) % len(self.paths), 0
            self.tokens = self.read(self.shard)
        return torch.from_numpy(batch)


def flags():
    p = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--arch", default="gpt2", choices=["gpt2", "nocap"])
    for name, default in (("n_layer", 12), ("n_head", 12), ("n_embd", 768), ("vocab_size", 50257), ("sequence_length", 64),
                          ("batch_size", 4), ("grad_accumulation_steps", 1), ("num_iterations", 10), ("warmup_iters", 0),
                          ("warmdown_iters", 0), ("seed", 42), ("threads", 2)):
        p.add_argument("--" + name, type=int, default=default)
    for name, default in (("learning_rate", 1e-4), ("weight_decay", 0.0), ("grad_clip", 0.0), ("final_lr_frac", 0.0)):
        p.add_argument("--" + name, type=float, default=default)
    p.add_argument("--lr_schedule", default="trapezoid", choices=["trapezoid", "cosine", "linear", "constant"])
    p.add_argument("--tie_embedding", default="full", choices=["full", "none"])
    p.add_argument("--input_bin", required=True)
    p.add_argument("--output_dir", default="", help="where main.log goes; empty: no log")
    return p.parse_args()


def main():
    f = flags()
    torch.set_num_threads(f.threads)
    B, T, A = f.batch_size, f.sequence_length, f.grad_accumulation_steps
    cfg = gpt2.Config(arch=f.arch, L=f.n_layer, NH=f.n_head, C=f.n_embd, V=f.vocab_size, T=T, tied=f.tie_embedding == "full")
    params = gpt2.initial_parameters(cfg, f.seed)
    for w in params.values():
        w.requires_grad_(True)
    loader, moments, log = Loader(f.input_bin, B * T), {}, None
    if f.output_dir:
        os.makedirs(f.output_dir, exist_ok=True)
        log = open(os.path.join(f.output_dir, "main.log"), "w")
    start = time.time()
    for step in range(f.num_iterations):
        loss = 0.0
        for _ in range(A):
            batch = loader.next()
            logits = gpt2.forward(params, cfg, batch[:-1].view(B, T), attend=gpt2.fused_attention)
            micro = torch.nn.functional.cross_entropy(logits.view(B * T, -1), batch[1:])
            (micro / A).backward()
            loss += micro.item() / A
        lr = gpt2.learning_rate(f.lr_schedule, step, f.num_iterations, f.learning_rate, f.warmup_iters, f.warmdown_iters,
                                f.final_lr_frac)
        grads = {name: w.grad for name, w in params.items()}
        gpt2.optimizer_step(cfg, params, grads, moments, step + 1, lr, f.weight_decay, f.grad_clip)
        for w in params.values():
            w.grad = None
        if not math.isfinite(loss):
            raise SystemExit(f"error: the loss of step {step} is {loss}")
        spent = time.time() - start
        average = 1000 * spent / (step + 1)
        print(f"step:{step}/{f.num_iterations} | loss {loss:.6f} | train_time:{spent:.2f}s | step_avg:{average:.2f}ms",
              flush=True)
        if log:
            log.write(f"s:{step} trn:{loss:.6f}\n")
            log.flush()


if __name__ == "__main__":
    main()
