"""Names of clusters: the label that fits most of the images, where the model reads text. K labels, E width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.arrays import Array
from vitsmith.data.text.class_lists import class_list
from vitsmith.data.text.prompts import fill_templates, named_templates
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.sorting.places import Collection, Opener, Step
from vitsmith.zeroshot.classifier import ZeroShotClassifier
from vitsmith.zeroshot.labels import Words

USUAL = "imagenet-1k"
"""The labels where the user gives none."""
_ROWS = 4_096  # vectors that vote at once
_CERTAIN = 2.7
"""The square of 1.645: a name has more votes than the next one by more than chance gives in one of twenty cases, were
both as good (sign test, normal approximation)."""


@dataclass(frozen=True)
class Namer:
    """Labels and their embeddings."""

    names: tuple[str, ...]
    embeddings: Array
    """float32 (K, E), unit vectors."""

    def name(self, vectors: Array) -> tuple[str, float]:
        """The name of a group of vectors (M, E), and the share that it fits best; ('', 0) where no name stands out.

        Each vector votes for the label that is nearest to it.
        """
        votes = np.zeros(len(self.names), np.int64)
        for at in range(0, len(vectors), _ROWS):
            nearest = (vectors[at : at + _ROWS] @ self.embeddings.T).argmax(axis=1)
            votes += np.bincount(nearest, minlength=len(votes))
        best = int(votes.argmax())
        most = int(votes[best])
        next_most = int(np.partition(votes, -2)[-2]) if len(votes) > 1 else 0
        if (most - next_most) ** 2 <= _CERTAIN * (most + next_most):
            return "", 0.0
        return self.names[best], most / len(vectors)


def open_namer(
    collection: Collection, opener: Opener, labels: Words | Iterable[str] | None, tell: Tell, on_step: Step
) -> Namer | None:
    """The names that a collection can have; None where its model reads no text, or cannot be opened.

    Raises InputError for `labels` that no model can read, and for those of vectors that words do not compare with.
    """
    if not collection.embedded or (collection.kind == "texts" and labels is None):
        return None
    index = collection.index
    if index is not None and index.space.what != "pooled":
        if labels is not None:
            raise InputError(
                f"{index.folder} holds class tokens, and labels compare with the pooled embedding of an image: leave "
                "them out, or make another index with  vitsmith embed --what pooled"
            )
        return None
    try:
        encoder = opener(index.space if index is not None else None)
        if index is not None:
            index.check_encoder(encoder)
    except InputError as error:
        if labels is not None or opener.given:
            raise
        tell(f"groups get no names: {error}")
        return None
    if not encoder.reads_text:
        if labels is not None:
            raise InputError(f"{encoder.bundle.where} reads no text, so that labels name nothing: leave them out")
        return None
    return _read(encoder, labels, tell, on_step)


def _read(encoder: Encoder, labels: Words | Iterable[str] | None, tell: Tell, on_step: Step) -> Namer | None:
    usual = labels is None
    words = usual_words(encoder.bundle.tokenizer) if labels is None else labels
    if usual and isinstance(words, Words) and len(words) < 2:
        tell(f"groups get no names: the vocabulary of {encoder.bundle.where} knows no name of {USUAL}; give labels")
        return None
    count = len(words) if isinstance(words, Words) else 0
    classifier = ZeroShotClassifier(
        encoder,
        words,
        templates=named_templates("simple") if usual else None,  # of a thousand labels more would take minutes
        on_labels=lambda done: on_step("embedding labels", done, max(count, done)),
        on_remark=tell,
    )
    return Namer(classifier.labels.shown, classifier.embeddings)


def usual_words(tokenizer: Tokenizer) -> Words:
    """The classes of ImageNet that the tokenizer can tell apart, each by the first of its synonyms, or all of them."""
    full = class_list(USUAL)
    first = [name.partition(",")[0].strip() for name in full]
    counts = Counter(first)
    named = dict.fromkeys(one if counts[one] == 1 else whole for one, whole in zip(first, full, strict=True))
    words = _told_apart(tokenizer, list(named))
    return Words(tuple(words), tuple(words))


def _told_apart(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    """Without words that the vocabulary does not know, and those that become the same tokens as an earlier one."""
    known = [word for word, read in zip(words, tokenizer.read(words).known, strict=True) if read]
    prompts = [prompt for word in known for prompt in fill_templates(named_templates("simple"), word)]
    tokens = tokenizer.read(prompts).tokens if prompts else np.zeros((0, 1))
    seen: dict[bytes, str] = {}
    for word, row in zip(known, tokens, strict=True):
        seen.setdefault(row.tobytes(), word)
    return list(seen.values())
