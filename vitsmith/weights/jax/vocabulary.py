"""The text side of an `.npz` of LiT or SigLIP: the vocabulary that lies beside it, and what neither of them shows."""

from __future__ import annotations

from pathlib import Path

from vitsmith.data.text.pieces import check_lines
from vitsmith.errors import InputError, WeightsError
from vitsmith.files.contents import read_words
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.text_config import BertConfig
from vitsmith.text_spec import TextSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.lit_text import original_text, vocabulary_suffix

GEMMA = 256_000
"""Pieces of the vocabulary of SigLIP 2."""


def text_side(config: ModelConfig, path: Path, given: Path | None) -> tuple[TextSpec | None, bytes | None]:
    """How texts become tokens, and the tokenizer's file, the one given or the one beside the checkpoint, if there.

    (None, None) for image models. Raises InputError for a file that is not there, and one given for an image model.
    """
    if not isinstance(config, LiTConfig):
        if given is not None:
            raise InputError(f"{path} is a model of images alone, which takes no vocabulary: leave it out")
        return None, None
    rules = _rules(config)
    beside = [path.with_suffix(vocabulary_suffix(one)) for one in rules]
    place = given if given is not None else next((one for one in beside if one.exists()), None)
    if place is None:
        return rules[0], None  # images can be embedded without; `Bundle.tokenizer` says what is missing
    if not place.exists():
        raise InputError(f"{place}: no such vocabulary; give the file that was published with the model")
    vocabulary = read_words(place, "a vocabulary", also=("json",) if rules[-1].tokenizer == "tokenizers" else ())
    chosen = rules[-1] if vocabulary.lstrip().startswith(b"{") else rules[0]
    check_lines(chosen.tokenizer, vocabulary)
    return chosen, vocabulary


def _rules(config: LiTConfig) -> tuple[TextSpec, ...]:
    """The rules that fit such a tower, one for each kind of file that its vocabulary comes in; JSON is the last.

    SigLIP's, known by its attention pooling, are those of SigLIP_demo.ipynb and SigLIP2_demo.ipynb in big_vision's
    configs/proj/image_text: lower case of ASCII; padding with the end token or, of Gemma's vocabulary, with token 0.
    """
    usual = original_text(config)
    if not config.image.attention_pool or usual.tokenizer != "sentencepiece":
        return (usual,)
    siglip = usual.model_copy(update={"cleaning": ("ascii_lower",)})
    if usual.vocabulary != GEMMA:
        return (siglip,)
    gemma = siglip.model_copy(update={"padding": "zero", "special_tokens": "end", "end_token": 1})
    return gemma, gemma.model_copy(update={"tokenizer": "tokenizers"})


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
