"""Jinja as Hugging Face transformers sets it up for chat templates: the original that `solvent
template` is compared with."""
import datetime
import functools
import json
import subprocess

import jinja2
import jinja2.ext
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}: marks what the model said; prints it as it is."""
    tags = {'generation'}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method('body'), [], [], body).set_lineno(line)

    def body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters['tojson'] = tojson
    env.globals['raise_exception'] = raise_exception
    env.globals['strftime_now'] = lambda form: datetime.datetime.now().strftime(form)
    return env


ENVIRONMENT = environment()


@functools.lru_cache(4)
def compiled(source):
    return ENVIRONMENT.from_string(source)


def jinja(source, variables):
    """(text, None) or (None, what went wrong)"""
    try:
        return compiled(source).render(**variables), None
    except Exception as e:
        return None, f'{type(e).__name__}: {e}'


def solvent(binary, template_file, variables, *flags):
    """The same, of `solvent template`."""
    run = subprocess.run([binary, 'template', '--template', template_file, *flags],
                         input=json.dumps(variables).encode(), capture_output=True, timeout=60)
    if run.returncode not in (0, 1):
        raise SystemExit(f'{binary} ended with {run.returncode} on {template_file}: '
                         f'{run.stderr.decode()}')
    return (run.stdout.decode(), None) if run.returncode == 0 else (None, run.stderr.decode())
