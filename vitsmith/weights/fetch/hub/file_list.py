"""Which files of a repository a model needs: descriptions, and one way in which its weights are stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vitsmith.errors import WeightsError
from vitsmith.weights.bundle.agreements import is_license
from vitsmith.weights.containers.file_choice import MAKERS, READ_SUFFIXES, maker_among

DESCRIPTIONS = (
    *(maker.config for maker in MAKERS),
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "bpe_simple_vocab_16e6.txt.gz",
    "spiece.model",
    "README.md",
)
"""Architecture, preprocessing, labels, tokenizer; and the model card, which states the licence."""
_OTHERS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler", "adapter_", "openvino_")
"""Beginnings of names of files that have a suffix of weights and hold none of a whole model."""


@dataclass(frozen=True)
class NeededFiles:
    """Names of files in the top folder of a repository."""

    descriptions: tuple[str, ...]
    weights: str
    """A file, or the index of several; '' where there is none."""
    in_folder: bool
    """Whether the folder says which file holds the weights: it is loaded then, else the file."""
    config: str = MAKERS[0].config
    """The description that belongs to the weights, where it is there."""


def needed_files(names: Collection[str], told: str, file: str = "") -> NeededFiles:
    """The files to fetch among all `names` of a repository, which messages call `told`.

    `file` is that of the weights, if it was chosen. Raises WeightsError for several files none of which must be the
    model, and for a chosen file that is not there.
    """
    top = sorted(name for name in names if "/" not in name)
    descriptions = tuple(name for name in top if name in DESCRIPTIONS or is_license(name))
    if file:
        if file not in top:
            there = [name for name in top if name.endswith(READ_SUFFIXES)]
            raise WeightsError(f"{told}: there is no such file in it; it has {', '.join(there[:4]) or 'no weights'}")
        config = next((maker.config for maker in MAKERS if file in maker.weights), MAKERS[0].config)
        return NeededFiles(descriptions, file, in_folder=False, config=config)
    if (maker := maker_among(top)) is not None:
        weights = next(name for name in maker.weights if name in top)
        return NeededFiles(descriptions, weights, in_folder=True, config=maker.config)
    for suffix in READ_SUFFIXES:
        files = [name for name in top if name.endswith(suffix) and not name.startswith(_OTHERS)]
        if len(files) > 1:
            raise WeightsError(
                f"{told} has {len(files)} files of weights, {', '.join(files[:4])}{', ...' if len(files) > 4 else ''}, "
                "and nothing says which is the model: fetch the right one with  hf download  , and give that file"
            )
        if files:
            return NeededFiles(descriptions, files[0], in_folder=False)
    return NeededFiles(descriptions, "", in_folder=False)
