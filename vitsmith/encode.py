"""Turn images and texts into unit vectors, for retrieval and zero-shot classification."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

import numpy as np

from vitsmith.arguments import known_name, named_arguments
from vitsmith.arrays import Array
from vitsmith.data.images.read import MAX_PIXELS
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.data.images.unreadable import Unreadable
from vitsmith.data.text.tokenizer import several_texts
from vitsmith.engines.golden_answers import tolerance_of
from vitsmith.engines.open import open_program
from vitsmith.engines.protocol import Engine
from vitsmith.engines.tokens import image_tower, open_tokens
from vitsmith.errors import ImageError, InputError
from vitsmith.models.config import LiTConfig
from vitsmith.stream import Failure, ImageStream, check_reading
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import load

What = Literal["pooled", "class", "patches"]

TEXT_BATCH = 256
"""Texts given to the engine at once; they are short."""


class Encoder:
    """Embeds images with any model, and texts with a LiT model. Letters: N images, T texts, E embedding width.

    The embedding of an image is the output of LiT's image tower, or, for other models, the input of the classifier; it
    has length 1 in both cases. `what` gives others, from torch weights: 'class' is the class token, divided by its
    length too; 'patches' the features of all patches in their grid, (rows, columns, E), as the last norm leaves them:
    dense features are compared and trained on as they are. Registers and other tokens are not among the patches.

    Args:
        bundle: a bundle, or anything `vitsmith.load` takes.
        engine: 'auto', or a name: 'torch', 'torch-compiled', 'onnx', 'openvino', 'executorch'.
        batch_size: images given to the engine at once.
        decoders: threads that read and preprocess; by default one for each core.
        threads: cores the engine uses; by default all.
        precision: 'auto', which is the program's own, and fp32 for weights; or one of `engines.settings.PRECISIONS`, if
            an engine runs the model in it.
        max_pixels: larger images are refused before they are decoded.
        num_images: the number of images to come, if known: for many images 'auto' measures the engines.
        what: 'pooled', 'class' or 'patches'.

    Raises InputError for a model that gives a feature for each patch unless these are asked for, for an exported
    classifier, and for tokens that a model or program does not give.
    """

    @named_arguments
    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        engine: str = "auto",
        *,
        batch_size: int = 32,
        decoders: int | None = None,
        threads: int | None = None,
        precision: str = "auto",
        max_pixels: int = MAX_PIXELS,
        num_images: int | None = None,
        what: What = "pooled",
    ) -> None:
        check_reading(batch_size, decoders, max_pixels)
        known_name(what, "embedding", get_args(What))
        self.what = what
        self.engine: Engine
        loaded = load(bundle, headless=True)
        if what == "pooled":
            if getattr(loaded.config, "pooling", "") in ("unpooled", "token_unpooled"):
                raise InputError(
                    f"{loaded.where} gives a feature for each patch, not one for an image: ask for patches"
                )
            self.bundle, self.engine = open_program(
                loaded, engine, threads=threads, precision=precision, num_images=num_images
            )
        else:
            self.bundle, self.engine = open_tokens(loaded, what, engine, threads=threads, precision=precision)
        self._tolerance = tolerance_of(self.bundle, precision)
        self._stream = ImageStream(
            self.bundle.preprocessing, self.engine, batch_size=batch_size, decoders=decoders, max_pixels=max_pixels
        )
        self._texts_checked = False

    @property
    def width(self) -> int:
        """E."""
        config = self.bundle.config
        if self.what != "pooled":
            return image_tower(self.bundle).width
        return config.embedding_width if isinstance(config, LiTConfig) else config.classes or config.feature_width

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of patches; None where an image has one vector."""
        return image_tower(self.bundle).grid if self.what == "patches" else None

    def __repr__(self) -> str:
        reads = "images and texts" if self.reads_text else "images"
        ran = f"{self.engine.name} in {self.engine.precision}"
        return f"<Encoder of {reads} to {self.width} numbers, {self.bundle!r}, {ran}>"

    @property
    def reads_text(self) -> bool:
        """Whether the model has a text tower, whose embeddings compare with pooled ones of images."""
        return self.what == "pooled" and isinstance(self.bundle.config, LiTConfig)

    def images(self, images: ImageSource | Iterable[ImageSource], unreadable: Unreadable | None = None) -> Array:
        """float32 (N, E), unit vectors in the order of `images`; patches as they are, (N, rows, columns, E).

        Raises ImageError at an image that cannot be read, unless `unreadable` is given and records it, and at an image
        whose feature is zero or not finite and so has no direction.
        """
        self.bundle.check_preprocessing()
        names, rows = self._stream.named_rows(several(images), unreadable)
        if rows is None:
            return np.zeros((0, *(self.grid or ()), self.width), np.float32)
        if self.what == "patches":
            return rows
        vectors = self._unit(rows)
        if (wrong := first_without_direction(vectors)) is not None:
            raise ImageError(_directionless(names[wrong]))
        return vectors

    def vectors(self, tensors: Array) -> Array:
        """float32 (N, E), unit vectors of preprocessed images (N, 3, height, width)."""
        return self._unit(self.engine.run(tensors))

    def stream(self, images: Iterable[ImageSource]) -> Iterator[tuple[str, Array] | Failure]:
        """(name, unit vector (E,)) or Failure for each image, in order, as batches are done; patches as `images`."""
        self.bundle.check_preprocessing()
        for answer in self._stream.answers(several(images)):
            if isinstance(answer, Failure) or self.what == "patches":
                yield answer
                continue
            name, vector = answer[0], self._unit(answer[1])
            wrong = first_without_direction(vector[None]) is not None
            yield Failure(name, _directionless(name), unread=False) if wrong else (name, vector)

    def texts(self, texts: str | Iterable[str]) -> Array:
        """float32 (T, E), unit vectors in the order of `texts`, one or several; ends beyond the context are not read
        (see `cut`).

        Raises InputError for a model without a text tower or vocabulary, and for a text without a word that the
        vocabulary knows: all such texts have the same vector. `tokens` takes them.
        """
        listed = several_texts(texts)
        read = self.bundle.tokenizer.read(listed)
        for at in np.flatnonzero(~read.known):
            raise InputError(f"text {at + 1}: {self.bundle.tokenizer.why_unread(listed[at])}")
        return self.tokens(read.tokens)

    def tokens(self, tokens: Array) -> Array:
        """float32 (T, E) for integer token ids (T, length).

        Raises InputError for any other length, and for texts whose embedding is zero and so has no direction.
        """
        text = self.bundle.text
        if self.what != "pooled":
            raise InputError(
                f"texts have one embedding, which compares with the pooled one of images, not {self.what}: embed the "
                "images as pooled (the default, --what pooled), or search by an image"
            )
        if text is None:
            raise InputError(
                f"{self.bundle.where} is a model of images alone: it cannot read text; use CLIP, SigLIP or LiT"
            )
        if not isinstance(tokens, np.ndarray):
            raise InputError(f"tokens must be a NumPy array of integers, not {type(tokens).__name__}")
        if tokens.ndim != 2 or tokens.shape[1] != text.length or tokens.dtype.kind not in "iu":
            raise InputError(
                f"tokens must be integers of shape (texts, {text.length}), got {tokens.dtype} {tokens.shape}; "
                "use the model's own tokenizer"
            )
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < text.vocabulary:
            raise InputError(
                f"token ids run from {tokens.min()} to {tokens.max()}, and the text tower knows 0 to "
                f"{text.vocabulary - 1}: use the model's own tokenizer"
            )
        if not self._texts_checked:
            self.bundle.check_golden_texts(self.engine.run_texts, tolerance=self._tolerance)
            self._texts_checked = True
        embeddings = np.empty((len(tokens), self.width), np.float32)
        # Sort texts by length: towers that do not look at padding compute as much of a batch as its longest text needs.
        padding = tokens[:, -1:] if text.padding == "end" else 0
        order = np.argsort(np.count_nonzero(tokens != padding, axis=1), kind="stable")
        for at in range(0, len(order), TEXT_BATCH):
            some = order[at : at + TEXT_BATCH]
            embeddings[some] = self.engine.run_texts(np.ascontiguousarray(tokens[some], np.int32))
        if (wrong := first_without_direction(embeddings)) is not None:
            raise InputError(_directionless(f"text {wrong}"))
        return embeddings

    def cut(self, texts: str | Iterable[str]) -> list[int]:
        """Positions of the texts that are longer than the model's context."""
        return self.bundle.tokenizer.cut(texts)

    def unknown(self, texts: str | Iterable[str]) -> list[list[str]]:
        """The words of each text that the vocabulary lacks: they all mean the same to the model."""
        listed = several_texts(texts)
        lacking = self.bundle.tokenizer.read(listed).unknown
        words = self.bundle.tokenizer.unknown_words
        return [words(text) if lacks else [] for text, lacks in zip(listed, lacking, strict=True)]

    def bytewise(self, texts: str | Iterable[str]) -> list[list[str]]:
        """The parts of each text that are read byte by byte, as text that the model has hardly seen."""
        return [self.bundle.tokenizer.bytewise(text) for text in several_texts(texts)]

    def _unit(self, vectors: Array) -> Array:
        """Divide vectors by their length. Those of LiT have length 1 already; 1e-8 keeps zeros from becoming NaN."""
        if self.reads_text:
            return vectors
        with np.errstate(over="ignore"):  # squares of huge values: then the length is computed in float64
            norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if not np.isfinite(norms).all():
            norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
        unit: Array = (vectors / (norms + 1e-8)).astype(np.float32, copy=False)
        return unit


SHORTEST = 0.99
"""The least length of a unit vector: features below 1e-6, or of zeros, have no meaningful direction."""


def first_without_direction(vectors: Array) -> int | None:
    """The first of the normalised vectors (N, E) whose length is not 1, so that it has no direction; None for none."""
    lengths = np.sqrt(np.einsum("ne,ne->n", vectors, vectors, dtype=np.float64))
    wrong = np.flatnonzero(~(lengths >= SHORTEST))
    return int(wrong[0]) if len(wrong) else None


def _directionless(name: str) -> str:
    return f"{name}: its embedding is zero, so it cannot be compared with others: use another model, or leave it out"
