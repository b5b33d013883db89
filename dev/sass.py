#!/usr/bin/env python3
"""What the compiler made of every kernel, read from the machine code inside the CUDA objects: no GPU, no disassembler.

    dev/sass.py [--sm "80 90"] [--quiet] build/cuda_bf16.o ..      a table per object and architecture, then the broken rules;
                                                                   exit code 1 when there are any
    object (ELF) -> section .nv_fatbin -> one cubin (ELF) per architecture -> section .text.KERNEL -> instructions of 16 bytes
                                                                           -> .nv.info: registers, launch bounds, stack
                                                                           -> .nv.shared.KERNEL: static shared memory

The low 9 bits of an instruction are its opcode (3 more say what kinds of operands it has), bits 73-75 the width of a memory
access: the same from sm_80 to sm_120. Dynamic shared memory is chosen at the launch and is in no cubin.

Rules, loose on purpose because counts move with the compiler: they say "some" and "none", never "seven".
    local       no kernel touches local memory (spilled registers, arrays that are indexed at run time)
    registers   registers * threads of a block fit a multiprocessor
    and by kernel, the table PACKS: 128-bit loads and stores where packs are meant, resident threads, tensor cores
"""
import argparse
import collections
import fnmatch
import re
import struct
import sys

MEMORY = {0x181: "LDG", 0x186: "STG", 0x183: "LDL", 0x187: "STL", 0x180: "LD", 0x185: "ST"}
OTHERS = {0x03C: "HMMA", 0x1AE: "LDGSTS"}
BITS = {0: 8, 1: 8, 2: 16, 3: 16, 4: 32, 5: 64, 6: 128}
REGISTERS_OF_SM = 65536
ANY = 1 << 30

# Threads a kernel is launched with where it declares no launch bounds: eight warps, but for these
LAUNCHED_WITH = {"step_finish_kernel": 1024, "column_sum_kernel": 1024}
USUAL_THREADS = 256

# Bytes of stack a thread may have, where not 0. step_finish: one team, once a step; attention_decode: once a layer and generated
# token. The others hold a row of logits in 64 registers, all that 1,024 threads leave them: one to four words beside the 112 bytes of
# the row they read and write.
STACK = {"step_finish_kernel": 256, "classifier_kernel<?,1,*": 16, "classifier_kernel*": 8, "consistency_kernel*": 16,
         "attention_decode_kernel": 8}

# By kernel: are 128-bit loads and stores wanted; how many narrower ones each may bring along (row statistics, ids); resident
# threads per multiprocessor that the registers must allow; how many scalars are loaded besides. A layer norm's backward pass
# keeps its column sums in registers: few threads, but each has up to 12 packs under way.
Pack = collections.namedtuple("Pack", "load store narrow_loads narrow_stores resident scalars", defaults=(0,))
PACKS = {
    "norm_forward_kernel": Pack(True, True, 1, 1, 512),
    "norm_backward_kernel<0,*": Pack(True, True, 1, 0, 512),
    "norm_backward_kernel<1,*": Pack(True, True, 1, 0, 256),
    "gelu_*_kernel": Pack(True, True, 0, 0, 1024),
    "rope_kernel": Pack(True, True, 0, 0, 1024),
    "embedding_backward_kernel": Pack(True, True, 4, 0, 1024),
    "position_backward_kernel": Pack(True, True, 0, 0, 512),
    "column_*_kernel": Pack(True, True, 0, 0, 1024),
    "classifier_kernel<0,*": Pack(True, False, ANY, ANY, 1024),
    "classifier_kernel<1,*": Pack(True, True, ANY, ANY, 1024),
    "adamw_kernel": Pack(True, True, 0, 0, 512, 12),
    "norm_kernel": Pack(True, False, 0, ANY, 1024, 4),
    "cast_kernel": Pack(True, True, 0, 0, 1024),
    "attention_delta_kernel": Pack(True, False, 0, ANY, 1024),
    # these load through LDGSTS (global to shared memory, 16 bytes), and multiply on tensor cores but for fp32
    "attention_forward_kernel": Pack(False, True, ANY, 4, 128),
    "attention_dkdv_kernel": Pack(False, True, ANY, 0, 128),
    "attention_dq_kernel": Pack(False, True, ANY, 0, 128),
    "grouped_forward_kernel": Pack(False, True, ANY, 0, 384),
    "grouped_dinput_kernel": Pack(False, True, ANY, 0, 384),
    "grouped_dweight_kernel": Pack(True, True, ANY, 1, 384),
    "items_spread_kernel": Pack(True, True, ANY, 0, 1024),
}
ASYNCHRONOUS = ("attention_forward_kernel", "attention_dkdv_kernel", "attention_dq_kernel", "grouped_forward_kernel",
                "grouped_dinput_kernel", "grouped_dweight_kernel")

# Kinds of .nv.info records
INFO_MAX_THREADS, INFO_FRAME_SIZE, INFO_REGISTERS = 0x05, 0x11, 0x2F

