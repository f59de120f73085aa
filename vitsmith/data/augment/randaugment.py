"""RandAugment (arXiv 1909.13719) as the original trained with it, on a batch at once and on any device.

Source: `distort_image_with_randaugment` in big_vision/pp/autoaugment.py, which AugReg (arXiv 2106.10270) used: 16
operations, one magnitude for all, grey 128 where a moved image leaves a gap, fractions cut off. Where Pillow's
operation of the same name differs, we follow the original. Images with the same kind of operation are processed
together.

Letters: B batch, n some images of it, h, w their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.data.augment.mix import Draws

OPERATIONS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness"),
    *("Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd"),
)
DRAWS = 4  # random numbers for one operation: which one, its sign, and the centre of a cutout (down, across)

GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale

_MAX_LEVEL = 10.0  # _MAX_LEVEL of the source; AugReg's magnitudes 15 and 20 exceed it, with the same formulas
_FILL = 128
# The source counts in pixels, and AugReg trained at 224. For other sizes we use the same share of the image: the source
# would move a 96-pixel image out of sight.
_SIZE = 224
_TRANSLATE, _CUTOUT = 100, 40
# Pillow's contrast blends with the image's mean grey. The source intends that, but divides the number of pixels by 256:
# 224 * 224 / 256. The models were trained with this value.
_CONTRAST_GREY = 196
_AT_ONCE = 32  # images processed together: an index takes 8 bytes for each pixel, too much for a large batch at once

OperationNames = NDArray[np.str_]


class _Images(NamedTuple):
    """Some images, with the operation for each."""

    pixels: Tensor  # (n, 3, h, w) uint8
    names: OperationNames  # (n,)
    draws: Draws  # (n, 3): sign, and the centre of a cutout

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[2], self.pixels.shape[3]


def randaugment(images: Tensor, draws: Draws, *, magnitude: float) -> Tensor:
    """Apply as many operations to each image as `draws` has, one after another; returns a new tensor.

    `images`: (B, 3, h, w) uint8. `draws`: (B, operations, 4) on the CPU, uniform in [0, 1): all random choices come
    from them. An image's result does not depend on the others.
    """
    for operation in range(draws.shape[1]):
        names = np.array(OPERATIONS)[(draws[:, operation, 0] * len(OPERATIONS)).astype(np.intp)]
        images = operate(images, names, draws[:, operation, 1:], magnitude=magnitude)
    return images


def operate(images: Tensor, names: OperationNames, draws: Draws, *, magnitude: float) -> Tensor:
    """Apply to each image the operation that `names` (B,) says; returns a new tensor.

    `images`: (B, 3, h, w) uint8. `draws`: (B, 3) in [0, 1): the sign, and the centre of a cutout (down, across).
    """
    result = images.clone()
    for names_alike, apply in _KINDS.items():
        rows = np.flatnonzero(np.isin(names, names_alike))
        for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
            if len(part):
                index = torch.from_numpy(part).to(images.device)
                some = _Images(images.index_select(0, index), names[part], draws[part])
                result.index_copy_(0, index, apply(some, magnitude / _MAX_LEVEL))
    return result


# --- one value to another: a table of 256 values for each channel ----------------------------------------------------


def _look_up(images: _Images, level: float) -> Tensor:
    curves = _curves(level)
    fixed = np.stack([curves.get(name, np.zeros(256, np.uint8)) for name in images.names])
    tables = _to(images.pixels, fixed)[:, None].repeat(1, 3, 1)
    for name, measure in (("AutoContrast", _stretching), ("Equalize", _equalizing)):
        rows = np.flatnonzero(images.names == name)
        if len(rows):
            index = _to(images.pixels, rows)
            tables.index_copy_(0, index, measure(images.pixels.index_select(0, index)))
    return tables.gather(2, images.pixels.flatten(2).long()).view_as(images.pixels)


def _curves(level: float) -> dict[str, NDArray[np.uint8]]:
    """Tables that are the same for every image."""
    value = np.arange(256)
    shift = min(max(8 - int(level * 4), 0), 7)  # TensorFlow shifts by 7 at most: magnitude 0 keeps one bit, not none
    # The threshold is compared as uint8: 256 and 512 (magnitudes 10 and 20) become 0, 384 becomes 128.
    threshold = int(level * 256) % 256
    curves = {
        "Invert": 255 - value,
        "Posterize": value >> shift << shift,
        "Solarize": np.where(value < threshold, value, 255 - value),
        "SolarizeAdd": np.where(value < 128, np.minimum(value + int(level * 110), 255), value),
        "Brightness": _blend(torch.zeros(()), torch.from_numpy(value).float(), level).numpy(),
        "Contrast": _blend(torch.tensor(float(_CONTRAST_GREY)), torch.from_numpy(value).float(), level).numpy(),
    }
    return {name: curve.astype(np.uint8) for name, curve in curves.items()}


def _stretching(pixels: Tensor) -> Tensor:
    """AutoContrast: the darkest value of each channel becomes 0, the brightest 255. (n, 3, 256) uint8."""
    low, high = (extreme[..., None].float() for extreme in torch.aminmax(pixels.flatten(2), dim=2))
    value = torch.arange(256, dtype=torch.float32, device=pixels.device)
    scale = 255.0 / (high - low).clamp(min=1)
    stretched = (value * scale + -low * scale).clamp_(0, 255)
    return torch.where(high > low, stretched, value).to(torch.uint8)


def _equalizing(pixels: Tensor) -> Tensor:
    """Equalize: each channel's values spread so that all are about equally frequent. (n, 3, 256) uint8."""
    values = pixels.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(2, values, torch.ones((), dtype=torch.int64, device=pixels.device).expand_as(values))
    brightest = counts.gather(2, values.amax(2, keepdim=True))
    step = torch.div(values.shape[2] - brightest, 255, rounding_mode="floor")
    below = counts.cumsum(2) - counts
    divisor = step.clamp(min=1)
    spread = torch.div(below + torch.div(divisor, 2, rounding_mode="floor"), divisor, rounding_mode="floor")
    # The source's table begins with 0 for every step; so does this, as `below` is 0 there and half a step // step is 0.
    spread = spread.clamp_(0, 255)
    return torch.where(step > 0, spread, torch.arange(256, device=pixels.device)).to(torch.uint8)


