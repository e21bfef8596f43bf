#!/usr/bin/env python3
"""Renders every template of this folder with every conversation of cases.py, and random small
templates, through jinja2 and through `solvent template`: the same bytes, or both fail.
Usage: compare.py SOLVENT [--random N] [--seed N] [--show N]

The templates: qwen25_coder and smollm2 are those of the models of that name (Apache-2.0); the
others are written for this test in the manner of the families they are named after, with the
constructs of the originals and other words."""
import argparse
import concurrent.futures
import glob
import os
import sys
import tempfile
import warnings

import cases
import expressions
import reference

HERE = os.path.dirname(os.path.abspath(__file__))
# What Python prints of objects that are no data: it says where they lie in memory.
ADDRESSES = (' at 0x', '<built-in', '<bound method', '<class')
# What is refused on purpose: template.h says so, or Jinja itself is wrong. Constant slices of what
# has none are undefined in Jinja, others fail.
REFUSED = ('beyond 64 bits', 'complex numbers', 'cannot be sliced')
JINJA_BUG = 'Tried to resolve a name to a reference'


def agree(binary, name, source, path, variables, reply):
    """None if both do the same (or it cannot be told), else a description of what differs."""
    flags = () if reply else ('--no-generation-prompt',)
    for _ in range(2 if 'strftime_now' in source else 1):  # midnight may pass between the two
        want, error = reference.jinja(source, {'add_generation_prompt': reply, **variables})
        got, refusal = reference.solvent(binary, path, variables, *flags)
        if want == got:
            return None
    if want and any(a in want for a in ADDRESSES) or JINJA_BUG in (error or ''):
        return None
    if got is None and any(r in refusal for r in REFUSED):
        return None
    return f'{name}\n  jinja2:  {error or repr(want)}\n  solvent: {(refusal or repr(got)).strip()}'


def conversations():
    for path in sorted(glob.glob(os.path.join(HERE, '*.jinja'))):
        source = open(path, encoding='utf-8', newline='').read()
        for name, variables in cases.CASES.items():
            for reply in True, False:
                title = f'{os.path.basename(path)}, {name}, {"with" if reply else "no"} generation prompt'
                yield title, source, path, {'bos_token': '<s>', 'eos_token': '</s>', **variables}, reply


def randoms(folder, seed, count):
    for i, source in enumerate(expressions.templates(seed, count)):
        path = os.path.join(folder, str(i))
        open(path, 'w', encoding='utf-8').write(source)
        yield f'seed {seed}, number {i}: {source!r}', source, path, expressions.VARIABLES, False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('binary')
    parser.add_argument('--random', type=int, default=1500, metavar='N')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--show', type=int, default=20, metavar='N', help='differences to print')
    o = parser.parse_args()
    warnings.simplefilter('ignore')  # of Python about templates like {{ 1[2] }}
    failed = passed = 0
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [*conversations(), *randoms(folder, o.seed, o.random)]
        for difference in pool.map(lambda w: agree(o.binary, *w), work):
            passed += difference is None
            failed += difference is not None
            if difference and failed <= o.show:
                print(difference)
    print(f'{passed} passed, {failed} failed')
    return failed > 0


if __name__ == '__main__':
    sys.exit(main())
