"""Pairs of image and caption, as labelled images: the classes are the distinct captions.

Images with equal captions share a label: in retrieval each of them is right. The code that reads and batches labelled
images also works with captions.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vitsmith.arguments import Tell
from vitsmith.data.sets.datasets import open_part, telling, training_part
from vitsmith.data.sets.labelling import CAPTIONS
from vitsmith.data.sets.samples import Samples, Source, place_of
from vitsmith.data.sets.shapes import captioned_shapes, unseen_shapes
from vitsmith.data.sets.shards.read import find_shards, is_shards
from vitsmith.data.sets.tables.read import TABLE_SUFFIXES, find_table
from vitsmith.errors import DatasetError
from vitsmith.fields import Finite, Frozen
from vitsmith.names import can_be_written

SHAPES = "shapes"
"""The name of the built-in set of drawn scenes."""


class PairSpec(Frozen):
    """The places of images and captions, and their splits."""

    path: str = Field(
        description="DATA on the command line: a .csv, .tsv or .jsonl file with a column of captions, tar shards as "
        "'train-{00..15}.tar' with a .txt or .json beside each image, or 'shapes'"
    )
    val: str = Field("", description="pairs to evaluate on, of any kind that path may be; default: path's own split")
    val_fraction: Finite = Field(
        0.1, gt=0, lt=1, description="share of the images to hold out when there is no split of its own"
    )
    image_column: str = Field("", description="column of paths; default: 'path', 'image', 'file' or 'filename'")
    caption_column: str = Field("", description="column of captions; default: 'caption', 'text' or 'title'")
    skip_unreadable: Finite = Field(
        0.01, ge=0, lt=1, description="share of images that may be unreadable: reported and replaced; more stop the run"
    )


@dataclass(frozen=True, eq=False)
class PairSplits:
    """Pairs for training and for evaluation. The classes of each part are its own captions."""

    train: Samples
    val: Samples
    unseen: Samples | None = None
    """'shapes' only: images of things in combinations that training lacks; the classes are names, not captions."""

    def __post_init__(self) -> None:
        for caption in (*self.train.classes, *self.val.classes):
            if not can_be_written(caption):
                raise DatasetError(f"the caption {caption!r} is not Unicode text: write it in UTF-8")


def open_pairs(spec: PairSpec | str, *, seed: int = 0, tell: Tell | None = None) -> PairSplits:
    """Open the pairs that `spec` describes, or that are at the path given, for training. No image is decoded.

    The evaluation pairs are the first of these that exist: those of `spec.val`; the data set's own split 'val', or else
    'test'; `val_fraction` of the images with all their captions, chosen by a hash of their names and `seed`. 'shapes'
    is always the built-in set, which no seed changes; write './shapes' for a folder of that name.

    Raises DatasetError for data that is missing or has no captions, and when all captions are equal.
    """
    described = PairSpec(path=spec) if isinstance(spec, str) else spec
    source = telling(find_pairs(described.path, described), tell)
    train = training_part(source)()
    unseen = unseen_shapes() if described.path == SHAPES else None
    brought = next((split for split in ("val", "test") if split in source.parts), "")
    if described.val:
        val = open_part(telling(find_pairs(described.val, described), tell))[0]
    elif brought:
        val = source.parts[brought]()
    else:
        train, val = _hold_out(train, described.val_fraction, seed, source.where)
    if len(train.classes) < 2:
        raise DatasetError(
            f"{source.where} has only one caption to learn from, {train.classes[0]!r}: "
            "training needs captions that differ"
        )
    return PairSplits(train, val, unseen)


def open_caption_samples(spec: PairSpec | str, split: str = "", *, tell: Tell | None = None) -> tuple[Samples, str]:
    """The pairs to evaluate a model on, and what to call them in reports.

    `split` is 'train', 'val' or 'test', or another name for one of them. The default is the data set's own split 'val',
    or else 'test', or else every pair. Raises DatasetError.
    """
    described = PairSpec(path=spec) if isinstance(spec, str) else spec
    source = find_pairs(described.path if split or not described.val else described.val, described)
    return open_part(telling(source, tell), split)


def find_pairs(path: str, spec: PairSpec) -> Source:
    """The pairs at `path`, whatever its kind, with the columns that `spec` names. Raises DatasetError."""
    if path == SHAPES:
        return Source(path, path, {split: partial(captioned_shapes, split) for split in ("train", "val")})
    if is_shards(path):
        return find_shards(path, label_key=spec.caption_column, labelling=CAPTIONS)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise DatasetError(
            f"the pairs {path!r} do not exist: check the path; give a table, tar shards or {SHAPES!r}, the built-in set"
        )
    if Path(path).suffix.lower() in TABLE_SUFFIXES and Path(path).is_file():
        return find_table(path, image_column=spec.image_column, label_column=spec.caption_column, labelling=CAPTIONS)
    tables = sorted(Path(path).glob("*")) if Path(path).is_dir() else []
    inside = next((str(entry) for entry in tables if entry.suffix.lower() in TABLE_SUFFIXES), "")
    hint = f"give the table in it, {inside}" if inside else "write a .csv with the columns 'path' and 'caption'"
    raise DatasetError(f"{path} is neither a table nor tar shards, so it has no captions: {hint}")


def _hold_out(samples: Samples, fraction: float, seed: int, where: str) -> tuple[Samples, Samples]:
    """Hold out whole images: no caption of a held-out image is in the training pairs."""
    images = [posixpath.normpath(name) for name in samples.names]
    row = sorted(set(images), key=lambda name: place_of(name, seed))
    if len(row) < 2:
        raise DatasetError(f"{where} has only one image, {row[0]}: add some, or there is no image to evaluate on")
    held_out = set(row[: min(max(round(fraction * len(row)), 1), len(row) - 1)])
    there = np.array([name in held_out for name in images])
    return _own_captions(samples, ~there), _own_captions(samples, there)


def _own_captions(samples: Samples, chosen: NDArray[np.bool_]) -> Samples:
    """The pairs at `chosen`, with only their own captions as classes."""
    part = samples.select(np.flatnonzero(chosen))
    used, labels = np.unique(part.labels, return_inverse=True)
    classes = tuple(samples.classes[label] for label in used.tolist())
    return Samples(classes, part.sources, part.names, labels.astype(np.int64), part.blocks)