# --- one place to another --------------------------------------------------------------------------------------------


def _move(images: _Images, level: float) -> Tensor:
    """Copy each pixel from the one nearest to its origin, as contrib_image.transform; centres are whole numbers."""
    height, width = images.size
    signs = np.where(images.draws[:, 0] < 0.5, -1.0, 1.0)
    rows = [_origin(name, level * sign, images.size) for name, sign in zip(images.names, signs, strict=True)]
    a, b, c, d, e, f = _to(images.pixels, np.array(rows, np.float32).T[..., None, None])
    y = torch.arange(height, dtype=torch.float32, device=images.pixels.device)[:, None]
    x = torch.arange(width, dtype=torch.float32, device=images.pixels.device)
    column, row = a * x + b * y + c, d * x + e * y + f  # (n, h, w)
    # Halves are rounded away from zero, so that -0.5 is outside.
    inside = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
    index = (row + 0.5).long().clamp_(0, height - 1) * width + (column + 0.5).long().clamp_(0, width - 1)
    moved = images.pixels.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, 3, -1)).view_as(images.pixels)
    return moved.masked_fill_(~inside[:, None], _FILL)


def _origin(name: str, level: float, size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """(a, b, c, d, e, f): the pixel at column x, row y comes from column ax + by + c, row dx + ey + f."""
    height, width = size
    if name == "Rotate":
        angle = math.radians(level * 30)
        cos, sin, right, bottom = math.cos(angle), math.sin(angle), width - 1, height - 1
        across, down = (right - (cos * right - sin * bottom)) / 2, (bottom - (sin * right + cos * bottom)) / 2
        return cos, -sin, across, sin, cos, down
    return {
        "ShearX": (1.0, level * 0.3, 0.0, 0.0, 1.0, 0.0),
        "ShearY": (1.0, 0.0, 0.0, level * 0.3, 1.0, 0.0),
        "TranslateX": (1.0, 0.0, level * _TRANSLATE * width / _SIZE, 0.0, 1.0, 0.0),
        "TranslateY": (1.0, 0.0, 0.0, 0.0, 1.0, level * _TRANSLATE * height / _SIZE),
    }[name]


def _cut_out(images: _Images, level: float) -> Tensor:
    """Put a grey box around a random pixel, cut off at the edges of the image (arXiv 1708.04552)."""
    inside = []
    for axis, length in enumerate(images.size):
        centre = np.floor(images.draws[:, 1 + axis] * length)
        reach = int(level * _CUTOUT * length / _SIZE)
        place = np.arange(length)
        inside.append((place >= centre[:, None] - reach) & (place < centre[:, None] + reach))
    rows, columns = (_to(images.pixels, one) for one in inside)
    return images.pixels.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], _FILL)


# --- away from, or towards, a poorer image ---------------------------------------------------------------------------


def _recolor(images: _Images, level: float) -> Tensor:
    values = images.pixels.float()
    # rgb_to_grayscale works in 0..1 and multiplies by 255.5 at the end, so that cutting off fractions rounds.
    grey = grey_of(values).mul_(255.5 / 255).floor_()
    return _blend(grey, values, level)


def _sharpen(images: _Images, level: float) -> Tensor:
    """Blend with Pillow's SMOOTH filter, 1 1 1, 1 5 1, 1 1 1 over 13; the outermost pixels are not changed."""
    values = images.pixels.float()
    if min(images.size) < 3:
        return images.pixels
    across = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
    total = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :] + 4 * values[..., 1:-1, 1:-1]
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = (total / 13).floor_()
    return _blend(smooth, values, level)


def grey_of(values: Tensor) -> Tensor:
    """(n, 1, h, w) float32: the brightness of each pixel of (n, 3, h, w)."""
    red, green, blue = (values[:, channel, None] * weight for channel, weight in enumerate(GREY_WEIGHTS))
    return red + green + blue


def _blend(poorer: Tensor, values: Tensor, level: float) -> Tensor:
    """Blend `poorer` (factor 0) with `values` (factor 1), or extrapolate beyond; uint8, fractions cut off."""
    factor = level * 1.8 + 0.1
    return (poorer + (values - poorer) * factor).clamp_(0, 255).to(torch.uint8)


def _to(beside: Tensor, array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array).to(beside.device)


_KINDS: dict[tuple[str, ...], Callable[[_Images, float], Tensor]] = {
    (
        *("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness", "Contrast"),
    ): _look_up,
    ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"): _move,
    ("Cutout",): _cut_out,
    ("Color",): _recolor,
    ("Sharpness",): _sharpen,
}
