"""Checks of what a model is given, so that a mistake is told at the door and not by a matrix product."""

from __future__ import annotations

from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.models.config import show_size


def check_images(images: Tensor, image_size: tuple[int, int]) -> None:
    """Raises InputError unless `images` is (batch, 3, height, width) of the model's own size."""
    shape = tuple(images.shape)
    if images.ndim == 4 and shape[1] == 3 and shape[2:] == image_size:
        return
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


def check_tokens(tokens: Tensor, length: int) -> None:
    """Raises InputError unless `tokens` is an integer tensor of shape (batch, length)."""
    if tokens.ndim != 2 or tokens.shape[1] != length or tokens.is_floating_point():
        kind = f"{show_size(tuple(tokens.shape))} {str(tokens.dtype).removeprefix('torch.')}"
        raise InputError(
            f"tokens must be integers of shape (batch, {length}), got {kind}; use the model's own tokenizer"
        )
