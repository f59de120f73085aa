"""Class embeddings: the mean over the prompts of each label, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.text.prompts import fill_templates
from vitsmith.encode import TEXT_BATCH, Encoder, first_without_direction
from vitsmith.errors import InputError, OutputError
from vitsmith.files.atomic import replacing
from vitsmith.files.cache import cache_folder
from vitsmith.json_text import to_json


def class_embeddings(
    encoder: Encoder,
    words: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    cache: bool = True,
    on_labels: Callable[[int], None] = lambda _: None,
    on_remark: Callable[[str], None] = lambda _: None,
) -> Array:
    """float32 (classes, E), unit vectors: the normalised mean of the unit vectors of a label's prompts.

    The prompts of a label are the templates with each of its words.
    CLIP does the same (arXiv 2103.00020, section 3.1.4). With `cache` they are read from the cache folder, or written
    there; a damaged file is written again. `on_labels` is called with the number of labels done, `on_remark` with a
    message when they cannot be written.
    """
    name = _name(encoder, words, templates)
    shape = (len(words), encoder.width)
    if cache and (kept := _read(name, shape)) is not None:
        on_labels(len(words))
        return kept
    embeddings = np.empty(shape, np.float32)
    at = 0
    for group in _groups(words, TEXT_BATCH // len(templates)):
        prompts = [prompt for texts in group for text in texts for prompt in fill_templates(templates, text)]
        rows = encoder.texts(prompts)
        for texts in group:
            count = len(texts) * len(templates)
            embeddings[at], rows = rows[:count].mean(axis=0), rows[count:]
            at += 1
        on_labels(at)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-8
    if (wrong := first_without_direction(embeddings)) is not None:
        raise InputError(
            f"{encoder.bundle.where}: the prompts of the label {words[wrong][0]!r} cancel each other out, so it has no "
            "direction to compare images with: use other templates"
        )
    if cache:
        try:
            with replacing(_place(name), durable=False) as partial, partial.open("wb") as file:
                np.save(file, embeddings)
        except OutputError as error:
            on_remark(f"cannot keep the label embeddings for the next run: {error}")
    return embeddings


def _groups(words: Sequence[Sequence[str]], most: int) -> Iterator[Sequence[Sequence[str]]]:
    """Labels with at most `most` words together; a label with more stands alone."""
    first = count = 0
    for at, texts in enumerate(words):
        if at > first and count + len(texts) > most:
            yield words[first:at]
            first, count = at, 0
        count += len(texts)
    yield words[first:]


def _name(encoder: Encoder, words: Sequence[Sequence[str]], templates: Sequence[str]) -> str:
    """The name of the file: another model, precision, label or template gives another name."""
    bundle = encoder.bundle
    made_from = {
        "model": bundle.text_identity,
        "arithmetic": f"{encoder.engine.name} {encoder.engine.precision}",
        "words": [texts[0] if len(texts) == 1 else list(texts) for texts in words],
        "templates": list(templates),
    }
    return hashlib.sha256(to_json(made_from, sort_keys=True, ascii_only=True).encode()).hexdigest()[:40]


def _place(name: str) -> Path:
    return cache_folder() / "class-embeddings" / f"{name}.npy"


def _read(name: str, shape: tuple[int, int]) -> Array | None:
    try:
        with _place(name).open("rb") as file:
            kept: Array = np.lib.format.read_array(file, allow_pickle=False)
        fits = kept.shape == shape and kept.dtype == np.float32
        unit = fits and bool(np.abs(np.linalg.norm(kept, axis=1) - 1).max() < 1e-3)
    except Exception:  # missing, cut off, or not an array: it is computed again
        return None
    return kept if unit else None
