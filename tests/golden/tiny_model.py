"""Makes the tiny seeded models of tests/data/golden: every family, every block format.

    tiny_model.py OUT_DIR [NAME ...]

Quantised weights are random bytes with scales chosen so that the values they stand for have the
deviation of trained weights; no quantiser is needed and no code is left unused. Each file holds, as
golden.tokens, golden.positions and golden.logits, a sequence and the reference's float32 logits
[positions][n_vocab]. The same packages give the same bytes (see run).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, GGMLQuantizationType as Type, TokenType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

import reference

VOCAB = 301
TOKENS = 75  # three pages of the KV cache, the last one not full
POSITIONS = [0, 1, 2, 7, 8, 9, 15, 31, 32, 33, 47, 63, 64, 65, 74]

# Where a block keeps its half-precision scales: offset of d; offset of the minimum and its ratio to
# d that centres the values; whether d may be negative.
SCALES = {
    "Q4_0": (0, None, True),
    "Q4_1": (0, (2, -7.5), False),
    "Q5_0": (0, None, True),
    "Q5_1": (0, (2, -15.5), False),
    "Q8_0": (0, None, False),
    "Q2_K": (80, (82, 1.5), False),
    "Q3_K": (108, None, True),
    "Q4_K": (0, (2, 7.5), False),
    "Q5_K": (0, (2, 15.5), False),
    "Q6_K": (208, None, True),
    "IQ4_NL": (0, None, True),
    "IQ4_XS": (0, None, True),
}


def put_half(blocks, offset, values):
    blocks[:, offset : offset + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def random_blocks(rng, kind, n, deviation):
    """n blocks as bytes [n][block bytes] whose values deviate by about `deviation`."""
    blocks = rng.integers(0, 256, (n, GGML_QUANT_SIZES[Type[kind]][1]), dtype=np.uint8)
    if kind == "MXFP4":  # the scale is a power of two in one byte; its values deviate by 2.8
        blocks[:, 0] = np.clip(np.round(127 + np.log2(deviation / 2.8)) + rng.integers(-2, 1, n), 0, 254)
        return blocks
    at, minimum, signed = SCALES[kind]
    scale = rng.uniform(0.6, 1.4, n)
    put_half(blocks, at, scale)
    if minimum:
        put_half(blocks, minimum[0], scale * minimum[1])
    scale *= deviation / dequantize(blocks.reshape(1, -1), Type[kind]).std()
    put_half(blocks, at, scale * (rng.choice([-1.0, 1.0], n) if signed else 1.0))
    if minimum:
        put_half(blocks, minimum[0], scale * minimum[1] * rng.uniform(0.8, 1.2, n))
    return blocks


class Maker:
    def __init__(self, spec):
        self.spec = spec
        self.rng = np.random.default_rng([spec["seed"], *spec["name"].encode()])
        self.tensors = []  # name, array, type

    def matrix(self, name, rows, columns, gain, kind=None, experts=0):
        """Values deviate by gain / sqrt(columns): from inputs of deviation 1 come outputs of `gain`."""
        part = name.removesuffix(".weight").split(".")[2 if name.startswith("blk.") else 0]
        kind = kind or self.spec["types"].get(part.removesuffix("_exps"), self.spec["types"]["all"])
        shape = (experts, rows, columns) if experts else (rows, columns)
        deviation = gain / np.sqrt(columns)
        if kind in ("F32", "F16", "BF16"):
            w = self.rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
            if kind == "F16":
                w = w.astype(np.float16)
            if kind == "BF16":  # the upper half of a float32
                w = np.ascontiguousarray(w.view("<u2")[..., 1::2]).view(np.uint8)
        else:
            block = GGML_QUANT_SIZES[Type[kind]][0]
            w = random_blocks(self.rng, kind, int(np.prod(shape)) // block, deviation)
            w = w.reshape(*shape[:-1], -1)
        self.tensors.append((name, w, Type[kind]))

    def vector(self, name, n, centre, spread):
        v = centre + spread * self.rng.standard_normal(n)
        self.tensors.append((name, v.astype(np.float32), Type.F32))

    def feed_forward(self, name):
        s = self.spec
        shapes = {"gate": (s["ff"], s["d"], 1), "up": (s["ff"], s["d"], 1), "down": (s["d"], s["ff"], 2)}
        experts = s["meta"].get("expert_count", 0)
        if experts:
            self.matrix(f"{name}.ffn_gate_inp.weight", experts, s["d"], 2, "F32")
        for part, shape in shapes.items():
            if not experts:
                self.matrix(f"{name}.ffn_{part}.weight", *shape)
            elif s["stacked"]:
                self.matrix(f"{name}.ffn_{part}_exps.weight", *shape, experts=experts)
            else:
                for e in range(experts):
                    self.matrix(f"{name}.ffn_{part}.{e}.weight", *shape)

    def layer(self, name):
        s = self.spec
        q, kv = s["heads"] * s["d_head"], s["kv"] * s["d_head"]
        gemma = s["arch"].startswith("gemma")
        self.vector(f"{name}.attn_norm.weight", s["d"], 1, 0.3)
        for part, rows, gain in (("q", q, 1.3), ("k", kv, 1.3), ("v", kv, 1)):
            self.matrix(f"{name}.attn_{part}.weight", rows, s["d"], gain)
            if s["arch"] == "qwen2":
                self.vector(f"{name}.attn_{part}.bias", rows, 0, 0.5)
        self.matrix(f"{name}.attn_output.weight", s["d"], q, 1.5)
        if s["arch"] in ("qwen3", "gemma3"):
            self.vector(f"{name}.attn_q_norm.weight", s["d_head"], 1.3, 0.3)
            self.vector(f"{name}.attn_k_norm.weight", s["d_head"], 1.3, 0.3)
        if gemma:
            self.vector(f"{name}.post_attention_norm.weight", s["d"], 0.7, 0.2)
            self.vector(f"{name}.post_ffw_norm.weight", s["d"], 0.7, 0.2)
        self.vector(f"{name}.ffn_norm.weight", s["d"], 1, 0.3)
        self.feed_forward(name)

    def model(self):
        s = self.spec
        # Gemma multiplies embeddings by sqrt(d): small ones, lest each token predict itself.
        gemma = s["arch"].startswith("gemma")
        self.matrix("token_embd.weight", VOCAB, s["d"], 0.5 if gemma else 2)
        for i in range(s["layers"]):
            self.layer(f"blk.{i}")
        self.vector("output_norm.weight", s["d"], 4 if gemma else 1, 0.3)
        if not s["tied"]:
            self.matrix("output.weight", VOCAB, s["d"], 2)
        if s["freqs"]:
            factors = np.geomspace(1, 8, s["d_head"] // 2).astype(np.float32)
            self.tensors.append(("rope_freqs.weight", factors, Type.F32))

    def tokenizer(self, w):
        """Byte-level BPE or SentencePiece with byte fallback; a few merges, three control tokens."""
        words = [a + b for a in "thei" for b in "nrsauoedlc "][: VOCAB - 259]
        if self.spec["arch"].startswith("gemma") or self.spec["spm"]:
            tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
            tokens += [word.replace(" ", "\u2581") for word in words]
            kinds = [TokenType.UNKNOWN] + [TokenType.CONTROL] * 2 + [TokenType.BYTE] * 256
            w.add_tokenizer_model("llama")
            w.add_token_scores([0.0] * 259 + [-1.0 - i for i in range(len(words))])
            w.add_bos_token_id(1)
            w.add_eos_token_id(2)
            w.add_unk_token_id(0)
        else:
            visible = [b for b in range(256) if chr(b).isprintable() and b not in (32, 160, 173)]
            letter = {b: chr(b) for b in visible}
            for b in range(256):
                letter.setdefault(b, chr(256 + len(letter) - len(visible)))
            words = [word.replace(" ", letter[32]) for word in words]
            tokens = list(letter[b] for b in range(256)) + words
            tokens += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
            kinds = [TokenType.NORMAL] * 256
            w.add_tokenizer_model("gpt2")
            w.add_tokenizer_pre("qwen2" if self.spec["arch"].startswith("qwen") else "llama-bpe")
            w.add_token_merges([f"{word[0]} {word[1]}" for word in words])
            w.add_bos_token_id(VOCAB - 3)
            w.add_eos_token_id(VOCAB - 1)
        kinds += [TokenType.NORMAL] * (VOCAB - len(kinds))
        if tokens[-1] == "<|im_end|>":
            kinds[-3:] = [TokenType.CONTROL] * 3
        w.add_token_list(tokens)
        w.add_token_types(kinds)
        w.add_add_bos_token(False)

    def write(self, path, tokens=None, logits=None):
        s, arch = self.spec, self.spec["arch"]
        w = GGUFWriter(path, arch)
        w.add_name("tiny " + s["name"])
        w.add_block_count(s["layers"])
        w.add_context_length(256)
        w.add_embedding_length(s["d"])
        w.add_feed_forward_length(s["ff"])
        w.add_head_count(s["heads"])
        w.add_head_count_kv(s["kv"])
        w.add_layer_norm_rms_eps(1e-6 if arch.startswith("gemma") else 1e-5)
        w.add_rope_dimension_count(s["d_head"])
        w.add_vocab_size(VOCAB)
        if s["d_head"] * s["heads"] != s["d"]:
            w.add_key_length(s["d_head"])
            w.add_value_length(s["d_head"])
        for key, value in s["meta"].items():
            add = {int: w.add_uint32, float: w.add_float32, str: w.add_string, list: w.add_array}[type(value)]
            add(f"{arch}.{key}", value)
        self.tokenizer(w)
        if tokens is not None:
            w.add_array("golden.tokens", tokens)
            w.add_array("golden.positions", POSITIONS)
            w.add_array("golden.logits", logits)
        for name, array, kind in self.tensors:
            w.add_tensor(name, array, raw_dtype=kind)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def spec(name, arch, types, d=96, heads=3, kv=1, d_head=32, ff=160, layers=2, tied=True, spm=False,
         freqs=False, stacked=True, seed=0, **meta):
    types = {"all": types} if isinstance(types, str) else types
    meta = {key.replace("__", "."): value for key, value in meta.items()}
    return dict(name=name, arch=arch, types=types, d=d, heads=heads, kv=kv, d_head=d_head, ff=ff,
                layers=layers, tied=tied, spm=spm, freqs=freqs, stacked=stacked, seed=seed, meta=meta)


def k_types(kind):
    """K-quants where rows are 256 long, 8 bits where they are shorter."""
    return {"all": kind, "attn_output": "Q8_0", "ffn_down": "Q8_0"}


SMALL_K = dict(d=256, heads=4, kv=1, d_head=16, ff=96)
# With the seeds below no router's second and third choice are closer than 0.02, so that rounding
# does not choose another expert.
EXPERTS = dict(expert_count=4, expert_used_count=2)
MODELS = [
    spec("llama_f32", "llama", "F32", d=48, heads=3, kv=1, d_head=16, ff=80, tied=False, spm=True,
         rope__scaling__type="linear", rope__scaling__factor=4.0),
    spec("llama3_f16", "llama", "F16", d=80, heads=5, d_head=16, ff=104, layers=1, freqs=True,
         rope__freq_base=500000.0),
    spec("mistral_bf16", "llama", "BF16", d=64, heads=4, kv=2, d_head=16, ff=112, spm=True,
         attention__sliding_window=8),
    spec("llama_q4_0", "llama", "Q4_0", d=288, heads=4, kv=2, d_head=48, ff=96, layers=1),
    spec("llama_q4_1", "llama", "Q4_1", heads=6, kv=2, d_head=16, rope__freq_base=100000.0),
    spec("qwen2_q5_0", "qwen2", "Q5_0", rope__freq_base=1000000.0),
    spec("qwen2_q5_1", "qwen2", "Q5_1", tied=False, rope__scaling__type="yarn", rope__scaling__factor=4.0,
         rope__scaling__original_context_length=64),
    spec("qwen3_q8_0", "qwen3", "Q8_0", heads=4, kv=2, d_head=48, layers=1, rope__freq_base=1000000.0),
    spec("mixtral_iq4_nl", "llama", "IQ4_NL", ff=64, spm=True, seed=9, **EXPERTS),
    spec("mixtral_2024", "llama", {"all": "Q4_0", "ffn_down": "F16"}, d=64, heads=2, ff=32, stacked=False,
         spm=True, seed=6, **EXPERTS),
    spec("gemma2_q4_0", "gemma2", {"all": "Q4_0", "token_embd": "Q8_0"}, d=64, heads=4, kv=2, layers=4, ff=96,
         attention__sliding_window=8, attn_logit_softcapping=2.0, final_logit_softcapping=5.0),
    spec("gemma3_q5_0", "gemma3", {"all": "Q5_0", "token_embd": "Q8_0", "attn_v": "Q8_0"}, d=64, heads=2,
         layers=7, ff=96, attention__sliding_window=8, rope__freq_base=1000000.0,
         rope__scaling__type="linear", rope__scaling__factor=8.0),
    spec("gemma3_pattern", "gemma3", {"all": "Q4_0", "token_embd": "Q8_0"}, d=64, heads=2, layers=3, ff=96,
         attention__sliding_window=8, attention__sliding_window_pattern=[False, True, True],
         rope__freq_base=1000000.0),
    spec("gemma3_dense", "gemma3", {"all": "Q4_1", "token_embd": "Q8_0"}, d=64, heads=2, layers=2, ff=96,
         final_logit_softcapping=5.0, rope__freq_base=1000000.0),
    spec("qwen2_mxfp4", "qwen2", {"all": "MXFP4", "token_embd": "Q8_0"}),
    spec("llama_q2_k", "llama", k_types("Q2_K"), **SMALL_K),
    spec("qwen3_q3_k", "qwen3", k_types("Q3_K"), **SMALL_K),
    spec("llama_q4_k", "llama", k_types("Q4_K"), **SMALL_K),
    spec("llama_q5_k", "llama", k_types("Q5_K"), **SMALL_K),
    spec("gemma2_q6_k", "gemma2", k_types("Q6_K"), d=512, heads=2, kv=1, d_head=16, ff=32,
         attention__sliding_window=8),
    spec("llama_iq4_xs", "llama", k_types("IQ4_XS"), **SMALL_K),
    spec("qwen2_q4_k_m", "qwen2", {"all": "Q4_K", "attn_v": "Q6_K", "ffn_down": "Q6_K", "token_embd": "Q6_K"},
         d=256, heads=8, kv=2, d_head=32, ff=256, layers=1),
]


def make(s, out):
    maker = Maker(s)
    tokens = [int(t) for t in maker.rng.integers(0, VOCAB, TOKENS)]
    maker.model()
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / "bare.gguf"
        maker.write(bare)
        logits = next(reference.Model(bare).logits([np.array(tokens)]))
    path = out / (s["name"] + ".gguf")
    maker.write(path, tokens, [float(x) for x in logits[POSITIONS].ravel()])
    print(f"{path.name:22} {path.stat().st_size:8} bytes, logits deviate by {logits.std():.2f}")


if __name__ == "__main__":
    for model in MODELS:
        if len(sys.argv) == 2 or model["name"] in sys.argv[2:]:
            make(model, Path(sys.argv[1]))
