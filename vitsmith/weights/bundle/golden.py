"""Golden examples: images with their input tensors and outputs, kept with a model to prove that its answers stay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitsmith.arrays import Array, Run
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import BundleError
from vitsmith.files.regular import utf8_path
from vitsmith.json_text import parse_json, to_json
from vitsmith.specs import ImageSpec

GOLDEN = "golden.safetensors"
"""The file of golden examples in the folder of a program."""


TENSOR_TOLERANCE = 1e-4
"""Input values may move by this much: another NumPy or Pillow rounds differently in the last bits."""
OUTPUT_TOLERANCE = 2e-3
"""Outputs may move by this share of the largest: another processor adds in another order."""

TEXTS = ("a photo of a cat.", "Two dogs on a beach, at sunset!", "naïve café", "")
"""The golden texts: with case, punctuation, accents, and one empty."""


@dataclass(frozen=True)
class GoldenTexts:
    """Texts with their tokens and embeddings."""

    texts: tuple[str, ...]
    tokens: Array
    """int32 (texts, length)."""
    embeddings: Array
    """float32 (texts, E)."""

    def check_tokens(self, tokenizer: Tokenizer, where: str) -> None:
        """Raises BundleError when the texts give other tokens than when the bundle was made."""
        tokens = tokenizer(self.texts)
        if tokens.shape != self.tokens.shape:
            raise BundleError(
                f"{where}: golden texts become {tokens.shape[1]} tokens each here and {self.tokens.shape[1]} when the "
                "bundle was made: the text specification changed; make the bundle again"
            )
        if not np.array_equal(tokens, self.tokens):
            at = int(np.flatnonzero((tokens != self.tokens).any(axis=1))[0])
            raise BundleError(
                f"{where}: the golden text {self.texts[at]!r} becomes other tokens here than when the bundle was made: "
                "the vocabulary or a tokenizer library changed; make the bundle again"
            )

    def check_embeddings(self, run: Run, where: str, tolerance: float) -> None:
        """Raises BundleError when the tokens give other embeddings than when the bundle was made."""
        _check_outputs(self.embeddings, run(self.tokens), f"{where}: the golden texts", tolerance)


@dataclass(frozen=True)
class Golden:
    """Examples of one model."""

    images: tuple[Array, ...]
    """uint8 RGB, each (height, width, 3)."""
    tensors: Array
    """float32 (examples, 3, height, width), the images after preprocessing."""
    outputs: Array
    """float32 (examples, ...): logits, or features of a model without head."""
    texts: GoldenTexts | None = None
    """Golden texts of a model with a text tower; None for others."""

    @property
    def digest(self) -> str:
        """A hash of the images, their tensors and the outputs."""
        found = hashlib.sha256()
        for array in (*self.images, self.tensors, self.outputs):
            found.update(f"{array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def with_texts(self, tokenizer: Tokenizer, run: Run) -> Golden:
        """The same with golden texts, through `run`: int32 (texts, length) -> embeddings."""
        tokens = tokenizer(TEXTS)
        return replace(self, texts=GoldenTexts(TEXTS, tokens, run(tokens).astype(np.float32)))

    def check_inputs(self, spec: ImageSpec, where: str) -> None:
        """Raises BundleError when preprocessing gives other tensors than when the bundle was made."""
        for index, image in enumerate(self.images):
            tensor = preprocess(image, spec)
            was = self.tensors[index].shape
            if tensor.shape != was:
                raise BundleError(
                    f"{where}: golden image {index} becomes {tensor.shape} here and {was} when the bundle was "
                    "made: the image specification changed; make the bundle again"
                )
            error = float(np.abs(tensor - self.tensors[index]).max())
            if not error <= TENSOR_TOLERANCE * float(np.abs(self.tensors[index]).max()):
                raise BundleError(
                    f"{where}: golden image {index} is preprocessed differently here (by up to {error:.3g}): the image "
                    "specification or an imaging library changed; make the bundle again"
                )

    def check_outputs(self, outputs: Array, where: str, tolerance: float = OUTPUT_TOLERANCE) -> None:
        """Raises BundleError unless `outputs` are what the model gave for the golden tensors when it was saved."""
        _check_outputs(self.outputs, outputs, f"{where}: the golden images", tolerance)


def make_golden(images: Sequence[Array], spec: ImageSpec, run: Callable[[Array], Array]) -> Golden:
    """Returns golden examples of uint8 images; `run` runs the model, (n, 3, h, w) -> outputs."""
    tensors = np.stack([preprocess(image, spec) for image in images])
    return Golden(tuple(images), tensors, run(tensors).astype(np.float32))


def write_golden(golden: Golden, path: Path) -> None:
    """Writes a safetensors file."""
    from safetensors.numpy import save_file

    arrays = {f"image.{index}": np.ascontiguousarray(image) for index, image in enumerate(golden.images)}
    arrays |= {"tensors": golden.tensors, "outputs": np.ascontiguousarray(golden.outputs)}
    if golden.texts is not None:
        written = to_json(golden.texts.texts).encode()
        arrays["texts"] = np.frombuffer(written, np.uint8)
        arrays["texts.tokens"] = golden.texts.tokens
        arrays["texts.embeddings"] = np.ascontiguousarray(golden.texts.embeddings)
    save_file(arrays, path)


def read_golden(path: Path) -> Golden:
    """Reads what `write_golden` wrote. Raises BundleError for anything else, in one line."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with utf8_path(path) as name:
            arrays = load_file(name)
        count = sum(name.startswith("image.") for name in arrays)
        images = tuple(arrays[f"image.{index}"] for index in range(count))
        golden = Golden(images, arrays["tensors"], arrays["outputs"], _read_texts(arrays, path))
    except (SafetensorError, KeyError, OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error}); make the bundle again") from None
    if wrong := _misshapen(golden):
        raise BundleError(f"{path} is damaged ({wrong}); make the bundle again")
    return golden


