"""The files that bench/llama_cpp and bench/accuracy measure: a path as it is; a catalogue name from the store,
pulled if need be; or a synthetic model, "llama-1b-q4_0": seeded random weights at the shape of Llama 3.2,
made here by tests/random_model and `solvent convert`, and removed after use unless they are to be kept."""
import contextlib
import os
import shutil
import sys

from peers import CACHE, ROOT, run, say

STORE = os.path.join(os.environ.get('XDG_DATA_HOME') or os.path.expanduser('~/.local/share'),
                     'solvent', 'models')
REAL = ['qwen2.5-coder-1.5b', 'smollm2-135m', 'gemma3-270m']
# One mixture of each block format; the other mixtures (q4_k_s ...) are made of the same blocks.
TYPES = ['f16', 'bf16', 'q8_0', 'q6_k', 'q5_k_m', 'q5_1', 'q5_0', 'q4_k_m', 'iq4_xs', 'iq4_nl', 'mxfp4',
         'q4_1', 'q4_0', 'q3_k_m', 'q2_k']
TYPES_OF_3B = ['q4_k_m', 'q4_0']
SHAPES = ['llama-1b', 'llama-3b']
NEEDED_GB = {'llama-1b': 10, 'llama-3b': 14}  # the folder, the file, its pack; float32 for bench/accuracy


def synthetic(types, shapes=SHAPES):
    """The names of the models of these types."""
    return [f'{shape}-{t}' for shape in shapes for t in types if shape != 'llama-3b' or t in TYPES_OF_3B]


class Models:
    """Used in a `with`: of what was made only files that are to be kept are left at its end."""

    def __init__(self, solvent, random_model=None, keep=False):
        self.solvent, self.keep = solvent, keep
        self.random_model = random_model or next(filter(os.path.exists, (
            os.path.join(build, 'tests', 'random_model')
            for build in (os.path.dirname(solvent), os.path.join(ROOT, 'build-check')))), None)
        self.folder = os.path.join(CACHE, 'synthetic')
        self.source = None  # the Hugging Face folder of the last shape

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop_source()

    @contextlib.contextmanager
    def open(self, name):
        """The path of a model, for a while."""
        shape = next((s for s in SHAPES if name.startswith(s + '-')), None)
        if os.path.exists(name):
            yield os.path.abspath(name)
        elif shape:
            yield from self.made(name, shape)
        else:
            path = os.path.join(STORE, name + '.gguf')
            if not os.path.exists(path):
                say(f'pulling {name}')
                run([self.solvent, 'pull', name])
            yield path

    def made(self, name, shape):
        path, packs = os.path.join(self.folder, name + '.gguf'), os.path.join(self.folder, 'packs')
        fresh = not os.path.exists(path)
        if fresh:
            self.make(path, shape, name.removeprefix(shape + '-'))
        before = os.environ.get('SOLVENT_PACKS')
        os.environ['SOLVENT_PACKS'] = packs
        try:
            yield path
        finally:
            os.environ.pop('SOLVENT_PACKS')
            if before is not None:
                os.environ['SOLVENT_PACKS'] = before
            shutil.rmtree(packs, ignore_errors=True)
            if fresh and not self.keep:
                os.remove(path)

    def make(self, path, shape, type_):
        source = os.path.join(self.folder, shape)
        os.makedirs(self.folder, exist_ok=True)
        if source != self.source:
            self.drop_source()
            if shutil.disk_usage(self.folder).free < NEEDED_GB[shape] << 30:
                sys.exit(f'{self.folder}: {shape} needs {NEEDED_GB[shape]} GB')
            if not self.random_model:
                sys.exit('no tests/random_model beside solvent or in build-check: ./check builds it')
            say(f'making {shape}')
            self.source = source
            run([self.random_model, '--shape', shape, source])
        say(f'converting {shape} to {type_}')
        run([self.solvent, 'convert', source, '-o', path, '--type', type_, '--force'])

    def drop_source(self):
        if self.source:
            shutil.rmtree(self.source, ignore_errors=True)
        self.source = None
