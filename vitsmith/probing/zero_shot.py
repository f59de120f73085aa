"""Zero-shot answers from frozen features: the class names as words, and no image run again.

M images, K classes, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import list_classes
from vitsmith.errors import InputError
from vitsmith.names import normal
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.classifiers.steps import Watch, watch_nothing
from vitsmith.zeroshot.classifier import ZeroShotClassifier
from vitsmith.zeroshot.labels import Words, words_of
from vitsmith.zeroshot.unread import unread_of_labels

NOT_A_CLASS = -1
"""The answer where the nearest label is none of the data's classes."""


@dataclass(frozen=True, eq=False)
class WordsAsked:
    """The words of a zero-shot classification."""

    words: Words | None = None
    """Labels with their words; None: the names of the data's classes."""
    templates: str | Sequence[str] | None = None
    """As of `ZeroShotClassifier`; None: the model's own."""


def answer_in_words(
    backbone: Backbone,
    features: Tensor,
    classes: Sequence[str],
    asked: WordsAsked,
    *,
    cache: bool,
    tell: Tell,
    watch: Watch = watch_nothing,
) -> Tensor:
    """(M,) the class whose words are nearest to each image, for the features (M, D) of the pass.

    Raises InputError for words that the model cannot read or tell apart.
    """
    words = asked.words if asked.words is not None else words_of(classes)
    with watch(f"{backbone.name}: labels", len(words), "labels") as on_step:
        done = 0

        def on_labels(count: int) -> None:
            nonlocal done
            on_step(count - done)
            done = count

        classifier = ZeroShotClassifier(
            backbone.bundle,
            words,
            templates=asked.templates,
            cache=cache,
            on_labels=on_labels,
            on_remark=tell,
            engine=backbone.engine_name,
            precision=backbone.precision,
        )
    for told in unread_of_labels(classifier):
        tell(told)
    cosines = backbone.embeddings(features) @ torch.from_numpy(np.ascontiguousarray(classifier.embeddings)).T
    position = {normal(name): index for index, name in enumerate(classes)}
    of_label = torch.tensor([position.get(normal(name), NOT_A_CLASS) for name in words.names])
    return of_label[cosines.argmax(dim=1)]


def check_words(words: Words, classes: Sequence[str]) -> None:
    """Raises InputError where a class of the data has no label."""
    names = {normal(name) for name in words.names}
    missing = [name for name in classes if normal(name) not in names]
    if missing:
        raise InputError(
            f"the labels lack {list_classes(missing)} of the data: name every class, in `labels` or in a file of "
            "labels, which has a line for each, with its name and, behind a tab, words for it"
        )
