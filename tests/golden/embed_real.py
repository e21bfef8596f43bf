"""`solvent embed` against numpy on a real encoder: 200 texts, one line each, the last ones multilingual.

    run embed_real.py --build DIR --folder HF_FOLDER MODEL.gguf [MODEL.gguf ...]

HF_FOLDER holds what the files were made from: config.json, vocab.txt, model.safetensors. Ids are made
here and compared too. Gates: 1 - cosine of the worst text, by the type of the file's matrices. Ends with
"N passed, N failed".
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader

import encoder

HERE = Path(__file__).resolve().parent
TEXTS = 200
COSINE = {"F32": 0.99999, "F16": 0.99999, "BF16": 0.9999, "Q8_0": 0.999}
CONTEXT = 512
OTHERS = [
    "École d'été à Zürich: où est-ce qu'on mange des crêpes?",
    "Straßenbahnhaltestelle, Überraschung und Fußgängerzone",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "我想在apple工作1314151天～ 今天天气很好。",
    "東京都は日本の首都です。カタカナとひらがな",
    "한국어로 된 문장도 읽을 수 있습니다.",
    "ما هو الطقس اليوم؟ هذا سؤال بسيط.",
    "यह एक हिन्दी वाक्य है, जिसमें मात्राएँ हैं।",
    "Ο Σίσυφος έσπρωχνε την πέτρα ΞΑΝΑ και ΞΑΝΑ",
    "emoji 😀👩‍👩‍👧 and symbols ∑ ≈ © ™ ½ № $100 €5 100% C++ a_b-c/d\\e",
    "[CLS] is not a token here, nor is [SEP], <s> or <|im_end|>",
    "x" * 100 + " " + "y" * 101,
    "tab\tand  several   spaces\u00a0and\u3000wide ones, soft\u00adhyphen, zero\u200bwidth",
    "a",
    "",
    "!!!...???",
]


def texts():
    prose = (HERE.parent / "data/golden/text.txt").read_text()
    paragraphs = [p for p in prose.split("\n") if p]
    sentences = [s for p in paragraphs for s in re.split(r"(?<=[.!?])\s+", p) if s]
    flat = prose.replace("\n", " ")
    lines = [flat[i : i + 1800] for i in range(0, len(flat), 1800)] + sentences + paragraphs
    return lines[: TEXTS - len(OTHERS)] + OTHERS


def ours(solvent, model, lines):
    """Vectors and token counts."""
    r = subprocess.run([solvent, "embed", "-m", model, "--json"], input="\n".join(lines) + "\n",
                       capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in r.stdout.splitlines()]
    assert [row["index"] for row in rows] == list(range(len(lines)))
    return np.array([row["embedding"] for row in rows]), [row["tokens"] for row in rows]


def tokenized(solvent, model, text):
    r = subprocess.run([solvent, "tokenize", "-m", model, "--no-special"], input=text.encode(),
                       capture_output=True, check=True)
    return [int(n) for n in r.stdout.split()]


def kind(model):
    reader = GGUFReader(model)
    return next(t.tensor_type.name for t in reader.tensors if t.name == "blk.0.ffn_up.weight")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=Path, required=True)
    p.add_argument("--folder", type=Path, required=True)
    p.add_argument("models", nargs="+")
    args = p.parse_args()
    solvent = args.build / "solvent"
    lines = texts()
    tokenizer = encoder.Tokenizer(args.folder)
    ids = [tokenizer.ids(line) for line in lines]
    assert len(lines) == TEXTS and max(map(len, ids)) <= CONTEXT, (len(lines), max(map(len, ids)))
    model = encoder.from_folder(args.folder)
    want = np.stack([model.hidden(i).mean(axis=0, dtype=np.float64) for i in ids])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    passed = failed = 0
    for path in args.models:
        same = tokenized(solvent, path, "\n".join(lines)) == [n for i in ids for n in i[1:-1]]
        got, counts = ours(solvent, path, lines)
        cosine = (got * want).sum(axis=1) / np.linalg.norm(got, axis=1)
        gate = COSINE[kind(path)]
        checks = {"ids": same and counts == [len(i) for i in ids], "cosine": cosine.min() >= gate}
        print(f"{Path(path).name:24} {kind(path):5} {TEXTS} texts, {sum(map(len, ids))} tokens: "
              f"cosine mean {cosine.mean():.7f}, worst {cosine.min():.7f} (gate {gate})")
        for name, ok in checks.items():
            passed += ok
            failed += not ok
            if not ok:
                print(f"FAIL {path}: {name}" + (f": {lines[cosine.argmin()][:80]}" if name == "cosine" else ""))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
