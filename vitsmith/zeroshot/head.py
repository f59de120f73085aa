"""Class embeddings as the head of an ordinary classifier: a bundle without text tower, tokenizer or vocabulary.

K classes, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitsmith import needs_torch
from vitsmith.arrays import Array, Run
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.read import Rgb
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.text.prompts import named_templates, template_sets
from vitsmith.engines.sample_inputs import gate_images
from vitsmith.errors import InputError
from vitsmith.gate import SAME_ANSWERS, compare
from vitsmith.json_text import json_or_none
from vitsmith.specs import Head, Similarity
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.golden import make_golden
from vitsmith.weights.bundle.manifest import MANIFEST
from vitsmith.zeroshot.labels import Words

SOURCE = "vitsmith zeroshot --out"
"""The command, as the provenance of such a bundle has it."""

REQUIRED = replace(SAME_ANSWERS, relative=1e-4)
"""The same arithmetic in another order: only rounding differs."""

_GOLDEN = 2
_LISTED = 40
"""Labels whose words are listed in a note, where these are not the labels themselves."""


@dataclass(frozen=True, eq=False)
class TextHead:
    """The classes of a zero-shot classifier, and how it scores them."""

    words: Words
    templates: tuple[str, ...]
    embeddings: Array
    """float32 (K, E), unit vectors."""
    similarity: Similarity
    head: Head
    logits: Run
    """float32 (n, 3, height, width) -> (n, K): the answers that the new bundle must give."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the bundle tells about its head."""
        words = self.words
        told = {name: texts for name, texts in zip(words.names, words.texts, strict=True) if texts != (name,)}
        notes = [
            f"the head is made of texts: {len(words):,} labels, {_prompts(self.templates)}; logits are "
            f"{self.similarity.temperature:.6g} x cosine" + (f" {self.similarity.bias:+.6g}" if self._biased else "")
        ]
        if told:
            listed = [f"{name!r} as {', '.join(map(repr, texts))}" for name, texts in list(told.items())[:_LISTED]]
            more = f"; and {len(told) - _LISTED:,} more labels in other words" if len(told) > _LISTED else ""
            notes.append(f"words of its labels: {'; '.join(listed)}{more}")
        return tuple(notes)

    @property
    def _biased(self) -> bool:
        return self.similarity.bias is not None


def classifier_bundle(source: Bundle, head: TextHead, images: Sequence[Rgb] = ()) -> Bundle:
    """A bundle of the image tower and `head`, with golden answers and the gate's `verdict`; nothing is written.

    It is compared with `head.logits` on `images`, by default golden and sample photographs. Raises GateError if the
    answers differ, InputError for a program without torch weights beside it, MissingPackageError without torch.
    """
    source.check_preprocessing()
    source = _with_weights(source)
    model = needs_torch.part("vitsmith.weights.text_head:classifier_of")(source, head.embeddings, head.similarity)
    made = source.classifying(model, head.words.labels, head.head, *head.notes, by=SOURCE)
    tensors = np.stack([preprocess(image, source.preprocessing) for image in list(images) or gate_images(source)])
    verdict = compare(head.logits, made.run_torch, tensors, REQUIRED)
    verdict.require(f"the classifier made of {source.where} and {len(head.words):,} labels")
    golden = list(source.golden.images) if source.golden is not None else sample_images(_GOLDEN)
    made = replace(made, golden=make_golden(golden, made.preprocessing, head.logits))
    made.verdict = verdict
    return made


def is_earlier(place: Path) -> bool:
    """Whether what is at `place` is such a bundle, which a later one may replace."""
    try:
        return bool(json_or_none(place / MANIFEST)["provenance"]["source"] == SOURCE)
    except (KeyError, TypeError):
        return False


def _with_weights(bundle: Bundle) -> Bundle:
    """The bundle with its torch weights, for one whose program runs."""
    if bundle.program == "torch":
        return bundle
    weights = next((one for one in bundle.programs if one.program == "torch"), None)
    if weights is None:
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}), and a classifier is made of weights: "
            "give the bundle that it was exported from, and export the classifier"
        )
    return bundle.using(weights)


def _prompts(templates: tuple[str, ...]) -> str:
    """'prompts: the 80 of clip', or the prompts."""
    if templates == ("{}",):
        return "prompts as they are"
    known = next((name for name in template_sets() if named_templates(name) == templates), None)
    if known is not None and len(templates) > 1:
        return f"prompts: the {len(templates)} of {known}"
    return f"prompts: {', '.join(map(repr, templates))}"
