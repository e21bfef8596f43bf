#!/usr/bin/env python3
"""Compares what `solvent template` prints with what jinja2 (set up as Hugging Face transformers does)
renders: every NAME.jinja here on every conversation in cases.json, byte for byte, or a failure of
both; with --expressions, random small templates instead.

    compare.py SOLVENT [--only NAME] [--case NAME] [--jobs 2]
    compare.py SOLVENT --expressions [N] [--seed S]

Needs python3-jinja2. Ends with `N passed, N failed`."""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import sys
import tempfile

import expressions
import reference

HERE = pathlib.Path(__file__).resolve().parent
COMMON = {'bos_token': '<s>', 'eos_token': '</s>', 'add_generation_prompt': True}
SHOWN = 60  # characters around the first difference
Job = collections.namedtuple('Job', 'label path source variables')


def say(side, result):
    text, why = result
    return f'    {side}: ' + (f'fails: {why.strip()}' if text is None else f'{len(text)} characters')


def difference(want, got):
    """Lines that show where the two results part."""
    lines = [say('jinja2 ', want), say('solvent', got)]
    if want[0] is None or got[0] is None:
        if (want[0] or got[0] or '') and len(want[0] or got[0]) <= 2 * SHOWN:
            lines[want[0] is None] += f' {want[0] or got[0]!r}'
        return lines
    at = next((i for i, (a, b) in enumerate(zip(*(r[0] for r in (want, got)))) if a != b),
              min(len(want[0]), len(got[0])))
    cut = slice(max(0, at - SHOWN // 2), at + SHOWN)
    return [f'{line}, differ at {at}: {r[0][cut]!r}' for line, r in zip(lines, (want, got))]


def compare(binary, job):
    """None where both agree, else lines for people. Once more where the date may have changed."""
    for _ in range(2 if 'strftime_now' in job.source else 1):
        want = reference.jinja(job.source, job.variables)
        got = reference.solvent(binary, str(job.path), job.variables)
        if want[0] == got[0]:
            return None
    return [f'{job.label}: differs'] + difference(want, got)


def corpus(args):
    cases = json.loads((HERE / 'cases.json').read_text())
    for path in sorted(HERE.glob('*.jinja')):
        source = path.read_text()
        for name, variables in cases.items():
            if args.only in (None, path.stem) and args.case in (None, name):
                yield Job(f'{path.stem} on {name}', path, source, COMMON | variables)


def small(args, folder):
    for i, source in enumerate(expressions.templates(args.seed, args.expressions)):
        path = pathlib.Path(folder) / f'{i}.jinja'
        path.write_text(source)
        yield Job(f'seed {args.seed}, number {i}: {source!r}', path, source, expressions.VARIABLES)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('solvent')
    p.add_argument('--only', metavar='NAME', help='this template alone')
    p.add_argument('--case', metavar='NAME', help='this conversation alone')
    p.add_argument('--jobs', type=int, default=2)
    p.add_argument('--expressions', type=int, nargs='?', const=300, metavar='N')
    p.add_argument('--seed', type=int, default=1)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = small(args, folder) if args.expressions else corpus(args)
        results = list(pool.map(lambda job: compare(args.solvent, job), jobs))
    failed = [lines for lines in results if lines]
    for lines in failed:
        print('\n'.join(lines))
    print(f'{len(results) - len(failed)} passed, {len(failed)} failed')
    return 1 if failed or not results else 0


if __name__ == '__main__':
    sys.exit(main())
