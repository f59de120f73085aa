"""Evaluates a text tower: recall among held-out pairs, and classification of things never named in training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.sets.samples import Samples
from vitsmith.data.text.prompts import fill_templates
from vitsmith.retrieval.recall import recalls_of_pairs
from vitsmith.training.monitor.events import LitEvaluation

Encode = Callable[[Sequence[str]], Array]
"""Texts to float32 unit vectors (T, E)."""

KS = (1, 5)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Evaluation images as embeddings, and their texts."""

    images: Array
    """float32 (N, E) unit vectors of distinct images."""
    pairs: Array
    """(P, 2) indices of an image and of one of its `texts`: an image may have several captions."""
    texts: tuple[str, ...]

    @classmethod
    def of(cls, samples: Samples, embeddings: Array, most: int | None = None) -> Gallery:
        """The images that could be read. `texts` are all classes.

        With `most`, at most so many images, evenly chosen; `texts` are then only the classes that they show.
        """
        rows = np.flatnonzero(np.isfinite(embeddings[:, 0]))
        numbers: dict[str, int] = {}
        owners = np.array([numbers.setdefault(samples.names[row], len(numbers)) for row in rows.tolist()], np.intp)
        if most is not None and len(numbers) > most:
            chosen = np.linspace(0, len(numbers) - 1, most).round().astype(np.intp)
            rows, owners = rows[np.isin(owners, chosen)], owners[np.isin(owners, chosen)]
        _, first, images = np.unique(owners, return_index=True, return_inverse=True)
        labels, texts = samples.labels[rows], samples.classes
        if most is not None:
            used, labels = np.unique(labels, return_inverse=True)
            texts = tuple(samples.classes[label] for label in used.tolist())
        return cls(np.asarray(embeddings[rows[first]], np.float32), np.stack([images, labels], axis=1), texts)


def evaluate(
    encode: Encode, held_out: Gallery, unseen: Gallery | None, templates: Sequence[str], step: int
) -> LitEvaluation:
    """Recall among the held-out pairs, where all images of a caption are right, and top-1 on the unseen images."""
    began = time.perf_counter()
    texts = encode(held_out.texts)
    found = recalls_of_pairs(held_out.images, texts, held_out.pairs, ks=KS)
    top1 = None
    if unseen is not None:
        prompts = [prompt for label in unseen.texts for prompt in fill_templates(templates, label)]
        classes = encode(prompts).reshape(len(unseen.texts), len(templates), -1).mean(axis=1)  # the means differ in
        classes /= np.linalg.norm(classes, axis=1, keepdims=True) + 1e-8  # length, which must not count
        named, right = (unseen.images @ classes.T).argmax(axis=1), unseen.pairs[:, 1]
        top1 = float((named[unseen.pairs[:, 0]] == right).mean())
    return LitEvaluation(
        step,
        len(held_out.images),
        len(held_out.texts),
        {k: found.image_to_text.at(k) for k in KS},
        {k: found.text_to_image.at(k) for k in KS},
        time.perf_counter() - began,
        top1,
        0 if unseen is None else len(unseen.images),
    )
