#!/usr/bin/env python3
"""`solvent convert` from outside: folders of random weights of every family become files whose logits are
those of the folder.

    convert.py BUILD/solvent

BUILD/tests/random_model makes the folders. The logits they stand for are computed here from config.json and
safetensors, in the folder's own conventions (RoPE over halves of a head, Gemma's 1 + w), and compared with
what BUILD/tests/logits gets from the converted file. Then every type against f32, the same bytes from any
number of threads and parts, and what must be refused without leaving a file. Ends with "N passed, N failed".
"""
import array
import json
import math
import operator
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile

SOLVENT = os.path.abspath(sys.argv[1])
BUILD = os.path.dirname(SOLVENT)
IDS = [5, 17, 80, 33, 200, 41, 7, 119, 250, 64, 3, 150]
# Largest relative error of logits (rms over rms) against f32, 1.3 times what was measured: random layers
# magnify errors as trained ones do not.
TYPES = {"bf16": 0.001, "f16": 0.001, "q8_0": 0.025, "q6_k": 0.095, "q5_k_m": 0.194, "q5_k_s": 0.197, "q5_1": 0.203,
         "q5_0": 0.215, "q4_k_m": 0.353, "q4_k_s": 0.34, "iq4_xs": 0.398, "iq4_nl": 0.395, "mxfp4": 0.61,
         "q4_1": 0.361, "q4_0": 0.407, "q3_k_l": 0.585, "q3_k_m": 0.607, "q3_k_s": 0.723, "q2_k": 1.002,
         "q2_k_s": 1.155}
passed = failed = 0


def check(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"{'ok' if good else 'FAILED'}: {name}{'' if good else ': ' + str(why)}")


def run(*args, **more):
    return subprocess.run(list(args), capture_output=True, timeout=300, **more)


def convert(folder, out, *flags, **more):
    return run(SOLVENT, "convert", folder, "-o", out, *flags, **more)


def make(shape, folder, *flags):
    subprocess.run([BUILD + "/tests/random_model", "--shape", shape, *flags, folder], check=True)
    return folder


def bf16(raw):
    wide = array.array("I", (v << 16 for v in array.array("H", raw)))
    return array.array("f", wide.tobytes())


class Folder:
    """Tensors of model.safetensors as rows of floats."""

    def __init__(self, path):
        with open(path + "/config.json") as f:
            self.config = json.load(f)
        with open(path + "/model.safetensors", "rb") as f:
            raw = f.read()
        size = struct.unpack("<Q", raw[:8])[0]
        self.tensors = {}
        for name, t in json.loads(raw[8:8 + size]).items():
            begin, end = t["data_offsets"]
            v = bf16(raw[8 + size + begin:8 + size + end])
            cols = t["shape"][-1]
            rows = [v[i:i + cols] for i in range(0, len(v), cols)]
            self.tensors[name] = rows if len(t["shape"]) == 2 else rows[0]


def dot(a, b):
    return sum(map(operator.mul, a, b))


