"""Reads `.npz` files as Google released them. Sources: checkpoint.py of the original, utils.py of big_vision."""

from __future__ import annotations

import math
from dataclasses import replace

from vitsmith.arrays import Shape
from vitsmith.errors import ConfigError, WeightsError
from vitsmith.models.config import LiTConfig, ModelConfig, ViTConfig
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.jax.config import infer_config, jax_notes
from vitsmith.weights.jax.names import slots_of_file
from vitsmith.weights.jax.stacked import prefix_of, unstacked
from vitsmith.weights.jax.vocabulary import text_side
from vitsmith.weights.layouts import Slot, within
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions

CLASSIFIER = ("head/kernel", "head/bias")
_POSITIONS = ("positions.embedding", "image.positions.embedding")
"""The parameter that holds them, alone and in two towers."""
Size = tuple[int, int] | None


def recognises(file: ArrayFile) -> bool:
    """Whether it is an `.npz`; `read` refuses arrays of no family we know."""
    return isinstance(file, NpzFile)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The architecture worked out from the arrays, with the original's preprocessing.

    `options.image_size` is needed if the grid is not square and the file does not say so. At another size than the
    file's positions are resized as the original resizes them, or big_vision SigLIP's. Raises WeightsError.
    """
    assert isinstance(file, NpzFile)
    told = _told_size(file)
    image_size = options.image_size or told
    pooling = file.told.get("pooling")
    prefix = prefix_of(file.shapes)
    ours = {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    try:
        shapes, pieces = unstacked(ours)
        config = infer_config(shapes, image_size=image_size, pooling=pooling)
        slots = slots_of_file(config, shapes.keys())
        resized = _resize(config, shapes, slots, told)
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


def _resize(config: ModelConfig, shapes: dict[str, Shape], slots: dict[str, Slot], told: Size) -> tuple[str, ...]:
    """Makes the slot of positions one that resizes them if the file has those of another grid; a note.

    `told` is the image size of which the file says that it has it: without it the grid is square, or the one that is
    wanted if it has as many positions.
    """
    place = next((name for name, slot in slots.items() if slot.parameter in _POSITIONS), None)
    wanted = _image_tower(config)
    if place is None or wanted is None:  # a Mixer's
        return ()
    if not told and math.prod(wanted.grid) + wanted.prefix_positions == shapes[place][1]:
        return ()
    try:
        stored = _image_tower(infer_config(shapes, image_size=told))
    except WeightsError:  # no square
        return ()
    if stored is None or stored.grid == wanted.grid:
        return ()
    layout = ResizedPositions.between(stored, wanted, wanted.position_embedding.resize)
    slots[place] = replace(slots[place], layout=layout)
    return (layout.told,)


def _image_tower(config: ModelConfig) -> ViTConfig | None:
    tower = config.image if isinstance(config, LiTConfig) else config
    return tower if isinstance(tower, ViTConfig) else None


def _told_size(file: NpzFile) -> Size:
    told = file.told.get("image_size")
    return (told[0], told[1]) if isinstance(told, list) and len(told) == 2 else None
