"""Does vitsmith give the tokens of open_clip and transformers, with CLIP's real vocabulary, and how fast?

    pip install open_clip_torch==3.3.0 transformers==5.24.0 sentencepiece protobuf ftfy
    PYTHONPATH=. RAYON_NUM_THREADS=1 python benchmarks/token_parity.py [--out benchmarks/results/FILE.md]

CLIP's vocabulary is the file that open_clip_torch has inside. SigLIP's vocabularies are in no package: here they are
the small ones of `tests/reference/text`, which hold bytes for all that they lack. A folder is a whole one, a model with
a tokenizer that `save_pretrained` wrote, read by `vitsmith.load` (`token_parity_folders.py`); texts for the Gemma of
transformers are lower-cased first, as vitsmith does and says for SigLIP 2.

- list: texts of the awkward list in `tests/reference/text/make.py` with other tokens than theirs.
- random: the same for random texts of up to 60 characters, of many scripts, symbols, marks and controls. Characters
  that Python's Unicode does not know are left out: the libraries know different versions.
- ours, theirs: thousands of prompts 'a photo of a LABEL' that are read in a second on one core, best of three.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import platform
import random
import tempfile
import time
import unicodedata
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from token_parity_folders import Cut, clip_pieces, folders_of_open_clip, folders_of_transformers

from tests.reference.text.make import HERE, TEXTS, import_open_clip, siglip2_of_transformers
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.data.text.tokenizer_json import clip_tokenizer_json
from vitsmith.machine import describe_machine
from vitsmith.text_spec import TextSpec

RANGES = (
    (0, 0x250),
    (0x250, 0x530),
    (0x590, 0x700),
    (0x900, 0x980),
    (0xE00, 0xE80),
    (0x1E00, 0x2400),
    (0x2600, 0x27C0),
)
RANGES += ((0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFB00, 0xFB07), (0xFF00, 0xFF60), (0x1F300, 0x1F700))
"""Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, punctuation, symbols, CJK, Hangul, ligatures, emoji."""


def sources() -> dict[str, tuple[Cut, Cut]]:
    """Name of a source -> our tokenizer and theirs."""
    from transformers import CLIPTokenizer, SiglipTokenizer

    clip = import_open_clip()
    original = clip.SimpleTokenizer()
    vocabulary, pairs = clip_pieces()
    ours = clip_tokenizer_json(json.dumps(vocabulary).encode(), "\n".join(" ".join(pair) for pair in pairs).encode())
    theirs = CLIPTokenizer(vocab=vocabulary, merges=pairs)
    gemma, siglip = (HERE / name for name in ("siglip2.json", "siglip.model"))
    last_zero = {"padding": "zero", "pooling": "last", "length": 64}
    hf_siglip2 = siglip2_of_transformers((HERE / "siglip2.model").read_bytes())
    canonical = clip.get_clean_fn("canonicalize")
    return {
        "open_clip, CLIP": (
            tokenizer(Path(clip.default_bpe()).read_bytes(), tokenizer="bpe", vocabulary=49408),
            lambda texts: original(texts).numpy(),
        ),
        "transformers, CLIP": (
            tokenizer(ours, tokenizer="tokenizers", vocabulary=49408, padding="end", pooling="end", length=77),
            of_transformers(theirs, 77),
        ),
        "transformers, SigLIP": (
            tokenizer(
                siglip.read_bytes(), tokenizer="sentencepiece", vocabulary=430, length=64,
                cleaning=("lower", "punctuation", "spaces"),
            ),
            of_transformers(SiglipTokenizer(str(siglip)), 64),
        ),
        "transformers, SigLIP 2": (
            tokenizer(gemma.read_bytes(), tokenizer="tokenizers", vocabulary=500, **last_zero),
            of_transformers(hf_siglip2, 64),
        ),
        "open_clip, SigLIP 2": (
            tokenizer(
                gemma.read_bytes(), tokenizer="tokenizers", vocabulary=500, cleaning=("ftfy", "html", "canonical"),
                **last_zero,
            ),
            lambda texts: of_transformers(hf_siglip2, 64)([canonical(text) for text in texts]),
        ),
    }  # fmt: skip


def tokenizer(file: bytes, **fields: Any) -> Cut:
    return Tokenizer(TextSpec(**fields), file)


def of_transformers(theirs: Any, length: int) -> Cut:
    return lambda texts: np.array(theirs(texts, padding="max_length", truncation=True, max_length=length).input_ids)


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    letters = [chr(code) for first, end in RANGES for code in range(first, end)]
    letters = [letter for letter in letters if unicodedata.category(letter) != "Cn"]
    plain = "aAeEiIosStTrR 1'.,&;<>"
    return [
        "".join(draw.choice(letters if draw.random() < 0.5 else plain) for _ in range(draw.randint(0, 60)))
        for _ in range(count)
    ]


def rate(cut: Cut) -> float:
    """Prompts a second."""
    prompts = [f"a photo of a {['small', 'large', 'red', 'blue'][at % 4]} thing number {at}." for at in range(2000)]
    cut(prompts[:10])
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        cut(prompts)
        taken.append(time.perf_counter() - begun)
    return len(prompts) / min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=20_000, help="number of random texts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    told = io.StringIO()
    print("# Tokens of CLIP and SigLIP beside those of open_clip and transformers\n", file=told)
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("open_clip_torch", "transformers", "tokenizers", "ftfy")
    )
    print(
        f"`python benchmarks/token_parity.py`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, {packages}.\n",
        file=told,
    )
    print("| source | list, of", len(TEXTS), "| random, of", f"{options.random:,} | ours | theirs |", file=told)
    print("|---|---:|---:|---:|---:|", file=told)
    drawn = random_texts(options.random)
    with tempfile.TemporaryDirectory() as place:
        cut = sources() | folders_of_transformers(Path(place)) | folders_of_open_clip(Path(place, "open_clip"))
    for name, (ours, theirs) in cut.items():
        differing = [int((ours(texts) != theirs(texts)).any(axis=1).sum()) for texts in (TEXTS, drawn)]
        rates = [f"{rate(cut) / 1000:.1f}" for cut in (ours, theirs)]
        print(f"| {name} | {differing[0]} | {differing[1]} | {' | '.join(rates)} |", file=told)
    print("", *("    " + line for line in __doc__.splitlines()[5:]), sep="\n", file=told)
    print(told.getvalue())
    if options.out:
        options.out.write_text(told.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
