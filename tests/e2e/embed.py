#!/usr/bin/env python3
"""End to end: `solvent embed` on the tiny models of tests/data, and what encoders are refused for.

Usage: embed.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import json
import math
import os
import subprocess
import sys

SOLVENT = os.path.abspath(sys.argv[1])
DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")
BERT, LLAMA = DATA + "/embed/bert_f32.gguf", DATA + "/golden/llama_f32.gguf"
LINES = ["hello", "a b c", "", "the third, the last!", "zz " * 30, "hello"]


def embed(*args, text=None, model=BERT):
    return subprocess.run([SOLVENT, "embed", "-m", model, *args], input=text, capture_output=True, text=True)


def vectors(r):
    assert r.returncode == 0, r.stderr
    return [[float(x) for x in line.split(" ")] for line in r.stdout.splitlines()]


def length(v):
    return math.sqrt(sum(x * x for x in v))


def lines_and_arguments_are_the_same():
    a = vectors(embed(text="\n".join(LINES)))
    assert a == vectors(embed(text="\n".join(LINES) + "\n")) == vectors(embed(*LINES))
    assert len(a) == len(LINES) and {len(v) for v in a} == {48}
    assert a[0] == a[5] != a[1] and all(abs(length(v) - 1) < 1e-5 for v in a)


def many_lines_in_their_order():
    one = vectors(embed(*LINES))
    many = vectors(embed(text="\n".join(LINES * 300)))
    assert many == one * 300


def json_objects():
    r = embed("--json", text="\n".join(LINES))
    rows = [json.loads(line) for line in r.stdout.splitlines()]
    assert [row["index"] for row in rows] == list(range(len(LINES)))
    assert [row["tokens"] for row in rows][:3] == [7, 5, 2]
    assert [row["embedding"] for row in rows] == vectors(embed(*LINES))


def poolings_and_lengths():
    pooled = {how: vectors(embed("--pooling", how, "a b c"))[0] for how in ("mean", "cls", "last")}
    assert pooled["mean"] == vectors(embed("a b c"))[0]
    assert len({tuple(v) for v in pooled.values()}) == 3
    plain = vectors(embed("--no-normalize", "a b c"))[0]
    assert all(abs(x / length(plain) - y) < 1e-5 for x, y in zip(plain, pooled["mean"]))


def texts_beyond_the_context():
    long = "a " * 79
    r = embed("a", long)
    assert r.returncode == 1 and "text 2 has 81 tokens, 80 can be read" in r.stderr and not r.stdout
    r = embed("--truncate", "--json", long)
    assert json.loads(r.stdout)["tokens"] == 80
    # the end token stays: [CLS], 78 a, [SEP]
    assert json.loads(r.stdout)["embedding"] == json.loads(embed("--json", "a " * 78).stdout)["embedding"]
    assert "text 1 has 4 tokens, 3 can be read" in embed("--ctx", "3", "a b").stderr


def decoders_too():
    a = vectors(embed("hello", "hello world", model=LLAMA))
    assert a[0] != a[1] and abs(length(a[0]) - 1) < 1e-5
    assert a == vectors(embed("--pooling", "last", "hello", "hello world", model=LLAMA))


def flags_are_checked():
    for args, says in (([], "embed wants a model"), (["-m", BERT, "--pooling", "max", "x"], "not 'max'"),
                       (["-m", BERT, "--ctx", "81", "x"], "can read 80 at once")):
        r = subprocess.run([SOLVENT, "embed", *args], capture_output=True, text=True)
        assert r.returncode == 2 and says in r.stderr, r.stderr


def encoders_do_not_talk():
    for args in (["run", BERT, "hi"], ["bench", "-m", BERT], ["perplexity", "-m", BERT, __file__]):
        r = subprocess.run([SOLVENT, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert r.returncode == 1 and r.stderr.count("\n") == 1, r.stderr
        assert "no words to say, only vectors: see `solvent embed`" in r.stderr


passed = failed = 0
for test in (lines_and_arguments_are_the_same, many_lines_in_their_order, json_objects, poolings_and_lengths,
             texts_beyond_the_context, decoders_too, flags_are_checked, encoders_do_not_talk):
    try:
        test()
        passed += 1
        print("ok   ", test.__name__)
    except Exception as e:
        failed += 1
        print("FAIL ", test.__name__, repr(e))
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
