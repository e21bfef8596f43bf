#!/usr/bin/env python3
"""`solvent inspect` on 200 broken GGUF files: it never crashes, says why in one line, costs little.

    inspect_mutants.py path/to/solvent [--seed N] [--keep DIR]

Tiny valid files are built, then damaged by seeded mutations. For each: no signal; exit status 0, or
1 with exactly one printable line on stderr and nothing on stdout; at most 10 ms of the process's
own processor time (best of three, for busy machines); for files under 1 KB at most 1 MB of memory
above what `solvent --version` takes. --keep writes the files as seeds for the fuzz target.
"""
import argparse
import os
import random
import resource
import struct
import sys
import tempfile

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
         11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2),
         39: (32, 17)}
EXTREMES = [0, 1, 2, 3, 31, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**61, 2**62,
            2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]
CPU_LIMIT_S, MEMORY_LIMIT_KB, SMALL_BYTES = 0.010, 1024, 1024


class Writer:
    """Bytes, and where the numbers stand that a mutation may want to change."""

    def __init__(self):
        self.data, self.marks = bytearray(), {}

    def number(self, fmt, value, mark=None):
        if mark:
            self.marks.setdefault(mark, []).append((len(self.data), fmt))
        self.data += struct.pack("<" + fmt, value)

    def string(self, text, mark):
        raw = text if isinstance(text, bytes) else text.encode()
        self.number("Q", len(raw), mark + "_len")
        self.marks.setdefault(mark + "_text", []).append((len(self.data), len(raw)))
        self.data += raw

    def value(self, kind, value):
        if kind == STR:
            self.string(value, "string")
        elif kind == ARR:
            item, values = value
            self.number("I", item, "type")
            self.number("Q", len(values), "count")
            for v in values:
                self.value(item, v)
        else:
            self.number(FORMAT[kind], value, "scalar" if kind != F32 and kind != F64 and kind != BOOL else None)


