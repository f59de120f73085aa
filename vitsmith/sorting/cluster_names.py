"""Names of clusters: the label that fits most of the images, where the model reads text. K labels, E width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.arrays import Array
from vitsmith.data.text.class_lists import class_list
from vitsmith.data.text.prompts import fill_templates, named_templates
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.sorting.places import OpenedPlaces
from vitsmith.sorting.vectors import Step
from vitsmith.zeroshot.classifier import ZeroShotClassifier
from vitsmith.zeroshot.labels import GivenLabels, Words, words_from
from vitsmith.zeroshot.unread import unread_of_labels

USUAL = "imagenet-1k"
"""The labels where the user gives none."""
_ROWS = 4_096  # vectors that vote at once
_CHANCE = 0.05
"""A name leads the next one by more than chance gives in one of twenty cases, were only these two and equally good."""
_ALONE = 3  # different images that name a group after a label that is the only one


@dataclass(frozen=True)
class Namer:
    """Labels and their embeddings."""

    names: tuple[str, ...]
    embeddings: Array
    """float32 (K, E), unit vectors."""

    def name(self, vectors: Array, counts: Array) -> tuple[str, float]:
        """The name of a group, and the share that it fits best; ('', 0) where no name stands out.

        Each of the vectors (M, E), no two of which are equal, votes once for the label that is nearest to it: copies of
        an image are no further evidence. In the share, each counts as often as `counts` (M,) says.
        """
        nearest = np.concatenate(
            [(vectors[at : at + _ROWS] @ self.embeddings.T).argmax(axis=1) for at in range(0, len(vectors), _ROWS)]
        )
        votes = np.bincount(nearest, minlength=len(self.names))
        best = int(votes.argmax())
        if not (_leads(*np.sort(votes)[:-3:-1].tolist()) if len(votes) > 1 else votes[best] >= _ALONE):
            return "", 0.0
        return self.names[best], int(counts[nearest == best].sum()) / int(counts.sum())


def _leads(most: int, next_most: int) -> bool:
    """Whether `most` votes beside `next_most` are more than chance gives: the exact two-sided binomial test."""
    count = most + next_most
    drawn = np.arange(1, next_most + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((count - drawn + 1) / drawn))])  # the log of count over 0, 1, ...
    return bool(2 * np.exp(ways - count * np.log(2)).sum() <= _CHANCE)


def open_namer(opened: OpenedPlaces, labels: GivenLabels | None, tell: Tell, on_step: Step) -> Namer | None:
    """The names that the groups in places can have; None where the model reads no text, or cannot be opened.

    It needs no image, so that mistakes in `labels` are told before any is embedded. Raises InputError for labels that
    no model can read, and for those of vectors that words do not compare with.
    """
    words = None if labels is None else words_from(labels)
    if opened.kind == "texts" and words is None:
        return None
    encoder = _text_encoder(opened, tell, asked=words is not None)
    if encoder is None:
        return None
    if words is not None:
        classifier = _classifier(encoder, words, None, tell, on_step)
        for told in unread_of_labels(classifier):
            tell(told)
    else:
        try:
            words = usual_words(encoder.bundle.tokenizer)
        except InputError as error:  # there is no tokenizer, or none that can be used here: images are grouped without
            tell(f"groups get no names: {error}")
            return None
        if len(words) < 2:
            tell(f"groups get no names: the vocabulary of {encoder.bundle.where} knows no name of {USUAL}; give labels")
            return None
        # In one prompt: more, of a thousand labels, would take minutes.
        classifier = _classifier(encoder, words, named_templates("simple"), tell, on_step)
    return Namer(classifier.labels.shown, classifier.embeddings)


def _text_encoder(opened: OpenedPlaces, tell: Tell, *, asked: bool) -> Encoder | None:
    """The model that names the groups; None where it reads no text, or cannot be opened. `asked`: labels were given."""
    index = opened.index
    if index is not None and index.space.what != "pooled":
        if asked:
            raise InputError(
                f"{index.folder} holds class tokens, and labels compare with the pooled embedding of an image: leave "
                "them out, or make another index with  vitsmith embed --what pooled"
            )
        return None
    try:
        encoder = opened.open_encoder()
    except InputError as error:
        if asked or opened.how.opener.given:
            raise
        tell(f"groups get no names: {error}")
        return None
    if not encoder.reads_text:
        if asked:
            raise InputError(f"{encoder.bundle.where} reads no text, so that labels name nothing: leave them out")
        return None
    return encoder


def _classifier(
    encoder: Encoder, words: Words, templates: Sequence[str] | None, tell: Tell, on_step: Step
) -> ZeroShotClassifier:
    return ZeroShotClassifier(
        encoder,
        words,
        templates=templates,
        on_labels=lambda done: on_step("embedding labels", done, len(words)),
        on_remark=tell,
    )


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
