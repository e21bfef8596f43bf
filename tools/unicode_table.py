#!/usr/bin/env python3
"""Writes src/text/unicode_table.c. Usage: tools/unicode_table.py > src/text/unicode_table.c

The source is the Python package unicodedata2 (its version is the Unicode version: 15.1.0 is what
stands in the tree), or Python's own unicodedata where that is missing."""
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# In the order of enum unicode_class in unicode.h.
CLASSES = [('Cc', 'Cf', 'Co', 'Cs'), ('Lu', 'Lt'), ('Ll',), ('Lm', 'Lo'), ('Mc', 'Me'), ('Nd', 'Nl', 'No'), ('Pc', 'Pd', 'Ps', 'Pe', 'Pi', 'Pf', 'Po'),
           ('Sm', 'Sc', 'Sk', 'So'), (), ('Cn',), ('Mn',)]
SPACE = CLASSES.index(())  # by White_Space, not by category
INDEX = {category: i for i, group in enumerate(CLASSES) for category in group}
CONTROL_SPACES = {*range(0x09, 0x0E), 0x85}  # with Zs, Zl and Zp: the property White_Space


def class_of(code):
    category = unicodedata.category(chr(code))
    return SPACE if category[0] == 'Z' or code in CONTROL_SPACES else INDEX[category]


def canonical(code):
    """One or two code points, or nothing; Hangul is arithmetic."""
    parts = unicodedata.decomposition(chr(code)).split()
    return [] if not parts or parts[0][0] == '<' else [int(p, 16) for p in parts]


def lower(code):
    small = chr(code).lower()  # by Python's own tables, cut to the version's letters
    return code if unicodedata.category(small[0]) == 'Cn' else ord(small[0])


def print_words(name, words):
    print(f'\nconst size_t unicode__n_{name} = {len(words)};')
    print(f'const uint64_t unicode__{name}[{len(words)}] = {{')
    for i in range(0, len(words), 5):
        print('    ' + ', '.join(f'0x{w:x}' for w in words[i:i + 5]) + ',')
    print('};')


def main():
    classes = [class_of(code) for code in range(0x110000)]
    words = [f'0x{code << 4 | classes[code]:06x}' for code in range(len(classes))
             if code == 0 or classes[code] != classes[code - 1]]
    print('/* Characters of Unicode', unicodedata.unidata_version + ': classes as ranges (first code point << 4 | class, '
          'up to the next')
    print(' * entry), canonical pairs, lower case. Written by tools/unicode_table.py. */')
    print('#include "unicode_int.h"\n')
    print(f'const size_t unicode__count = {len(words)};')
    print(f'const uint32_t unicode__ranges[{len(words)}] = {{')
    for i in range(0, len(words), 10):
        print('    ' + ', '.join(words[i:i + 10]) + ',')
    print('};\n\nconst uint8_t unicode__ascii[128] = {')
    for i in range(0, 128, 32):
        print('    ' + ', '.join(map(str, classes[i:i + 32])) + ',')
    print('};')
    codes = [c for c in range(0x110000) if not 0xd800 <= c < 0xe000]
    pairs = [(c, *canonical(c), 0) for c in codes if canonical(c)]
    print_words('pairs', [p[0] << 42 | p[1] << 21 | p[2] for p in pairs])
    print_words('lower', [c << 42 | lower(c) << 21 for c in codes if lower(c) != c])


if __name__ == '__main__':
    sys.exit(main())