def build(keys, tensors, align=32, version=3):
    w, at = Writer(), 0
    w.data += b"GGUF"
    w.number("I", version, "version")
    w.number("Q", len(tensors), "n_tensors")
    w.number("Q", len(keys), "n_keys")
    for key, kind, value in keys:
        w.string(key, "key")
        w.number("I", kind, "type")
        w.value(kind, value)
    places = []
    for name, dims, kind in tensors:
        block, size = TYPES[kind]
        n = size // 1
        for i, d in enumerate(dims):
            n *= d // block if i == 0 else d
        w.string(name, "tensor")
        w.number("I", len(dims), "n_dims")
        for d in dims:
            w.number("Q", d, "dim")
        w.number("I", kind, "tensor_type")
        w.number("Q", at, "offset")
        places.append((at, n))
        at += -(-n // align) * align
    w.data += bytes(-len(w.data) % align)
    for _, n in places:
        w.data += bytes(i * 7 % 251 for i in range(n)) + bytes(-n % align)
    return w


def valid_files():
    tiny = build([("general.architecture", STR, "llama"), ("llama.block_count", U32, 1)],
                 [("token_embd.weight", [32, 2], 8), ("output_norm.weight", [32], 0)])
    model = build(
        [("general.architecture", STR, "llama"), ("general.name", STR, "Tiny \u00e9"),
         ("general.alignment", U32, 64), ("llama.block_count", U32, 2), ("llama.context_length", U32, 64),
         ("llama.embedding_length", U32, 32), ("llama.attention.head_count", U32, 4),
         ("llama.attention.head_count_kv", ARR, (I32, [2, 1])), ("llama.rope.freq_base", F32, 1e4),
         ("tokenizer.ggml.tokens", ARR, (STR, ["a", "b", "\u20ac", ""])), ("tokenizer.ggml.add_bos_token", BOOL, True),
         ("tokenizer.chat_template", STR, "{{ messages }}")],
        [("token_embd.weight", [32, 4], 2), ("blk.0.attn_q.weight", [32, 32], 39), ("output_norm.weight", [32], 0)],
        align=64)
    kinds = build([("k.%d" % k, k, -1 if f in "bhiq" else 1) for k, f in FORMAT.items()]
                  + [("a.%d" % k, ARR, (k, [0, 1])) for k in FORMAT], [], version=2)
    types = build([("general.architecture", STR, "x")],
                  [("t%d" % t, [block], t) for t, (block, _) in TYPES.items()])
    bare = build([], [])
    return [tiny, model, kinds, types, bare]


def put(w, data, mark, rng, value=None):
    """Overwrites one number of that meaning; extremes unless told."""
    at, fmt = rng.choice(w.marks[mark])
    size = struct.calcsize("<" + fmt)
    value = rng.choice(EXTREMES) if value is None else value
    data[at:at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def copy_text(w, data, mark, rng):
    """Gives one name the bytes of another of the same length, or nearly so."""
    (a, n), (b, m) = rng.choice(w.marks[mark]), rng.choice(w.marks[mark])
    k = min(n, m)
    data[a:a + k] = data[b:b + k]


def controls(w, data, mark, rng):
    at, n = rng.choice(w.marks[mark])
    for i in range(n):
        data[at + i] = rng.choice(b"\x1b\x9b\n\r\x00\x7f\xff\xc2\x80[")


def flip(w, data, mark, rng):
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        i = rng.randrange(len(data))
        data[i] ^= 1 << rng.randrange(8)


def truncate(w, data, mark, rng):
    del data[rng.randrange(len(data)):]


def grow(w, data, mark, rng):
    data += rng.randbytes(rng.choice([1, 31, 400]))


def swap_blocks(w, data, mark, rng):
    i, j, n = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 64)
    data[i:i + n], data[j:j + n] = data[j:j + n], data[i:i + n]


def misalign(w, data, mark, rng):
    put(w, data, "offset", rng, rng.choice([1, 8, 33, 2**63 + 32, 2**64 - 32]))


def overlap(w, data, mark, rng):
    put(w, data, "offset", rng, 0)


NUMBERS = ["version", "n_tensors", "n_keys", "key_len", "type", "string_len", "count", "scalar", "tensor_len",
           "n_dims", "dim", "tensor_type", "offset"]
MUTATIONS = ([(put, m) for m in NUMBERS] + [(put, "dim"), (put, "count"), (put, "tensor_type")]
             + [(f, m) for f in (copy_text, controls) for m in ("key_text", "tensor_text")] + [(controls, "string_text")]
             + [(f, None) for f in (flip, flip, truncate, truncate, grow, swap_blocks, misalign, overlap)])


def mutants(seed, count):
    rng, files = random.Random(seed), valid_files()
    while count:
        w = rng.choice(files)
        data = bytearray(w.data)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            mutate, mark = rng.choice(MUTATIONS)
            if len(data) == len(w.data) and (mark is None or mark in w.marks) and \
                    (mutate not in (misalign, overlap) or "offset" in w.marks):
                mutate(w, data, mark, rng)
        if bytes(data) != bytes(w.data):
            yield bytes(data)
            count -= 1


def spawn(argv, folder):
    """Runs it; returns the status of wait4, what it used, and its two outputs."""
    names = [os.path.join(folder, n) for n in ("out", "err")]
    pid = os.fork()
    if pid == 0:
        for fd, name in enumerate(names, 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fd)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    out, err = (open(n, "rb").read() for n in names)
    return status, usage, out, err


def fault(status, out, err):
    """What is wrong with how it ended, or None."""
    if os.WIFSIGNALED(status):
        return "killed by signal %d" % os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    if code == 0:
        bad = [b for b in out if b < 32 and b != 10 or b == 127]
        return "control bytes on stdout" if bad else "stderr: %r" % err if err else None
    if code != 1:
        return "exit status %d" % code
    if out:
        return "a refusal wrote to stdout"
    line = err.decode("utf-8", "strict") if err.isascii() or b"\xc2" in err or b"\xe2" in err else None
    if line is None or line.count("\n") != 1 or not line.endswith("\n") or not line[:-1].isprintable():
        return "stderr is not one printable line: %r" % err
    return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("solvent")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--keep")
    args = ap.parse_args()
    counts, worst_s, worst_kb, failed = {0: 0, 1: 0}, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        base_kb = min(spawn([args.solvent, "--version"], folder)[1].ru_maxrss for _ in range(3))
        tests = [(bytes(w.data), True) for w in valid_files()] + [(m, False) for m in mutants(args.seed, 200)]
        for i, (data, is_valid) in enumerate(tests):
            with open(path, "wb") as f:
                f.write(data)
            if args.keep:
                with open(os.path.join(args.keep, "seed%03d" % i), "wb") as f:
                    f.write(data)
            extra = [[], ["--json"], ["--metadata", "--tensors"]][i % 3]
            runs = [spawn([args.solvent, "inspect", path] + extra, folder) for _ in range(3)]
            status, _, out, err = runs[0]
            why = fault(status, out, err)
            seconds = min(u.ru_utime + u.ru_stime for _, u, _, _ in runs)
            kb = min(u.ru_maxrss for _, u, _, _ in runs) - base_kb
            worst_s = max(worst_s, seconds)
            if seconds > CPU_LIMIT_S:
                why = why or "took %.1f ms" % (seconds * 1e3)
            if len(data) < SMALL_BYTES:
                worst_kb = max(worst_kb, kb)
                if kb > MEMORY_LIMIT_KB:
                    why = why or "took %d KB more than --version" % kb
            if is_valid and status:
                why = "a valid file was refused: %r" % err
            if not is_valid and not os.WIFSIGNALED(status):
                counts[min(os.WEXITSTATUS(status), 1)] += 1
            if why:
                failed += 1
                keep = "inspect_mutant_%d.gguf" % i
                with open(os.path.join(tempfile.gettempdir(), keep), "wb") as f:
                    f.write(data)
                print("FAIL %s (%d bytes, %s): %s" % (keep, len(data), " ".join(extra) or "plain", why))
    print("%d mutants: %d refused, %d accepted, %d crashed; worst %.1f ms and %d KB over the baseline"
          % (200, counts[1], counts[0], 200 - counts[0] - counts[1], worst_s * 1e3, worst_kb))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
