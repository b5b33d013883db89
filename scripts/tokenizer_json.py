"""
A tokenizer file (llmc/io/tokenizer.h) as the tokenizer.json of Hugging Face: byte-level BPE with GPT-2's pre-tokenizer. A
vocabulary of bytes is the same without merges. Python 3.8 or newer, no packages.

The file has tokens in the order of their merges, which tokenizer.json wants as pairs: the two parts of a token are what the
merges before it leave of its bytes. Text is split as GPT-2 does it, so ids are those of data/prepare.
"""
import json
import struct

from checkpoint import open_binary, stop

MAGIC, VERSION = 20240328, 2


def read_tokenizer(path):
    """([bytes of each id], id of <|endoftext|>)"""
    with open_binary(path, "a tokenizer file: data/prepare writes it beside its shards as PREFIX_tokenizer.bin") as file:
        data = file.read()
    magic, version, V, eot = struct.unpack_from("<4I", data) if len(data) >= 1024 else (0, 0, 0, 0)
    if magic != MAGIC or version != VERSION:
        stop("%s: not a tokenizer file: expected it to start with %d, %d, found %d, %d" % (path, MAGIC, VERSION, magic, version))
    tokens, at = [], 1024
    while len(tokens) < V and at < len(data):
        end = at + 1 + data[at]
        tokens.append(data[at + 1:end])
        at = end
    if len(tokens) != V or at != len(data) or eot >= V:
        stop("%s: damaged: expected %d tokens in %d bytes, found %d in %d; make it again with data/prepare"
             % (path, V, len(data), len(tokens), at))
    return tokens, eot


def byte_characters():
    """GPT-2's printable character for each byte: itself where it prints, else the next of those from 256 on."""
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in prints]
    return [chr(b) if b in prints else chr(256 + hidden.index(b)) for b in range(256)]


def parts_of(token, ranks):
    """The two tokens that the merges of lower rank leave of `token`, or None."""
    limit, parts = ranks[token], [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        found = [(ranks.get(a + b, limit), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
        rank, i = min(found)
        if rank >= limit:
            return None
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def tokenizer_json(path, tokens, eot, length):
    """{file name: text} of a tokenizer for a model of `length` positions."""
    chars = byte_characters()
    ranks = {token: id for id, token in enumerate(tokens) if id != eot}
    spell = ["".join(chars[b] for b in token) for token in tokens]
    end = tokens[eot].decode("utf-8", "replace")
    spell[eot] = end
    merges = []
    for id, token in enumerate(tokens):
        if id == eot or len(token) < 2:
            continue
        parts = parts_of(token, ranks)
        if not parts:
            stop("%s: id %d is not made of two tokens before it, so no tokenizer.json has it; add --tokenizer none"
                 % (path, id))
        merges.append(["".join(chars[b] for b in part) for part in parts])
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"id": eot, "content": end, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
             "pre_tokenizer": split, "post_processor": None, "decoder": split,
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                       "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                       "vocab": {text: id for id, text in enumerate(spell)}, "merges": merges}}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end, "unk_token": end,
              "model_max_length": length, "clean_up_tokenization_spaces": False}
    return {"tokenizer.json": json.dumps(whole, ensure_ascii=False) + "\n",
            "tokenizer_config.json": json.dumps(config, indent=2) + "\n"}
