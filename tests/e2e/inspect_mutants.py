#!/usr/bin/env python3
"""`solvent inspect` on 200 broken GGUF files: it never crashes, says why in one line, costs little.

    inspect_mutants.py path/to/solvent [--seed N] [--keep DIR]

Tiny valid files are built, then damaged by seeded mutations. For each: no signal; exit status 0, or
1 with exactly one printable line on stderr and nothing on stdout; at most 10 ms of processor time
above what `solvent --version` takes at the same time (the best of three runs, of up to 20 when these
are above it, as the machine may be busy). Files under 1 KB must fare the same when the process is
given 1 MB of address space more than `solvent --version` needs: the kernel's figure of peak memory
would not do, it starts with what the process that forked had. --keep writes the files as seeds for the fuzz target.
"""
import argparse
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import unicodedata

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
         11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2),
         39: (32, 17)}
EXTREMES = [0, 1, 2, 3, 31, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**61, 2**62,
            2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]
MUTANTS, CPU_LIMIT_S, MEMORY_LIMIT_KB, SMALL_BYTES, PAGE_KB, RUNS_MOST = 200, 0.010, 1024, 1024, 4, 20


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
        n = size
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


def spawn(argv, folder, memory_kb=None):
    """Runs it; returns the status of wait4, what it used, and its two outputs."""
    names = [os.path.join(folder, n) for n in ("out", "err")]
    pid = os.fork()
    if pid == 0:
        for fd, name in enumerate(names, 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fd)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            if memory_kb:
                resource.setrlimit(resource.RLIMIT_AS, (memory_kb * 1024, memory_kb * 1024))
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    out, err = (open(n, "rb").read() for n in names)
    return status, usage, out, err


def fault(status, out, err, flags):
    """What is wrong with how it ended, or None."""
    if os.WIFSIGNALED(status):
        return "killed by signal %d" % os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    text = (err if code else out).decode("utf-8", "replace")
    if code not in (0, 1):
        return "exit status %d" % code
    if out if code else err:
        return "output on both stdout and stderr"
    if any(c == "\ufffd" or c != "\n" and unicodedata.category(c) in ("Cc", "Cf") for c in text):
        return "control characters or broken UTF-8: %r" % text
    if code and (text.count("\n") != 1 or not text.endswith("\n")):
        return "not one line: %r" % text
    if not code and "--json" in flags:
        json.loads(text)
    return None


class Cost:
    """What a run takes above `solvent --version`."""

    def __init__(self, solvent, folder):
        self.solvent, self.folder, self.starts = solvent, folder, []
        self.worst_s = self.worst_whole_s = 0
        self.version_kb = self.least_kb([solvent, "--version"])

    def least_kb(self, argv):
        """The smallest address space in which it gets as far as without a limit."""
        want = self.outcome(argv, None)
        low, high = 0, 1 << 22
        assert self.outcome(argv, high) == want, "it does not run in 4 GB"
        while high - low > PAGE_KB:
            middle = (low + high) // 2
            low, high = (low, middle) if self.outcome(argv, middle) == want else (middle, high)
        return high

    def outcome(self, argv, kb):
        status, _, out, err = spawn(argv, self.folder, kb)
        return status, out, err

    def start(self):
        self.starts.append(spawn([self.solvent, "--version"], self.folder)[1])
        del self.starts[:-RUNS_MOST]

    def measure(self, argv, small):
        """How it ended, its outputs, and what is wrong with the cost, or None."""
        runs, whole, begin = [spawn(argv, self.folder)], 0, 0
        while len(runs) < 3 or (len(runs) < RUNS_MOST and whole - begin > CPU_LIMIT_S):
            self.start()
            runs.append(spawn(argv, self.folder))
            whole, begin = (min(u.ru_utime + u.ru_stime for u in us) for us in ([r[1] for r in runs], self.starts))
        status, _, out, err = runs[0]
        self.worst_s = max(self.worst_s, whole - begin)
        self.worst_whole_s = max(self.worst_whole_s, whole)
        why = "took %.1f ms" % ((whole - begin) * 1e3) if whole - begin > CPU_LIMIT_S else None
        if small and self.outcome(argv, self.version_kb + MEMORY_LIMIT_KB) != (status, out, err):
            why = "took %d KB" % (self.least_kb(argv) - self.version_kb)
        return status, out, err, why


def wrong_figures(solvent, path, folder):
    """Which figures about valid_files()[1] are not what can be counted by hand."""
    with open(path, "wb") as f:
        f.write(valid_files()[1].data)
    status, _, out, err = spawn([solvent, "inspect", path, "--json", "--ctx", "10"], folder)
    if status:
        return ["refused: %r" % err]
    got = json.loads(out)
    want = {"architecture": "llama", "name": "Tiny \u00e9", "licence": None, "parameters": 32 * 4 + 32 * 32 + 32,
            "context": 64, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "key_length": 8, "vocabulary": 4,
            "chat_template": True, "weight_bytes": 4 * 18 + 32 * 17 + 32 * 4, "kv_tokens": 10,
            "kv_bytes_per_token": (2 + 1) * ((8 + 8) * 2 + 2 * 4), "kv_bytes": 10 * 120}
    wrong = ["%s is %r, not %r" % (k, got[k], v) for k, v in want.items() if got[k] != v]
    if got["metadata"]["tokenizer.ggml.tokens"] != ["a", "b", "\u20ac", ""]:
        wrong.append("tokens are %r" % got["metadata"]["tokenizer.ggml.tokens"])
    if [t["shape"] for t in got["tensors"]] != [[32, 4], [32, 32], [32]]:
        wrong.append("tensors are %r" % got["tensors"])
    return wrong


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("solvent")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--keep")
    args = ap.parse_args()
    files = [(bytes(w.data), True) for w in valid_files()] + [(m, False) for m in mutants(args.seed, MUTANTS)]
    counts, failed = {"refused": 0, "accepted": 0, "crashed": 0}, 0
    with tempfile.TemporaryDirectory() as folder:
        path, cost = os.path.join(folder, "m.gguf"), Cost(args.solvent, folder)
        for wrong in wrong_figures(args.solvent, path, folder):
            failed += 1
            print("FAIL figures: %s" % wrong)
        for i, (data, is_valid) in enumerate(files):
            with open(path, "wb") as f:
                f.write(data)
            if args.keep:
                shutil.copy(path, os.path.join(args.keep, "seed%03d" % i))
            flags = [[], ["--json"], ["--metadata", "--tensors"]][i % 3]
            status, out, err, why = cost.measure([args.solvent, "inspect", path] + flags, len(data) < SMALL_BYTES)
            why = fault(status, out, err, flags) or why
            if is_valid and status:
                why = "a valid file was refused: %r" % err
            if not is_valid:
                counts["crashed" if os.WIFSIGNALED(status) else "refused" if status else "accepted"] += 1
            if why:
                failed += 1
                kept = shutil.copy(path, os.path.join(tempfile.gettempdir(), "inspect_mutant_%d.gguf" % i))
                print("FAIL %s (%d bytes, %s): %s" % (kept, len(data), " ".join(flags) or "plain", why))
    print("%d mutants: %d refused, %d accepted, %d crashed" % (MUTANTS, *counts.values()))
    print("at most %.1f ms above the start of the program, %.1f ms with it; small ones within %d KB above it"
          % (cost.worst_s * 1e3, cost.worst_whole_s * 1e3, MEMORY_LIMIT_KB))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
