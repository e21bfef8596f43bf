#!/usr/bin/env python3
"""Speculation from outside: `run --speculate` and `--draft` change the speed and nothing else.

Usage: speculate.py BUILD/solvent [MODEL.gguf ... [-- FLAGS OF RUN]]. Without models the tiny ones of tests/data/golden,
greedy and sampled; with them 50 prompts of 256 tokens each, greedy. A line for each setting tells the tokens/s (all
tokens by all seconds) and what was drafted. Ends with "N passed, N failed".
"""
import re
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data/golden"
TEXT = (DATA / "text.txt").read_text()
TASKS = ["Write a story about %s.", "Explain %s to a child.", "Write a C function about %s.", "List facts about %s:\n1.",
         "%s, %s, %s, %s and again: %s, %s,"]
THINGS = ["a lighthouse", "prime numbers", "the sea", "bread", "rivers"]
STATS = re.compile(r"answer: (\d+) tokens, ([\d.]+) tokens/s(?:; drafted: (\d+) tokens, (\d+) of them right)?")


class Check:
    def __init__(self, solvent):
        self.solvent = solvent
        self.passed = self.failed = 0

    def ok(self, good, text):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print("FAIL", text)

    def run(self, *args):
        return subprocess.run([self.solvent, "run", *args], capture_output=True, stdin=subprocess.DEVNULL)

    def answer(self, model, prompt, *args):
        """Text, tokens, seconds, drafted, accepted."""
        out = self.run(model, prompt, "--raw", "--ignore-eos", "--stats", *args)
        found = STATS.search(out.stderr.decode())
        if out.returncode or not found:
            sys.exit(out.stderr.decode())
        tokens, rate, drafted, right = (float(x or 0) for x in found.groups())
        return out.stdout, (tokens, tokens / rate if rate else 0, drafted, right)


def prompts(count):
    for i in range(count):
        task, at = TASKS[i % 5], i * 97 % (len(TEXT) - 800)
        if i % 2:
            yield TEXT[at : at + 100 + 12 * i]
        else:
            yield task.replace("%s", THINGS[i // 5 % 5])


def same(check, model, count, tokens, samplers, variants):
    """variants: flags; the first of them are plain decoding."""
    sums = [[0.0] * 4 for _ in variants]
    for i, prompt in enumerate(prompts(count)):
        for sampler in samplers:
            plain = None
            for v, flags in enumerate(variants):
                text, figures = check.answer(model, prompt, "-n", str(tokens), *sampler, *flags)
                if plain is None:
                    plain = text
                else:
                    check.ok(text == plain, f"{model}, prompt {i}, {' '.join(sampler + flags)}: another answer")
                sums[v] = [a + b for a, b in zip(sums[v], figures)]
    for flags, (n, seconds, drafted, right) in zip(variants, sums):
        print(f"{Path(model).name} {' '.join(flags)}: {n / seconds:.1f} tokens/s, {drafted:.0f} drafted, {right:.0f} right")


def refused(check, model, says, *args):
    out = check.run(model, "x", "--raw", *args)
    text = out.stderr.decode()
    check.ok(out.returncode == 2 and text.count("\n") == 1 and says in text, f"{args}: {out.returncode} {text}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    check, models, flags = Check(sys.argv[1]), sys.argv[2:], []
    if "--" in models:
        at = models.index("--")
        models, flags = models[:at], models[at + 1 :]
    greedy = ["--temp", "0"]
    for model in models:
        same(check, model, 50, 256, [greedy + flags], [["--speculate", "off"], ["--speculate", "auto"]])
    if not models:
        llama, gemma = (str(DATA / f"{name}.gguf") for name in ("llama_q4_0", "gemma3_q5_0"))
        same(check, llama, 5, 60, [greedy + ["-t", "1"], ["--seed", "7", "-t", "1"]],
             [["--speculate", "off"], [], ["--speculate", "6"], ["--draft", llama],
              ["--draft", str(DATA / "llama_q2_k.gguf"), "--speculate", "3"]])
        refused(check, llama, "the draft model", "--draft", gemma)
        refused(check, llama, "no --speculate off", "--draft", llama, "--speculate", "off")
        for wrong in ("16", "-1", "0", "x", "", "4x"):
            refused(check, llama, "auto, off or 1 to 15", "--speculate", wrong)
        off = check.run(llama, "x", "--raw", "--stats", "--speculate", "off", "-n", "3")
        check.ok(b"drafted" not in off.stderr, "--speculate off tells of drafts")
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


sys.exit(main())
