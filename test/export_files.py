"""
What test_export.sh needs of Python: files of other programs written and read without the code under test, and comparisons.

    equal A.ckpt B.ckpt          prints how many tensors are equal, bit for bit, and the names of those that are not
    llmc A.ckpt OUT.bin VERSION  a GPT-2 checkpoint in llm.c's format: 3 fp32, 5 bf16 (cut off, so only exact for such values)
    foreign A.ckpt OUT.ckpt      the same and a tensor that no export knows
    layout A.ckpt DIR            prints 1 for each claim about DIR/model.safetensors that holds
    halve DIR TO                 TO: the same model in two files of F16, with the names and masks of OpenAI's files
    bf16                         prints whether rounding to bf16 and back agrees with arithmetic on the numbers
"""
import json
import os
import struct
import sys
from array import array

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts"))
import checkpoint as files


def equal(a, b):
    a, b = files.Checkpoint(a), files.Checkpoint(b)
    other = [n for n in a.shapes if n not in b.shapes or a.shapes[n] != b.shapes[n] or a.read(n) != b.read(n)]
    print(len(a.shapes) - len(other), *other, *[n for n in b.shapes if n not in a.shapes])


def llmc(path, out, version):
    ck = files.Checkpoint(path)
    L, V, (padded, C), T = int(ck.flags["n_layer"]), int(ck.flags["vocab_size"]), ck.shapes["wte"], ck.shapes["wpe"][0]
    head = [20240326, int(version), T, V, L, int(ck.flags["n_head"]), C, padded]
    names = ["wte", "wpe"]
    for name in "ln1.w ln1.b attn.qkv.w attn.qkv.b attn.proj.w attn.proj.b ln2.w ln2.b mlp.fc.w mlp.fc.b mlp.proj.w mlp.proj.b".split():
        names += ["h.%d.%s" % (l, name) for l in range(L)]
    with open(out, "wb") as file:
        file.write(struct.pack("<256i", *head, *[0] * 248))
        for name in names + ["lnf.w", "lnf.b"]:
            data = ck.read(name).tobytes()
            file.write(data if version == "3" else b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4)))


def foreign(path, out):
    """The same checkpoint and one tensor more."""
    ck = files.Checkpoint(path)
    rows = [(name, shape, lambda name=name: ck.read(name)) for name, shape in ck.shapes.items()]
    files.write_checkpoint(out, ck.flags, rows + [("h.0.attn.q_norm.w", (3,), lambda: array("f", [1, 2, 3]))])


def raw(path):
    """{name: (shape, values)} of a safetensors file, F32 and I64."""
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, row in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in row["data_offsets"])
            found[name] = row["shape"], array("f" if row["dtype"] == "F32" else "q", data[begin:end])
    return found


def layout(path, directory):
    ck, hf = files.Checkpoint(path), raw(os.path.join(directory, "model.safetensors"))
    ours = lambda name, i, j: ck.read(name)[i * ck.shapes[name][1] + j]
    theirs = lambda name, i, j: hf[name][1][i * hf[name][0][1] + j]
    C, V = ck.shapes["wpe"][1], int(ck.flags["vocab_size"])
    for here, there in (("attn.qkv", "attn.c_attn"), ("attn.proj", "attn.c_proj"), ("mlp.fc", "mlp.c_fc"), ("mlp.proj", "mlp.c_proj")):
        here, there = "h.1." + here, "transformer.h.1." + there
        out, into = ck.shapes[here + ".w"]
        print(int(hf[there + ".weight"][0] == [into, out]), int(ours(here + ".w", 3, 5) == theirs(there + ".weight", 5, 3) != 0),
              int(ck.read(here + ".b") == hf[there + ".bias"][1]))
    print(int(hf["transformer.wte.weight"] == ([V, C], ck.read("wte")[:V * C])), int("lm_head.weight" not in hf))


def halve(directory, to):
    tensors = raw(os.path.join(directory, "model.safetensors"))
    tensors["transformer.h.0.attn.bias"] = [1, 1, 2, 2], array("f", [1, 0, 1, 1])
    os.makedirs(to)
    config = open(os.path.join(directory, "config.json")).read()
    open(os.path.join(to, "config.json"), "w").write(config)
    names = sorted(tensors)
    for part, some in enumerate((names[::2], names[1::2])):
        rows, data = {}, b""
        for name in some:
            shape, values = tensors[name]
            piece = struct.pack("<%de" % len(values), *values)
            rows[name.replace("transformer.", "")] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
            data += piece
        text = json.dumps(rows).encode()
        open(os.path.join(to, "model-0000%d-of-00002.safetensors" % (part + 1)), "wb").write(struct.pack("<Q", len(text)) + text + data)


def bf16():
    values = array("f", [0.0, -0.0, 1.0, -2.5, 1.00390625, 1.01171875, 3.14159274, -1e-30, 1e30, 65280.0, -1.0039063692, 1e-41])
    back = files.from_bf16(files.to_bf16(values))
    right = 0
    for x, y in zip(values, back):
        bits = struct.unpack("<I", struct.pack("<f", abs(x)))[0]
        down = struct.unpack("<f", struct.pack("<I", bits >> 16 << 16))[0]
        up = struct.unpack("<f", struct.pack("<I", (bits >> 16) + 1 << 16))[0]
        even = down if bits >> 16 & 1 == 0 else up
        best = down if abs(x) - down < up - abs(x) else up if up - abs(x) < abs(x) - down else even
        right += abs(y) == best and struct.pack("<f", x)[3] >> 7 == struct.pack("<f", y)[3] >> 7
    print(right, len(values), files.to_bf16(back) == files.to_bf16(values))


globals()[sys.argv[1]](*sys.argv[2:])
