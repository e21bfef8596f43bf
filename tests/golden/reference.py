"""The forward pass of every model family this project runs, in numpy, from dequantised weights.

Written from the papers and the published model cards, to be compared with, not to be fast: whole
sequences, no KV cache, no quantised arithmetic, every step in `dtype` (float32 unless told). The
gguf package reads the file and dequantises its blocks; everything after that stands here.

    model = reference.Model("model.gguf")
    for logits in model.logits([ids, ids, ...]):        # one [len][n_vocab] array a sequence
"""

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

# What differs between the families.
#   neox     rotary pairs are (i, i + d/2); otherwise (2i, 2i + 1), the files' q and k being permuted
#   gelu     the gate's activation is GELU (tanh form), otherwise SiLU
#   scaled   embeddings are multiplied by sqrt(d_model)
#   period   every period-th layer is global, the others see a sliding window; 1: all slide if any
FAMILIES = {
    "llama": dict(neox=False, gelu=False, scaled=False, period=1),
    "qwen2": dict(neox=True, gelu=False, scaled=False, period=0),
    "qwen3": dict(neox=True, gelu=False, scaled=False, period=0),
    "gemma2": dict(neox=True, gelu=True, scaled=True, period=2),
    "gemma3": dict(neox=True, gelu=True, scaled=True, period=6),
}
# Layers of the two Gemma 27B models, whose queries are scaled by d_model / heads, not by d_head.
WIDE_QUERY = {("gemma2", 46), ("gemma3", 62)}


