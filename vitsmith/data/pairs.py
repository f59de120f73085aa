"""Pairs of image and caption, as labelled images: the classes are the distinct captions.

Images with equal captions share a label: in retrieval each of them is right. All that reads and batches labelled
images does so with captions.
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

from vitsmith.data.datasets import Tell, open_part, telling, training_part
from vitsmith.data.labelling import CAPTIONS
from vitsmith.data.samples import Samples, Source, place_of
from vitsmith.data.shapes import captioned_shapes, unseen_shapes
from vitsmith.data.shards import find_shards, is_shards
from vitsmith.data.table import TABLE_SUFFIXES, find_table
from vitsmith.errors import DatasetError
from vitsmith.fields import Finite, Frozen
from vitsmith.names import can_be_written

SHAPES = "shapes"
"""What users call the drawn scenes."""


class PairSpec(Frozen):
    """Where images and captions are, and how they are split."""

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
    """What to learn from, and what to evaluate on. The classes of each are its own captions."""

    train: Samples
    val: Samples
    unseen: Samples | None = None
    """Images of things never combined so in training; the classes are names, not captions. Only of 'shapes'."""

    def __post_init__(self) -> None:
        for caption in (*self.train.classes, *self.val.classes):
            if not can_be_written(caption):
                raise DatasetError(f"the caption {caption!r} is not Unicode text: write it in UTF-8")


def open_pairs(spec: PairSpec | str, *, seed: int = 0, tell: Tell | None = None) -> PairSplits:
    """What `spec` describes, or what is at the path given, ready to train on. No image is decoded.

    Pairs to evaluate on are, in this order: those of `spec.val`; the split 'val', or else 'test', that the data set
    brings; `val_fraction` of the images with all their captions, chosen by a hash of their names and `seed`.
    'shapes' is always the built-in set, which no seed changes; a folder of that name is './shapes'.

    Raises DatasetError for data that is not there or has no captions, and when nothing is left to tell apart.
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
            "images are told from each other by captions that differ"
        )
    return PairSplits(train, val, unseen)


def open_caption_samples(spec: PairSpec | str, split: str = "", *, tell: Tell | None = None) -> tuple[Samples, str]:
    """Pairs to judge a model on, and what to call them in reports.

    `split` is 'train', 'val' or 'test', or another name for one of them. By default the held-out part, 'val' before
    'test', of a data set that has one of its own, and otherwise every pair. Raises DatasetError.
    """
    described = PairSpec(path=spec) if isinstance(spec, str) else spec
    source = find_pairs(described.path if split or not described.val else described.val, described)
    return open_part(telling(source, tell), split)


def find_pairs(path: str, spec: PairSpec) -> Source:
    """The pairs at `path`, of whichever kind it looks like, with the columns that `spec` names. Raises DatasetError."""
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
    raise DatasetError(f"{path} is no table and no tar shards, so that there are no captions in it: {hint}")


def _hold_out(samples: Samples, fraction: float, seed: int, where: str) -> tuple[Samples, Samples]:
    """Whole images: one that is held out is in no pair to learn from."""
    images = [posixpath.normpath(name) for name in samples.names]
    row = sorted(set(images), key=lambda name: place_of(name, seed))
    if len(row) < 2:
        raise DatasetError(f"{where} has only one image, {row[0]}: add some, or there is nothing to evaluate on")
    held_out = set(row[: min(max(round(fraction * len(row)), 1), len(row) - 1)])
    there = np.array([name in held_out for name in images])
    return _own_captions(samples, ~there), _own_captions(samples, there)


def _own_captions(samples: Samples, chosen: NDArray[np.bool_]) -> Samples:
    """The pairs at `chosen`, with no captions but theirs."""
    part = samples.select(np.flatnonzero(chosen))
    used, labels = np.unique(part.labels, return_inverse=True)
    classes = tuple(samples.classes[label] for label in used.tolist())
    return Samples(classes, part.sources, part.names, labels.astype(np.int64), part.blocks)
