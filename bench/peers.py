"""The programs that bench/llama_cpp, bench/serve and bench/accuracy run: how each is built, started and read, and which
of its settings are worth a try."""
import collections
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'solvent-bench')
PEER = 'llama-cpp-python==0.3.36'
PEER_COMMIT = '0c1e57098'  # the llama.cpp in it, by its CHANGELOG.md
PEER_SHA256 = '832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e'
IK_COMMIT = '8337e4cd3'  # the ik_llama.cpp that was measured
PROGRAMS = ['llama-bench', 'llama-batched-bench', 'llama-completion', 'llama-perplexity', 'llama-quantize']
INSTRUCTIONS = {  # folder below the source: what its programs may use
    'build': ['-DGGML_NATIVE=ON'],
    'build-avx2': ['-DGGML_NATIVE=OFF', '-DGGML_AVX=ON', '-DGGML_AVX2=ON', '-DGGML_FMA=ON', '-DGGML_F16C=ON',
                   '-DGGML_BMI2=ON', '-DGGML_AVX512=OFF']}
# kind: prefill, decode, users (sequences decoded together) or start (seconds to a first token)
Test = collections.namedtuple('Test', 'name kind tokens depth users', defaults=(0, 1))


class Refused(Exception):
    """A program failed; the last of what it said."""


def cpu_name():
    for line in open('/proc/cpuinfo', encoding='utf-8'):
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.machine()


def times_as_good(unit, ours, theirs):
    """Times below 0.1 ms (of tokens that came together) count as that."""
    return max(theirs, 1e-4) / max(ours, 1e-4) if unit in ('s', 'x longer') else ours / theirs


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def run(command, folder=None):
    p = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')
    if p.returncode:
        raise Refused(f'{" ".join(command)[:400]} failed ({p.returncode}):\n{p.stderr[-2000:]}')
    return p


def run_until(pattern, command, folder=None):
    """The match in what a program of llama.cpp says, on a line of its own; its logger may lose the last lines at
    the exit, then the program runs again."""
    for _ in range(5):
        p = run(command, folder)
        found = re.search(pattern, p.stdout + '\n' + p.stderr, re.MULTILINE)
        if found:
            return found
    raise Refused(f'{" ".join(command)[:400]} printed no {pattern}:\n{p.stderr[-2000:]}')


def fetch_source(tree):
    """Unpacks the pinned llama.cpp once; returns its folder."""
    source = os.path.join(tree, 'llama.cpp')
    if os.path.exists(source):
        return source
    os.makedirs(tree, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree) as tmp:
        say(f'fetching the source of {PEER}')
        run([sys.executable, '-m', 'venv', f'{tmp}/venv'])
        with open(f'{tmp}/requirements', 'w', encoding='utf-8') as f:
            f.write(f'{PEER} --hash=sha256:{PEER_SHA256}\n')
        run([f'{tmp}/venv/bin/pip', 'download', '--no-deps', '--no-binary', ':all:', '-r',
             f'{tmp}/requirements', '-d', tmp])
        archive, = (n for n in os.listdir(tmp) if n.endswith('.tar.gz'))
        with tarfile.open(os.path.join(tmp, archive)) as tar:
            tar.extractall(tmp)
        os.rename(os.path.join(tmp, archive.removesuffix('.tar.gz'), 'vendor', 'llama.cpp'), source)
    return source


def build_llama_cpp(folder='build', programs=PROGRAMS):
    """Builds programs of llama.cpp once; returns their folder."""
    tree = os.path.join(CACHE, PEER.replace('==', '-'))
    build = os.path.join(tree, folder)
    built = os.path.join(build, 'bin')
    if not all(os.path.exists(os.path.join(built, p)) for p in programs):
        source = fetch_source(tree)
        say('building llama.cpp (some minutes)')
        run(['cmake', '-S', source, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DLLAMA_CURL=OFF',
             '-DLLAMA_BUILD_TESTS=OFF', '-DLLAMA_USE_PREBUILT_UI=OFF', *INSTRUCTIONS[folder]])
        run(['cmake', '--build', build, '-j', str(os.cpu_count()), '--target', *programs])
    return built


def commit_of(program, default):
    p = subprocess.run([program, '--version'], capture_output=True, text=True, errors='replace')
    commit = re.search(r'commit (\w+)', p.stdout + p.stderr)
    return commit[1] if commit and commit[1] != 'unknown' else default


