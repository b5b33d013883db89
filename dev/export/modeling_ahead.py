"""
Models of ahead.c that transformers has no class for, in plain PyTorch: the NoCap trunk (--arch nocap), and lightrnn vocabularies on
either trunk. scripts/export_hf puts this file beside the weights:

    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)

    arch    norm                        positions    biases  GELU  residual
    gpt2    LayerNorm w, b, eps 1e-5    learned wpe  yes     tanh  x + f(x)
    nocap   RMSNorm, bare, eps 1e-6     RoPE         no      erf   x + attn / sqrt(2L), x + mlp

    head      logits (B,T,V)
    tied      x wte^T
    dense     x lm_head^T
    lightrnn  log P(row | x) + log P(column | x, row), the token's cell (row, column) being in `cells`: already normalised

generate() runs the whole sequence for every token: there is no cache. Rows of a batch must have one length, without padding.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class AheadConfig(PretrainedConfig):
    model_type = "ahead"
    attribute_map = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
                     "max_position_embeddings": "n_positions"}

    def __init__(self, arch="nocap", n_layer=12, n_head=12, n_embd=768, n_positions=1024, vocab_size=50257, head="tied",
                 embedding="dense", table_rows=0, table_columns=0, **more):
        self.arch, self.n_layer, self.n_head, self.n_embd, self.n_positions = arch, n_layer, n_head, n_embd, n_positions
        self.vocab_size, self.head, self.embedding = vocab_size, head, embedding
        self.table_rows, self.table_columns = table_rows, table_columns
        more["tie_word_embeddings"] = False  # a tied head reads wte itself
        super().__init__(**more)


def norm(config):
    if config.arch == "gpt2":
        return nn.LayerNorm(config.n_embd, eps=1e-5)
    return nn.RMSNorm(config.n_embd, eps=1e-6, elementwise_affine=False)


def rotate(x):
    """RoPE on x (B,NH,T,D): halves, by -t * 10000^(-2i/D)."""
    T, D = x.shape[-2:]
    omega = 10000.0 ** (-2.0 * torch.arange(D // 2, dtype=torch.float64, device=x.device) / D)
    angle = torch.arange(T, dtype=torch.float64, device=x.device)[:, None] * omega
    cos, sin = angle.cos().float(), angle.sin().float()
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, biases = config.n_embd, config.arch == "gpt2"
        self.heads, self.rope = config.n_head, config.arch == "nocap"
        self.qkv = nn.Linear(C, 3 * C, bias=biases)
        self.proj = nn.Linear(C, C, bias=biases)

    def forward(self, x):  # (B,T,C)
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # (B,NH,T,D) each
        if self.rope:
            q, k = rotate(q), rotate(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, biases = config.n_embd, config.arch == "gpt2"
        self.approximate = "tanh" if config.arch == "gpt2" else "none"
        self.fc = nn.Linear(C, 4 * C, bias=biases)
        self.proj = nn.Linear(4 * C, C, bias=biases)

    def forward(self, x):
        return self.proj(F.gelu(self.fc(x), approximate=self.approximate))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.scale = 1.0 if config.arch == "gpt2" else 1.0 / math.sqrt(2 * config.n_layer)
        self.ln1, self.attn = norm(config), Attention(config)
        self.ln2, self.mlp = norm(config), MLP(config)

    def forward(self, x):
        x = x + self.scale * self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class AheadForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = AheadConfig
    _no_split_modules = ["Block"]

    def __init__(self, config):
        super().__init__(config)
        V, C, R, K = config.vocab_size, config.n_embd, config.table_rows, config.table_columns
        if R:
            self.register_buffer("cells", torch.zeros(2, V, dtype=torch.int64))  # row and column of each token
        if config.embedding == "lightrnn":
            self.wte_row, self.wte_column = nn.Embedding(R, C), nn.Embedding(K, C)
        else:
            self.wte = nn.Embedding(V, C)
        if config.arch == "gpt2":
            self.wpe = nn.Embedding(config.n_positions, C)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.lnf = norm(config)
        if config.head == "lightrnn":
            self.head_row, self.head_column = nn.Linear(C, R), nn.Linear(C, R * K)
        elif config.head == "dense":
            self.lm_head = nn.Linear(C, V, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        if self.config.embedding == "lightrnn":
            raise NotImplementedError("a lightrnn embedding has two tables, wte_row and wte_column, no vector for each token")
        return self.wte

    def get_output_embeddings(self):
        return None

    def embed(self, ids):  # (B,T) -> (B,T,C)
        if self.config.embedding == "lightrnn":
            x = self.wte_row(self.cells[0][ids]) + self.wte_column(self.cells[1][ids])
        else:
            x = self.wte(ids)
        if self.config.arch == "gpt2":
            if ids.shape[1] > self.config.n_positions:
                raise ValueError(f"{ids.shape[1]} tokens, but the model has {self.config.n_positions} positions")
            x = x + self.wpe.weight[: ids.shape[1]]
        return x

    def logits(self, x):  # (B,T,C) -> (B,T,V)
        if self.config.head == "tied":
            return F.linear(x, self.wte.weight)
        if self.config.head == "dense":
            return self.lm_head(x)
        rows, columns = self.cells
        used = torch.zeros(self.config.table_rows, self.config.table_columns, dtype=torch.bool, device=x.device)
        used[rows, columns] = True  # the other cells hold no token: they are not in their row's distribution
        w = self.head_column(x).unflatten(-1, used.shape).float().masked_fill(~used, -math.inf).log_softmax(-1)
        u = self.head_row(x).float().log_softmax(-1)
        return u[..., rows] + w[..., rows, columns]

    def forward(self, input_ids, attention_mask=None, labels=None, **more):
        if attention_mask is not None and not attention_mask.bool().all():
            raise ValueError("padding is not supported: give rows of one length, without padding")
        x = self.embed(input_ids)
        for block in self.h:
            x = block(x)
        logits = self.logits(self.lnf(x))
        loss = None
        if labels is not None:  # as everywhere in transformers: labels are the ids, shifted here; -100 does not count
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **more):
        return {"input_ids": input_ids, "attention_mask": attention_mask}
