"""Whole folders for `token_parity.py`: small models with the tokenizers that transformers' `save_pretrained` writes.

`vitsmith.load` reads the folder as a user's; beside it transformers' AutoTokenizer, or open_clip's HFTokenizer, does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timm_reads_our_npz import stand_in_for_torchvision

import vitsmith as vs
from tests.reference.text.make import HERE, TEXTS, import_open_clip, sentencepiece_ids

Cut = Callable[[list[str]], np.ndarray]
TOWER = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
OPEN_CLIP_TOWERS = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"width": 16, "heads": 1, "layers": 1, "hf_tokenizer_name": "its folder"},
}


def folders_of_transformers(place: Path) -> dict[str, tuple[Cut, Cut]]:
    """Name of a folder of transformers -> our tokenizer and theirs."""
    from transformers import CLIPTokenizer, GemmaTokenizer, SiglipTokenizer, XLMRobertaTokenizer
    from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

    vocabulary, merges = clip_pieces()
    clip = CLIPTokenizer(vocab=vocabulary, merges=merges)
    gemma = sentencepiece_ids((HERE / "siglip2.model").read_bytes())
    right = {"padding_side": "right", "model_input_names": ["input_ids"], "add_bos_token": False, "add_eos_token": True}
    xlm = [*((mark, 0.0) for mark in ("<s>", "<pad>", "</s>", "<unk>")), *unigrams()[3:], ("<mask>", 0.0)]
    saved: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "CLIP": ("CLIP", clip, {}),
        "CLIP, of two files": ("CLIP", clip, {"added_tokens.json": {"<|endoftext|>": 49407, "photo": 1125}}),
        "SigLIP": ("Siglip", SiglipTokenizer(str(HERE / "siglip.model")), {}),
        "SigLIP 2": ("Siglip", Siglip2Tokenizer(**gemma, **right), {}),
        "SigLIP 2 as Gemma": ("Siglip", GemmaTokenizer(**gemma, **right), {}),
        "MetaCLIP 2": ("MetaClip2", XLMRobertaTokenizer(vocab=xlm), {}),
        "MetaCLIP 2 without a first space": ("MetaClip2", XLMRobertaTokenizer(vocab=xlm, add_prefix_space=False), {}),
    }
    return {f"folder, {name}": _of_transformers(place / name, *one) for name, one in saved.items()}


def _of_transformers(folder: Path, family: str, tokenizer: Any, older: dict[str, Any]) -> tuple[Cut, Cut]:
    import transformers
    from tokenizers.normalizers import Lowercase
    from transformers import AutoTokenizer

    length = 64 if family == "Siglip" else 77
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": length, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(
        text_config=text, vision_config={**TOWER, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if older:
        _as_older(folder, older)
    ours = vs.load(folder).tokenizer
    theirs = AutoTokenizer.from_pretrained(folder)
    lowered = type(tokenizer).__name__ == "GemmaTokenizer"  # as SigLIP 2 was trained; a note of ours says so

    def cut(texts: list[str]) -> np.ndarray:
        texts = [Lowercase().normalize_str(text) for text in texts] if lowered else texts
        return np.array(theirs(texts, padding="max_length", truncation=True, max_length=length).input_ids)

    return ours, cut


def _as_older(folder: Path, added: dict[str, Any]) -> None:
    """The folder as older versions of transformers wrote it, without tokenizer.json."""
    file = folder / "tokenizer.json"
    model = json.loads(file.read_bytes())["model"]
    file.unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    for name, content in added.items():
        (folder / name).write_text(json.dumps(content))


def folders_of_open_clip(place: Path) -> dict[str, tuple[Cut, Cut]]:
    """The same of open_clip's folders, which hold the tokenizers of T5, BERT, XLM-R and Gemma."""
    from transformers import BertTokenizer, GemmaTokenizer, T5Tokenizer, XLMRobertaTokenizer

    stand_in_for_torchvision()
    t5 = T5Tokenizer(vocab=unigrams(), extra_ids=0)
    t5.pad_token = "</s>"
    letters = sorted({letter for text in TEXTS for letter in text.lower() if letter.strip()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "photo"]
    marks = [(mark, 0.0) for mark in ("<s>", "<pad>", "</s>", "<unk>")]
    gemma = sentencepiece_ids((HERE / "siglip2.model").read_bytes())
    last = {"pool_type": "last", "no_causal_mask": True}
    siglip = {"context_length": 64, "tokenizer_kwargs": {"clean": "canonicalize"}, **last}
    rows: dict[str, tuple[Any, dict[str, Any]]] = {
        "SigLIP": (t5, siglip),
        "SigLIP 2": (GemmaTokenizer(**gemma, padding_side="right", add_bos_token=False, add_eos_token=True), siglip),
        "CLIPA": (
            BertTokenizer(vocab={word: at for at, word in enumerate(words)}),
            {"context_length": 32, "tokenizer_kwargs": {"strip_sep_token": True}, **last},
        ),
        "MetaCLIP 2": (
            XLMRobertaTokenizer(vocab=[*marks, *unigrams()[3:], ("<mask>", 0.0)]),
            {"pool_type": "eos", "eos_id": 2},
        ),
    }
    return {f"open_clip's folder, {name}": _of_open_clip(place / name, *one) for name, one in rows.items()}


def _of_open_clip(folder: Path, tokenizer: Any, fields: dict[str, Any]) -> tuple[Cut, Cut]:
    from open_clip_coverage import built, save

    text = {**OPEN_CLIP_TOWERS["text_cfg"], **fields, "vocab_size": len(tokenizer)}
    config = {**OPEN_CLIP_TOWERS, "text_cfg": text}
    folder.mkdir(parents=True)
    save(built(config, whole=True).state_dict(), config, folder)
    tokenizer.save_pretrained(folder)
    length = text.get("context_length", 77)
    theirs = import_open_clip().HFTokenizer(str(folder), context_length=length, **fields.get("tokenizer_kwargs", {}))
    return vs.load(folder).tokenizer, lambda texts: theirs(texts).numpy()


def clip_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's real pieces as transformers calls them, and their merges, from the file inside open_clip_torch."""
    original = import_open_clip().SimpleTokenizer()
    named = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {named.get(piece, piece): at for piece, at in original.encoder.items()}, list(original.bpe_ranks)


def unigrams() -> list[tuple[str, float]]:
    """The pieces of SigLIP's small SentencePiece model, with their scores."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=(HERE / "siglip.model").read_bytes())
    return [(pieces.id_to_piece(at), pieces.get_score(at)) for at in range(pieces.get_piece_size())]
