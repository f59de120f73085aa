"""Classify images with the user's own labels. Letters: N images, K labels, E embedding width."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np

from vitsmith.arguments import flag, function, known_name
from vitsmith.arrays import Array
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.data.images.unreadable import Unreadable
from vitsmith.data.text.prompts import fill_templates, named_templates, read_templates
from vitsmith.data.text.tokenizer import Tokenizer, list_texts
from vitsmith.encode import Encoder
from vitsmith.errors import NOT_FINITE, InputError, NotFiniteError
from vitsmith.finite import count_not_finite
from vitsmith.predict import Prediction, scores_from_logits, whole
from vitsmith.specs import Head, Labels, Meaning
from vitsmith.stream import Failure
from vitsmith.text_spec import PLACE, wrong_templates
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.zeroshot.embeddings import class_embeddings
from vitsmith.zeroshot.head import TextHead, classifier_bundle
from vitsmith.zeroshot.labels import GivenLabels, Words, words_from

ScoreKind = Literal["single", "independent"]

MOST_IMAGES = 64
"""Images on which a classifier made of texts is compared."""


class ZeroShotClassifier:
    """Classifies images with labels that are given in words.

    Args:
        model: a LiT model: an `Encoder`, a bundle, or anything `vitsmith.load` takes. labels: the classes, as texts, as
        a mapping from each to its own prompts, which are used as they are, or as `Words`. templates: the name of a set
        ('clip', 'lit', 'simple'), a file, one template, or several; by default those of the model. scores: 'single'
        means that the labels exclude each other: the scores of an image are probabilities that add up to 1. With
        'independent' each label is scored by itself; see `score_meaning`. cache: keep class embeddings on disk and use
        them again. on_labels: called with the number of labels embedded so far. on_remark: called with a message when
        embeddings cannot be kept on disk. options: those of `Encoder`, when the model is not one.

    Raises InputError for a model without text tower or vocabulary, no labels, a single label where labels exclude each
    other, two labels with the same words, labels without a word that the vocabulary knows, labels that become the same
    tokens, templates without a place for the label, and templates beside prompts of each label.
    """

    def __init__(
        self,
        model: Encoder | Bundle | str | os.PathLike[str],
        labels: GivenLabels,
        *,
        templates: str | Iterable[str] | None = None,
        scores: ScoreKind = "single",
        cache: bool = True,
        on_labels: Callable[[int], None] = lambda _: None,
        on_remark: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        known_name(scores, "kind of scores", get_args(ScoreKind))
        function(on_labels, "on_labels")
        function(on_remark, "on_remark")
        if isinstance(model, Encoder) and options:
            raise InputError(f"{', '.join(options)} must be given to the Encoder")
        self.words = words_from(labels)
        self.encoder = model if isinstance(model, Encoder) else Encoder(model, **options)
        bundle = self.encoder.bundle
        self.unknown = _check_known(bundle.tokenizer, self.words)
        """The words that the vocabulary lacks, by label."""
        self.bytewise = _spelled(bundle.tokenizer, self.words)
        """What is read byte by byte, as text that the model has hardly seen, by label."""
        self.templates = _chosen(templates, bundle, self.words)
        self.scores = scores
        if scores == "single" and len(self.words) == 1:
            raise InputError(
                f"one label, {self.words.labels.shown[0]!r}, would get a probability of 1 for every image: give at "
                "least two, or `scores` independent, which says how near the image is to it"
            )
        self.similarity = bundle.similarity
        self.cut = _check_tokens(self.encoder, self.words, self.templates)
        self.embeddings = class_embeddings(
            self.encoder,
            self.words.texts,
            self.templates,
            cache=flag(cache, "cache"),
            on_labels=on_labels,
            on_remark=on_remark,
        )

    def __repr__(self) -> str:
        engine = self.encoder.engine
        return f"<ZeroShotClassifier {self.labels!r}, {self.encoder.bundle!r}, {engine.name} in {engine.precision}>"

    @property
    def where(self) -> str:
        """The name of the model in messages."""
        return self.encoder.bundle.where

    @property
    def labels(self) -> Labels:
        """Names of the classes, in the order of the scores."""
        return self.words.labels

    @property
    def head(self) -> Head:
        """The meaning of `logits`: labels exclude each other, or each stands by itself."""
        return "sigmoid" if self.scores == "independent" and self.similarity.bias is not None else "softmax"

    @property
    def score_meaning(self) -> Meaning:
        """'probability', or 'cosine': a model trained with softmax has no zero to compare a single label with."""
        return "cosine" if self.scores == "independent" and self.similarity.bias is None else "probability"

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Predictions in the order of `images` (one image gives a list of one). Raises ImageError if one is
        unreadable."""
        return list(whole(self.stream(several(images))))

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Yield results in order, as batches are done. `images` may be endless: it is read only a little ahead."""
        for answer in self.encoder.stream(images):
            if isinstance(answer, Failure):
                yield answer
            else:
                yield from self.of_vectors([answer])

    def of_vectors(self, named: Iterable[tuple[str, Array]]) -> Iterator[Prediction]:
        """Predictions for names and unit vectors (E,) of images that the same model has embedded."""
        labels, meaning, independent = self.labels, self.score_meaning, self.scores == "independent"
        for name, embedding in named:
            cosines = embedding @ self.embeddings.T  # every score grows with them
            scores = self._score(cosines)
            yield Prediction(name, scores, labels, meaning, independent=independent, ranked_by=cosines)

    def logits(self, images: ImageSource | Iterable[ImageSource], unreadable: Unreadable | None = None) -> Array:
        """float32 (N, K): temperature times cosine, plus the bias if any.

        Raises ImageError at an unreadable image, unless `unreadable` is given and records it.
        """
        return self._logits(self.encoder.images(images, unreadable) @ self.embeddings.T)

    def to_bundle(self, images: ImageSource | Iterable[ImageSource] = ()) -> Bundle:
        """The same classifier as a bundle like any other, without text tower and vocabulary: `vitsmith.save` writes it.

        Its head has the class embeddings times the temperature, and the bias if any, so its logits are those of
        `logits`. That is checked on at most `MOST_IMAGES` of `images`, which are spread evenly over a list and are the
        first of anything else; by default on sample photographs. `verdict` has what was found. Raises GateError if the
        answers differ, ImageError for an image that cannot be read, and InputError for scores that are cosines, for
        arithmetic other than float32, and for a program without its weights.
        """
        if self.score_meaning == "cosine":
            raise InputError(
                "labels scored independently by a model trained with softmax have cosines, which no classifier's head "
                "gives: use `scores` single"
            )
        if self.encoder.engine.precision != "float32":
            raise InputError(
                f"the classifier computes in {self.encoder.engine.precision}, and a head is made in float32: leave "
                "`precision` out, and export the bundle in that precision"
            )
        head = TextHead(self.words, self.templates, self.embeddings, self.similarity, self.head, self._run)
        given = several(images)
        some = spread(given) if isinstance(given, Sequence) else islice(given, MOST_IMAGES)
        seen = [read_image(one) for one in some]
        return classifier_bundle(self.encoder.bundle, head, seen)

    def _run(self, tensors: Array) -> Array:
        """float32 (n, 3, height, width) -> logits (n, K)."""
        return self._logits(self.encoder.vectors(tensors) @ self.embeddings.T)

    def _logits(self, cosines: Array) -> Array:
        with np.errstate(over="ignore"):
            logits: Array = np.float32(self.similarity.temperature) * cosines + np.float32(self.similarity.bias or 0)
        if count_not_finite(logits):
            raise NotFiniteError(
                f"{self.where}: temperature {self.similarity.temperature:.3g} and bias {self.similarity.bias or 0:.3g} "
                f"make scores that are {NOT_FINITE}: take another checkpoint"
            )
        return logits

    def _score(self, cosines: Array) -> Array:
        return cosines if self.score_meaning == "cosine" else scores_from_logits(self._logits(cosines), self.head)


def spread(images: Sequence[ImageSource]) -> list[ImageSource]:
    """At most `MOST_IMAGES`, evenly over all: the first of a sorted folder would be of one class."""
    places = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int)
    return [images[place] for place in places.tolist()]


def _chosen(templates: str | Iterable[str] | None, bundle: Bundle, words: Words) -> tuple[str, ...]:
    given = given_templates(templates, words)
    if words.whole:
        return (PLACE,)
    if given is None:
        brought = bundle.text.templates if bundle.text is not None else ()
        return brought or named_templates("lit")
    return given


def given_templates(templates: str | Iterable[str] | None, words: Words | None) -> tuple[str, ...] | None:
    """The templates that a caller gave; None for none. No model is needed.

    Raises InputError for templates without a place for the label, and for templates beside prompts of each label.
    """
    if templates is None:
        return None
    if words is not None and words.whole:
        raise InputError(
            "the prompts of each label are used as they are: leave `templates` out, or give labels without prompts"
        )
    if isinstance(templates, str):
        return read_templates(templates)
    listed = list_texts(templates, "templates")
    if not listed:
        raise InputError("no templates were given: give at least one, as 'a photo of a {}.'")
    if reason := wrong_templates(listed):
        raise InputError(reason)
    return tuple(listed)


def _check_known(tokenizer: Tokenizer, words: Words) -> dict[str, list[str]]:
    """The words of each label that the vocabulary lacks. Raises InputError for a label of which it knows no word.

    Labels are checked, not prompts: some words of 'a photo of a zebra.' are always known.
    """
    pairs = [(name, text) for name, texts in zip(words.labels.shown, words.texts, strict=True) for text in texts]
    read = tokenizer.read([text for _, text in pairs])
    for at in np.flatnonzero(~read.known):
        name, text = pairs[at]
        where = f"the label {name!r}: " if text != name else "the label "
        raise InputError(f"{where}{tokenizer.why_unread(text)}")
    found: dict[str, list[str]] = {}
    for at in np.flatnonzero(read.unknown):
        name, text = pairs[at]
        found.setdefault(name, []).extend(tokenizer.unknown_words(text))
    return {name: list(dict.fromkeys(unknown)) for name, unknown in found.items() if unknown}


def _spelled(tokenizer: Tokenizer, words: Words) -> dict[str, list[str]]:
    """The parts of each label that are read byte by byte."""
    spelled = {
        name: [part for text in texts for part in tokenizer.bytewise(text)]
        for name, texts in zip(words.labels.shown, words.texts, strict=True)
    }
    return {name: list(dict.fromkeys(parts)) for name, parts in spelled.items() if parts}


def _check_tokens(encoder: Encoder, words: Words, templates: Sequence[str]) -> tuple[str, ...]:
    """The names of labels with a prompt that is longer than the context.

    Raises InputError for labels that the model cannot tell apart because all their prompts become the same tokens.
    """
    tokenizer = encoder.bundle.tokenizer
    seen: dict[bytes, int] = {}
    names = words.labels.shown
    cut = []
    for index, (name, texts) in enumerate(zip(names, words.texts, strict=True)):
        read = tokenizer.read([prompt for text in texts for prompt in fill_templates(templates, text)])
        if read.cut.any():
            cut.append(name)
        same = b"".join(sorted(row.tobytes() for row in read.tokens))  # their order does not change the mean
        if (twin := seen.setdefault(same, index)) != index:
            raise InputError(
                f"the labels {names[twin]!r} and {name!r} become the same {tokenizer.spec.length} tokens, so the model "
                "cannot tell them apart (case, unknown characters, or an end that was cut): change or drop one"
            )
    return tuple(cut)