class Reference:
    def __init__(self, folder):
        self.t = folder.tensors
        self.c = c = folder.config
        self.model = c["architectures"][0]
        self.gemma = self.model.startswith("Gemma")
        self.heads, self.kv, self.size = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]

    def norm(self, x, name):
        scale = 1 / math.sqrt(dot(x, x) / len(x) + self.c["rms_norm_eps"])
        return [v * scale * (w + self.gemma) for v, w in zip(x, self.t[name])]

    def linear(self, x, name):
        y = [dot(row, x) for row in self.t[name + ".weight"]]
        bias = self.t.get(name + ".bias")
        return [a + b for a, b in zip(y, bias)] if bias else y

    def frequencies(self, sliding):
        c = self.c
        base = c.get("rope_theta", 10000)
        if self.model == "Gemma3ForCausalLM" and sliding:
            base = c["rope_local_base_freq"]
        freq = [base ** (-2 * i / self.size) for i in range(self.size // 2)]
        s = c.get("rope_scaling")
        if not s:
            return freq
        out = []
        for f in freq:  # Llama 3.1
            turns = s["original_max_position_embeddings"] * f / (2 * math.pi)
            low, high = s["low_freq_factor"], s["high_freq_factor"]
            near = min(1, max(0, (turns - low) / (high - low)))
            out.append(f * (near + (1 - near) / s["factor"]))
        return out

    def rope(self, x, pos, freq):
        half = self.size // 2
        out = []
        for h in range(0, len(x), self.size):
            a, b = x[h:h + half], x[h + half:h + self.size]
            cs = [(math.cos(pos * f), math.sin(pos * f)) for f in freq]
            out += [u * c - v * s for u, v, (c, s) in zip(a, b, cs)]
            out += [v * c + u * s for u, v, (c, s) in zip(a, b, cs)]
        return out

    def head_norm(self, x, name):
        if name not in self.t:
            return x
        return [v for h in range(0, len(x), self.size) for v in self.norm(x[h:h + self.size], name)]

    def attention(self, hs, p, layer):
        c = self.c
        slides = {"Gemma2ForCausalLM": layer % 2 == 0, "MistralForCausalLM": True,
                  "Gemma3ForCausalLM": (layer + 1) % c.get("sliding_window_pattern", 6) != 0}.get(self.model, False)
        freq, window = self.frequencies(slides), c["sliding_window"] if slides else 1 << 30
        cap, group = c.get("attn_logit_softcapping"), self.heads // self.kv
        q, k, v = [], [], []
        for pos, h in enumerate(hs):
            q.append(self.rope(self.head_norm(self.linear(h, p + "q_proj"), p + "q_norm.weight"), pos, freq))
            k.append(self.rope(self.head_norm(self.linear(h, p + "k_proj"), p + "k_norm.weight"), pos, freq))
            v.append(self.linear(h, p + "v_proj"))
        out = []
        for i in range(len(hs)):
            row = []
            for head in range(self.heads):
                at, own = head * self.size, head // group * self.size
                seen = range(max(0, i - window + 1), i + 1)
                s = [dot(q[i][at:at + self.size], k[j][own:own + self.size]) / math.sqrt(self.size) for j in seen]
                s = [cap * math.tanh(x / cap) for x in s] if cap else s
                e = [math.exp(x - max(s)) for x in s]
                total = sum(e)
                row += [sum(w * v[j][own + d] for w, j in zip(e, seen)) / total for d in range(self.size)]
            out.append(self.linear(row, p + "o_proj"))
        return out

    def gated(self, x, gate, up, down):
        g = self.linear(x, gate)
        if self.gemma:
            g = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in g]
        else:
            g = [v / (1 + math.exp(-v)) for v in g]
        return self.linear([a * b for a, b in zip(g, self.linear(x, up))], down)

    def feed_forward(self, x, p):
        if "num_local_experts" not in self.c:
            return self.gated(x, p + "mlp.gate_proj", p + "mlp.up_proj", p + "mlp.down_proj")
        moe = p + "block_sparse_moe."
        logits = self.linear(x, moe + "gate")
        best = sorted(range(len(logits)), key=lambda e: -logits[e])[:self.c["num_experts_per_tok"]]
        w = [math.exp(logits[e] - logits[best[0]]) for e in best]
        y = [0.0] * len(x)
        for share, e in zip(w, best):
            part = self.gated(x, *(f"{moe}experts.{e}.{n}" for n in ("w1", "w3", "w2")))
            y = [a + share / sum(w) * b for a, b in zip(y, part)]
        return y

    def logits(self, ids):
        scale = math.sqrt(self.c["hidden_size"]) if self.gemma else 1
        xs = [[v * scale for v in self.t["model.embed_tokens.weight"][i]] for i in ids]
        for layer in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            hs = self.attention([self.norm(x, p + "input_layernorm.weight") for x in xs], p + "self_attn.", layer)
            if self.gemma:
                hs = [self.norm(h, p + "post_attention_layernorm.weight") for h in hs]
            xs = [[a + b for a, b in zip(x, h)] for x, h in zip(xs, hs)]
            before = "pre_feedforward_layernorm" if self.gemma else "post_attention_layernorm"
            hs = [self.feed_forward(self.norm(x, p + before + ".weight"), p) for x in xs]
            if self.gemma:
                hs = [self.norm(h, p + "post_feedforward_layernorm.weight") for h in hs]
            xs = [[a + b for a, b in zip(x, h)] for x, h in zip(xs, hs)]
        head = "model.embed_tokens" if self.c["tie_word_embeddings"] else "lm_head"
        cap = self.c.get("final_logit_softcapping")
        out = []
        for x in xs:
            y = self.linear(self.norm(x, "model.norm.weight"), head)
            out += [cap * math.tanh(v / cap) for v in y] if cap else y
        return out


def logits_of(model, work):
    with open(work + "/ids", "w") as f:
        print(*IDS, file=f)
    return array.array("f", run(BUILD + "/tests/logits", model, work + "/ids", "--exact", check=True).stdout)


def distance(a, b):
    if len(a) != len(b):
        return math.inf
    return math.sqrt(sum((x - y)**2 for x, y in zip(a, b)) / sum(y * y for y in b))


def families(work):
    for shape in ("llama-tiny", "llama-narrow", "mistral-tiny", "mixtral-tiny", "qwen2-tiny", "qwen3-tiny", "gemma2-tiny",
                  "gemma3-tiny"):
        folder, model = make(shape, f"{work}/{shape}"), f"{work}/{shape}.gguf"
        p = convert(folder, model, "--type", "f32")
        if p.returncode:
            check(shape, False, p.stderr.decode())
            continue
        d = distance(logits_of(model, work), Reference(Folder(folder)).logits(IDS))
        check(f"{shape}: logits are the folder's ({d:.1e})", d < 2e-3, d)
        p = run(SOLVENT, "run", model, "that is it", "--max-tokens", "4", "--temp", "0")
        check(f"{shape}: answers", p.returncode == 0, p.stderr.decode())
        p = run(SOLVENT, "perplexity", "-m", model, __file__, "--ctx", "64", "--windows", "2", "--json")
        check(f"{shape}: scores a text", p.returncode == 0 and json.loads(p.stdout)["ppl"] > 1, p.stderr.decode())


def types(work):
    folder, model = work + "/llama-tiny", work + "/type.gguf"
    exact = logits_of(work + "/llama-tiny.gguf", work)
    for t, bound in TYPES.items():
        p = convert(folder, model, "--type", t, "--force")
        d = distance(logits_of(model, work), exact) if p.returncode == 0 else math.inf
        check(f"{t}: {d:.4f} from f32", d < bound, (d, p.stderr.decode()))


def merged(symbols, ranks):
    """Byte-pair encoding in its plainest form."""
    while True:
        best = min(((ranks.get((a, b), math.inf), i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))),
                   default=(math.inf, 0))
        if best[0] == math.inf:
            return symbols
        symbols[best[1]:best[1] + 2] = ["".join(symbols[best[1]:best[1] + 2])]


