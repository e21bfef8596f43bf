#!/usr/bin/env python3
"""Makes tests/data/quant_vectors.bin: seeded random blocks of every type and what ggml makes of them.

    make_quant_vectors.py LIBGGML_BASE.SO OUT.BIN

A record is u32 type, u32 values, the row, the values as float32; all little-endian. Scales are
finite (random bits would mostly be NaN or huge) and include zero, subnormals and both signs.
"""
import ctypes
import random
import struct
import sys

# type: number, values and bytes a block, where its halves lie, the function in ggml
TYPES = [
    (0, 1, 4, [], None),
    (1, 1, 2, [0], "ggml_fp16_to_fp32_row"),
    (2, 32, 18, [0], "dequantize_row_q4_0"),
    (3, 32, 20, [0, 2], "dequantize_row_q4_1"),
    (6, 32, 22, [0], "dequantize_row_q5_0"),
    (7, 32, 24, [0, 2], "dequantize_row_q5_1"),
    (8, 32, 34, [0], "dequantize_row_q8_0"),
    (10, 256, 84, [80, 82], "dequantize_row_q2_K"),
    (11, 256, 110, [108], "dequantize_row_q3_K"),
    (12, 256, 144, [0, 2], "dequantize_row_q4_K"),
    (13, 256, 176, [0, 2], "dequantize_row_q5_K"),
    (14, 256, 210, [208], "dequantize_row_q6_K"),
    (20, 32, 18, [0], "dequantize_row_iq4_nl"),
    (23, 256, 136, [0], "dequantize_row_iq4_xs"),
    (30, 1, 2, [], "ggml_bf16_to_fp32_row"),
    (39, 32, 17, [], "dequantize_row_mxfp4"),
]


def half(rng):
    """The bits of a finite half, mostly of the size that real scales have."""
    sign = rng.getrandbits(1) << 15
    exponent = rng.choice([0, 0, rng.randrange(1, 31), rng.randrange(1, 16), rng.randrange(4, 13)])
    return sign | exponent << 10 | rng.getrandbits(10)


def row(rng, number, block, size, halves, blocks):
    out = bytearray()
    for _ in range(blocks):
        b = bytearray(rng.randbytes(size))
        for at in halves:
            struct.pack_into("<H", b, at, half(rng))
        if number in (0, 30):  # no NaN: whether its payload survives a copy is nobody's promise
            b[-1] &= 0xBF
        out += b
    return bytes(out)


def reference(lib, function, data, k):
    if function is None:
        return data
    src = ctypes.create_string_buffer(data, len(data))
    dst = (ctypes.c_float * k)()
    f = getattr(lib, function)
    f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    f.restype = None
    f(src, dst, k)
    return bytes(dst)


def main():
    lib, rng = ctypes.CDLL(sys.argv[1]), random.Random(20240607)
    with open(sys.argv[2], "wb") as out:
        for number, block, size, halves, function in TYPES:
            blocks = {1: 64, 32: 6, 256: 2}[block]
            data = row(rng, number, block, size, halves, blocks)
            k = blocks * block
            out.write(struct.pack("<II", number, k) + data + reference(lib, function, data, k))


if __name__ == "__main__":
    main()
