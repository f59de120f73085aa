"""Recall of images by their captions and of captions by their images, with confidence intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import OPTION, SHARE, Unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.machine import describe_machine
from vitsmith.records import Measurement
from vitsmith.retrieval.recall import Recall, Recalls, recalls_of_pairs
from vitsmith.weights.bundle import measurements


@dataclass(frozen=True)
class RetrievalEvaluation:
    """Recall of one model on captioned images, in both directions."""

    recalls: Recalls
    num_images: int
    """Distinct images."""
    num_texts: int
    """Distinct captions."""
    num_pairs: int
    """Rows of the data."""
    cut: int
    """Captions longer than the model's context, which are cut."""
    unknown: int
    """Captions without a word of the model's vocabulary: to the model they are all the same."""
    seconds: float
    """Time of reading, preprocessing, inference and search together."""
    left_out: tuple[str, ...] = ()
    """What is wrong with each unreadable image; these images and their captions are not in the scores."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; 'recall' by direction, with 95% intervals."""
        return {
            "num_images": self.num_images,
            "num_texts": self.num_texts,
            "num_pairs": self.num_pairs,
            "cut": self.cut,
            "unknown": self.unknown,
            "seconds": self.seconds,
            "left_out": list(self.left_out),
            "recall": {
                direction: {
                    "queries": recall.queries,
                    **{str(k): {"value": recall.at(k), "interval": list(_interval(recall, k))} for k in recall.hits},
                }
                for direction, recall in self._directions()
            },
        }

    def measurements(self, data: str, engine: str = "", precision: str = "") -> tuple[Measurement, ...]:
        """Recalls as a bundle keeps them: 'text_to_image_recall@5'."""
        machine = describe_machine()
        ran: dict[str, Any] = {"engine": engine, "precision": precision}
        return tuple(
            measurements.recall(one.at(k), k, direction, data, machine, _interval(one, k), **ran)
            for direction, one in self._directions()
            for k in one.hits
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of a table: direction, queries, and recall with its 95% interval at each k."""
        return [
            (direction.replace("_", " "), f"{recall.queries:,}", *(_shown(recall, k) for k in recall.hits))
            for direction, recall in self._directions()
        ]

    def _directions(self) -> tuple[tuple[str, Recall], ...]:
        return ("text_to_image", self.recalls.text_to_image), ("image_to_text", self.recalls.image_to_text)


def evaluate_retrieval(
    encoder: Encoder,
    samples: Samples,
    *,
    skip_unreadable: float = SHARE,
    on_image: Callable[[], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> RetrievalEvaluation:
    """Recall at 1, 5 and 10 of captioned images.

    `samples` has a row for each pair: its class is the caption. Rows of the same name are one image with several right
    captions, rows of the same caption are several images that are right for it. `on_image` is called for each row.

    A query is right at k when any of its right answers is among the first k.
    A share of at most `skip_unreadable` of the images may be unreadable: these are left out with their captions, and
    `tell` is called with what is wrong with each. Raises InputError for a model without a text tower, and DatasetError
    when too many images are unreadable.
    """
    if not encoder.reads_text:
        raise InputError(
            f"{encoder.bundle.where} is a model of images alone: it cannot read captions; use CLIP, SigLIP or LiT"
        )
    began = time.perf_counter()
    first: dict[str, int] = {}
    rows = np.array([first.setdefault(name, row) for row, name in enumerate(samples.names)], np.int64)
    distinct, images = np.unique(rows, return_inverse=True)  # row of each image; image of each row
    unreadable = Unreadable([samples.names[row] for row in distinct.tolist()], skip_unreadable, tell, OPTION)
    image_vectors = encoder.images(_counted(samples, distinct, rows, on_image), unreadable)
    if unreadable.complaints:
        samples = samples.select(np.flatnonzero(np.isin(images, unreadable.kept())))
        images = np.unique(images[np.isin(images, unreadable.kept())], return_inverse=True)[1]
    labels, texts = np.unique(samples.labels, return_inverse=True)
    captions = [samples.classes[label] for label in labels.tolist()]
    read = encoder.bundle.tokenizer.read(captions)
    found = recalls_of_pairs(image_vectors, encoder.tokens(read.tokens), np.stack([images, texts], axis=1))
    return RetrievalEvaluation(
        recalls=found,
        num_images=len(image_vectors),
        num_texts=len(captions),
        num_pairs=len(samples),
        cut=int(read.cut.sum()),
        unknown=int((~read.known).sum()),
        seconds=time.perf_counter() - began,
        left_out=tuple(unreadable.complaints.values()),
    )


def _counted(
    samples: Samples, distinct: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], on_image: Callable[[], None] | None
) -> Iterator[ImageSource]:
    """Each image once; `on_image` is called for each of its rows."""
    counts = np.bincount(rows, minlength=len(rows))
    for row in distinct.tolist():
        for _ in range(int(counts[row]) if on_image is not None else 0):
            on_image()  # type: ignore[misc]
        yield samples.sources[row]


def _interval(recall: Recall, k: int) -> tuple[float, float]:
    return wilson_interval(recall.hits[k], recall.queries)


def _shown(recall: Recall, k: int) -> str:
    low, high = _interval(recall, k)
    return f"{recall.at(k):.1%} ({low:.1%} to {high:.1%})"
