"""Makes the files of CLIP's and SigLIP's tokenizers here: small vocabularies, and what others' code makes of texts.

Run it where open_clip_torch (3.3.0), transformers (5.24), sentencepiece and protobuf are installed. It writes
`clip.bpe`, `clip.json`, `siglip.model`, `siglip2.model`, `siglip2.json` and `others.json`, beside itself.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import gzip
import importlib.util
import io
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
LENGTH = 32
MERGES = 300

TEXTS = [
    "a photo of a cat.", "A Photo  of\ta CAT!", "", "   ", "naïve café", "nai\u0308ve cafe\u0301",
    "🐱 and 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈", "猫と犬の写真", "사진 속 고양이", "صورة قطة",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; &quot;x&quot; &amp;lt;p&amp;gt;",
    "it's they're I'll he'd we've I'm DON'T 'S x'ſ K\u212a", "word " * 300, "a\x00b\x01c\x07d",
    "line\r\nbreak\u2028sep\x85nel", "12345 3.14 ½ Ⅻ ٣", "<start_of_text> a <end_of_text>",
    "<|startoftext|> x <|endoftext|>", "ﬁne ﬂower", "“curly” ‘quotes’ … —", "schÃ¶n", "e\u0301\u0302\u0303\u0304",
    "zero\u200bwidth\u200d\ufeff", "𝕳𝖊𝖑𝖑𝖔", "ＦＵＬＬ\u3000ｗｉｄｔｈ", "İstanbul ΣΊΣΥΦΟΣ Größe", "a_b-c/d\\e",
    "____", "...!!!???", "\x1b[31mred\x1b[0m", "a\u00adb", "x" * 100, "\u3000\u00a0 ", "á" * 40,
]  # fmt: skip
"""Emoji, scripts without spaces, HTML, control characters, combining accents, NUL, what is empty or too long."""


def main() -> None:
    rows: dict[str, list[list[int]]] = {}
    clip = import_open_clip()
    header, *merges = gzip.decompress(Path(clip.default_bpe()).read_bytes()).decode().split("\n")[: MERGES + 1]
    assert header.endswith("#version: 0.2")
    (HERE / "clip.bpe").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8", newline="\n")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "clip.txt.gz"
        packed.write_bytes(gzip.compress((HERE / "clip.bpe").read_bytes()))
        original = clip.SimpleTokenizer(str(packed), context_length=LENGTH)
    rows["open_clip"] = original(TEXTS).tolist()
    rows["hf_clip"] = _rows(_clip_of_transformers(original))
    model = _sentencepiece(430, "unigram", bos_id=-1, unk_id=2)
    (HERE / "siglip.model").write_bytes(model)
    from transformers import SiglipTokenizer

    rows["hf_siglip"] = _rows(SiglipTokenizer(str(HERE / "siglip.model")))
    options = {"unk_piece": "<unk>", "bos_piece": "<bos>", "eos_piece": "<eos>", "pad_piece": "<pad>"}
    model = _sentencepiece(
        500, "bpe", bos_id=2, unk_id=3, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, split_digits=True, user_defined_symbols=["<mask>"], **options,
    )  # fmt: skip
    (HERE / "siglip2.model").write_bytes(model)
    gemma = _saved(siglip2_of_transformers(model), "siglip2.json")
    rows["hf_siglip2"] = _rows(gemma)
    rows["open_clip_siglip2"] = _rows(gemma, [clip.get_clean_fn("canonicalize")(text) for text in TEXTS])
    recorded = {"length": LENGTH, "texts": TEXTS, **rows}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in recorded.items())
    (HERE / "others.json").write_text(f"{{\n{lines}\n}}\n", encoding="ascii")


def import_open_clip() -> ModuleType:
    """open_clip's tokenizer.py by itself: the package imports torchvision."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.submodule_search_locations
    place = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    found = importlib.util.spec_from_file_location("open_clip_tokenizer", place)
    assert found is not None and found.loader is not None
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _rows(tokenizer: Any, texts: list[str] | None = None) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(
        texts or TEXTS, padding="max_length", truncation=True, max_length=LENGTH
    ).input_ids
    return rows


def _saved(tokenizer: Any, name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (HERE / name).write_bytes((Path(folder) / "tokenizer.json").read_bytes())
    return tokenizer


def _clip_of_transformers(original: Any) -> Any:
    from transformers import CLIPTokenizer

    named = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {named.get(piece, piece): at for piece, at in original.encoder.items()}
    return _saved(CLIPTokenizer(vocab=vocabulary, merges=list(original.bpe_ranks)), "clip.json")


def _sentencepiece(pieces: int, kind: str, **options: Any) -> bytes:
    import sentencepiece

    things, places = ("cat", "dog", "bird", "horse", "car", "tree"), ("table", "grass", "road", "beach", "mountain")
    corpus = [f"a photo of a {thing} on the {place}" for thing in things for place in places]
    corpus += [text for text in TEXTS if 0 < len(text) < 100] * 3
    corpus += [f"The quick brown fox jumps over the lazy dog, it's {hour} o'clock." for hour in range(60)]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=made, minloglevel=2, vocab_size=pieces, model_type=kind,
        pad_id=0, eos_id=1, byte_fallback=True, hard_vocab_limit=False, num_threads=1, **options,
    )  # fmt: skip
    return made.getvalue()


def sentencepiece_ids(model: bytes) -> dict[str, Any]:
    """The ids and merges of a SentencePiece BPE model: each piece is a merge of every two pieces that make it."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {processor.id_to_piece(at): at for at in range(processor.get_piece_size())}
    merges: list[tuple[str, str]] = []
    for piece, at in ids.items():
        if len(piece) > 1 and piece != "<mask>" and not (processor.is_control(at) or processor.is_byte(at)):
            halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
            known = [(left, right) for left, right in halves if left in ids and right in ids]
            merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return {"vocab": ids, "merges": merges}


def siglip2_of_transformers(model: bytes) -> Any:
    """transformers' tokenizer of SigLIP 2 with the pieces of a SentencePiece BPE model."""
    from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

    options = {"padding_side": "right", "add_bos_token": False, "add_eos_token": True}
    return Siglip2Tokenizer(**sentencepiece_ids(model), **options)


if __name__ == "__main__":
    main()
