"""From images or texts to an index: what is not in it yet is embedded. E embedding width."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.data.images import ImageSource
from vitsmith.encode import TEXT_BATCH, Encoder
from vitsmith.retrieval.index import Dtype, Index, Kind, Space
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure

Array = np.ndarray[Any, Any]
Progress = Callable[[str | None], None]
"""Called for each input that is done, with what is wrong with it, if anything."""


def write_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "images",
    dtype: Dtype = "float16",
    on_input: Progress | None = None,
) -> Index:
    """The index in `folder` with the embeddings of all `inputs`: begun, gone on with, or whole already.

    `inputs` are images, or with kind 'texts' the texts themselves. Raises what IndexWriter and `build_index` do.
    """
    with IndexWriter(Path(folder), space_of(encoder, kind, encoder.bundle.where, dtype)) as writer:
        return build_index(encoder, inputs, writer, on_input=on_input)


def build_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    writer: IndexWriter,
    *,
    on_input: Progress | None = None,
) -> Index:
    """Embeds what is not in the index yet, and gives the whole index.

    `inputs` are images, or the texts themselves for an index of texts. Images that cannot be read are recorded and
    passed over. What was done before is not read again. Raises InputError when `inputs` are others than before.
    """
    names = [name_of(source, number) for number, source in enumerate(inputs)]
    done = writer.done_of(names)
    if done < len(inputs):
        writer.reopen()
    texts = writer.description.space.kind == "texts"
    answers = _embed_texts(encoder, names[done:]) if texts else encoder.stream(inputs[done:])
    for name, answer in zip(names[done:], answers, strict=True):
        problem = answer.reason if isinstance(answer, Failure) else None
        writer.add(Failure(name, answer.reason) if isinstance(answer, Failure) else (name, answer[1]))
        if on_input is not None:
            on_input(problem)
    return writer.finish()


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, Array]]:
    for at in range(0, len(texts), TEXT_BATCH):
        some = texts[at : at + TEXT_BATCH]
        yield from zip(some, encoder.texts(some), strict=True)


def space_of(encoder: Encoder, kind: str, model: str, dtype: str) -> Space:
    """What an index of the encoder's embeddings says of them. `model` is what the user calls it."""
    known_as = os.path.abspath(model) if os.path.exists(model) else model  # noqa: PTH100, PTH110 - not resolved
    return Space.model_validate(
        {
            "kind": kind,
            "identity": encoder.bundle.identity,
            "model": known_as,
            "engine": encoder.engine.name,
            "precision": encoder.engine.precision,
            "width": encoder.width,
            "dtype": dtype,
        }
    )


def name_of(source: ImageSource | str, number: int) -> str:
    """What a source is called in an index: its path or text, or its number when it has none."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"image {number}"
