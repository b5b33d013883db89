"""
The checks of transformers.sh, in one process: one line each, `pass WHAT: NUMBERS` or `fail WHAT: NUMBERS`.

    transformers_check.py PROGRAM DIR       DIR has train_*.bin and val_*.bin, bytes as tokens

A loss of the program has six decimals, and its fp32 sums are in another order than PyTorch's: 1e-5 nats apart is equal.
"""
import base64
import json
import os
import struct
import subprocess
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

PROGRAM, DIR = sys.argv[1:]
EQUAL = 1e-5
V, T = 257, 32
SIZES = ["--n_layer", 2, "--n_head", 2, "--n_embd", 32]
SHARDS = ["--input_bin", DIR + "/train_0*.bin", "--device", "cpu", "--vocab_size", V, "--sequence_length", T, "--batch_size", 4]
TRAINED = {
    "gpt2": ["--arch", "gpt2"],
    "gpt2 untied": ["--arch", "gpt2", "--tie_embedding", "none"],
    "nocap": ["--arch", "nocap"],
    "nocap untied": ["--arch", "nocap", "--tie_embedding", "none"],
    "nocap light": ["--arch", "nocap", "--tie_embedding", "light", "--table_size", 20],
    "nocap light head": ["--arch", "nocap", "--head", "lightrnn", "--codebook", DIR + "/snake"],
    "gpt2 light head": ["--arch", "gpt2", "--head", "lightrnn", "--mtp_enabled"],
    "gpt2 light embedding": ["--arch", "gpt2", "--embedding", "lightrnn", "--tie_embedding", "none"],
    "gpt2 and heads": ["--arch", "gpt2", "--mtp_enabled", "--mtp_heads", "proj"],
}


def report(what, good, numbers):
    print("pass" if good else "fail", what + ":", numbers, flush=True)


def near(what, found, expected, most=EQUAL):
    report(what, abs(found - expected) <= most, "%.6f and %.6f, %.1e apart" % (found, expected, abs(found - expected)))


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, encoding="latin-1")
    if done.returncode:
        raise SystemExit("%s: %s" % (command[0], done.stderr.strip()))
    return done.stdout


def train(name, *flags):
    """The last validation loss of a run into DIR/name, and what the run printed."""
    out = run(PROGRAM, *SHARDS, "--output_dir", os.path.join(DIR, name), *flags)
    losses = [json.loads(line).get("val_loss") for line in open(os.path.join(DIR, name, "metrics.jsonl"))]
    return [x for x in losses if x is not None][-1], out


def write_shard(path, ids):
    with open(path, "wb") as file:
        file.write(struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + np.asarray(ids, "<u2").tobytes())


def loss_of(model, ids, length, tokens):
    ids = torch.as_tensor(np.asarray(ids, "int64"))
    with torch.no_grad():
        logits = model(ids[:tokens].view(-1, length)).logits.double()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:tokens + 1]))


def compare(what, model, name, start):
    """Losses of the program, started with the flags `start`, and of `model` on random ids: of many tokens, and of the first 1 .. 8
    of a sequence alone, that is, of single probabilities. The largest difference."""
    ids = np.random.default_rng(len(what)).integers(0, V, 4097)
    shard = os.path.join(DIR, name + " random.bin")
    write_shard(shard, ids)
    pairs = []
    for length, tokens in [(T, 2048)] + [(n, n) for n in range(1, 9)]:
        ours, _ = train("%s random %d" % (name, length), *start, "--input_val_bin", shard, "--num_iterations", 0,
                        "--val_loss_every", 1, "--val_batch_size", tokens // length, "--val_sequence_length", length,
                        "--val_tokens", tokens)
        pairs.append((ours, loss_of(model, ids, length, tokens)))
    near(what + ", random ids", *max(pairs, key=lambda pair: abs(pair[0] - pair[1])))


def load(directory, **more):
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, **more).eval()


