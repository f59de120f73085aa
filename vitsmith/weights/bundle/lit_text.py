"""How a LiT model reads texts: the rules of the original, with a vocabulary in a file of its own."""

from __future__ import annotations

from typing import Literal

from vitsmith.data.text.prompts import named_templates
from vitsmith.models.config import LiTConfig
from vitsmith.models.text_config import BertConfig
from vitsmith.text_spec import TextSpec


def original_text(config: LiTConfig) -> TextSpec:
    """The rules by which the original reads text for such a tower.

    LiT's are those of get_tokenizer in vit_jax/preprocess.py; a tower that pools the end token reads as OpenAI's CLIP.
    """
    kind: Literal["wordpiece", "sentencepiece", "bpe"]
    if isinstance(config.text, BertConfig):
        kind = "wordpiece"
    else:
        kind = "sentencepiece" if config.text.pooling == "last" else "bpe"
    return TextSpec(  # type: ignore[call-arg]  # what is left out follows from the kind
        tokenizer=kind,
        length=config.text.length,
        vocabulary=config.text.vocabulary,
        templates=named_templates("lit"),
    )


_FILES = {
    "wordpiece": (".txt", "the .txt file", "FILE.txt", "vocab.txt"),
    "sentencepiece": (".model", "the .model file", "FILE.model", "spiece.model"),
    "bpe": (".bpe", "merges.txt or bpe_simple_vocab_16e6.txt.gz", "merges.txt", "merges.txt"),
    "tokenizers": (".json", "tokenizer.json", "tokenizer.json", "tokenizer.json"),
}
"""Kind of tokenizer -> the suffix of its file in a bundle, the file as it is published, an example of its name, and its
name in the folder of a model."""

_FOLDERS = ("hf", "open_clip")
"""The distributions that are folders with a tokenizer, by their kind in a bundle's provenance."""


def vocabulary_suffix(text: TextSpec) -> str:
    """The suffix of the tokenizer's file in a bundle: '.txt', '.model', '.bpe' or '.json'."""
    return _FILES[text.tokenizer][0]


def refused_texts(reason: str) -> str:
    """A message that says why the tokenizer beside the weights is not followed, and what can be done."""
    return (
        f"reads no texts: {reason}; images are embedded as usual, and in Python Encoder.tokens takes the tokens of its "
        "own tokenizer"
    )


def missing_vocabulary(text: TextSpec, kind: str, *, made_from: str = "") -> str:
    """A message that says which file is missing, and where to put it.

    `kind` is the distribution it came from; `made_from` says of a bundle on disk from what its weights were made.
    """
    _, published, example, in_folder = _FILES[text.tokenizer]
    told = "has no vocabulary, so texts cannot be read: "
    if made_from:
        file = in_folder if kind in _FOLDERS else published
        return f"{told}put {file} beside the weights {made_from}, and make the bundle again"
    if kind in _FOLDERS:
        return (
            f"{told}put the {in_folder} published with the model into its folder, beside the weights, and load it again"
        )
    return (
        f"{told}put {published} published with the checkpoint beside it under the same name, or call "
        f"load(..., vocabulary='{example}')"
    )
