"""Random small templates, to be rendered by jinja2 and by solvent: expressions over a few variables,
with operators, filters, tests, methods and slices, some inside statements. Types are mixed on
purpose: half of what comes out fails, and must fail in both."""
import random

VARIABLES = {
    'a': 3, 'b': -2, 'z': 0, 'f': 2.5, 'g': -0.125, 'big': 1e20, 't': True, 'n': None,
    's': 'Hello, World', 'e': '', 'u': 'Grüße, 世界! ñ', 'w': '  two\n words\t', 'm': 'a-b_c d.e',
    'num': ' 42 ', 'q': 'it\'s "x" \\ \n', 'csv': 'one,two,,three', 'html': '<a href="x">&</a>',
    'l': [1, 2, 3, 4], 'sl': ['b', 'A', 'c', 'B'], 'ml': [1, 'x', None, 2.5, [1], {'k': 'v'}],
    'el': [], 'nested': [[1, 2], [3, 4], [5]], 'd': {'x': 1, 'y': 'two', 'Z': [3], 'items': 'i'},
    'ed': {}, 'people': [{'name': 'Ann', 'age': 30, 'tags': ['p', 'q']},
                         {'name': 'bob', 'age': 25, 'x': {'y': 1}},
                         {'name': 'Cid', 'age': 30, 'x': {'y': None}}],
}
STRINGS = ["''", "'a'", "'b'", "', '", "'x'", "'l'", "'World'", "' '", "','", "'%s'", "'%d-%s'", "'{}'",
           "'{0}-{k}'", "'é'", "'世'", "'name'", "'age'", "'x.y'", "'\\n'", "'aXbXc'", "\"it's\""]
NUMBERS = ['0', '1', '2', '-1', '3', '7', '10', '0.5', '1.0', '2.75', '1e3', '100', '-3', '1_000']
TESTS = ['defined', 'undefined', 'none', 'boolean', 'true', 'false', 'integer', 'float', 'number', 'string',
         'mapping', 'sequence', 'iterable', 'callable', 'odd', 'even', 'lower', 'upper', 'escaped',
         'divisibleby 2', 'divisibleby(3)', 'eq 1', "equalto('a')", 'ne 2', 'gt 1', 'lt(3)', 'ge 2', 'le 0',
         'in [1, "a"]', 'sameas true', 'sameas none', "in 'abc'"]
BINARY = ['+', '-', '*', '/', '//', '%', '**', '~', '==', '!=', '<', '<=', '>', '>=', 'in', 'not in', 'and',
          'or']


