"""BERT and its tokenizer in Python and numpy, from the paper and the original's documented behaviour:
whole sequences, one at a time, every step in float32. Written to be compared with, not to be fast.

    model = encoder.from_gguf("model.gguf")         # or from_folder("a folder of Hugging Face")
    rows = model.hidden(ids)                        # [len][d_model]
    ids = encoder.Tokenizer("folder").ids("text")
"""

import json
import math
import unicodedata
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

ERF = np.vectorize(math.erf, otypes=[np.float64])

# Names in a Hugging Face folder -> names in a GGUF file.
NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class Encoder:
    def __init__(self, tensors, layers, heads, eps):
        self.tensors, self.layers, self.heads, self.eps = tensors, layers, heads, np.float32(eps)

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + self.eps)
        return x * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def attention(self, x, name):
        split = lambda y: y.reshape(len(x), self.heads, -1).transpose(1, 0, 2)
        q, k, v = (split(self.linear(x, f"{name}.attn_{part}")) for part in "qkv")
        s = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[2]))
        p = np.exp(s - s.max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        return (p @ v).transpose(1, 0, 2).reshape(len(x), -1)

    def layer(self, x, name):
        x = self.norm(x + self.linear(self.attention(x, name), name + ".attn_output"),
                      name + ".attn_output_norm")
        h = self.linear(x, name + ".ffn_up")
        h = (h * 0.5 * (1 + ERF(h / math.sqrt(2)))).astype(np.float32)
        return self.norm(x + self.linear(h, name + ".ffn_down"), name + ".layer_output_norm")

    def hidden(self, ids):
        t = self.tensors
        x = t["token_embd.weight"][ids] + t["position_embd.weight"][: len(ids)] + t["token_types.weight"][0]
        x = self.norm(x, "token_embd_norm")
        for i in range(self.layers):
            x = self.layer(x, f"blk.{i}")
        return x


def from_gguf(path):
    reader = GGUFReader(path)
    meta = lambda key: reader.fields["bert." + key].contents()
    tensors = {}
    for t in reader.tensors:
        shape = tuple(int(n) for n in t.shape[::-1])
        tensors[t.name] = dequantize(t.data, t.tensor_type).reshape(shape).astype(np.float32)
    return Encoder(tensors, meta("block_count"), meta("attention.head_count"),
                   meta("attention.layer_norm_epsilon"))


def safetensors(path):
    """Name -> float32 array."""
    data = Path(path).read_bytes()
    n = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8 : 8 + n]).items():
        if name == "__metadata__" or t["dtype"] not in ("F32", "F16"):
            continue
        start, end = (8 + n + offset for offset in t["data_offsets"])
        kind = np.float32 if t["dtype"] == "F32" else np.float16
        out[name] = np.frombuffer(data[start:end], kind).reshape(t["shape"]).astype(np.float32)
    return out


def from_folder(folder):
    config = json.loads((Path(folder) / "config.json").read_text())
    tensors = {}
    for name, t in safetensors(Path(folder) / "model.safetensors").items():
        stem, _, part = name.removeprefix("bert.").rpartition(".")
        prefix = ""
        if stem.startswith("encoder.layer."):
            number, stem = stem.removeprefix("encoder.layer.").split(".", 1)
            prefix = f"blk.{number}."
        if stem in NAMES:
            tensors[f"{prefix}{NAMES[stem]}.{part}"] = t
    return Encoder(tensors, config["num_hidden_layers"], config["num_attention_heads"],
                   config["layer_norm_eps"])


class Tokenizer:
    """WordPiece of a folder with vocab.txt; uncased, as MiniLM, BGE and E5 are in English."""

    def __init__(self, folder):
        lines = (Path(folder) / "vocab.txt").read_text("utf-8").split("\n")
        self.id = {line: i for i, line in enumerate(lines)}

    @staticmethod
    def clean(text):
        for c in text:
            category = unicodedata.category(c)
            if c in "\t\n\r" or category[0] == "Z":
                yield " "
            elif "\u3400" <= c <= "\u4dbf" or "\u4e00" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff":
                yield f" {c} "
            elif category not in ("Cc", "Cf", "Co") and c != "\ufffd":
                yield c

    @staticmethod
    def words(text):
        word = ""
        for c in text:
            mark = unicodedata.category(c)[0] == "P" or (c.isascii() and not c.isalnum() and c != " ")
            if mark or c == " ":
                if word:
                    yield word
                word = ""
                if mark:
                    yield c
            else:
                word += c
        if word:
            yield word

    def pieces(self, word):
        out, at = [], 0
        while at < len(word) <= 100:
            end = next((e for e in range(len(word), at, -1) if ("##" if at else "") + word[at:e] in self.id), 0)
            if not end:
                return ["[UNK]"]
            out.append(("##" if at else "") + word[at:end])
            at = end
        return out or ["[UNK]"]

    def ids(self, text):
        text = unicodedata.normalize("NFD", "".join(self.clean(text)))
        text = "".join(c for c in text if unicodedata.category(c) != "Mn").lower()
        pieces = [p for w in self.words(text) for p in self.pieces(w)]
        return [self.id[p] for p in ["[CLS]", *pieces, "[SEP]"]]
