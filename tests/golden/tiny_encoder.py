"""Makes the tiny seeded encoders of tests/data/embed, with the block formats they come in.

    tiny_encoder.py OUT_DIR

Each file holds texts as golden.lengths and golden.tokens (one after another), and as golden.vectors
the reference's float32 vectors [texts][mean, first, last][d_model], not normalised.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

import encoder
from tiny_model import Maker

VOCAB = 97
CONTEXT = 80
LENGTHS = [3, 1, 33, 64, 17, 80, 2]  # of one page, of several, whole pages and the whole context
MODELS = [
    dict(name="bert_f32", seed=1, d=48, heads=3, ff=80, layers=2, types={"all": "F32"}),
    dict(name="bert_f16", seed=2, d=80, heads=5, ff=112, layers=1, types={"all": "F16"}),
    dict(name="bert_q8_0", seed=3, d=64, heads=2, ff=96, layers=2, types={"all": "Q8_0"}),
    dict(name="bert_q4_k", seed=4, d=256, heads=4, ff=256, layers=1,
         types={"all": "Q4_K", "token_embd": "Q8_0"}),
]


class EncoderMaker(Maker):
    def model(self):
        s = self.spec
        d, ff = s["d"], s["ff"]
        self.matrix("token_embd.weight", VOCAB, d, 2)
        self.matrix("position_embd.weight", CONTEXT, d, 2, "F32")
        self.matrix("token_types.weight", 2, d, 2, "F32")
        self.vector("token_embd_norm.weight", d, 1, 0.3)
        self.vector("token_embd_norm.bias", d, 0, 0.3)
        for i in range(s["layers"]):
            shapes = dict(attn_q=(d, d, 1.3), attn_k=(d, d, 1.3), attn_v=(d, d, 1), attn_output=(d, d, 1.5),
                          ffn_up=(ff, d, 1.5), ffn_down=(d, ff, 2))
            for part, shape in shapes.items():
                self.matrix(f"blk.{i}.{part}.weight", *shape)
                self.vector(f"blk.{i}.{part}.bias", shape[0], 0, 0.5)
            for part in ("attn_output_norm", "layer_output_norm"):
                self.vector(f"blk.{i}.{part}.weight", d, 1, 0.3)
                self.vector(f"blk.{i}.{part}.bias", d, 0, 0.3)

    def tokenizer(self, w):
        control = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
        tokens = control + ["\u2581" + c for c in letters] + letters
        tokens += ["\u2581" + c for c in "0123456789.,!?"]
        tokens += [f"[unused{i}]" for i in range(VOCAB - len(tokens))]
        w.add_tokenizer_model("bert")
        w.add_token_list(tokens)
        w.add_token_types([TokenType.CONTROL] * len(control) + [TokenType.NORMAL] * (VOCAB - len(control)))
        w.add_token_type_count(2)
        w.add_unk_token_id(1)
        w.add_sep_token_id(3)
        w.add_uint32("tokenizer.ggml.cls_token_id", 2)

    def write(self, path, golden=None):
        s = self.spec
        w = GGUFWriter(path, "bert")
        w.add_name("tiny " + s["name"])
        w.add_block_count(s["layers"])
        w.add_context_length(CONTEXT)
        w.add_embedding_length(s["d"])
        w.add_feed_forward_length(s["ff"])
        w.add_head_count(s["heads"])
        w.add_layer_norm_eps(1e-12)
        w.add_causal_attention(False)
        w.add_uint32("bert.pooling_type", 1)
        self.tokenizer(w)
        for key, values in (golden or {}).items():
            w.add_array("golden." + key, values)
        for name, array, kind in self.tensors:
            w.add_tensor(name, array, raw_dtype=kind)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def make(spec, out):
    maker = EncoderMaker(spec)
    texts = [[int(t) for t in maker.rng.integers(0, VOCAB, n)] for n in LENGTHS]
    maker.model()
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / "bare.gguf"
        maker.write(bare)
        model = encoder.from_gguf(bare)
    hidden = [model.hidden(ids) for ids in texts]
    vectors = np.stack([[h.mean(axis=0), h[0], h[-1]] for h in hidden])
    path = out / (spec["name"] + ".gguf")
    maker.write(path, dict(lengths=LENGTHS, tokens=sum(texts, []), vectors=[float(x) for x in vectors.ravel()]))
    print(f"{path.name:22} {path.stat().st_size:8} bytes, vectors deviate by {vectors.std():.2f}")


if __name__ == "__main__":
    for model in MODELS:
        make(model, Path(sys.argv[1]))
