"""Puts a chat template into a GGUF file that has none, and nothing else."""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of the fixed types
STRING, ARRAY, ALIGN = 8, 9, 32


def end_of_string(b, at):
    return at + 8 + struct.unpack_from("<Q", b, at)[0]


def end_of_value(b, at, kind):
    if kind == STRING:
        return end_of_string(b, at)
    if kind != ARRAY:
        return at + SIZES[kind]
    kind, n = struct.unpack_from("<IQ", b, at)
    at += 12
    for _ in range(n):
        at = end_of_value(b, at, kind)
    return at


def put_template(source, target, template):
    with open(source, "rb") as f:
        b = f.read()
    tensors, n = struct.unpack_from("<QQ", b, 8)
    at = 24
    for _ in range(n):
        at = end_of_string(b, at)
        at = end_of_value(b, at + 4, struct.unpack_from("<I", b, at)[0])
    members = b[24:at]
    start = at
    for _ in range(tensors):
        at = end_of_string(b, at)
        at += 4 + 8 * struct.unpack_from("<I", b, at)[0] + 4 + 8
    text, key = template.encode(), b"tokenizer.chat_template"
    head = b[:8] + struct.pack("<QQ", tensors, n + 1) + members + struct.pack("<Q", len(key)) + key + \
        struct.pack("<IQ", STRING, len(text)) + text + b[start:at]
    with open(target, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN) + b[at + -at % ALIGN:])
