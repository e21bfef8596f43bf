#!/usr/bin/env python3
"""End to end: man page, --help and bash completion agree with each other.

Usage: manual.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import os
import re
import subprocess
import sys

SOLVENT = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMON = ("run", "bench", "perplexity")


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, check=True, **kw).stdout


def commands():
    return re.findall(r"^  ([a-z]+) ", run(SOLVENT, "--help"), re.M)


def flags_of(command):
    """Long flags of a command, as its --help lists them."""
    text = run(SOLVENT, command, "--help")
    return set(re.findall(r"^  (?:-\w,)?(--[a-z0-9-]+)", text, re.M))


def manual():
    """{section: flags} of the man page's source."""
    with open(ROOT + "/man/solvent.1", encoding="utf-8") as f:
        text = f.read().replace("\\-", "-")
    found = {}
    for part in text.split("\n.S")[1:]:
        title, _, body = part.partition("\n")
        items = re.findall(r"^\.TP\n(.*)", body, re.M)
        found[title[1:].strip()] = set(re.findall(r"--[a-z0-9-]+", "\n".join(items)))
    return found


def manual_names_every_flag():
    sections = manual()
    shared = sections["Of run, bench and perplexity"]
    for c in commands():
        real, told = flags_of(c), sections[c] | (shared if c in COMMON else set())
        assert real <= told, f"{c}: not in the man page: {real - told}"
        told = sections[c] - real
        assert not told, f"{c}: only in the man page: {told}"


def usage_goes_to_the_right_place():
    for c in commands():
        p = subprocess.run([SOLVENT, c, "--no-such-flag"], capture_output=True, text=True,
                           stdin=subprocess.DEVNULL)
        assert p.returncode == 2 and not p.stdout and "--no-such-flag" in p.stderr, (c, p)
    p = subprocess.run([SOLVENT], capture_output=True, text=True)
    assert p.returncode == 2 and not p.stdout and p.stderr.startswith("usage:")
    p = subprocess.run([SOLVENT, "nosuch"], capture_output=True, text=True)
    assert p.returncode == 2 and "nosuch" in p.stderr


def complete(*words):
    """What bash offers for the last of these words."""
    script = (f'source {ROOT}/completions/solvent.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
              '_solvent; printf "%s\\n" "${COMPREPLY[@]}"')
    env = {**os.environ, "XDG_DATA_HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    return set(run("bash", "-c", script, "bash", SOLVENT, *words, env=env).split())


def completion():
    assert set(commands()) <= complete(""), complete("")
    assert complete("pu") == {"pull"}
    for c in commands():
        assert complete(c, "--") == flags_of(c) | {"--help"}, (c, complete(c, "--"))
    assert "smollm2-135m" in complete("pull", "s")
    assert complete("rm", "s") == set()  # nothing is here


def main():
    failed = 0
    tests = (manual_names_every_flag, usage_goes_to_the_right_place, completion)
    for f in tests:
        try:
            f()
            print(f"ok    {f.__name__}")
        except (AssertionError, subprocess.CalledProcessError, KeyError) as e:
            failed += 1
            print(f"FAIL  {f.__name__}: {e!r}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
