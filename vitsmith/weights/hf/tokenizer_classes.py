"""The tokenizer classes of transformers: their special tokens, and rules that hold whatever a tokenizer.json has.

Source: transformers 5.24, models/*/tokenization_*.py. A class with rules of its own takes pieces and special tokens
from a tokenizer.json; Gemma's take the tokens around a text from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vitsmith.data.text.tokenizer_json import Described, piece_ids, with_clip_rules
from vitsmith.errors import InputError
from vitsmith.weights.hf.tokenizer_config import HFTokenizer

SENTENCEPIECE, TOKENIZERS = "spiece.model", "tokenizer.json"
Names = Mapping[str, str]
"""Special tokens by the names of their fields in tokenizer_config.json."""
Rules = Callable[[Described, Names, HFTokenizer], Described]
"""Gives a tokenizer.json the rules of a class. Raises InputError for a tokenizer of another kind."""


@dataclass(frozen=True)
class TokenizerClass:
    """What a class of transformers does where the files do not say it."""

    tokens: Names = field(default_factory=dict)
    padding_side: str = "right"
    file: str = TOKENIZERS
    lowers: bool = False
    rules: Rules | None = None
    """None for those of the file."""

    @property
    def pads_with_end(self) -> bool:
        return self.tokens.get("pad_token") == self.tokens.get("eos_token")


def _clip(described: Described, names: Names, told: HFTokenizer) -> Described:
    return with_clip_rules(described, names["bos_token"], names["eos_token"], names["unk_token"])


def _gemma(described: Described, names: Names, told: HFTokenizer) -> Described:
    model = {"dropout": None, "unk_token": names["unk_token"], "fuse_unk": True, "byte_fallback": True}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    return described | {
        "model": _model(described, "BPE") | model,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
    }


def _bert(described: Described, names: Names, told: HFTokenizer) -> Described:
    more = told.model_extra or {}
    model = {"unk_token": names["unk_token"], "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return described | {
        "model": _model(described, "WordPiece") | model,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(more.get("tokenize_chinese_chars", True)),
            "strip_accents": more.get("strip_accents"),
            "lowercase": told.do_lower_case,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _around(described, names["cls_token"], names["sep_token"]),
    }


def _t5(described: Described, names: Names, told: HFTokenizer) -> Described:
    return _unigram(described, 2, None, "</s>")


def _xlm_roberta(described: Described, names: Names, told: HFTokenizer) -> Described:
    before_words = bool((told.model_extra or {}).get("add_prefix_space", True))
    return _unigram(described, 3, names["bos_token"], names["eos_token"], "always" if before_words else "never")


def _unigram(
    described: Described, unknown: int, start: str | None, end: str, prepend: Literal["always", "never"] = "always"
) -> Described:
    """SentencePiece's pieces, of words that spaces separate; `prepend` says when a word begins with its mark."""
    space = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": prepend, "split": True}
    return described | {
        "model": _model(described, "Unigram") | {"unk_id": unknown, "byte_fallback": False},
        "normalizer": next((step for step in _steps(described) if step.get("type") == "Precompiled"), None),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "post_processor": _around(described, start, end),
    }


def _steps(described: Described) -> list[dict[str, Any]]:
    found = described.get("normalizer")
    steps = found.get("normalizers", [found]) if isinstance(found, dict) else []
    return [step for step in steps if isinstance(step, dict)]


def _model(described: Described, kind: str) -> dict[str, Any]:
    model = described.get("model")
    if not isinstance(model, dict) or model.get("type", kind) != kind:
        raise InputError(f"tokenizer.json has no {kind} model, which its class in tokenizer_config.json needs")
    return model


def _around(described: Described, start: str | None, end: str) -> dict[str, Any]:
    """The tokens around a text, and those around two, which no text tower gets."""
    ids = piece_ids(described)
    if missing := [token for token in (start, end) if token is not None and token not in ids]:
        raise InputError(f"tokenizer.json lacks the piece {missing[0]!r}, which its class puts around a text")
    first, last = ([{"SpecialToken": {"id": token, "type_id": 0}}] if token else [] for token in (start, end))
    one, two = ([{"Sequence": {"id": text, "type_id": 0}}] for text in "AB")
    special = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (start, end) if token}
    single = [*first, *one, *last]
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *two, *last], "special_tokens": special}


_SPACE = "\u2581"  # SentencePiece's mark for the beginning of a word
_CLIP_END = "<|endoftext|>"
_CLIP = {"bos_token": "<|startoftext|>", "eos_token": _CLIP_END, "unk_token": _CLIP_END, "pad_token": _CLIP_END}
_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_EXTRA = {f"extra_id_{at}_token": f"<extra_id_{at}>" for at in range(100)}
_XLM = {"bos_token": "<s>", "sep_token": "</s>", "cls_token": "<s>", "mask_token": "<mask>", **_T5}
_GEMMA = {"bos_token": "<bos>", "mask_token": "<mask>", **_T5, "eos_token": "<eos>"}
_BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}

CLASSES = {
    "CLIPTokenizer": TokenizerClass(_CLIP, rules=_clip),
    "SiglipTokenizer": TokenizerClass({**_T5, "pad_token": "</s>"}, file=SENTENCEPIECE),
    "Siglip2Tokenizer": TokenizerClass(_GEMMA, padding_side="left", lowers=True, rules=_gemma),
    "GemmaTokenizer": TokenizerClass(_GEMMA, padding_side="left", rules=_gemma),
    "XLMRobertaTokenizer": TokenizerClass(_XLM, rules=_xlm_roberta),
    "T5Tokenizer": TokenizerClass(_T5 | _EXTRA, rules=_t5),
    "BertTokenizer": TokenizerClass(_BERT, rules=_bert),
}
"""The classes of published models; other classes must say in their files what they pad with."""

BY_THE_FILE = ("", "PreTrainedTokenizer", "TokenizersBackend")
"""Names, without 'Fast', of what follows a tokenizer.json alone."""