def check_exports():
    val = np.fromfile(DIR + "/val_000000.bin", "<u2", offset=1024)
    for what, flags in TRAINED.items():
        name = what.replace(" ", "_")
        flags = SIZES + flags
        sample = ["--sample_every", 40, "--sample_tokens", 24, "--temperature", 0, "--prompt", "Once"]
        ours, out = train(name, *flags, *sample, "--num_iterations", 40, "--learning_rate", 0.01, "--input_val_bin",
                          DIR + "/val_0*.bin", "--val_loss_every", 40, "--val_batch_size", 4, "--val_tokens", 2048)
        checkpoint = os.path.join(DIR, name, "step_00000040.ckpt")
        directory = os.path.join(DIR, "hf_" + name)
        run("scripts/export_hf", checkpoint, directory)
        model = load(directory)
        expected = "GPT2LMHeadModel" if flags[7] == "gpt2" and "light" not in what else "AheadForCausalLM"
        report(what + ", class", type(model).__name__ == expected, type(model).__name__)
        near(what + ", val loss", ours, loss_of(model, val, T, 2048))
        compare(what, model, name, [*flags, "--init_from", checkpoint])

        prompt = torch.tensor([[V - 1, *b"Once"]])
        with torch.no_grad():
            ids = model.generate(prompt, max_new_tokens=24, do_sample=False, attention_mask=torch.ones_like(prompt))[0, 1:].tolist()
        text = "".join("?" if i < 32 and i not in (9, 10) or i == 127 else chr(i) for i in ids if i != V - 1)
        report(what + ", greedy sample", "sample at step 40: " + text + "\n" in out, repr(text))

        run("scripts/export_hf", checkpoint, directory + "_bf16", "--dtype", "bf16")
        model = load(directory + "_bf16")
        good = all(p.dtype == torch.bfloat16 for p in model.parameters())
        near(what + ", bf16" + ("" if good else ": not stored so"), ours, loss_of(model, val, T, 2048), 0.02 if good else -1)

    model, ids = load(DIR + "/hf_nocap"), torch.as_tensor(val[:33].astype("int64"))[None]
    near("AheadForCausalLM, labels", float(model(ids, labels=ids).loss), loss_of(model, val, T, T))
    try:
        model(ids, attention_mask=torch.cat([torch.zeros(1, 1), torch.ones(1, 32)], 1))
        report("AheadForCausalLM, padding", False, "not refused")
    except ValueError as error:
        report("AheadForCausalLM, padding", "padding" in str(error), str(error))


def random_gpt2(tied):
    torch.manual_seed(3)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=48, n_layer=3, n_head=4, n_embd=64, initializer_range=0.2,
                                       tie_word_embeddings=tied)).eval()
    with torch.no_grad():
        for p in model.parameters():  # biases and norms, too
            p.add_(torch.randn_like(p) * 0.1)
    return model


def write_llmc(path, model, version):
    """What llm.c reads: vocabulary padded to 128 rows, each tensor of all layers in turn, weights (out,in)."""
    w, c = model.state_dict(), model.config
    padded = (c.vocab_size + 127) // 128 * 128
    tensors = [torch.nn.functional.pad(w["transformer.wte.weight"], (0, 0, 0, padded - c.vocab_size), value=9.0),
               w["transformer.wpe.weight"]]
    for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        for kind in ("weight", "bias"):
            layers = [w["transformer.h.%d.%s.%s" % (l, part, kind)] for l in range(c.n_layer)]
            tensors += [x.T if x.dim() == 2 else x for x in layers]
    tensors += [w["transformer.ln_f.weight"], w["transformer.ln_f.bias"]]
    with open(path, "wb") as file:
        file.write(struct.pack("<256i", 20240326, version, c.n_positions, c.vocab_size, c.n_layer, c.n_head, c.n_embd, padded,
                               *[0] * 248))
        for x in tensors:
            x = x.contiguous()
            file.write((x if version == 3 else x.to(torch.bfloat16).view(torch.int16)).numpy().tobytes())


