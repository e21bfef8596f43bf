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
CLASSES = [('Cc', 'Cf', 'Cn', 'Co', 'Cs', 'Zl', 'Zp', 'Zs'), ('Lu', 'Lt'), ('Ll',), ('Lm', 'Lo'),
           ('Mn', 'Mc', 'Me'), ('Nd', 'Nl', 'No'), ('Pc', 'Pd', 'Ps', 'Pe', 'Pi', 'Pf', 'Po'),
           ('Sm', 'Sc', 'Sk', 'So')]
SPACE = len(CLASSES)
INDEX = {category: i for i, group in enumerate(CLASSES) for category in group}
CONTROL_SPACES = {*range(0x09, 0x0E), 0x85}  # with Zs, Zl and Zp: the property White_Space


def class_of(code):
    category = unicodedata.category(chr(code))
    return SPACE if category[0] == 'Z' or code in CONTROL_SPACES else INDEX[category]


def main():
    classes = [class_of(code) for code in range(0x110000)]
    words = [f'0x{code << 4 | classes[code]:06x}' for code in range(len(classes))
             if code == 0 or classes[code] != classes[code - 1]]
    print('/* Classes of characters of Unicode', unicodedata.unidata_version,
          'as ranges: first code point << 4 | class, up to the')
    print(' * next entry. Written by tools/unicode_table.py. */')
    print('#include "unicode_int.h"\n')
    print(f'const size_t unicode__count = {len(words)};')
    print(f'const uint32_t unicode__ranges[{len(words)}] = {{')
    for i in range(0, len(words), 10):
        print('    ' + ', '.join(words[i:i + 10]) + ',')
    print('};\n\nconst uint8_t unicode__ascii[128] = {')
    for i in range(0, 128, 32):
        print('    ' + ', '.join(map(str, classes[i:i + 32])) + ',')
    print('};')


if __name__ == '__main__':
    sys.exit(main())
