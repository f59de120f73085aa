"""The text side of LiT's `.npz`: the vocabulary that lies beside it, and what neither of them shows."""

from __future__ import annotations

from pathlib import Path

from vitsmith.data.text.pieces import check_lines
from vitsmith.errors import InputError, WeightsError
from vitsmith.files.contents import read_words
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.text_config import BertConfig
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.lit_text import original_text, vocabulary_suffix


def find_vocabulary(config: ModelConfig, path: Path, given: Path | None) -> bytes | None:
    """The bytes of the tokenizer's file: the one given, or the one beside the checkpoint; None for image models."""
    if not isinstance(config, LiTConfig):
        if given is not None:
            raise InputError(f"{path} is a model of images alone, which takes no vocabulary: leave it out")
        return None
    place = given if given is not None else path.with_suffix(vocabulary_suffix(original_text(config)))
    if not place.exists():
        if given is None:
            return None  # images can be embedded without; `Bundle.tokenizer` says what is missing
        raise InputError(f"{place}: no such vocabulary; give the file that was published with the model")
    vocabulary = read_words(place, "a vocabulary")
    check_lines(original_text(config).tokenizer, vocabulary)
    return vocabulary


def check_text_fits_npz(bundle: Bundle) -> None:
    """Raises WeightsError for rules of a text side that an `.npz` cannot hold: they would be read as others.

    Prompt templates are lost: they change no embedding.
    """
    if not isinstance(bundle.config, LiTConfig) or bundle.text is None:
        return
    usual, tower = original_text(bundle.config), bundle.config.text
    told = usual.model_dump(exclude={"templates", "length", "vocabulary"})
    if isinstance(tower, BertConfig):
        told["length"] = BertConfig.model_fields["length"].default
    ours = bundle.text.model_dump()
    lost = [f"{name} {ours[name]} (it would be read as {value})" for name, value in told.items() if ours[name] != value]
    if lost:
        raise WeightsError(
            f"the original's .npz format cannot hold a text side with {', '.join(lost)}; save a bundle instead"
        )
