"""Times one PyTorch training step: the yardstick for the project's own. Run the two alternately on one machine.

    shape      layers heads width vocabulary  B    T
    d12        12     12    768   50257       4    256
    d6         6      6     384   50257       4    256
    d12_t64    12     12    768   50257       4    64
    nocap      12     12    768   50257       16   1024    for --device cuda: the NoCap benchmark's micro-step
    padded     12     12    768   50304       16   1024    the same with a vocabulary that tensor cores like

A step is --accumulate times forward, loss and backward, then AdamW, on weights and tokens already in memory. PyTorch is set up to be
fast: fused attention, the fused optimizer where it exists, gradients freed instead of zeroed, threads as asked and not pinned.
On the CPU all is fp32, and the vocabulary unpadded: PyTorch gains nothing from the padding there. On a GPU: bf16 autocast, TF32 allowed.
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {"d12": (12, 12, 768, 50257, 4, 256), "d6": (6, 6, 384, 50257, 4, 256), "d12_t64": (12, 12, 768, 50257, 4, 64),
          "nocap": (12, 12, 768, 50257, 16, 1024), "padded": (12, 12, 768, 50304, 16, 1024), "smoke": (2, 2, 64, 259, 2, 32)}


class Norm(nn.Module):
    def __init__(self, C, arch):
        super().__init__()
        self.norm = nn.LayerNorm(C) if arch == "gpt2" else None

    def forward(self, x):
        return self.norm(x) if self.norm else F.rms_norm(x, (x.shape[-1],), eps=1e-6)


class Block(nn.Module):
    def __init__(self, L, NH, C, arch):
        super().__init__()
        bias = arch == "gpt2"
        self.NH, self.arch, self.scale = NH, arch, 1.0 if bias else (2 * L) ** -0.5
        self.ln1, self.ln2 = Norm(C, arch), Norm(C, arch)
        self.qkv, self.proj = nn.Linear(C, 3 * C, bias=bias), nn.Linear(C, C, bias=bias)
        self.fc, self.out = nn.Linear(C, 4 * C, bias=bias), nn.Linear(4 * C, C, bias=bias)

    def forward(self, x, rotary):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.NH, -1).transpose(1, 2) for y in self.qkv(self.ln1(x)).split(C, 2))
        if rotary:
            cos, sin = rotary
            q, k = (torch.cat([a * cos + b * sin, b * cos - a * sin], -1) for a, b in (y.chunk(2, -1) for y in (q, k)))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = x + self.proj(mixed) * self.scale if self.scale != 1.0 else x + self.proj(mixed)
        return x + self.out(F.gelu(self.fc(self.ln2(x)), approximate="tanh" if self.arch == "gpt2" else "none"))


class Model(nn.Module):
    def __init__(self, L, NH, C, V, T, arch, rotary_type):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C) if arch == "gpt2" else None
        self.blocks, self.lnf = nn.ModuleList(Block(L, NH, C, arch) for _ in range(L)), Norm(C, arch)
        nn.init.normal_(self.wte.weight, std=0.02)
        D = C // NH
        angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, D, 2) / D)
        self.register_buffer("cos", angle.cos().to(rotary_type))
        self.register_buffer("sin", angle.sin().to(rotary_type))

    def forward(self, ids, targets):
        x = self.wte(ids)
        x = x + self.wpe.weight[: ids.shape[1]] if self.wpe else x
        for block in self.blocks:
            x = block(x, None if self.wpe else (self.cos, self.sin))
        return F.cross_entropy(F.linear(self.lnf(x), self.wte.weight).flatten(0, 1), targets.flatten())


def optimizer_for(model):
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    try:
        return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True), "fused"
    except (RuntimeError, ValueError):
        return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), foreach=True), "foreach"


def main():
    p = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--shape", default="d12", choices=SHAPES)
    p.add_argument("--arch", default="gpt2", choices=["gpt2", "nocap"])
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--accumulate", type=int, default=1, help="micro-steps a step")
    p.add_argument("--steps", type=int, default=5, help="timed steps, after two that are not")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--compile", action="store_true", help="torch.compile the forward and backward pass (needs a C++ compiler)")
    f = p.parse_args()
    torch.set_num_threads(f.threads)
    torch.manual_seed(1)
    L, NH, C, V, B, T = SHAPES[f.shape]
    gpu = f.device == "cuda"
    if gpu:
        torch.set_float32_matmul_precision("high")
    model = Model(L, NH, C, V, T, f.arch, torch.bfloat16 if gpu else torch.float32).to(f.device)
    optimizer, kind = optimizer_for(model)
    run = torch.compile(model) if f.compile else model
    tokens = torch.randint(V, (B * T + 1,), device=f.device)
    ids, targets = tokens[:-1].view(B, T), tokens[1:].view(B, T)
    times = []
    for _ in range(f.steps + 2):
        start = time.perf_counter()
        for _ in range(f.accumulate):
            with torch.autocast(f.device, torch.bfloat16, enabled=gpu):
                loss = run(ids, targets) / f.accumulate
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if gpu:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    times = times[2:]
    best, median = min(times), statistics.median(times)
    where = f"{torch.cuda.get_device_name()} bf16" if gpu else f"fp32 threads {f.threads}"
    print(f"pytorch {torch.__version__} {f.shape} {f.arch} B {B} T {T} x {f.accumulate} {where} adamw {kind}"
          f"{' compiled' if f.compile else ''} | best {best:.1f} ms | median {median:.1f} ms | "
          f"{1000 * B * T * f.accumulate / best:.0f} tok/s best | loss {f.accumulate * loss.item():.4f}")


if __name__ == "__main__":
    main()