def check_imports():
    sizes = ["--arch", "gpt2", "--n_layer", 3, "--n_head", 4, "--n_embd", 64]
    for tied in (True, False):
        model, name = random_gpt2(tied), "made_tied" if tied else "made_untied"
        directory, checkpoint = os.path.join(DIR, name), os.path.join(DIR, name + ".ckpt")
        model.save_pretrained(directory, max_shard_size="200KB" if tied else "1GB")
        run("scripts/import_hf", directory, checkpoint)
        compare("GPT2LMHeadModel" + ("" if tied else " untied") + ", imported", model, "from_" + name,
                [*sizes, "--tie_embedding", "full" if tied else "none", "--init_from", checkpoint])
    model = random_gpt2(True)
    for version, kind in ((3, "fp32"), (5, "bf16")):
        path = os.path.join(DIR, kind)
        if kind == "bf16":
            model = model.bfloat16().float()
        write_llmc(path + ".bin", model, version)
        run("scripts/import_llmc", path + ".bin", path + ".ckpt")
        compare("llm.c %s, imported" % kind, model, "from_llmc_" + kind, [*sizes, "--init_from", path + ".ckpt"])


def learn_merges(text, merges):
    """A small byte-pair vocabulary, words kept apart: ranks as tiktoken's files have them."""
    words, tokens = {}, [bytes([b]) for b in range(256)]
    for word in text.replace(b"\n", b" ").split(b" "):
        words[b" " + word] = words.get(b" " + word, 0) + 1
    words = [([bytes([b]) for b in word], n) for word, n in words.items()]
    for _ in range(merges):
        pairs = {}
        for parts, n in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        if best[0] + best[1] not in tokens:
            tokens.append(best[0] + best[1])
        for parts, _ in words:
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = [parts[i] + parts[i + 1]]
                i += 1
    return tokens


def check_tokenizers():
    text = open(DIR + "/text", "rb").read()
    tokens = learn_merges(text, 300)
    with open(DIR + "/small.tiktoken", "wb") as file:
        for rank, token in enumerate(tokens):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    probe = text[:3000].decode() + "\n\n  It's 1234 o'clock,\tisn't it?  çédille \u00a0 naïve \U0001F600 日本 e\u0301 ½ x²  \n"
    with open(DIR + "/probe", "wb") as file:
        file.write(probe.encode())
    for what, tokenizer in (("bytes", "bytes"), ("byte pairs", DIR + "/small.tiktoken")):
        name = what.replace(" ", "_")
        run("data/prepare", "--tokenizer", tokenizer, "--out", os.path.join(DIR, name), DIR + "/probe")
        ids = np.fromfile(os.path.join(DIR, name + "_000000.bin"), "<u2", offset=1024).tolist()
        eot = struct.unpack_from("<4I", open(os.path.join(DIR, name + "_tokenizer.bin"), "rb").read())[3]
        ids = [i for i in ids if i != eot]
        train("for_" + name, *SIZES, "--arch", "gpt2", "--input_bin", os.path.join(DIR, name + "_0*.bin"), "--vocab_size", eot + 1,
              "--num_iterations", 1, "--input_val_bin", os.path.join(DIR, name + "_0*.bin"), "--val_loss_every", 1,
              "--val_batch_size", 1, "--val_tokens", T)
        run("scripts/export_hf", os.path.join(DIR, "for_" + name, "step_00000001.ckpt"), os.path.join(DIR, "hf_for_" + name))
        theirs = AutoTokenizer.from_pretrained(os.path.join(DIR, "hf_for_" + name))
        found = theirs(probe).input_ids
        report("tokenizer, " + what, found == ids, "%d ids of a vocabulary of %d" % (len(found), len(theirs)))
        report("tokenizer, %s, back" % what, theirs.decode(found) == probe, "%d characters" % len(probe))
        end = theirs("a<|endoftext|>").input_ids[-1]
        report("tokenizer, %s, end of text" % what, end == theirs.eos_token_id == eot, "id %d" % end)


run("data/build_codebook", DIR + "/train_0*.bin", "--method", "snake", "--vocab_size", V, "--columns", 20, "--out", DIR + "/snake")
check_exports()
check_imports()
check_tokenizers()
