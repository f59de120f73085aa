"""Reads `.npz` files as Google released them. Source: checkpoint.py of the original."""

from __future__ import annotations

from typing import TypeVar

from vitsmith.errors import ConfigError, WeightsError
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.jax.config import infer_config, jax_notes
from vitsmith.weights.jax.names import jax_slots, naming_of
from vitsmith.weights.jax.vocabulary import find_vocabulary
from vitsmith.weights.options import LoadOptions

CLASSIFIER = ("head/kernel", "head/bias")
T = TypeVar("T")


def recognises(file: ArrayFile) -> bool:
    """Whether it is an `.npz`; `read` refuses arrays of no family we know."""
    return isinstance(file, NpzFile)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The architecture worked out from the arrays, with the original's preprocessing.

    `options.pooling` says 'unpooled' or 'token_unpooled', which the arrays do not show; `image_size` is needed if the
    grid is not square and the file does not say so. Raises WeightsError.
    """
    assert isinstance(file, NpzFile)
    image_size = _agreed("image_size", options.image_size, _told_size(file), file)
    pooling = _agreed("pooling", options.pooling, file.told.get("pooling"), file)
    try:
        config = infer_config(file.shapes, image_size=image_size, pooling=pooling)
    except (WeightsError, ConfigError) as error:
        raise type(error)(f"{file.path}: {error}") from None
    return Conversion(
        config=config,
        slots=jax_slots(config, naming_of(set(file.shapes))),
        classifier=CLASSIFIER,
        vocabulary=find_vocabulary(config, file.path, options.vocabulary),
        notes=jax_notes(config, image_size=image_size is not None, pooling=pooling is not None),
    )


def _told_size(file: NpzFile) -> tuple[int, int] | None:
    told = file.told.get("image_size")
    return (told[0], told[1]) if isinstance(told, list) and len(told) == 2 else None


def _agreed(what: str, given: T | None, told: T | None, file: NpzFile) -> T | None:
    """The user's value, else that of the file. Raises WeightsError if they differ."""
    if given is not None and told is not None and given != told:
        raise WeightsError(f"{file.path}: was written with {what} {told}, not {given}: leave {what} out")
    return given if given is not None else told