class Maker:
    def __init__(self, rng):
        self.r = rng

    def pick(self, *what):
        return self.r.choice(what)

    def atom(self):
        r = self.r.random()
        if r < .45:
            return self.r.choice(list(VARIABLES))
        if r < .6:
            return self.r.choice(STRINGS)
        if r < .8:
            return self.r.choice(NUMBERS)
        if r < .85:
            return self.pick('true', 'false', 'none', 'undefined_name', 'True', 'None')
        return self.pick('[]', '()', '{}', "{'k': 1}", '(1, 2)', '(1,)', "['a', 'b']", 'range(5)',
                         'range(3, 0, -1)', '[[3, 1], [2]]', "{'b': 2, 'a': 1}", "dict(k=1)",
                         'namespace(x=1)', "{1: 'a', none: 2}")

    def expr(self, depth=2):
        if depth == 0:
            return self.atom()
        r = self.r.random()
        e = lambda: self.expr(depth - 1)
        if r < .12:
            return self.atom()
        if r < .30:
            return f'{e()} {self.r.choice(BINARY)} {e()}'
        if r < .34:
            return f'({e()})'
        if r < .37:
            return f'{self.pick("not ", "-", "+")}{e()}'
        if r < .42:
            return f'{e()} is {self.pick("", "not ")}{self.r.choice(TESTS)}'
        if r < .45:
            return f'{e()} if {e()}' + self.pick('', f' else {e()}')
        if r < .50:
            return f'{self.atom()}[{self.subscript(e)}]'
        if r < .53:
            return f'{self.atom()}.{self.pick("x", "name", "y", "items", "0", "k", "real_", "keys")}'
        if r < .57:
            return self.pick(f'[{e()}, {e()}]', f"{{'p': {e()}, 'q': {e()}}}", f'({e()}, {e()})')
        if r < .60:
            return f'{e()} {self.pick("<", "==", "<=", "!=")} {e()} {self.pick("<", ">", "==")} {e()}'
        if r < .78:
            return f'{self.atom()}.{self.method(e)}'
        return f'{e()}{self.filters(e)}'

    def subscript(self, e):
        if self.r.random() < .4:
            return e()
        bound = lambda: self.pick('', '', '0', '1', '2', '-1', '-2', '10', '-10', 'none')
        return f'{bound()}:{bound()}' + self.pick('', f':{self.pick("1", "2", "-1", "-2", "", "5", "-9")}')

    def method(self, e):
        s = lambda: self.pick(self.r.choice(STRINGS), self.atom())
        i = lambda: self.pick('0', '1', '2', '-1', '3', '-3', '12')
        return self.r.choice([
            'upper()', 'lower()', 'title()', 'capitalize()', 'swapcase()', 'strip()', 'lstrip()', 'rstrip()',
            f'strip({s()})', f'lstrip({s()})', f'rstrip({s()})', 'split()', f'split({s()})',
            f'split({s()}, {i()})', f'rsplit({s()}, {i()})', f'split(none, {i()})', f'rsplit(none, {i()})',
            f'split(maxsplit={i()})', 'splitlines()', 'splitlines(true)', f'startswith({s()})',
            f'endswith({s()})', f"startswith(({s()}, 'H'))", f'startswith({s()}, {i()})', f'find({s()})',
            f'rfind({s()})', f'find({s()}, {i()})', f'find({s()}, {i()}, {i()})', f'index({s()})',
            f'rindex({s()})', f'count({s()})', f'count({s()}, {i()}, {i()})', f'replace({s()}, {s()})',
            f'replace({s()}, {s()}, {i()})', f'join({e()})', f'partition({s()})', f'rpartition({s()})',
            f'format({e()})', f'format({e()}, k={e()})', f'center({i()})', f"ljust({i()}, '*')",
            f'rjust({i()})', f'zfill({i()})', f'removeprefix({s()})', f'removesuffix({s()})', 'isdigit()',
            'isalpha()', 'isalnum()', 'isspace()', 'islower()', 'isupper()', 'isascii()', 'items()', 'keys()',
            'values()', f'get({s()})', f'get({s()}, {e()})', 'copy()', f'index({e()})', f'append({e()})',
            f'update({e()})', f'setdefault({s()}, 1)', 'items()|list', 'keys()|list',
            'values()|list'])

    def filters(self, e):
        return ''.join('|' + self.filter(e) for _ in range(self.pick(1, 1, 1, 2, 3)))

    def filter(self, e):
        s = lambda: self.r.choice(STRINGS)
        i = lambda: self.pick('0', '1', '2', '3', '-1', '5')
        b = lambda: self.pick('true', 'false')
        attr = lambda: self.pick("'name'", "'age'", "'x'", "'x.y'", "0", "'0'", "'tags.0'", "'nope'")
        test = lambda: self.pick("'odd'", "'string'", "'none'", "'defined'", "'equalto', 1", "'gt', 1",
                                 "'in', [1, 2]", "'==', 'x'", "'eq', 30", "'mapping'", "'nosuch'")
        name = lambda: self.pick("'upper'", "'length'", "'string'", "'int'", "'list'", "'first'", "'tojson'",
                                 "'replace', 'a', 'b'", "'default', 5", "'abs'", "'nosuch'", "'title'")
        return self.r.choice([
            'abs', 'capitalize', 'count', 'd', f'default({e()})', f'default({e()}, {b()})', 'dictsort',
            f'dictsort({b()})', "dictsort(by='value')", 'dictsort(reverse=true)', 'e', 'escape', 'first',
            'float', f'float({e()})', f'format({e()})', f'format({e()}, {e()})', f'groupby({attr()})',
            f'groupby({attr()}, default={e()})', 'indent', f'indent({i()})', f'indent({i()}, true)',
            f"indent('> ', first=true, blank={b()})", 'int', f'int({i()})', 'int(base=16)', 'items|list', 'join',
            f'join({s()})', f"join({s()}, attribute={attr()})", 'last', 'length', 'list', 'lower',
            f'map(attribute={attr()})|list', f'map(attribute={attr()}, default={e()})|list',
            f'map({name()})|list', f'map({name()})|join({s()})', 'max', 'min', f'max(attribute={attr()})',
            f'min({b()})', f'reject({test()})|list', 'reject|list', f'select({test()})|list', 'select|list',
            f'selectattr({attr()})|list', f'selectattr({attr()}, {test()})|list',
            f'rejectattr({attr()}, {test()})|list', f'replace({s()}, {s()})', f'replace({s()}, {s()}, {i()})',
            'reverse', 'reverse|list', 'round', f'round({i()})', f"round(1, {s()})", "round(method='ceil')",
            "round(2, 'floor')", 'safe', 'sort', 'sort(reverse=true)', 'sort(false, true)',
            f'sort(attribute={attr()})', "sort(attribute='age,name')", 'string', 'sum', f'sum({attr()})',
            f'sum(start={e()})', 'title', 'tojson', f'tojson(indent={i()})', 'tojson(ensure_ascii=true)',
            "tojson(separators=(',', ':'))", 'tojson(sort_keys=true)', "tojson(indent='--')", 'trim',
            f'trim({s()})', f'truncate({i()})', "truncate(8, true)", "truncate(9, false, '..', 0)",
            'unique|list', f'unique({b()})|list', f'unique(attribute={attr()})|list', 'upper', 'wordcount',
            f'batch({i()})|list', f'batch(2, {s()})|list', f'slice({i()})|list', f"slice(2, {s()})|list",
            'forceescape', 'center(9)', f'attr({attr()})'])

    def statement(self):
        e = lambda: self.expr(self.pick(1, 2))
        loop = lambda: self.pick('loop.index', 'loop.first', 'loop.last', 'loop.length', 'loop.revindex',
                                 'loop.index0', 'loop.revindex0', 'loop.previtem', 'loop.nextitem',
                                 "loop.cycle('a', 'b')", 'loop.changed(i is odd)', 'loop.depth', e())
        return self.r.choice([
            f'{{% for i in {e()} %}}[{{{{ i }}}}:{{{{ {loop()} }}}}]{{% endfor %}}',
            f'{{% for i in {e()} if {e()} %}}{{{{ {loop()} }}}},{{{{ {loop()} }}}}{{% else %}}none{{% endfor %}}',
            f'{{% for i in {self.atom()} if i is {self.r.choice(TESTS)} %}}{{{{ {loop()} }}}};{{% endfor %}}',
            f'{{% for k, v in {e()} %}}{{{{ k }}}}={{{{ v }}}};{{% endfor %}}',
            f'{{% for k, v in {self.pick("d", "ed", e())}.items() %}}{{{{ k ~ v }}}};{{% endfor %}}',
            f'{{% for i in {e()} %}}{{% if {e()} %}}{{% {self.pick("break", "continue")} %}}{{% endif %}}'
            f'{{{{ i }}}}{{% else %}}else{{% endfor %}}',
            f'{{% if {e()} %}}yes{{% elif {e()} %}}maybe{{% else %}}no{{% endif %}}',
            f'{{% set v = {e()} %}}{{{{ v }}}}{{{{ v is string }}}}',
            f'{{% set v, x = {e()} %}}{{{{ v }}}}/{{{{ x }}}}',
            f'{{% set v{self.filters(e)} %}} a {{{{ {e()} }}}} {{% endset %}}[{{{{ v }}}}]',
            f'{{% set ns = namespace(c=0, d=d) %}}{{% for i in {self.pick("l", "sl", e())} %}}'
            f'{{% set ns.c = ns.c + 1 %}}{{% set ns.e = {e()} %}}{{% endfor %}}{{{{ ns.c }}}}{{{{ ns.e }}}}',
            f'{{% macro mac(p, q={e()}) %}}<{{{{ p }}}}|{{{{ q }}}}>{{% endmacro %}}'
            f'{{{{ mac({self.pick("1", "1, 2", "q=3", "1, q=2", "1, 2, 3", "", "r=1", "*l", "**d")}) }}}}',
            f'{{% macro mac() %}}{{{{ varargs }}}}{{{{ kwargs }}}}{{{{ o }}}}{{% endmacro %}}'
            f'{{% set o = {e()} %}}{{{{ mac({self.pick("1", "1, k=2", "k=3", "", "*l", "*sl, k=1, **ed")}) }}}}',
            f'{{% macro mac(p) %}}[{{{{ caller({self.pick("", "p", "1, 2")}) }}}}]{{% endmacro %}}'
            f'{{% call{self.pick("", "(c)", "(c, d=4)")} mac({e()}) %}}{{{{ c }}}}{{{{ d }}}}{{% endcall %}}',
            f'{{% filter {self.filter(e)} %}}x {{{{ {e()} }}}}\n y{{% endfilter %}}',
            f'{{% with v = {e()}, y = {e()} %}}{{{{ v }}}}{{{{ y }}}}{{% endwith %}}{{{{ v is defined }}}}',
            f'{{% generation %}}{{% set v = {e()} %}}{{{{ v }}}}{{% endgeneration %}}{{{{ v }}}}',
            f'{{% for i in l %}}{{% for j in {e()} %}}{{{{ loop.index }}}}{{{{ i }}}}{{{{ j }}}}'
            f'{{% endfor %}}{{{{ loop.last }}}}{{% endfor %}}',
            f'{{% for i in l %}}{{% set v = {e()} if loop.first else v %}}{{{{ v }}}}{{% endfor %}}{{{{ v }}}}',
            f' \n {{%- if {self.atom()} -%}} \n x \n {{%- endif %}}\n\n  {{% set v = 1 %}}\n {{{{- v }}}} \n',
            f'  {{% if {self.atom()} %}}  \n  x\n  {{%+ endif +%}}\n  {{# c #}}\n {{#- c -#}} \n y',
            f'{{% raw %}}{{{{ x }}}}{{% if %}}{{% endraw %}}\n{{%- raw -%}} \n{{{{ {{%- endraw -%}}  {{{{ {e()} }}}}',
            f'{{% macro f(n) %}}{{{{ n }}}}{{% if n > 0 %}}{{{{ f(n - 1) }}}}{{% endif %}}{{% endmacro %}}'
            f'{{{{ f({self.pick("3", "0", self.atom())}) }}}}',
        ])

    def number(self):
        return self.pick('0', '1', '-1', '7', '42', '255', '-300', '1234567', '1e15', '1e16', '123456789.125', '0.1',
                         '1e-5', '0.0001', '-2.5', '2.675', '1e22', '3.0', '1e300', '-0.0', 'true', '100000000000',
                         '9007199254740993', '5e-324', '0.5', '1.5')

    def formatted(self):
        """Numbers and widths in text, both of Python's ways; tabs, signs, fills, escapes."""
        spec = (self.pick('', '', '<', '>', '^', '=', '*<', '.^', '0>') + self.pick('', '', '+', '-', ' ')
                + self.pick('', '', '0') + self.pick('', '', '1', '5', '12') + self.pick('', '', ',')
                + self.pick('', '', '.0', '.2', '.5') + self.pick('', '', 'd', 'f', 'e', 'g', 's', 'x', 'o', 'b', '%'))
        percent = ('%' + self.pick('', '', '-', '0', '+', ' ', '-0') + self.pick('', '', '1', '6', '10')
                   + self.pick('', '', '.0', '.1', '.3', '.') + self.pick(*'dsrfegxXociuG'))
        value = self.pick(self.number(), self.number(), "'text'", "'é'", 'none', 'l')
        return self.r.choice([
            "{{ '[{:%s}]'.format(%s) }}" % (spec, value), "{{ '[{0:%s}|{0}]'.format(%s) }}" % (spec, value),
            "{{ '[%s]' %% %s }}" % (percent, value), "{{ '%s|%s' | format(%s, %s) }}"
            % (percent, percent, value, self.number()), '{{ %s }}' % value,
            '{{ %s | tojson }}' % value, '{{ %s | round(%s) }}' % (self.number(), self.pick('0', '1', '2', '-1', '-2')),
            '{{ %s %s %s }}' % (self.number(), self.pick('+', '-', '*', '/', '//', '%', '<', '=='), self.number()),
            "{{ '%%(k)%s %%(j)s' %% {'k': %s, 'j': 1} }}" % (percent[1:], value),
            "{{ %s | int }} {{ %s | float }} {{ '%s' | int(5) }} {{ '%s' | float(1.5) }}"
            % (self.number(), self.number(), self.pick(' 12 ', '1_000', '0x1f', '-3.9', '1e3', 'x', '', '+7', '1__0'),
               self.pick(' 12.5 ', 'nan', '-inf', '1_0.5', '.5', '5.', 'e5', '1e', '0x1p3', 'infinity')),
            "{{ '%s' }}" % self.pick(r'\n\t\\\'', r'\x41\u00e9\U0001F600', r'\101\7\q\a', r'a\
b', '"', r'\x80\xff')
            + "{{ ['%s'] | string }}" % self.pick(r'\x00\x1f\x7f', r'\u200b\u2028\xa0', r'\'"', '\\"', 'é世\U0001F600'),
        ])

    def spaces(self):
        """White space around tags of every kind."""
        sign = lambda: self.pick('', '', '-', '+')
        gap = lambda: self.pick('', ' ', '\n', ' \n', '\n ', '\n\n', '  \t', '\r\n', 'x', ' x ', '\nx\n', '\u00a0', '\u2003\n')
        tag = lambda: self.r.choice([
            f'{{%{sign()} set v = 1 {sign()}%}}', f'{{{{{self.pick("", "-")} a {self.pick("", "-")}}}}}',
            f'{{#{sign()} c {sign()}#}}', f'{{%{sign()} if a {sign()}%}}{gap()}{{%{sign()} endif {sign()}%}}',
            f'{{%{sign()} raw {self.pick("", "-")}%}}{gap()}{{{{{gap()}{{%{sign()} endraw {sign()}%}}',
            f'{{%{sign()} for i in l {sign()}%}}{gap()}{{{{ i }}}}{gap()}{{%{sign()} endfor {sign()}%}}'])
        return gap() + ''.join(tag() + gap() for _ in range(self.pick(1, 2, 3)))

    def template(self):
        r = self.r.random()
        if r < .12:
            return self.formatted()
        if r < .2:
            return self.spaces()
        r = self.r.random()
        if r < .7:
            return '{{ %s }}' % self.expr(self.pick(1, 1, 2, 2, 3))
        if r < .95:
            return self.statement()
        return self.statement() + self.statement()


def templates(seed, count):
    maker = Maker(random.Random(seed))
    for _ in range(count):
        yield maker.template()