class Solvent:
    name = 'solvent'

    def __init__(self, program, threads, cpu=None):
        self.program, self.threads, self.cpu = program, threads, ['--cpu', cpu] if cpu else []
        self.version = run([program, '--version']).stdout.split()[-1]
        commit = subprocess.run(['git', '-C', ROOT, 'describe', '--always', '--dirty'],
                                capture_output=True, text=True).stdout.strip()
        self.version = ' '.join([self.version, *commit.split(), *self.cpu])

    def can(self, _test):
        return True

    def speed(self, model, test, _flags):
        """Tokens a second, and the share of the peak."""
        length = {'prefill': ['-p', str(test.tokens), '-n', '0'], 'decode': ['-p', '0', '-n', str(test.tokens)],
                  'users': ['-n', str(test.tokens), '-u', str(test.users)]}[test.kind]
        p = run([self.program, 'bench', '-m', model, *length, '-d', str(test.depth), '-t', str(self.threads),
                 '-r', '1', '--json', *self.cpu])
        row, = (json.loads(line) for line in p.stdout.splitlines() if line.startswith('{'))
        return float(row['tokens_per_s']), row['share_of_peak']

    def answers(self, model, prompt, context, n):
        """{flags: the command that answers a prompt with them}"""
        return {'': [self.program, 'run', model, prompt, '--temp', '0', '--max-tokens', str(n), '-t',
                     str(self.threads), '--ctx', str(context), *self.cpu]}


class LlamaCpp:
    name = 'llama.cpp'

    def __init__(self, programs, threads, note=''):
        self.programs, self.threads = os.path.abspath(programs), threads
        commit = commit_of(os.path.join(programs, 'llama-bench'), PEER_COMMIT)
        self.version = f'{commit} ({PEER}{note})'

    def path(self, program):
        return os.path.join(self.programs, program)

    def can(self, test):
        return test.kind != 'start' or self.chat() is not None

    def chat(self):
        """The program that answers a prompt; None if it was not built."""
        return next(filter(os.path.exists, map(self.path, ('llama-completion', 'llama-cli'))), None)

    def settings(self, kind):
        """Every one of these is tried: flash attention and weight repacking, off and on."""
        repacks = ('', ' --no-repack') if kind == 'users' else (' --repack 1', ' --repack 0')
        return [f'-fa {fa}{repack}' for fa, repack in itertools.product(('off', 'on'), repacks)]

    def refinements(self, kind):
        """Then each of these with the best of those."""
        return [' -ub 128', ' -ub 256'] if kind == 'prefill' else []

    def speed(self, model, test, flags):
        speed = self.together if test.kind == 'users' else self.alone
        return speed(model, test, flags.split()), ''

    def alone(self, model, test, flags):
        p, g = (test.tokens, 0) if test.kind == 'prefill' else (0, test.tokens)
        return self.bench(model, ['-p', str(p), '-n', str(g), '-d', str(test.depth), *flags])

    def bench(self, model, flags):
        out = run([self.path('llama-bench'), '-m', model, '-t', str(self.threads), '-r', '1', '-o', 'json',
                   *flags]).stdout
        rows = json.loads(out[out.index('[\n'):])  # other lines may stand before
        return float(rows[0]['avg_ts'])

    def together(self, model, test, flags):
        command = self.batched(model, test, ['--output-format', 'jsonl', *flags])
        return float(run_until(r'^\{.*"speed_tg": ([\d.]+)', command)[1])

    def batched(self, model, test, flags):
        context = test.users * (test.depth + test.tokens)
        return [self.path('llama-batched-bench'), '-m', model, '-npp', str(test.depth), '-ntg',
                str(test.tokens), '-npl', str(test.users), '-c', str(context), '-t', str(self.threads), *flags]

    def answers(self, model, prompt, context, n):
        """Two command lines: as it comes, and with its smallest footprint."""
        if not self.chat():
            return {}
        line = [self.chat(), '-m', model, '-p', prompt, '-n', str(n), '-c', str(context), '-t',
                str(self.threads), '--temp', '0', '-st', '--simple-io', '--no-warmup']
        return {'': line, '--no-repack': line + ['--no-repack']}


class IkLlamaCpp(LlamaCpp):
    """A fork with kernels of its own. Its llama-bench knows no prefill after a context; start and memory are
    measured of the two others only."""
    name = 'ik_llama.cpp'

    def __init__(self, programs, threads):
        super().__init__(programs, threads)
        self.version = commit_of(self.path('llama-bench'), IK_COMMIT)

    def can(self, test):
        return test.kind != 'start' and not (test.kind == 'prefill' and test.depth)

    def settings(self, kind):
        repacks = ('', ' -rtr') if kind == 'users' else (' -rtr 0', ' -rtr 1')
        return [f'-fa {fa}{repack}' for fa, repack in itertools.product((0, 1), repacks)]

    def refinements(self, kind):
        merge = ' -mqkv' if kind == 'users' else ' -mqkv 1'
        return super().refinements(kind) + [merge]

    def alone(self, model, test, flags):
        if test.kind == 'prefill':
            length = ['-p', str(test.tokens), '-n', '0']
        elif test.depth:
            length = ['-p', '0', '-n', '0', '-gp', f'{test.depth},{test.tokens}']  # times the tokens only
        else:
            length = ['-p', '0', '-n', str(test.tokens)]
        return self.bench(model, [*length, *flags])

    def together(self, model, test, flags):
        """The one row of its table: PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG ...; a log is left where it runs."""
        with tempfile.TemporaryDirectory() as folder:
            row = run_until(r'^\|([ \d.|]+)\|\s*$', self.batched(model, test, flags), folder)
        return float(row[1].split('|')[7])

    def answers(self, model, prompt, context, n):
        return {}