Kernel = collections.namedtuple("Kernel", "name registers threads frame shared count instructions")


def elf_sections(data):
    """[(name, type, info, content)]; the content of a section that takes no space in the file is its size."""
    offset, = struct.unpack_from("<Q", data, 0x28)
    size, number, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size) for i in range(number)]
    strings = headers[names][4]
    sections = []
    for h in headers:
        name = data[strings + h[0]:data.index(b"\0", strings + h[0])].decode()
        sections.append((name, h[1], h[7], h[5] if h[1] == 8 else data[h[4]:h[4] + h[5]]))
    return sections


def cubins(path):
    """[(architecture, cubin)] of an object file."""
    try:
        data = open(path, "rb").read()
    except OSError as e:
        sys.exit(f"error: {path} cannot be read ({e.strerror}); build it with make")
    if data[:4] != b"\x7fELF":
        sys.exit(f"error: {path} is not an object file: it starts with {data[:4]!r}; build it with make")
    found = []
    for name, _, _, fat in elf_sections(data):
        at = 0
        while name == ".nv_fatbin" and at + 16 <= len(fat):
            magic, _, header, size = struct.unpack_from("<IHHQ", fat, at)
            if magic != 0xBA55ED50:
                at += 8  # padding between containers
                continue
            entry, end = at + header, at + header + size
            while entry < end:
                kind, _, head, length = struct.unpack_from("<HHIQ", fat, entry)
                sm, = struct.unpack_from("<I", fat, entry + 28)
                code = fat[entry + head:entry + head + length]
                if kind == 2 and code[:4] != b"\x7fELF":
                    sys.exit(f"error: {path}: the code for sm_{sm} is compressed; build without --compress-mode")
                if kind == 2:
                    found.append((sm, code))
                entry += head + length
            at = end
    if not found:
        sys.exit(f"error: {path} holds no GPU code")
    return found


def info_records(data):
    """(kind, value) of a .nv.info section. Format 4 carries a size and bytes, the others two bytes."""
    at = 0
    while at + 4 <= len(data):
        form, kind, short = struct.unpack_from("<BBH", data, at)
        yield kind, data[at + 4:at + 4 + short] if form == 4 else short
        at += 4 + (short if form == 4 else 0)


def readable(name):
    """_Z20norm_backward_kernelILb1ELi4EEv.. -> norm_backward_kernel<1,4>"""
    digits = re.match(r"_Z(\d+)", name)
    if not digits:
        return name
    end = digits.end() + int(digits.group(1))
    base, rest = name[digits.end():end], name[end:]
    values = re.match(r"I((?:L[a-z](?:n?\d+)E)+)E", rest)
    return base + ("<" + ",".join(re.findall(r"L[a-z](n?\d+)E", values.group(1))) + ">" if values else "")


def kernels(cubin):
    sections = elf_sections(cubin)
    by_symbol, threads, shared = collections.defaultdict(dict), {}, {}
    for name, _, _, content in sections:
        if name == ".nv.info":
            for kind, value in info_records(content):
                if kind in (INFO_FRAME_SIZE, INFO_REGISTERS):
                    symbol, number = struct.unpack("<II", value)
                    by_symbol[symbol][kind] = number
        elif name.startswith(".nv.info."):
            for kind, value in info_records(content):
                if kind == INFO_MAX_THREADS:
                    x, y, z = struct.unpack("<III", value)
                    threads[name[9:]] = x * y * z
        elif name.startswith(".nv.shared.") and name != ".nv.shared.reserved.0":
            shared[name[11:]] = content if isinstance(content, int) else len(content)
    # symbol numbers -> names
    symbols, strings = [next(c for n, _, _, c in sections if n == wanted) for wanted in (".symtab", ".strtab")]
    facts = {}
    for number, values in by_symbol.items():
        at, = struct.unpack_from("<I", symbols, number * 24)
        facts[strings[at:strings.index(b"\0", at)].decode()] = values
    for name, _, _, content in sections:
        if not name.startswith(".text."):
            continue
        mangled, count, instructions = name[6:], collections.Counter(), len(content) // 16
        for low, high in struct.iter_unpack("<QQ", content):
            opcode = low & 0x1FF
            if opcode in MEMORY:
                count[MEMORY[opcode], BITS.get(high >> 9 & 7, 0)] += 1
            elif opcode in OTHERS:
                count[OTHERS[opcode]] += 1
        fact = facts.get(mangled, {})
        yield Kernel(readable(mangled), fact.get(INFO_REGISTERS, 0), threads.get(mangled, 0), fact.get(INFO_FRAME_SIZE, 0),
                     shared.get(mangled, 0), count, instructions)


# --- rules ------------------------------------------------------------------------------------------------------------------
def bare(name):
    return name.split("<")[0]


def threads_of(k):
    return k.threads or LAUNCHED_WITH.get(bare(k.name), USUAL_THREADS)


def resident(k):
    """Threads of this kernel that a multiprocessor's registers hold: registers are handed out by 8, whole blocks at a time."""
    block = (k.registers + 7) // 8 * 8 * threads_of(k)
    return REGISTERS_OF_SM // block * threads_of(k) if block else 0


