"""Reads `.npz` files as Google released them. Sources: checkpoint.py of the original, utils.py of big_vision."""

from __future__ import annotations

import math
from dataclasses import replace

from vitsmith.arrays import Shape
from vitsmith.errors import ConfigError, WeightsError
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.jax.config import infer_config, jax_notes
from vitsmith.weights.jax.names import BIG_VISION, slots_of_file
from vitsmith.weights.jax.stacked import prefix_of, unstacked
from vitsmith.weights.jax.vocabulary import text_side
from vitsmith.weights.layouts import Slot, within
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions, resizing_note

CLASSIFIER = ("head/kernel", "head/bias")
_POSITIONS = f"img/{BIG_VISION.positions}"
Size = tuple[int, int] | None


def recognises(file: ArrayFile) -> bool:
    """Whether it is an `.npz`; `read` refuses arrays of no family we know."""
    return isinstance(file, NpzFile)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The architecture worked out from the arrays, with the original's preprocessing.

    `options.image_size` is needed if the grid is not square and the file does not say so. SigLIP's positions move to
    another size as big_vision moves them. Raises WeightsError.
    """
    assert isinstance(file, NpzFile)
    image_size = _agreed(options.image_size, _told_size(file), file)
    pooling = file.told.get("pooling")
    prefix = prefix_of(file.shapes)
    ours = {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    try:
        shapes, pieces = unstacked(ours)
        config = infer_config(shapes, image_size=image_size, pooling=pooling)
        slots = slots_of_file(config, shapes.keys())
        resized = _resize(config, shapes, slots)
    except (WeightsError, ConfigError) as error:
        raise type(error)(f"{file.path}: {error}") from None
    text, vocabulary = text_side(config, file.path, options.vocabulary)
    return Conversion(
        config=config,
        slots=dict(within(prefix, "", slots.items())),
        pieces={f"{prefix}{name}": replace(piece, array=f"{prefix}{piece.array}") for name, piece in pieces.items()},
        unused=frozenset(name for name in file.shapes if not name.startswith(prefix)),
        classifier=tuple(f"{prefix}{name}" for name in CLASSIFIER),
        text=text,
        vocabulary=vocabulary,
        notes=(
            *jax_notes(config, image_size=image_size is not None, pooling=bool(pooling or options.pooling)),
            *resized,
        ),
    )


def _resize(config: ModelConfig, shapes: dict[str, Shape], slots: dict[str, Slot]) -> tuple[str, ...]:
    """Makes the slot of SigLIP's positions one that resizes them if the file has those of another grid; a note."""
    tokens = shapes.get(_POSITIONS, (0, 0, 0))[1]
    if not isinstance(config, LiTConfig) or _POSITIONS not in slots or math.prod(config.image.grid) == tokens:
        return ()
    stored, rule = infer_config(shapes).image, config.image.position_embedding.resize
    slots[_POSITIONS] = replace(slots[_POSITIONS], layout=ResizedPositions.between(stored, config.image, rule))
    return resizing_note(stored, config.image, rule)


def _told_size(file: NpzFile) -> Size:
    told = file.told.get("image_size")
    return (told[0], told[1]) if isinstance(told, list) and len(told) == 2 else None


def _agreed(given: Size, told: Size, file: NpzFile) -> Size:
    """The user's image size, else that of the file. Raises WeightsError if they differ."""
    if given is not None and told is not None and given != told:
        raise WeightsError(f"{file.path}: was written with image_size {told}, not {given}: leave image_size out")
    return given if given is not None else told