class Model:
    def __init__(self, path, dtype=np.float32):
        self.dtype = dtype
        reader = GGUFReader(path)
        self.tensors = {t.name: t for t in reader.tensors}
        self.fields = reader.fields
        self.arch = self.fields["general.architecture"].contents()
        self.family = FAMILIES[self.arch]
        self.n_layers = self.meta("block_count")
        self.d_model = self.meta("embedding_length")
        self.heads = self.meta("attention.head_count")
        self.kv_heads = self.meta("attention.head_count_kv", self.heads)
        self.d_head = self.meta("attention.key_length", self.d_model // self.heads)
        self.eps = self.meta("attention.layer_norm_rms_epsilon")
        self.experts = self.meta("expert_count", 0)
        self.experts_used = self.meta("expert_used_count", 0)
        self.window = self.meta("attention.sliding_window", 4096 if self.arch == "gemma2" else 0)
        wide = (self.arch, self.n_layers) in WIDE_QUERY
        self.output = None  # the head's weights, once used
        self.scale = (self.d_model / self.heads if wide else self.d_head) ** -0.5

    def meta(self, key, default=None):
        field = self.fields.get(f"{self.arch}.{key}")
        if field is None and default is None:
            raise KeyError(f"{self.arch}.{key} is missing")
        return default if field is None else field.contents()

    def has(self, name):
        return name in self.tensors

    def tensor(self, name):
        """[rows][columns] of `dtype`, or [experts][rows][columns]; None where the file has none."""
        t = self.tensors.get(name)
        if t is None:
            return None
        shape = tuple(int(n) for n in t.shape[::-1])
        return dequantize(t.data, t.tensor_type).reshape(shape).astype(self.dtype)

    # --- operations -----------------------------------------------------------------------------

    def matmul(self, x, w, name):
        """x [n][columns] times w [rows][columns]; `name` says which weight it is."""
        return x @ w.T

    def linear(self, x, name):
        y = self.matmul(x, self.tensor(name + ".weight"), name)
        bias = self.tensor(name + ".bias")
        return y if bias is None else y + bias

    def norm(self, x, name):
        """RMS norm over the last axis; the files of the Gemma family hold 1 + weight."""
        w = self.tensor(name + ".weight")
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.dtype(self.eps)) * w

    def optional_norm(self, x, name):
        return self.norm(x, name) if self.has(name + ".weight") else x

    def slides(self, layer):
        pattern = self.meta("attention.sliding_window_pattern", self.family["period"])
        if isinstance(pattern, list):
            return self.window > 0 and pattern[layer]
        return self.window > 0 and pattern > 0 and (pattern == 1 or layer % pattern != pattern - 1)

    def rope_constants(self, layer):
        """Frequencies of the rotary pairs in float64, and the factor on cosine and sine."""
        n_rot = self.meta("rope.dimension_count", self.d_head)
        i = np.arange(n_rot // 2)
        if self.arch == "gemma3" and self.slides(layer):
            return 10000.0 ** (-2 * i / n_rot), 1.0
        base = float(self.meta("rope.freq_base", 10000.0))
        freq = base ** (-2 * i / n_rot)
        if self.has("rope_freqs.weight"):
            freq = freq / self.tensor("rope_freqs.weight").astype(np.float64)
        factor = self.meta("rope.scaling.factor", 0.0) or self.meta("rope.scale_linear", 1.0)
        kind = self.meta("rope.scaling.type", "linear")
        if kind == "linear":
            return freq / factor, 1.0
        if kind == "yarn":  # Peng et al. 2023, sections 3.2 and 3.4, with their alpha 1 and beta 32
            context = self.meta("rope.scaling.original_context_length")
            turns = [n_rot * np.log(context / (b * 2 * np.pi)) / (2 * np.log(base)) for b in (32, 1)]
            low, high = max(np.floor(turns[0]), 0), min(np.ceil(turns[1]), n_rot - 1)
            ramp = np.clip((i - low) / max(high - low, 0.001), 0, 1)
            return freq / factor * ramp + freq * (1 - ramp), 1 + 0.1 * np.log(factor)
        return freq, 1.0

    def rope(self, x, layer):
        """x [n][heads][d_head], position = row."""
        freq, factor = self.rope_constants(layer)
        n_rot = 2 * len(freq)
        angle = np.arange(len(x))[:, None] * freq[None, :]
        cos, sin = ((f(angle) * factor)[:, None, :].astype(self.dtype) for f in (np.cos, np.sin))
        y = x.copy()
        if self.family["neox"]:
            a, b = np.s_[..., : n_rot // 2], np.s_[..., n_rot // 2 : n_rot]
        else:
            a, b = np.s_[..., 0:n_rot:2], np.s_[..., 1:n_rot:2]
        y[a] = x[a] * cos - x[b] * sin
        y[b] = x[a] * sin + x[b] * cos
        return y

    def softcap(self, x, key, gemma2):
        """Squeezes x into (-cap, cap); only Gemma 2 caps where the file does not say so."""
        cap = self.meta(key, gemma2 if self.arch == "gemma2" else 0.0)
        return self.dtype(cap) * np.tanh(x / self.dtype(cap)) if cap else x

    def attention(self, q, k, v, layer):
        """One sequence: q [n][heads][d_head], k and v [n][kv_heads][d_head]."""
        n = len(q)
        q = (self.rope(q, layer) * self.dtype(self.scale)).transpose(1, 0, 2)
        k = self.rope(k, layer).transpose(1, 2, 0)
        v = v.transpose(1, 0, 2)
        group = self.heads // self.kv_heads
        back = np.arange(n)[:, None] - np.arange(n)[None, :]
        hidden = back < 0
        if self.slides(layer):
            hidden |= back >= self.window
        out = np.empty((n, self.heads, self.d_head), self.dtype)
        for h in range(self.heads):
            s = self.softcap(q[h] @ k[h // group], "attn_logit_softcapping", 50.0)
            s[hidden] = -np.inf
            s = np.exp(s - s.max(axis=1, keepdims=True))
            out[:, h] = s / s.sum(axis=1, keepdims=True) @ v[h // group]
        return out.reshape(n, -1)

    def gated(self, x, gate, up, down, name):
        """down(act(gate x) * (up x)) of one expert or of the dense layer."""
        g = self.matmul(x, gate, name + ".ffn_gate")
        if self.family["gelu"]:
            inner = self.dtype(np.sqrt(2 / np.pi)) * (g + self.dtype(0.044715) * g**3)
            g = g * self.dtype(0.5) * (1 + np.tanh(inner))
        else:
            g = g / (1 + np.exp(-g))
        return self.matmul(g * self.matmul(x, up, name + ".ffn_up"), down, name + ".ffn_down")

    def expert(self, name, part, e):
        """One expert's matrix: a slice of the stacked tensor, or a tensor of its own in old files."""
        if self.has(f"{name}.ffn_{part}_exps.weight"):
            return self.tensor(f"{name}.ffn_{part}_exps.weight")[e]
        return self.tensor(f"{name}.ffn_{part}.{e}.weight")

    def mixture(self, x, name):
        """The best experts of each row, weighted by the softmax of their router logits."""
        r = x @ self.tensor(name + ".ffn_gate_inp.weight").T
        best = np.argsort(-r, axis=1, kind="stable")[:, : self.experts_used]
        w = np.take_along_axis(r, best, axis=1)
        w = np.exp(w - w.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        y = np.zeros_like(x)
        for e in range(self.experts):
            row, slot = np.nonzero(best == e)
            if len(row):
                parts = [self.expert(name, part, e) for part in ("gate", "up", "down")]
                y[row] += w[row, slot, None] * self.gated(x[row], *parts, name)
        return y

    # --- the model ------------------------------------------------------------------------------

    def layer(self, x, cuts, layer):
        """x [n][d_model] of all sequences, one after the other, cut before the rows `cuts`."""
        name = f"blk.{layer}"
        h = self.norm(x, name + ".attn_norm")
        q = self.linear(h, name + ".attn_q").reshape(len(x), self.heads, self.d_head)
        k = self.linear(h, name + ".attn_k").reshape(len(x), self.kv_heads, self.d_head)
        v = self.linear(h, name + ".attn_v").reshape(len(x), self.kv_heads, self.d_head)
        q = self.optional_norm(q, name + ".attn_q_norm")
        k = self.optional_norm(k, name + ".attn_k_norm")
        split = zip(*(np.split(t, cuts) for t in (q, k, v)))
        h = np.concatenate([self.attention(*s, layer) for s in split])
        h = self.linear(h, name + ".attn_output")
        x = x + self.optional_norm(h, name + ".post_attention_norm")
        h = self.norm(x, name + ".ffn_norm")
        if self.experts:
            h = self.mixture(h, name)
        else:
            parts = [self.tensor(f"{name}.ffn_{part}.weight") for part in ("gate", "up", "down")]
            h = self.gated(h, *parts, name)
        return x + self.optional_norm(h, name + ".post_ffw_norm")

    def hidden(self, sequences):
        """The output of the last norm for each sequence of token ids: a list of [n][d_model]."""
        cuts = np.cumsum([len(s) for s in sequences])[:-1]
        x = self.tensor("token_embd.weight")[np.concatenate(sequences)]
        if self.family["scaled"]:
            x = x * self.dtype(np.sqrt(self.d_model))
        for layer in range(self.n_layers):
            x = self.layer(x, cuts, layer)
        return np.split(self.norm(x, "output_norm"), cuts)

    def head(self, hidden):
        """[n][d_model] to logits [n][n_vocab]."""
        if self.output is None:
            tied = not self.has("output.weight")
            self.output = self.tensor("token_embd.weight" if tied else "output.weight")
        return self.softcap(self.matmul(hidden, self.output, "output"), "final_logit_softcapping", 30.0)

    def logits(self, sequences):
        """Yields [n][n_vocab] for each sequence."""
        for h in self.hidden(sequences):
            yield self.head(h)
