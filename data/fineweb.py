#!/usr/bin/env python3
"""FineWeb as GPT-2 token shards, and GPT-2's tokenizer file: data/fineweb10B/fineweb_{train,val}_*.bin, fineweb_tokenizer.bin.

    python3 data/fineweb.py [TRAIN_SHARDS]      1..103 shards of 100 million tokens (200 MB) each, 25 when not given

Shards that are complete already are not fetched again. Needs a network and the Python package huggingface_hub.
"""
import json
import os
import struct
import sys

REPOSITORY = "kjj0/fineweb10B-gpt2"
DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fineweb10B")
SHARDS_MOST = 103


def stop(message, code=1):
    print("error: " + message, file=sys.stderr)
    sys.exit(code)


def shard_error(path):
    """None, or what is wrong with the shard (format: data/README.md)."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        head = f.read(1024)
    if len(head) < 1024:
        return "%d bytes, too short for a header" % size
    magic, version, ntok = struct.unpack_from("<3i", head)
    if (magic, version) != (20240520, 1):
        return "not a token shard (it starts %r)" % head[:16]
    if size != 1024 + 2 * ntok:
        return "%d bytes, expected %d for %d tokens" % (size, 1024 + 2 * ntok, ntok)
    return None


def token_bytes(vocabulary):
    """GPT-2's vocab.json writes bytes as printable characters: the printable ones as themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable}
    byte_of.update({chr(256 + i): b for i, b in enumerate(others)})
    tokens = [b""] * len(vocabulary)
    for text, token in vocabulary.items():
        tokens[token] = text.encode() if text == "<|endoftext|>" else bytes(byte_of[c] for c in text)
    return tokens


def write_tokenizer(vocabulary, path):
    tokens = token_bytes(vocabulary)
    with open(path + ".tmp", "wb") as f:
        f.write(struct.pack("<256I", 20240328, 2, len(tokens), vocabulary["<|endoftext|>"], *[0] * 252))
        for token in tokens:
            f.write(bytes([len(token)]) + token)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".tmp", path)


def main():
    print("This needs a network and Python: it downloads FineWeb from the Hugging Face hub.", flush=True)
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        return
    if len(arguments) > 1 or not all(a.isdigit() and 1 <= int(a) <= SHARDS_MOST for a in arguments):
        stop("expected the number of training shards, 1..%d, found \"%s\"" % (SHARDS_MOST, " ".join(arguments)), 2)
    count = int(arguments[0]) if arguments else 25
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        stop("the Python package huggingface_hub is missing; install it with `pip install huggingface_hub`")
    names = ["fineweb_val_000000.bin"] + ["fineweb_train_%06d.bin" % i for i in range(1, count + 1)]
    for i, name in enumerate(names):
        path = os.path.join(DIRECTORY, name)
        if os.path.exists(path) and shard_error(path) is None:
            print("%d/%d %s: here already" % (i + 1, len(names), name))
            continue
        try:
            hf_hub_download(repo_id=REPOSITORY, filename=name, repo_type="dataset", local_dir=DIRECTORY)
        except Exception as problem:
            stop("%s: cannot download from %s: %s; check the network and run this again" % (name, REPOSITORY, problem))
        wrong = shard_error(path)
        if wrong:
            stop("%s: %s; remove it and run this again" % (path, wrong))
        print("%d/%d %s" % (i + 1, len(names), name), flush=True)
    tokenizer = os.path.join(DIRECTORY, "fineweb_tokenizer.bin")
    if not os.path.exists(tokenizer):
        try:
            vocabulary = hf_hub_download(repo_id="openai-community/gpt2", filename="vocab.json")
        except Exception as problem:
            stop("cannot download GPT-2's vocab.json: %s; check the network and run this again" % problem)
        with open(vocabulary, encoding="utf-8") as f:
            write_tokenizer(json.load(f), tokenizer)
    print("ready: --input_bin \"%s/fineweb_train_*.bin\" --input_val_bin \"%s/fineweb_val_*.bin\"" % (DIRECTORY, DIRECTORY))


if __name__ == "__main__":
    main()
