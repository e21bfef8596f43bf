#!/usr/bin/env python3
"""The AVX2 kernels run on processors without AVX-512: no instruction of it is in their object code.

Usage: avx2_only.py BUILD/solvent. Disassembles BUILD/libkern_avx2.a. Three signs are looked for: the EVEX
prefix (in 64-bit mode an opcode of 0x62 is nothing else), a mask register, and the VEX forms of VNNI
and IFMA, which are levels of their own. Prints "avx2: N functions, 0 AVX-512 instructions"; lists what
it found and exits 1 otherwise.
"""
import glob
import os
import re
import subprocess
import sys

LATER = re.compile(r"\t62 |%k[0-7]\b|\bvpdp|\bvpmadd52")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = glob.glob(os.path.join(os.path.dirname(sys.argv[1]), "**", "libkern_avx2.a"), recursive=True)
    if not found:
        sys.exit("avx2: no libkern_avx2.a beside " + sys.argv[1])
    out = subprocess.run(["objdump", "-d", found[0]], check=True, capture_output=True, text=True).stdout
    functions, wrong, name = 0, [], ""
    for line in out.splitlines():
        start = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if start:
            name = start[1]
            functions += 1
        elif LATER.search(line):
            wrong.append(f"{name}: {line.strip()}")
    print(*wrong[:20], f"avx2: {functions} functions, {len(wrong)} AVX-512 instructions", sep="\n")
    return 0 if functions and not wrong else 1


sys.exit(main())
