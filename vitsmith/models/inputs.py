"""Check the inputs of a model, so that a mistake gives a clear message and not an error of a matrix product."""

from __future__ import annotations

from typing import Any, Protocol

from vitsmith.errors import InputError
from vitsmith.models.config import show_size


class Shaped(Protocol):
    """A tensor or an array."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...


def check_images(images: Shaped, image_size: tuple[int, int]) -> None:
    """Raise InputError unless `images` is (batch, 3, height, width) of the model's own size, in floating point.

    Pixels that are not normalised would get an answer too, a wrong one.
    """
    shape = tuple(images.shape)
    if images.ndim == 4 and shape[1] == 3 and shape[2:] == image_size:
        if "float" in _kind(images):
            return
        raise InputError(
            f"images must be normalised floating-point numbers, got {_kind(images)}: give pixels to vitsmith.Predictor "
            "or vitsmith.Encoder, which preprocess as the bundle says"
        )
    got = show_size(shape)
    expected = f"images must have shape (batch, 3, {image_size[0]}, {image_size[1]}), got {got}"
    if images.ndim == 4 and shape[-1] == 3:
        hint = "these are channels last: use images.permute(0, 3, 1, 2)"
    elif images.ndim == 3:
        hint = "add the batch dimension: images[None]"
    elif images.ndim == 4 and shape[1] == 3:
        hint = "create or load the model with image_size=(height, width), or resize the images"
    else:
        hint = "images have three channels (RGB)"
    raise InputError(f"{expected}; {hint}")


def check_pixels(pixels: Shaped, image_size: tuple[int, int]) -> None:
    """Raise InputError unless `pixels` is uint8 (batch, height, width, 3) of the model's own size."""
    if tuple(pixels.shape[1:]) != (*image_size, 3) or _kind(pixels) != "uint8":
        raise InputError(
            f"pixels must be uint8 of shape (batch, {image_size[0]}, {image_size[1]}, 3), got {_described(pixels)}"
        )


def check_tokens(tokens: Shaped, length: int) -> None:
    """Raise InputError unless `tokens` is an integer tensor of shape (batch, length)."""
    if tokens.ndim != 2 or tokens.shape[1] != length or not _kind(tokens).startswith(("int", "uint")):
        expected = f"tokens must be integers of shape (batch, {length}), got {_described(tokens)}"
        raise InputError(f"{expected}; use the model's own tokenizer")


def _described(array: Shaped) -> str:
    return f"{show_size(tuple(array.shape))} {_kind(array)}"


def _kind(array: Shaped) -> str:
    return str(array.dtype).removeprefix("torch.")
