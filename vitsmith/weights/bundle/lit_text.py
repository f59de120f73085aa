"""How a LiT model reads texts: the rules of the original, with a vocabulary in a file of its own."""

from __future__ import annotations

from typing import Literal

from vitsmith.data.text.prompts import named_templates
from vitsmith.models.config import BertConfig, LiTConfig
from vitsmith.specs import TextSpec


def original_text(config: LiTConfig) -> TextSpec:
    """The rules by which the original reads text for such a tower (get_tokenizer in vit_jax/preprocess.py)."""
    kind: Literal["wordpiece", "sentencepiece"] = (
        "wordpiece" if isinstance(config.text, BertConfig) else "sentencepiece"
    )
    return TextSpec(  # type: ignore[call-arg]  # what is left out follows from the kind
        tokenizer=kind,
        length=config.text.length,
        vocabulary=config.text.vocabulary,
        templates=named_templates("lit"),
    )


def vocabulary_suffix(text: TextSpec) -> str:
    """The suffix of the tokenizer's file, as published: '.txt' or '.model'."""
    return ".txt" if text.tokenizer == "wordpiece" else ".model"