def tokens(work):
    """The file's vocabulary cuts text as the folder's does: pieces of Gemma, whose scores come from the merges."""
    text = "what a (abacus) has  a nab at ba aa aaaa\n\u00e9 "
    for shape in ("gemma2-tiny", "gemma3-tiny"):
        with open(f"{work}/{shape}/tokenizer.json") as f:
            model = json.load(f)["model"]
        ranks = {tuple(m.split(" ")): i for i, m in enumerate(model["merges"])}
        want = []
        for piece in merged(list(text.replace(" ", "\u2581")), ranks):
            known = piece in model["vocab"]
            want += [model["vocab"][piece]] if known else [model["vocab"][f"<0x{b:02X}>"] for b in piece.encode()]
        p = run(SOLVENT, "tokenize", "-m", f"{work}/{shape}.gguf", "--no-special", input=text.encode())
        check(f"{shape}: tokens", [int(i) for i in p.stdout.split()] == want, (p.stdout, want, p.stderr))


def content(path):
    with open(path, "rb") as f:
        return f.read()


def same_bytes(work):
    one, other = work + "/one.gguf", work + "/other.gguf"
    convert(work + "/llama-tiny", one, "--type", "q4_k_m", "--threads", "1")
    convert(work + "/llama-tiny", other, "--type", "q4_k_m", "--threads", "3")
    check("1 and 3 threads give the same bytes", content(one) == content(other))
    os.mkdir(work + "/split")
    convert(make("llama-tiny", work + "/split/llama-tiny", "--parts", "3"), other, "--type", "q4_k_m", "--force")
    check("three parts and one give the same bytes", content(one) == content(other))