def accesses(k, operation, wide):
    return sum(n for key, n in k.count.items() if key[0] == operation and (key[1] == 128) == wide)


def local_accesses(k):
    return sum(accesses(k, operation, wide) for operation in ("LDL", "STL") for wide in (True, False))


def rule_of(k):
    for pattern, rule in PACKS.items():
        if fnmatch.fnmatchcase(k.name, pattern) or bare(k.name) == pattern or fnmatch.fnmatchcase(bare(k.name), pattern):
            return pattern, rule
    return None, None


def broken_rules(k, fp32):
    """One sentence per broken rule."""
    stack = max([0] + [bytes for pattern, bytes in STACK.items() if fnmatch.fnmatchcase(k.name, pattern)])
    if k.frame > stack or (local_accesses(k) and not stack):
        yield (f"{k.frame} bytes of stack and {local_accesses(k)} accesses to local memory, expected at most {stack} bytes: "
               "registers are spilled or an array is indexed at run time")
    if k.registers * threads_of(k) > REGISTERS_OF_SM:
        yield f"{k.registers} registers x {threads_of(k)} threads do not fit a multiprocessor's {REGISTERS_OF_SM}"
    _, rule = rule_of(k)
    if not rule:
        return
    for operation, wanted, each, scalars in (("LDG", rule.load, rule.narrow_loads, rule.scalars),
                                             ("STG", rule.store, rule.narrow_stores, 0)):
        wide, narrow = accesses(k, operation, True), accesses(k, operation, False)
        what = "loads" if operation == "LDG" else "stores"
        if wanted and not wide:
            yield f"no 128-bit {what} ({narrow} narrower ones): packs were meant"
        elif narrow > each * max(wide, 1) + scalars:
            yield (f"{narrow} {what} narrower than 128 bits beside {wide} wide ones, expected at most {each} for each "
                   f"and {scalars} more")
    if resident(k) < rule.resident:
        yield f"{k.registers} registers leave {resident(k)} threads on a multiprocessor, expected {rule.resident} or more"
    if bare(k.name) in ASYNCHRONOUS:
        if not k.count["LDGSTS"]:
            yield "no asynchronous copy to shared memory (LDGSTS)"
        if not fp32 and not k.count["HMMA"]:
            yield "no tensor core instruction (HMMA)"


# --- report -----------------------------------------------------------------------------------------------------------------
COLUMNS = [("regs", 4), ("block", 5), ("resident", 8), ("shared", 6), ("stack", 5), ("local", 5), ("LDG.128", 7), ("less", 4),
           ("STG.128", 7), ("less", 4), ("LDGSTS", 6), ("HMMA", 4), ("all", 5)]


def print_table(found, sm):
    print(f"{'kernel':42s}", *(f"{name:>{width}s}" for name, width in COLUMNS))
    for k in found:
        shared = k.shared - (1024 if sm >= 90 and k.shared >= 1024 else 0)  # 1 KB of each block is the system's from sm_90 on
        values = [k.registers, threads_of(k), resident(k), shared, k.frame, local_accesses(k), accesses(k, "LDG", True),
                  accesses(k, "LDG", False), accesses(k, "STG", True), accesses(k, "STG", False), k.count["LDGSTS"],
                  k.count["HMMA"], k.instructions]
        print(f"{k.name:42s}", *(f"{value:{width}d}" for value, (_, width) in zip(values, COLUMNS)))


def main():
    arguments = argparse.ArgumentParser(description="static facts of GPU kernels, and rules about them")
    arguments.add_argument("--sm", default="", help='only these architectures, for example "80 90"')
    arguments.add_argument("--quiet", action="store_true", help="no tables")
    arguments.add_argument("objects", nargs="+")
    arguments = arguments.parse_args()
    only = {int(sm) for sm in arguments.sm.split()}
    passed, failures, seen = 0, [], set()
    for path in arguments.objects:
        fp32 = "fp32" in path
        for sm, cubin in cubins(path):
            if only and sm not in only:
                continue
            seen.add(sm)
            found = sorted(kernels(cubin))
            if not arguments.quiet:
                print(f"\n{path}, sm_{sm}: {len(found)} kernels")
                print_table(found, sm)
            for k in found:
                broken = list(broken_rules(k, fp32))
                passed += not broken
                failures += [f"{path}, sm_{sm}, {k.name}: {sentence}" for sentence in broken]
            missing = set(PACKS) - {rule_of(k)[0] for k in found} - ({"cast_kernel"} if fp32 else set())
            failures += [f"{path}, sm_{sm}: no kernel is called {name}; was it renamed? Then rename it in dev/sass.py"
                         for name in sorted(missing)]
    failures += [f"no code for sm_{sm} in {' '.join(arguments.objects)}" for sm in sorted(only - seen)]
    if not arguments.quiet:
        print()
    for failure in failures:
        print(f"failed: {failure}")
    print(f"{passed} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
