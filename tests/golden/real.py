"""Real models against the reference: KL divergence and top-1 agreement at every position of a text.

    real.py --build DIR [--windows N] [--cpu LEVEL ...] [--llama TREE] -- NAME=MODEL.gguf ...

DIR holds the built solvent and tests/logits. The text is tests/data/golden/text.txt in windows of
512 tokens. Float32 activations in ref kernels must reproduce the reference (mean KL <= 1e-6), each
CPU level's own arithmetic must stay within KL 0.006, and agree with the reference on the likeliest
token as often as llama.cpp does, less half a point: with --llama as measured now (TREE holds its
sources and build/bin), otherwise as was measured when the models were added (LLAMA_CPP below).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import reference

HERE = Path(__file__).resolve().parent
TEXT = HERE.parent / "data/golden/text.txt"
WINDOW = 512
ROWS = 128  # logits compared at a time
EXACT_KL, QUANTISED_KL, TOP1_POINTS = 1e-6, 0.006, 0.5
# NAME: mean KL and top-1 agreement in percent over the whole text, of the llama.cpp in
# llama_cpp_python 0.3.36 on a processor with AVX-512 VNNI.
LLAMA_CPP = {"smollm2": (0.0026, 96.79), "gemma3": (0.0046, 95.91)}


def windows(solvent, path, fields, count):
    """The text's token ids, cut; each window begins as a prompt of this model does."""
    with open(TEXT, "rb") as text:
        out = subprocess.run([solvent, "tokenize", "-m", path, "--no-special"], stdin=text,
                             stdout=subprocess.PIPE, check=True)
    ids = [int(i) for i in out.stdout.split()]
    start = []
    if "tokenizer.ggml.add_bos_token" in fields and fields["tokenizer.ggml.add_bos_token"].contents():
        start = [fields["tokenizer.ggml.bos_token_id"].contents()]
    step = WINDOW - len(start)
    return [start + ids[i : i + step] for i in range(0, len(ids), step)][:count]


def blocks(model, sequences):
    """The reference's logits, [<= ROWS][n_vocab] at a time."""
    hidden = np.concatenate(sequences)
    for i in range(0, len(hidden), ROWS):
        yield model.head(hidden[i : i + ROWS])


def divergence(a, b):
    """KL(a || b) of each row of logits, in nats, give or take 1e-8; overwrites both."""
    a -= a.max(axis=1, keepdims=True)
    b -= b.max(axis=1, keepdims=True)
    log_b = np.log(np.exp(b).sum(axis=1, dtype=np.float64))
    p = np.exp(a)
    sum_a = p.sum(axis=1, dtype=np.float64)
    p *= np.subtract(a, b, out=a)
    return p.sum(axis=1, dtype=np.float64) / sum_a + log_b - np.log(sum_a)


def compare(command, model, hidden):
    """Mean KL, worst KL, top-1 agreement in percent, positions; raises if the command fails."""
    kl, same = [], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for ours in blocks(model, hidden):
            data = bytearray(ours.nbytes)
            if process.stdout.readinto(data) != len(data):
                raise SystemExit(f"{command[0]} ended early (status {process.wait()})")
            theirs = np.frombuffer(data, np.float32).reshape(ours.shape)
            same += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
            kl.append(divergence(ours, theirs))
    kl = np.concatenate(kl)
    return kl.mean(), kl.max(), 100 * same / len(kl), len(kl)


def levels():
    """The CPU levels of this machine beside ref."""
    with open("/proc/cpuinfo") as f:
        flags = next((set(line.split()) for line in f if line.startswith("flags")), set())
    needs = {"avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512vl", "avx512_vnni", "avx512_bf16"}}
    return [level for level, need in needs.items() if need <= flags]


def build_llama(tree, folder):
    """tests/golden/llama_logits.c against a built llama.cpp."""
    program = folder / "llama_logits"
    libs = Path(tree).resolve() / "build/bin"
    subprocess.run(["cc", "-O2", HERE / "llama_logits.c", "-o", program, f"-I{tree}/include",
                    f"-I{tree}/ggml/include", f"-L{libs}", "-lllama", "-lggml", "-lggml-base",
                    f"-Wl,-rpath,{libs}"], check=True)
    return program


class Table:
    def __init__(self):
        self.passed = self.failed = 0
        print(f"{'model':10} {'engine':10} {'arithmetic':18} {'positions':>9} {'mean KL':>9} "
              f"{'worst':>9} {'top-1 %':>8}")

    def row(self, name, engine, arithmetic, figures):
        kl, worst, top1, n = figures
        print(f"{name:10} {engine:10} {arithmetic:18} {n:9} {kl:9.2g} {worst:9.2g} {top1:8.2f}",
              flush=True)

    def gate(self, ok, text):
        self.passed += ok
        self.failed += not ok
        if not ok:
            print(f"FAIL {text}", flush=True)


def check(name, path, args, llama, scratch, table):
    model = reference.Model(path)
    sequences = windows(args.build / "solvent", path, model.fields, args.windows)
    hidden = model.hidden([np.array(s) for s in sequences])
    ids = scratch / f"{name}.ids"
    ids.write_text("".join(" ".join(map(str, s)) + "\n" for s in sequences))
    ours = [args.build / "tests/logits", path, ids, "--chunk", str(ROWS)]

    kl, top1 = LLAMA_CPP.get(name, (None, 0))
    if llama:
        figures = compare([llama, path, ids], model, hidden)
        table.row(name, "llama.cpp", "its best", figures)
        top1 = figures[2]
    elif kl:
        print(f"{name:10} llama.cpp  as once measured: mean KL {kl}, top-1 {top1} %")
    figures = compare(ours + ["--cpu", "ref", "--exact"], model, hidden)
    table.row(name, "solvent", "ref, float32", figures)
    table.gate(figures[0] <= EXACT_KL, f"{name}, ref, float32: mean KL {figures[0]:.2g} > {EXACT_KL}")
    of = [(level, ["--cpu", level]) for level in args.cpu or levels()]
    of.append((of[-1][0] + ", KV int8", of[-1][1] + ["--kv-int8"]))
    for arithmetic, flags in of:
        figures = compare(ours + flags, model, hidden)
        table.row(name, "solvent", arithmetic, figures)
        table.gate(figures[0] <= QUANTISED_KL,
                   f"{name}, {arithmetic}: mean KL {figures[0]:.4f} > {QUANTISED_KL}")
        table.gate(figures[2] >= top1 - TOP1_POINTS,
                   f"{name}, {arithmetic}: top-1 {figures[2]:.2f} %, llama.cpp's is {top1:.2f} %")


def main():
    raw = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    p.add_argument("--build", type=Path, required=True)
    p.add_argument("--windows", type=int, help="only the first N windows")
    p.add_argument("--cpu", metavar="LEVEL", nargs="+", help="only these; else all of this machine but ref")
    p.add_argument("--llama", metavar="TREE")
    p.add_argument("models", nargs="+", metavar="NAME=MODEL.gguf")
    args = p.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        llama = build_llama(args.llama, Path(scratch)) if args.llama else None
        for name, path in (m.split("=", 1) for m in args.models):
            check(name, path, args, llama, Path(scratch), table)
    print(f"{table.passed} passed, {table.failed} failed")
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