def refused(work, name, folder, word, status=1, **more):
    out = work + "/refused.gguf"
    p = convert(folder, out, "--type", "q4_0", **more)
    line = p.stderr.decode(errors="replace").strip().splitlines()[-1:]
    left = [n for n in os.listdir(work) if n.startswith("refused")]
    check(name, p.returncode == status and line and word in line[0] and not left, (p.returncode, line, left))


def damage(work, name, file, old, new):
    """A copy of llama-narrow with the first `old` in a file replaced."""
    folder = make("llama-narrow", f"{work}/bad-{name}")
    raw = content(f"{folder}/{file}")
    assert old in raw
    with open(f"{folder}/{file}", "wb") as f:
        f.write(raw.replace(old, new, 1))
    return folder


def limit_file():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))


def refusals(work):
    narrow, key = make("llama-narrow", work + "/narrow"), b"model.layers.1.mlp.up_proj.weight"
    refused(work, "a strange tensor is named",
            damage(work, "name", "model.safetensors", key, b"model.layers.1.mlp.up_proj.wright"), "up_proj")
    refused(work, "a strange type is named",
            damage(work, "type", "model.safetensors", b'"BF16"', b'"I16" '), "I16")
    refused(work, "a strange family is named",
            damage(work, "family", "config.json", b"LlamaFor", b"LlamoFor"), "LlamoForCausalLM")
    refused(work, "a strange pre-tokenizer is named",
            damage(work, "pre", "tokenizer.json", b'"type":"ByteLevel"', b'"type":"Whitespace"'), "tokenizer.json")
    refused(work, "strange RoPE is named",
            damage(work, "rope", "config.json", b'"head_dim"', b'"rope_scaling":{"type":"dynamic"},"head_dim"'), "dynamic")
    refused(work, "a wrong width is named", damage(work, "width", "config.json", b'"hidden_size":96', b'"hidden_size":64'),
            "embed_tokens")
    raw = content(narrow + "/model.safetensors")
    with open(damage(work, "nan", "config.json", b"{", b"{ ") + "/model.safetensors", "wb") as f:
        f.write(raw[:-2] + b"\xff\x7f")
    refused(work, "NaN is refused by the tensor's name", work + "/bad-nan", "model.norm.weight")
    refused(work, "a full disk is an error", narrow, "cannot write", preexec_fn=limit_file)
    refused(work, "no such folder", work + "/nowhere", "config.json")


def overwriting(work):
    folder, out = work + "/narrow", work + "/kept.gguf"
    with open(out, "w") as f:
        f.write("mine")
    p = convert(folder, out)
    check("a file that is there is kept", p.returncode == 2 and content(out) == b"mine", p.stderr.decode())
    p = convert(folder, out, "--force")
    check("--force overwrites it", p.returncode == 0 and content(out)[:4] == b"GGUF", p.stderr.decode())
    p = convert(folder, work + "/t.gguf", "--type", "q9_9")
    check("an unknown type is usage", p.returncode == 2 and b"q4_k_m" in p.stderr, p.stderr.decode())


def killed(work):
    """Killed at any time: the file is whole or not there, and the next run does not mind."""
    out, whole = work + "/killed.gguf", content(work + "/one.gguf")
    for ms in (1, 5, 10, 20, 40):
        p = subprocess.Popen([SOLVENT, "convert", work + "/llama-tiny", "-o", out, "--type", "q4_k_m", "--threads", "1"],
                             stderr=subprocess.DEVNULL)
        try:
            p.wait(ms / 1000)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        good = not os.path.exists(out) or content(out) == whole
        check(f"killed after {ms} ms", good)
        if os.path.exists(out):
            os.unlink(out)
    p = convert(work + "/llama-tiny", out, "--type", "q4_k_m")
    check("after that it works", p.returncode == 0 and content(out) == whole and not os.path.exists(out + ".part"))


def main():
    with tempfile.TemporaryDirectory() as work:
        families(work)
        tokens(work)
        types(work)
        same_bytes(work)
        refusals(work)
        overwriting(work)
        killed(work)
        p = convert(make("bert-tiny", work + "/bert-tiny"), work + "/bert.gguf", "--type", "f16")
        shown = run(SOLVENT, "inspect", work + "/bert.gguf")
        check("bert-tiny converts", p.returncode == 0 and b"bert" in shown.stdout, p.stderr.decode())
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