def _read_texts(arrays: dict[str, Array], path: Path) -> GoldenTexts | None:
    if "texts" not in arrays:
        return None
    texts = parse_json(arrays["texts"].tobytes(), f"the array 'texts' in {path}", error=BundleError)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("the array 'texts' holds no list of texts")
    return GoldenTexts(tuple(texts), arrays["texts.tokens"], arrays["texts.embeddings"])


def _misshapen(golden: Golden) -> str:
    """The first mistake in the arrays, as `write_golden` never makes; '' if there is none."""
    count, rgb = len(golden.images), 3
    if not count:
        return "it has no image"
    for index, image in enumerate(golden.images):
        if image.dtype != np.uint8 or image.ndim != rgb or image.shape[2] != rgb or not image.size:
            return f"image.{index} is {image.dtype} {image.shape}, not RGB pixels"
    floats = [("tensors", golden.tensors, count, 4), ("outputs", golden.outputs, count, 0)]
    if texts := golden.texts:
        floats.append(("texts.embeddings", texts.embeddings, len(texts.texts), 2))
        tokens = texts.tokens
        if tokens.dtype.kind != "i" or tokens.ndim != len(("texts", "length")) or len(tokens) != len(texts.texts):
            return f"texts.tokens is {tokens.dtype} {tokens.shape} for {len(texts.texts)} texts"
    for name, array, length, axes in floats:
        if array.dtype.kind != "f" or (axes and array.ndim != axes) or array.ndim < 2 or len(array) != length:
            return f"{name} is {array.dtype} {array.shape} for {length} examples"
        if not array.size or not np.isfinite(array).all():
            return f"{name} holds numbers that are not finite, or none"
    return ""


def _check_outputs(expected: Array, found: Array, what: str, tolerance: float) -> None:
    if found.shape != expected.shape:  # else the subtraction might broadcast
        raise BundleError(
            f"{what} give answers of shape {found.shape} here and of {expected.shape} when the bundle was made; "
            "make the bundle again"
        )
    error = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)
    if not error <= tolerance:  # also refuses NaN
        raise BundleError(
            f"{what} give other answers here than when the bundle was made "
            f"(relative difference {error:.2g}, allowed {tolerance:g}); do not use it on this machine"
        )
