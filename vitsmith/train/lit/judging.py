"""How well a text tower fits: recall among held-out pairs, and classification of things never named in training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.data.prompts import fill_templates
from vitsmith.data.samples import Samples
from vitsmith.evaluate.accuracy import wilson_interval
from vitsmith.retrieval.recall import recalls

Array = np.ndarray[Any, Any]
Encode = Callable[[Sequence[str]], Array]
"""Texts to float32 unit vectors (T, E)."""

KS = (1, 5)


@dataclass(frozen=True)
class Judged:
    """What the text tower was worth after `step` updates. Shares are between 0 and 1."""

    step: int
    images: int
    """Held-out images."""
    captions: int
    """Distinct captions among theirs."""
    image_to_text: dict[int, float]
    """k -> share of the images that have their caption among the first k."""
    text_to_image: dict[int, float]
    """k -> share of the captions that have one of their images among the first k."""
    seconds: float
    unseen: float | None = None
    """Top-1 accuracy on images of what was never combined so in training; None where the data has none."""
    unseen_images: int = 0

    @property
    def image_interval(self) -> tuple[float, float]:
        """95% confidence interval of `image_to_text` at 1 (Wilson)."""
        return wilson_interval(round(self.image_to_text[1] * self.images), self.images)

    @property
    def text_interval(self) -> tuple[float, float]:
        """95% confidence interval of `text_to_image` at 1 (Wilson)."""
        return wilson_interval(round(self.text_to_image[1] * self.captions), self.captions)

    @property
    def unseen_interval(self) -> tuple[float, float] | None:
        """95% confidence interval of `unseen` (Wilson)."""
        if self.unseen is None:
            return None
        return wilson_interval(round(self.unseen * self.unseen_images), self.unseen_images)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images to be judged on, as embeddings, and what may be said of them."""

    images: Array
    """float32 (N, E) unit vectors."""
    labels: Array
    """(N,) which of `texts` belongs to each."""
    texts: tuple[str, ...]

    @classmethod
    def of(cls, samples: Samples, embeddings: Array, most: int | None = None) -> Gallery:
        """The images that could be read, or `most` of them, evenly taken. Their texts are all classes that they show,
        or, where nothing is left out, all classes: what is told apart stays the same."""
        rows = np.flatnonzero(np.isfinite(embeddings[:, 0]))
        if most is None:
            return cls(np.asarray(embeddings[rows], np.float32), samples.labels[rows], samples.classes)
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.intp)]
        used, labels = np.unique(samples.labels[rows], return_inverse=True)
        texts = tuple(samples.classes[label] for label in used.tolist())
        return cls(np.asarray(embeddings[rows], np.float32), labels, texts)


def judge(encode: Encode, held_out: Gallery, unseen: Gallery | None, templates: Sequence[str], step: int) -> Judged:
    """Recall among the held-out pairs, where images with the same caption are all right, and top-1 on the unseen."""
    began = time.perf_counter()
    texts = encode(held_out.texts)
    found = recalls(held_out.images, texts, held_out.labels, np.arange(len(held_out.texts)), ks=KS)
    top1 = None
    if unseen is not None:
        prompts = [prompt for label in unseen.texts for prompt in fill_templates(templates, label)]
        classes = encode(prompts).reshape(len(unseen.texts), len(templates), -1).mean(axis=1)  # a mean's length is one
        classes /= np.linalg.norm(classes, axis=1, keepdims=True)  # factor for each class, which would count
        top1 = float(((unseen.images @ classes.T).argmax(axis=1) == unseen.labels).mean())
    return Judged(
        step,
        len(held_out.images),
        len(held_out.texts),
        {k: found.image_to_text.at(k) for k in KS},
        {k: found.text_to_image.at(k) for k in KS},
        time.perf_counter() - began,
        top1,
        0 if unseen is None else len(unseen.images),
    )
